"""`save-jax search query`: moments that a sentence finds, as lines, JSON, lists for editors, and clips."""

import argparse
import datetime
import json
import os
import sys

from save_jax.data import command_line
from save_jax.data.command_line import visible

SENSES = {"vision": "picture", "audio": "sound", "speech": "speech"}  # in words that users have


def run(args: argparse.Namespace) -> int:
    """Prints moments, as lines or JSON; writes them for other programs where asked."""
    from save_jax.training import process

    if args.top < 1:
        raise ValueError(f"--top is {args.top}; show at least one")
    sentence = command_line.as_text(args.sentence)  # typed where letters are ASCII alone
    if not sentence.strip() and not args.like:
        raise ValueError("give a sentence, or --like FILE")
    if args.export:
        from save_jax.search.export import check

        check(args.export)
    process.set_up_process()
    if os.path.exists(os.path.join(args.library, "config.json")):
        return _query_run(args, sentence)
    if args.direction:
        raise ValueError(f"{args.library} is no run of VLSA; it alone has directions to choose: leave out --direction")
    after = 0.0
    if args.after:
        try:
            after = datetime.datetime.fromisoformat(args.after).timestamp()
        except ValueError:
            raise ValueError(f"--after {args.after} is no date; write it as 2026-05-01") from None
    from save_jax.search import export
    from save_jax.search.door import open_library
    from save_jax.search.library import Filters

    filters = Filters(args.folder, after, args.longer, args.shorter, args.language)
    library = open_library(args.library, args.model)
    options = {"exact": args.exact, "filters": filters, "evidence": args.evidence}
    answer = library.search(sentence, args.top, like=args.like, **options)
    if args.json:
        print(json.dumps(answer.as_json(), ensure_ascii=False, indent=2))
    else:
        _show(answer)
    if args.export:
        export.write(args.export, answer.hits, sentence or args.like)
        print(f"wrote {visible(args.export)}", file=sys.stderr)
    wrong = 0
    for number, hit in enumerate(answer.hits if args.cut else (), 1):
        try:
            print(f"wrote {visible(export.cut(hit, number, args.cut))}", file=sys.stderr)
        except ValueError as error:  # a file that is gone stops none of the others
            print(f"error: {visible(str(error))}", file=sys.stderr)
            wrong = 1
    return wrong


def _query_run(args: argparse.Namespace, sentence: str) -> int:
    from save_jax.inference import runs

    vlsa = runs.read_config(args.library, args.data_dir).task != "retrieval"
    given = {"--json": args.json, "--export": args.export, "--cut": args.cut, "--in": args.folder}
    given |= {"--after": args.after, "--longer": args.longer, "--language": args.language, "--exact": args.exact}
    if not vlsa:
        given |= {"--like": args.like, "--direction": args.direction}
    if refused := [name for name, value in given.items() if value]:
        way = f"make its test split a library first: save-jax search index --run {args.library} --index library"
        raise ValueError(
            f"{args.library} is a run{' of VLSA' * vlsa}, of which {', '.join(refused)} cannot be asked"
            + f"; {way}" * (not vlsa)
        )
    if vlsa:
        _query_vlsa(args, sentence)
    else:
        for hit in runs.open_run(args.library, args.data_dir).search(sentence, args.top):
            print(f"{hit.score:8.2f}  {visible(hit.id)}")
    return 0


def _query_vlsa(args: argparse.Namespace, sentence: str) -> None:
    from save_jax.inference.vlsa_runs import open_vlsa

    direction = args.direction or ("v2a" if args.like else "t2v")
    if sentence and args.like:
        raise ValueError(f"{args.library} is a run of VLSA; give a sentence or --like CLIP, not both")
    if direction.startswith("t") and args.like:
        raise ValueError(f"--direction {direction} asks with a sentence; leave out --like, or choose v2a or another")
    if not direction.startswith("t") and sentence:
        raise ValueError(f"--direction {direction} asks with a clip of the test split: --like CLIP, and no sentence")
    run = open_vlsa(args.library, args.data_dir)
    for hit in run.search(args.like or sentence, args.top, direction):
        print(f"{hit.score:8.3f}  {visible(hit.id)}")


def _show(answer) -> None:
    if answer.nothing_relevant:
        print("nothing relevant" + ("; the nearest are:" if answer.hits else ""))
    for hit in answer.hits:
        why = "  ".join(
            f"{SENSES.get(name, name)} {round(lost, 2) + 0.0:+.2f}"
            for name, lost in hit.why.items()
            if len(hit.why) > 1
        )
        print(f"{hit.score:8.2f}  {clock(hit.start)}–{clock(hit.end)}  best {clock(hit.best)}  {visible(hit.file)}")
        said = visible(hit.quoted or hit.words)
        print("          " + "   ".join(filter(None, (why, f"“{said}”" if said else ""))))
    if len(answer.senses) == 1:
        print("(ranked by pictures" + (" and exact words)" if answer.hits else " alone)"))
    if answer.cutoff is not None:
        print(f"(below {answer.cutoff:.2f} lie nine of ten answers to what is not there)")
    for name in answer.offline:
        print(f"(root {name} is offline: its files cannot be played now)")


def clock(seconds: float) -> str:
    """75.5 → 1:15.5"""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
