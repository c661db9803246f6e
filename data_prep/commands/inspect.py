"""Looks into shards: a table of their records, or one record with its pictures, sound and texts as files.

    python -m data_prep.inspect SHARD_OR_FOLDER
    python -m data_prep.inspect SHARD_OR_FOLDER ID --out DIR [--media FILE]

A shard keeps no waveform, only what models hear: the log-mel, and VLSA's spectrogram where it was asked for. With
`--media`, the file that the clip was made from, its sound is written. Without, sound-approximate.wav is made from the
log-mel alone.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence

from data_prep import names
from data_prep.commands import shared
from data_prep.commands.record_files import texts, write
from save_jax.data import command_line, records

_COLUMNS = "{:>6} {:>7} {:>5} {:>7} {:>8}  {}"


def find_shards(path: str) -> list[str]:
    """A shard, or the shards of a folder in order. Raises ShardError where there is none."""
    if not os.path.exists(path):
        raise records.ShardError(f"{path}: no such file or folder")
    if not os.path.isdir(path):
        return [path]
    indexes = sorted(name for name in os.listdir(path) if name.endswith(records.INDEX_SUFFIX))
    if not indexes:
        raise records.ShardError(f"{path} holds no finished shard; make some with data_prep.build")
    return [os.path.join(path, name.removesuffix(records.INDEX_SUFFIX)) for name in indexes]


def table(shards: Sequence[str]) -> Iterator[str]:
    """Lines: a heading for each shard and one line a record; every record is read and its checksums compared."""
    for path in shards:
        source = records.ShardSource([path])
        size = os.path.getsize(path) / 1e6
        yield f"{os.path.basename(path)}: {len(source)} records, {size:.1f} MB, {source.settings}"
        ids = [json.dumps(clip_id, ensure_ascii=False)[1:-1] for clip_id in source.ids]  # a name may hold a new line
        width = max(map(len, ids), default=2)
        heading = _COLUMNS.format("frames", "seconds", "sound", "teacher", "captions", "said, failure or notes")
        yield f"{'id':<{width}} {heading}"
        for number, name in enumerate(ids):
            yield f"{name:<{width}} {_row(source[number])}"


def _row(clip: records.Clip) -> str:
    remarks = [repr(clip.transcript[:40])] if clip.transcript else []
    remarks += [f"FAILED {clip.failed}"] if clip.failed else []
    remarks += [f"NOTE {note}" for note in clip.notes]
    last = f"{clip.frame_times[-1]:.1f}" if len(clip.frames) else "-"
    taught = "".join(
        letter for letter, vector in (("v", clip.teacher_video), ("a", clip.teacher_audio)) if vector is not None
    )
    sound = "-" if clip.fbank is None else "yes"
    return _COLUMNS.format(
        len(clip.frames), last, sound, taught or "-", len(clip.captions), " | ".join(remarks)
    ).rstrip()


def find(shards: Sequence[str], clip_id: str) -> tuple[records.Clip, dict]:
    """A record and the settings of its shard. Raises ShardError where no shard holds it."""
    for path in shards:
        index = records.read_index(path)
        if (own := names.matcher(index["ids"])(clip_id)) in index["ids"]:
            return records.ShardSource([path])[index["ids"].index(own)], index["settings"]
    known = records.read_index(shards[0])["ids"][:3]
    raise records.ShardError(
        f"no record {clip_id!r} in {len(shards)} shards (the first begins with {', '.join(known)}); clips that failed "
        f"are left out of train: see {records.MANIFEST}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="save-jax prep inspect", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("shards", help="a shard (clips-….tfrecord-…), or a folder of them")
    parser.add_argument("id", nargs="?", help="of the clip to show; without, a table of all")
    parser.add_argument("--out", help="folder for its pictures, sound and texts")
    parser.add_argument("--media", help="the file it was made from, for its sound: shards hold no waveform")
    args = parser.parse_args(command_line.arguments(argv))
    return shared.run("data_prep.inspect", lambda: _main(args))


def _main(args: argparse.Namespace) -> int:
    try:
        shards = find_shards(args.shards)
        if args.id is None:
            for line in table(shards):
                print(line)
            return 0
        clip, settings = find(shards, names.as_text(args.id))
        print(json.dumps(texts(clip), indent=1, ensure_ascii=False))
        if args.out:
            print("\n".join(write(clip, settings, args.out, args.media)))
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = None
    return 0
