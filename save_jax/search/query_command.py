"""`save-jax search query`: moments that a sentence finds, as lines, JSON, lists for editors, and clips."""

import argparse
import datetime
import json
import os
import sys

from save_jax.data import command_line
from save_jax.data.command_line import visible

# Options that libraries alone have → their value where they are not given.
OF_LIBRARIES = {"folder": "", "after": "", "longer": 0.0, "shorter": float("inf"), "language": "", "exact": False}
OF_LIBRARIES |= {"evidence": "joined", "export": None, "cut": None, "model": ""}
SENSES = {"vision": "picture", "audio": "sound", "speech": "speech"}  # in words that users have


def run(args: argparse.Namespace) -> int:
    """Prints moments, as lines or JSON; writes them for other programs where asked."""
    from save_jax.training import process

    if args.top < 1:
        raise ValueError(f"--top is {args.top}; show at least one")
    sentence = command_line.as_text(args.sentence)  # typed where letters are ASCII alone
    if os.path.exists(os.path.join(args.library, "config.json")):
        process.set_up_process()
        return _query_run(args, sentence)
    if not sentence.strip() and not args.like:
        raise ValueError("give a sentence, or --like FILE")
    if args.direction or args.data_dir:
        option = "--direction" if args.direction else "--data-dir"
        raise ValueError(f"{args.library} is no run, and {option} is for runs alone; leave it out")
    if args.export:
        from save_jax.search.export import check

        check(args.export)
    process.set_up_process()
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
    """A run's test split: videos, and of VLSA what a direction finds."""
    from save_jax.inference import runs

    vlsa = runs.read_config(args.library, args.data_dir).task != "retrieval"
    if vlsa:
        hits = _ask_vlsa(args, sentence)
    else:
        way = f"make its test split a library first: save-jax search index --run {args.library} --index library"
        _refuse(args, {**OF_LIBRARIES, "like": ""}, way)
        if args.direction:
            raise ValueError(f"{args.library} is no run of VLSA, which alone has directions; leave out --direction")
        if not sentence.strip():
            raise ValueError("give a sentence")
        hits = runs.open_run(args.library, args.data_dir).search(sentence, args.top)
    if args.json:
        print(json.dumps([hit._asdict() for hit in hits], ensure_ascii=False, indent=2))
    for hit in () if args.json else hits:
        print(f"{hit.score:8.{3 if vlsa else 2}f}  {visible(hit.id)}")
    return 0


def _ask_vlsa(args: argparse.Namespace, sentence: str) -> list:
    from save_jax.config.vlsa import NAMES
    from save_jax.inference.vlsa_runs import open_vlsa

    _refuse(args, OF_LIBRARIES, "leave it out")
    run, asked = open_vlsa(args.library, args.data_dir), {"like": command_line.as_text(args.like)}
    direction = run.choose(sentence, direction=args.direction.lower(), **asked)
    print(f"({NAMES[direction]}; this run ranks {', '.join(run.directions)})", file=sys.stderr)
    return run.search(sentence, args.top, direction=direction, **asked)


def _refuse(args: argparse.Namespace, options: dict, way: str) -> None:
    """Raises ValueError where an option is given that a run cannot be asked with."""
    given = [name.replace("folder", "in") for name, unset in options.items() if getattr(args, name) != unset]
    if given:
        raise ValueError(f"{args.library} is a run, of which --{', --'.join(given)} cannot be asked; {way}")


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
