"""Builds the shards of a corpus: media and annotations in, TFRecord shards, indexes and a manifest out.

    python -m data_prep.build --corpus demo --root DIR --out DIR/shards

The same command run again does only what is missing. One build writes to a folder at a time. The manifest is written
last: a folder with a manifest is complete.
"""

import argparse
import dataclasses
import functools
import os
import sys
from collections.abc import Mapping, Sequence

from data_prep import corpora, manifest, runners
from data_prep.commands import shared
from data_prep.commands.shards import build
from data_prep.corpora import CORPORA, folder
from data_prep.media import audio
from save_jax.data import command_line, records


def summary(result: Mapping, out: str) -> str:
    """What was built, in a few lines, with the first failures and notes."""
    lines, full_list = [], os.path.join(out, records.MANIFEST)
    for split, counts in result["counts"].items():
        lines.append(f"{split:6}" + "  ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in manifest.COUNTS))
    size = sum(shard["bytes"] for shard in result["shards"].values())
    lines.append(f"{len(result['shards'])} shards, {size / 1e6:.1f} MB in {out}")
    if result["failed"]:
        lines.append(f"{len(result['failed'])} clips failed (left out of train, kept without frames in val and test):")
        lines += shared.first_reasons(result["failed"], full_list)
        lines.append("To try them again, mend the files and run the same command with --retry-failed.")
    if result["notes"]:
        lines.append(f"{len(result['notes'])} clips lost something and were kept:")
        lines += shared.first_reasons(
            {clip_id: "; ".join(notes) for clip_id, notes in result["notes"].items()}, full_list
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="save-jax prep build", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpus", required=True, choices=sorted(CORPORA))
    parser.add_argument("--root", required=True, help="folder of the official layout")
    parser.add_argument("--out", required=True, help="folder for the shards")
    parser.add_argument("--image-size", type=int, help="side of the frames in pixels (default: the corpus's)")
    parser.add_argument("--max-frames", type=int, help="frames per clip (default: the corpus's)")
    parser.add_argument("--frames", choices=("jpeg", "raw"), default="jpeg", help="how shards store frames")
    parser.add_argument("--spectrogram", action="store_true", help="store what VLSA hears, too (131 kB a clip)")
    parser.add_argument("--clips-per-shard", type=int, default=128)
    parser.add_argument("--transcripts", help="transcript file (default: the corpus's own)")
    parser.add_argument("--teacher", default=corpora.TEACHER, help="folder in FeatureData (default: %(default)s)")
    parser.add_argument(
        "--shares",
        metavar="TRAIN,VAL,TEST",
        help="with --corpus folder: divide the videos whose split no row says, such as 0.9,0.05,0.05 (default: all are "
        "test)",
    )
    parser.add_argument(
        "--partial", action="store_true", help="build although clips of the published corpus are missing"
    )
    parser.add_argument("--retry-failed", action="store_true", help="make shards that hold failed clips again")
    parser.add_argument("--update", action="store_true", help="make shards again whose clips, texts or files changed")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if any clip failed")
    runners.add_arguments(parser)
    args = parser.parse_args(command_line.arguments(argv))
    stopped = "stopped; finished shards are kept, the same command goes on"
    return shared.run("data_prep.build", lambda: _main(args), stopped)


def _shares(args: argparse.Namespace) -> tuple[float, ...]:
    if args.corpus != "folder":
        raise ValueError(f"--shares: the splits of --corpus {args.corpus} are its authors'; leave it out")
    try:
        shares = tuple(map(float, args.shares.split(",")))
    except ValueError:
        raise ValueError(f"--shares {args.shares}: write three numbers, such as 0.9,0.05,0.05") from None
    folder.share_of("", shares)  # before a long walk
    return shares


def _main(args: argparse.Namespace) -> int:
    corpus = CORPORA[args.corpus]
    shares = None if args.shares is None else _shares(args)
    if shares:
        corpus = dataclasses.replace(corpus, read=functools.partial(corpus.read, shares=shares))
    settings = {
        "corpus": corpus.name,
        "image_size": corpus.image_size if args.image_size is None else args.image_size,
        "max_frames": corpus.max_frames if args.max_frames is None else args.max_frames,
        "frames": args.frames,
    } | ({"spectrogram": True} if args.spectrogram else {})  # no key where it is not asked for, as in older shards
    settings |= {"shares": list(shares)} if shares else {}
    chosen = {name: getattr(args, name) for name in ("transcripts", "teacher", "partial", "retry_failed", "update")}
    command_line.check_folder("--out", args.out, "shards are written")
    audio.check_library()
    # Workers of a cluster have other current folders.
    root, out = os.path.abspath(args.root), os.path.abspath(args.out)
    result = build(corpus, root, out, settings, args.clips_per_shard, runners.from_arguments(args), **chosen)
    print(summary(result, args.out))
    empty = [split for split, ids in result["written"].items() if not set(ids) - result["failed"].keys()]
    if empty:
        print(f"data_prep.build: no clip of {', '.join(empty)} could be prepared", file=sys.stderr)
    return int(bool(empty) or (args.strict and bool(result["failed"])))
