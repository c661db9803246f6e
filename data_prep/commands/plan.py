"""Which shards a build has to write: those that are missing, unfinished, out of date, or hold failed clips."""

import glob
import os
from collections.abc import Mapping, Sequence

from data_prep import manifest
from data_prep.corpora import Sample
from save_jax.data import records


def plan_shards(
    splits: Mapping[str, Sequence[Sample]], out: str, clips_per_shard: int, update: bool
) -> dict[str, Sequence[Sample]]:
    """Path of each shard → its samples. Shards of another division are removed with `update`, else a ShardError."""
    planned = {}
    for split, samples in splits.items():
        count = -(-len(samples) // clips_per_shard)
        for number in range(count):
            part = samples[number * clips_per_shard : (number + 1) * clips_per_shard]
            planned[os.path.join(out, records.shard_name(split, number, count))] = part
    indexes = glob.glob(os.path.join(glob.escape(out), "clips-*.tfrecord-*" + records.INDEX_SUFFIX))
    strange = sorted({path.removesuffix(records.INDEX_SUFFIX) for path in indexes} - set(planned))
    if strange and not update:
        raise records.ShardError(
            f"{out} holds {strange[0]} ({len(strange)} such shards), which this run would not write (its first is "
            f"{next(iter(planned), 'none')}); give the --corpus and --clips-per-shard of the first run, or another "
            "--out; where the corpus has grown or shrunk, --update makes its shards again"
        )
    for path in strange:
        for name in (path + records.INDEX_SUFFIX, path + manifest.REPORT_SUFFIX, path):
            if os.path.exists(name):
                os.remove(name)
    return planned


def missing_shards(
    shards: Mapping[str, Sequence[Sample]],
    digests: Mapping[str, str],
    settings: Mapping,
    retry_failed: bool,
    update: bool,
) -> dict[str, Sequence[Sample]]:
    """The shards to write. Raises ShardError for those of other settings, and for stale ones unless `update`."""
    missing, stale = {}, []
    for path, part in shards.items():
        if not _finished(path, settings) or (retry_failed and _holds_failed(path)):
            missing[path] = part
        elif manifest.read_report(path)["samples"] != digests[path]:
            missing[path] = part
            stale.append(path)
    if stale and not update:
        raise records.ShardError(
            f"{len(stale)} of {len(shards)} shards, {stale[0]} the first, were built from other clips, captions, "
            "transcripts, tags or files than the corpus has now; --update makes them again, or give another --out"
        )
    return missing


def _finished(path: str, settings: Mapping) -> bool:
    """Whether the shard is there. Raises ShardError if it was made with other settings."""
    if not all(os.path.exists(path + suffix) for suffix in ("", records.INDEX_SUFFIX, manifest.REPORT_SUFFIX)):
        return False
    index = records.read_index(path)
    if index["settings"] != dict(settings):
        raise records.ShardError(
            f"{path} was built with {index['settings']}, this run has {dict(settings)}; use the same settings, or "
            "another --out, or delete the shards"
        )
    return True


def _holds_failed(path: str) -> bool:
    return bool(records.read_index(path)["failed"] or manifest.read_report(path)["left_out"])
