"""Which shards a build has to write: those that are missing, unfinished, out of date, or hold failed clips."""

import glob
import json
import os
from collections.abc import Mapping, Sequence

from data_prep import manifest
from data_prep.corpora import Sample
from save_jax.data import records


def plan_shards(
    splits: Mapping[str, Sequence[Sample]], out: str, clips_per_shard: int
) -> tuple[dict[str, Sequence[Sample]], list[str]]:
    """(path of each shard → its samples, shards of another division that are there)."""
    planned = {}
    for split, samples in splits.items():
        count = -(-len(samples) // clips_per_shard)
        for number in range(count):
            part = samples[number * clips_per_shard : (number + 1) * clips_per_shard]
            planned[os.path.join(out, records.shard_name(split, number, count))] = part
    return planned, sorted(set(_shards_in(out)) - set(planned))


def _shards_in(out: str) -> list[str]:
    indexes = glob.glob(os.path.join(glob.escape(out), "clips-*.tfrecord-*" + records.INDEX_SUFFIX))
    return sorted(path.removesuffix(records.INDEX_SUFFIX) for path in indexes)


def check_same_corpus(
    shards: Mapping[str, Sequence[Sample]], strange: Sequence[str], out: str, settings: Mapping, update: bool
) -> None:
    """Raises ShardError where `out` holds shards that this build must not touch: of other settings, of another corpus,
    or (without `update`) of another division.
    """
    if strange and not update:
        raise records.ShardError(
            f"{out} holds {strange[0]} ({len(strange)} such shards), which this run would not write (its first is "
            f"{next(iter(shards), 'none')}); give the --corpus, --shares and --clips-per-shard of the first run, or "
            "another --out; where the corpus has grown or shrunk, --update makes its shards again"
        )
    there = {}
    for path in _shards_in(out):
        index = _stated(path)
        if index is None:
            continue  # the shard will be written again
        if index.get("schema") != records.SCHEMA_VERSION:
            records.read_index(path)  # raises, and says so
        if index["settings"] != dict(settings):
            raise records.ShardError(
                f"{path} was built with {index['settings']}, this run has {dict(settings)}; use the same settings, or "
                "another --out, or delete the shards"
            )
        there |= dict.fromkeys(index["ids"])
    here = {sample.id for part in shards.values() for sample in part}
    lost = [clip for clip in there if clip not in here]
    if update and here and 2 * len(lost) > len(there):
        raise records.ShardError(
            f"{out} holds {len(there)} clips, and {len(lost)} of them, such as {lost[0]}, are not in this corpus of "
            f"{len(here)}: --update would replace one corpus by another; give the --root of the first run or another "
            "--out, or delete the shards"
        )


def _stated(path: str) -> dict | None:
    """What a shard's index says, also where the shard is another (a build was killed) or gone. None: unreadable."""
    try:
        with open(path + records.INDEX_SUFFIX) as file:
            index = json.load(file)
    except (OSError, ValueError):
        return None
    return index if isinstance(index, dict) else None


def missing_shards(
    shards: Mapping[str, Sequence[Sample]],
    digests: Mapping[str, str],
    root: str,
    retry_failed: bool,
    update: bool,
) -> dict[str, Sequence[Sample]]:
    """The shards to write. Raises ShardError for stale ones unless `update`."""
    missing, stale, by_size = {}, [], []
    for path, part in shards.items():
        if not finished(path) or (retry_failed and _holds_failed(path)):
            missing[path] = part
        elif (made_from := manifest.read_report(path)["samples"]) != digests[path]:
            if made_from == manifest.digest(part, root, by_size=True):
                by_size.append(path)
                continue
            missing[path] = part
            stale.append(path)
    if stale and not update:
        raise records.ShardError(
            f"{len(stale)} of {len(shards)} shards, {stale[0]} the first, were built from other clips, captions, "
            "transcripts, tags or files than the corpus has now; --update makes them again, or give another --out"
        )
    for path in by_size:
        manifest.complete_report(path, samples=digests[path])
    if by_size:
        print(
            f"{len(by_size)} of {len(shards)} shards are of a version that knew large files by their size alone: "
            "taken as made from the files that are there, whose content is noted now"
        )
    return missing


def finished(path: str) -> bool:
    """Whether the shard is there, of the size that its index says, with the report that was written for it."""
    try:
        written, report = records.read_index(path)["crc32c"], manifest.read_report(path)
    except (OSError, ValueError):  # ShardError among them
        return False
    return "samples" in report and report.get("crc32c", written) == written


def _holds_failed(path: str) -> bool:
    return bool(records.read_index(path)["failed"] or manifest.read_report(path)["left_out"])
