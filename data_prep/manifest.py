"""What a folder of shards says about itself: a report beside each shard, the manifest, TensorFlow Datasets metadata.

A shard's report holds what its index does not: counts, and the clips left out, each with the reason. It is written
after the shard, and a shard is finished when its report names its checksum. A resumed build therefore counts right
without reading shards.
"""

import collections
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence

import numpy as np

from data_prep.contents import Contents
from data_prep.corpora import Sample
from data_prep.files import write_json
from save_jax.data import records

REPORT_SUFFIX = ".report.json"
_SMALL = 2**16  # bytes of a file that was compared by content by older versions
_PACKAGES = ("save_jax", "av", "numpy", "pillow", "simplejpeg", "kaldi-native-fbank", "scipy")
COUNTS = (
    "clips", "captions", "with_sound", "with_transcript", "with_teacher", "with_notes", "failed", "empty_captions",
)  # fmt: skip


def digest(samples: Sequence[Sample], root: str, by_size: bool = False, contents: Contents | None = None) -> str:
    """SHA-256 of what a shard of some samples is made from: all their texts, and their files.

    A file counts by its path in `root`, so that the corpus may lie elsewhere the next time, and by its content, as
    `contents` have it (None: every file is read). Times of writing prove nothing.

    `by_size`: as older versions had it, which knew no more than the size of files above 64 KiB.
    """
    contents = contents or Contents(root)
    known = [
        [
            *(s.id, s.captions, s.groups, s.transcript, s.speech, s.tags),
            *(_by_size(path, root) if by_size else contents.describe(path) for path in files_of(s)),
        ]
        for s in samples
    ]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def files_of(sample: Sample) -> tuple[str | None, ...]:
    """The files and folders that a clip is made from; None for those it has not."""
    return sample.video, sample.audio, sample.subtitles, sample.teacher_video, sample.teacher_audio


def _by_size(path: str | None, root: str) -> list | None:
    if path is None:
        return None
    name = os.path.relpath(path, root)
    if os.path.isdir(path):
        return [name, len(os.listdir(path))]
    if not os.path.isfile(path):
        return [name, None]
    size = os.path.getsize(path)
    if size > _SMALL:
        return [name, size]
    with open(path, "rb") as file:
        return [name, hashlib.sha256(file.read()).hexdigest()]


class ShardReport:
    """Counts the clips of one shard as they pass."""

    def __init__(self, made_from: str):
        """`made_from`: the digest of its samples."""
        self.made_from = made_from
        self.counts, self.transcripts = collections.Counter(dict.fromkeys(COUNTS, 0)), collections.Counter()
        self.left_out, self.notes = {}, {}

    def add(self, sample: Sample, clip: records.Clip, left_out: bool) -> None:
        self.counts["empty_captions"] += sample.empty_captions
        self.counts["failed"] += bool(clip.failed)
        if left_out:
            self.left_out[clip.id] = clip.failed
            return
        self.counts["clips"] += 1
        self.counts["captions"] += len(clip.captions)
        self.counts["with_sound"] += clip.fbank is not None
        self.counts["with_transcript"] += bool(clip.transcript)
        self.counts["with_teacher"] += clip.teacher_video is not None and clip.teacher_audio is not None
        if clip.notes:
            self.counts["with_notes"] += 1
            self.notes[clip.id] = clip.notes
        if clip.transcript:
            self.transcripts[clip.speech.get("source", "not stated")] += 1

    def write(self, shard: str, crc32c: str) -> None:
        """Writes it beside the shard, whose checksum it keeps: it is of that shard and no other."""
        versions = {"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in _PACKAGES}
        report = {"samples": self.made_from, "versions": versions, "counts": self.counts}
        report |= {"transcripts": self.transcripts, "crc32c": crc32c}
        write_json(shard + REPORT_SUFFIX, report | {"left_out": self.left_out, "notes": self.notes})


def read_report(shard: str) -> dict:
    """{"samples": digest, "versions", "counts", "transcripts": {source: clips}, "crc32c" of the shard (not of those
    that older versions wrote), "left_out": {id: reason}, "notes": {id: […]}}.
    """
    with open(shard + REPORT_SUFFIX, encoding="utf-8") as file:
        return json.load(file)


def complete_report(shard: str, **more: str) -> None:
    """Adds to the report of a finished shard what older versions did not write."""
    write_json(shard + REPORT_SUFFIX, read_report(shard) | more)


def make_manifest(directory: str, settings: Mapping, shards: Mapping[str, Sequence[str]], known: Mapping) -> dict:
    """The manifest of finished shards, `{split: [path, …]}`, and of what is `known` of their corpus.

    The same shards and packages give the same manifest.
    """
    counts, written, failed, notes, files, transcripts = {}, {}, {}, {}, {}, collections.Counter()
    versions = collections.defaultdict(set)
    for split, paths in shards.items():
        total, ids = collections.Counter(dict.fromkeys(COUNTS, 0)), []
        for path in paths:
            index, report = records.read_index(path), read_report(path)
            total.update(report["counts"])
            ids += index["ids"]
            broken = report["left_out"] | index["failed"]
            failed |= broken
            notes |= report["notes"]
            transcripts.update(report["transcripts"])
            for name, version in report["versions"].items():
                versions[name].add(version)
            files[os.path.relpath(path, directory)] = {
                "bytes": index["bytes"],
                "crc32c": index["crc32c"],
                "failed": len(broken),
            }
        counts[split], written[split] = dict(total), ids
    return {
        "schema": records.SCHEMA_VERSION,
        "versions": {name: ", ".join(sorted(each)) for name, each in versions.items()},  # several after an upgrade
        "corpus": settings["corpus"],
        "settings": dict(settings),
        **known,
        "transcripts": dict(sorted(transcripts.items())),
        "counts": counts,
        "shards": files,
        "failed": failed,
        "notes": notes,
        "written": written,
    }


def write_tfds_metadata(directory: str, settings: Mapping, shards: Mapping[str, Sequence[str]]) -> None:
    """`dataset_info.json` and `features.json`: `tensorflow_datasets.builder_from_directory` opens the folder."""
    import tensorflow_datasets as tfds  # takes a second, and only this needs it

    feature = tfds.features
    shape = (settings["image_size"], settings["image_size"], 3)
    if settings["frames"] == "raw":
        picture = feature.Tensor(shape=shape, dtype=np.uint8, encoding="bytes")
    else:
        picture = feature.Image(shape=shape, encoding_format="jpeg")
    arrays = records.arrays_of(settings)
    features = feature.FeaturesDict(
        {name: feature.Text() for name in ("id", "transcript", "speech", "failed")}
        | {name: feature.Sequence(feature.Text()) for name in ("captions", "groups", "tags", "notes")}
        | {"frames": feature.Sequence(picture), "frame_times": feature.Sequence(feature.Scalar(np.float32))}
        | {name: feature.Tensor(shape=s, dtype=d, encoding="bytes") for name, (d, s) in arrays.items()}
        | {f"has_{name}": feature.Scalar(np.int64) for name in arrays}
    )
    template = tfds.core.ShardedFileTemplate(
        data_dir=directory,
        dataset_name="clips",
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        filetype_suffix="tfrecord",
    )
    indexes = {split: [records.read_index(path) for path in paths] for split, paths in shards.items()}
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=features,
        split_infos=[
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[len(index["ids"]) for index in parts],
                num_bytes=sum(index["bytes"] for index in parts),
                filename_template=template,
            )
            for split, parts in indexes.items()
        ],
        filename_template=template.template,
        check_data=False,  # checking reads the shards through TensorFlow
    )
