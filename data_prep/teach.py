"""Teacher vectors of a corpus: pictures and sound of each clip in, one vector each out, as data_prep.build reads them.

    python -m data_prep.teach --corpus msrvtt-9k --root DIR --teacher pe-av --weights facebook/pe-av-base
    python -m data_prep.build --corpus msrvtt-9k --root DIR --out DIR/shards --teacher PE-AV

Writes DIR/FeatureData/NAME/{VideoFeature,AudioFeature}/ID.npy and teacher.json, which says what made them. Running the
command again does only what is missing. Clips that cannot be used are listed in failed.json and do not stop the work.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from data_prep import runners
from data_prep.corpora import CORPORA, Corpus, Sample
from data_prep.manifest import write_json
from data_prep.teachers import TEACHERS, Teacher, sampling
from save_jax.data.records import TEACHER_DIM

PICTURES, SOUNDS, RECORD, FAILED = "VideoFeature", "AudioFeature", "teacher.json", "failed.json"
_SHOWN = 10  # failures in the printed summary


def vector_path(folder: str, kind: str, clip_id: str) -> str:
    """Where a clip's vector lies; '/' in an id makes sub-folders. Raises ValueError for an id that leads elsewhere."""
    if any(part in ("", ".", "..") for part in clip_id.split("/")) or "\\" in clip_id or "\0" in clip_id:
        raise ValueError(f"clip id {clip_id!r} cannot be a file name below {folder}")
    return os.path.join(folder, kind, *clip_id.split("/")) + ".npy"


@dataclasses.dataclass
class Teach:
    """The task of one worker: a sample's vectors, written to their files."""

    teacher: Teacher
    folder: str

    def __call__(self, sample: Sample) -> None:
        """Raises ValueError (MediaError) for media it cannot use and for vectors that no shard could hold."""
        picture_path, sound_path = (vector_path(self.folder, kind, sample.id) for kind in (PICTURES, SOUNDS))
        pictures = sampling.evenly_spaced(sample.video, self.teacher.frames, self.teacher.fit)
        heard = sampling.sound(sample.audio or sample.video, self.teacher.sample_rate)
        vectors = self.teacher.embed(pictures, heard)
        for vector in vectors:
            if vector is not None and (vector.shape != (TEACHER_DIM,) or not np.isfinite(vector).all()):
                raise ValueError(
                    f"{self.teacher.name} gave {vector.shape} values, {np.count_nonzero(~np.isfinite(vector))} of them "
                    f"not finite, not ({TEACHER_DIM},) finite ones"
                )
        if vectors.sound is not None:
            _save(sound_path, vectors.sound)
        _save(picture_path, vectors.picture)  # last: a clip with this file is done, with sound or without


def _save(path: str, vector: np.ndarray) -> None:
    """The file has its name only once it is complete."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.tmp-{os.getpid()}"
    with open(temporary, "wb") as file:
        np.save(file, vector.astype(np.float32))
    os.replace(temporary, path)


# ---------------------------------------------------------------- the folder


def claim(folder: str, teacher: Teacher) -> None:
    """Writes teacher.json, or compares it. Raises ValueError where vectors of another origin lie in the folder."""
    now = {"teacher": teacher.name, "licence": teacher.licence, "weights_sha256": digest(teacher.path)}
    now["settings"] = teacher.settings
    path = os.path.join(folder, RECORD)
    if os.path.exists(path):
        with open(path) as file:
            before = json.load(file)
        if changed := [name for name in now if before.get(name) != now[name]]:
            raise ValueError(
                f"{folder} holds vectors with {changed[0]} {before.get(changed[0])}, this run has {now[changed[0]]}; "
                "vectors of two kinds cannot be compared: use the same weights, or another --out"
            )
        return
    for kind in (PICTURES, SOUNDS):
        if os.path.isdir(os.path.join(folder, kind)) and os.listdir(os.path.join(folder, kind)):
            raise ValueError(
                f"{os.path.join(folder, kind)} holds vectors, and no {RECORD} says what made them; move them away or "
                "use another --out"
            )
    os.makedirs(folder, exist_ok=True)
    write_json(path, now)


def digest(weights: str) -> str:
    """SHA-256 of a weight file, or of all that a checkpoint's folder holds in JSON and safetensors."""
    paths = [weights]
    if os.path.isdir(weights):
        names = sorted(name for name in os.listdir(weights) if name.endswith((".json", ".safetensors")))
        paths = [os.path.join(weights, name) for name in names]
    total = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


# ---------------------------------------------------------------- the command


def teach(task: Teach, samples: Sequence[Sample], runner: Any) -> dict[str, str]:
    """Writes what is missing and returns id → reason of the clips that failed, which failed.json lists as well."""
    failed, waiting = {}, []
    for sample in samples:
        try:
            if not os.path.exists(vector_path(task.folder, PICTURES, sample.id)):
                waiting.append(sample)
        except ValueError as error:
            failed[sample.id] = str(error)
    results: Iterator[runners.Failure | None] = runner.run(task, waiting)
    for sample, result in zip(tqdm(waiting, unit="clip", disable=not waiting), results, strict=True):
        if isinstance(result, runners.Failure):
            failed[sample.id] = result.reason
    write_json(os.path.join(task.folder, FAILED), failed)
    return failed


def read_samples(corpus: Corpus, root: str, splits: Sequence[str]) -> list[Sample]:
    """Samples of some splits, each id once. Raises ValueError for wrong annotations and splits without a clip."""
    found = corpus.read(root)
    if empty := [split for split in splits if not found.get(split)]:
        there = ", ".join(split for split, samples in found.items() if samples) or "none"
        raise ValueError(f"{root} has no clips in split {', '.join(empty)}; it has {there} (--splits)")
    return list({sample.id: sample for split in splits for sample in found[split]}.values())


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m data_prep.teach", description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", required=True, choices=sorted(CORPORA))
    parser.add_argument("--root", required=True, help="folder of the official layout")
    parser.add_argument("--teacher", required=True, choices=sorted(TEACHERS))
    parser.add_argument("--weights", required=True, help="imagebind_huge.pth, or PE-AV's folder or hub id")
    parser.add_argument("--out", help="folder for the vectors (default: ROOT/FeatureData/ and the teacher's name)")
    parser.add_argument("--splits", default="train", help="with commas; only training reads vectors (%(default)s)")
    runners.add_arguments(parser)
    args = parser.parse_args(argv)
    if args.runner == "local" and args.jobs is None:
        args.jobs = 1  # a model fills its device; Ray takes one worker for each GPU
    teacher = TEACHERS[args.teacher](args.weights)
    print(f"Licence: {teacher.licence}", flush=True)
    try:
        teacher.check()
        samples = read_samples(CORPORA[args.corpus], args.root, args.splits.split(","))
        folder = args.out or os.path.join(args.root, "FeatureData", teacher.name)
        claim(folder, teacher)
        with runners.from_arguments(args, gpus=None) as runner:
            failed = teach(Teach(teacher, folder), samples, runner)
    except (ValueError, OSError) as error:
        print(f"data_prep.teach: {error}", file=sys.stderr)
        return 1
    print(f"{len(samples) - len(failed)} of {len(samples)} clips have vectors of {teacher.name} in {folder}")
    for clip_id, reason in list(failed.items())[:_SHOWN]:
        print(f"  {clip_id}: {reason}")
    if len(failed) > _SHOWN:
        print(f"  … all {len(failed)} in {os.path.join(folder, FAILED)}")
    print(f"data_prep.build reads them with --teacher {teacher.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
