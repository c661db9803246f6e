"""Writes what is missing of a corpus's shards, and the manifest when all are there."""

import contextlib
import glob
import hashlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence

import filelock
from tqdm import tqdm

from data_prep import clip, corpora, manifest, runners
from data_prep.commands.plan import check_same_corpus, finished, missing_shards, plan_shards
from data_prep.contents import Contents
from data_prep.corpora import Corpus, Sample
from data_prep.files import write_json
from data_prep.teachers import vectors
from save_jax.data import records, tokenizer

Runner = runners.Here | runners.Local | runners.Ray


def build(
    corpus: Corpus,
    root: str,
    out: str,
    settings: Mapping,
    clips_per_shard: int = 128,
    runner: Runner | None = None,
    function: clip.Prepare = clip.prepare,
    transcripts: str | None = None,
    teacher: str = corpora.TEACHER,
    partial: bool = False,
    retry_failed: bool = False,
    update: bool = False,
) -> dict:
    """Writes what is missing in `out` and returns the manifest. The shards have the same bytes with every runner.

    `settings`: corpus, image_size, max_frames, frames, and spectrogram where it is true. `runner`: None is this
    process. `transcripts` and `teacher`: as `Corpus.read` has them. `partial`: fewer clips than published are accepted.
    `retry_failed`: shards that hold failed clips are made again. `update`: so are shards whose clips, texts or files
    have changed. Clips that fail are left out of train. In val and test they stay, without frames, because a gallery
    must be complete.

    Raises ValueError (ShardError) for wrong annotations, for shards in `out` that another corpus or other settings
    made, and while another build writes there.
    """
    if clips_per_shard < 1 or settings["image_size"] < 1 or settings["max_frames"] < 1:
        raise ValueError("--clips-per-shard, --image-size and --max-frames must be at least 1")
    splits = corpus.read(root, transcripts=transcripts, teacher=teacher)
    splits = {split: samples for split, samples in splits.items() if samples}
    differing = corpora.differing_counts(corpus, splits)
    if differing and not partial:
        lines = "\n  ".join(differing)
        raise ValueError(f"this is not the whole published corpus:\n  {lines}\nTo build what is there, add --partial.")
    samples = list(itertools.chain(*splits.values()))
    vectors.require_reader([p for s in samples for p in (s.teacher_video, s.teacher_audio) if p])
    os.makedirs(out, exist_ok=True)
    with alone_in(out):
        shards, strange = plan_shards(splits, out, clips_per_shard)
        check_same_corpus(shards, strange, out, settings, update)
        contents = Contents(root, out)
        contents.read(path for sample in samples for path in manifest.files_of(sample) if path)
        digests = {path: manifest.digest(part, root, contents=contents) for path, part in shards.items()}
        missing = missing_shards(shards, digests, root, retry_failed, update)
        contents.keep()
        for leftover in glob.glob(os.path.join(glob.escape(out), "*.tmp-*")):  # of a build that was killed
            os.remove(leftover)
        manifest_path = os.path.join(out, records.MANIFEST)
        if corpus.learn_tokenizer and "train" in splits:
            _learn_tokenizer(splits["train"], os.path.join(out, "tokenizer"))
        if missing:
            task = clip.Task(function, dict(settings), corpus.needs_captions)
            _write(missing, digests, root, settings, task, runner or runners.Here())
        for path in strange:  # the shards in whose place they were are all there
            for name in (path + records.INDEX_SUFFIX, path + manifest.REPORT_SUFFIX, path):
                _remove(name)

        by_split = {split: [path for path, part in shards.items() if part[0].split == split] for split in splits}
        manifest.write_tfds_metadata(out, settings, by_split)
        known = {"published": dict(corpus.published), "teacher": teacher}
        result = manifest.make_manifest(out, settings, by_split, known)
        write_json(manifest_path, result)
    return result


@contextlib.contextmanager
def alone_in(out: str) -> Iterator[None]:
    """One build writes to a folder at a time. Raises ValueError where another one does."""
    try:
        with filelock.FileLock(os.path.join(out, ".lock"), blocking=False):
            yield
    except filelock.Timeout as error:
        raise ValueError(f"another build is writing to {out}; wait for it, or give another --out") from error


def _write(
    missing: Mapping[str, Sequence[Sample]],
    digests: Mapping,
    root: str,
    settings: Mapping,
    task: clip.Task,
    runner: Runner,
) -> None:
    """Prepares the samples of each missing shard and writes it."""
    total, start = sum(map(len, missing.values())), time.perf_counter()
    with runner, tqdm(total=total, unit="clip", smoothing=0.05) as bar:
        results = runner.run(task, itertools.chain(*missing.values()))
        for path, part in missing.items():
            # A report that is there must not pass for that of the new shard, if the build is killed between.
            if not finished(path):
                _remove(path + manifest.REPORT_SUFFIX)
            else:
                manifest.complete_report(path, crc32c=records.read_index(path)["crc32c"])
            report = manifest.ShardReport(digests[path])
            index = records.write_shard(path, _kept(report, part, root, results, bar), settings)
            _remove(os.path.join(os.path.dirname(path), records.MANIFEST))  # it is of the shard before
            report.write(path, index["crc32c"])
    seconds = time.perf_counter() - start
    print(f"prepared {total} clips in {seconds:.1f} s: {total / seconds:.1f} clips/s")


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def _kept(
    report: manifest.ShardReport,
    samples: Sequence[Sample],
    root: str,
    results: Iterator[records.Clip | runners.Failure],
    bar: tqdm,
) -> Iterator[records.Clip]:
    """The clips that go into this shard; the report counts them."""
    prefix = os.path.join(root, "")
    for sample in samples:
        result = next(results)
        one = clip.failed(sample, result.reason) if isinstance(result, runners.Failure) else result
        # Paths within the corpus: the shards are the same wherever it lies.
        one.failed, one.notes = one.failed.replace(prefix, ""), [note.replace(prefix, "") for note in one.notes]
        left_out = bool(one.failed) and sample.split == "train"
        report.add(sample, one, left_out)
        bar.update()
        if not left_out:
            yield one


def _learn_tokenizer(samples: Sequence[Sample], directory: str) -> None:
    """Learns a vocabulary from the captions and transcripts of the training clips, unless it is there.

    Transcripts go through the same text tower as captions. Words that only they have would fall into single letters.
    """
    texts = [text for sample in samples for text in (*sample.captions, sample.transcript)]
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    known = os.path.join(directory, "texts.sha256")
    if os.path.exists(known):
        with open(known) as file:
            if file.read() == digest:
                return
    temporary = directory + ".unfinished"
    shutil.rmtree(temporary, ignore_errors=True)
    tokenizer.learn(texts, temporary, vocab_size=2048)
    with open(os.path.join(temporary, "texts.sha256"), "w") as file:
        file.write(digest)
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(temporary, directory)
