"""Scores from anywhere, judged: `save-jax judge SCORES --protocol msrvtt-1k-a` (no JAX needed).

SCORES is .npy, .npz, .pt, .csv, .tsv or .parquet (`judge/reading.py` says what is in each), or a run's folder. Several
files are one system's seeds.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from save_jax.data import command_line, files
from save_jax.judge import comparison, lists, reading, scores, signature

SHOWN = ("R@1", "R@5", "R@10", "R@50", "MedR", "MeanR", "MRR", "SumR")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="save-jax judge", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    made.add_argument(
        "scores", nargs="*", metavar="SCORES", help="[queries, videos], higher is better; one file a seed"
    )
    made.add_argument(
        "--embeddings", nargs=2, metavar=("TEXTS", "VIDEOS"), help="in SCORES' place: .npy [n, width] each; cosines"
    )
    made.add_argument(
        "--embedder",
        metavar="ENCODER",
        help="in SCORES' place: an encoder of mteb's form, module:function or a name that mteb knows (extra mteb);\n"
        "--queries then has columns text and video, and videos are files",
    )
    made.add_argument(
        "--modalities", default="video", help="what --embedder is given of a file: video, audio, image, or video,audio"
    )
    made.add_argument(
        "--protocol", help="what the numbers are compared with: msrvtt-1k-a, msrvtt-full, vatex, charades, lsmdc, …"
    )
    made.add_argument(
        "--queries",
        metavar="CSV",
        help="columns video, and query, text, group where there are; MSR-VTT's own list is one",
    )
    made.add_argument(
        "--videos",
        metavar="CSV",
        help="column video: the gallery, in the order of the columns where those have no names",
    )
    made.add_argument("--groups", metavar="CSV", help="columns query, group")
    made.add_argument(
        "--against",
        nargs="+",
        action="append",
        default=[],
        metavar="SCORES",
        help="another system (its seeds); may be repeated",
    )
    made.add_argument(
        "--metric", default="SumR", choices=comparison.METRICS, help="that systems are compared by; default SumR"
    )
    made.add_argument("--post", default="none", help="what was done to the scores, in a word, for the signature")
    made.add_argument(
        "--picked-on", default=signature.UNKNOWN, help="the split that picked the checkpoint: val, test, none"
    )
    made.add_argument(
        "--departures", action="store_true", help="judge another gallery than the protocol's, with the departure named"
    )
    made.add_argument(
        "--nan", default="refuse", choices=("refuse", "worst"), help="worst: NaN counts against the query"
    )
    made.add_argument("--transposed", action="store_true", help="rows are videos, columns are queries")
    made.add_argument("--habits", action="store_true", help="also what the score would be under habits of the field")
    made.add_argument("--json", metavar="FILE", help="also write all of it there")
    made.add_argument("--name", help="of the system, in the LaTeX row; default: its file's")
    made.add_argument("--latex", action="store_true", help="also a row of a LaTeX table, and a BibTeX entry")
    return made


def judged(args: argparse.Namespace) -> dict:
    """The results of what was typed. Raises ValueError as `scores.evaluate_scores`, and for options that do not fit."""
    if sum(map(bool, (args.scores, args.embeddings, args.embedder))) != 1:
        raise ValueError("give SCORES, or --embeddings TEXTS VIDEOS, or --embedder ENCODER; one of them")
    if args.json and (not os.path.isdir(os.path.dirname(args.json) or ".") or os.path.isdir(args.json)):
        raise ValueError(f"--json {args.json} is no file in a folder that is there")
    if args.transposed and not args.scores:
        raise ValueError("--transposed is for matrices; give embeddings of texts first")
    if args.embeddings:
        given = [reading.Given(reading.product(*map(reading.array, args.embeddings)))]
    elif args.embedder:
        given = [_encoded(args)]
    else:
        given = [_turned(reading.read(path), args.transposed) for path in args.scores]
    names = [_name(paths) for paths in args.against]
    names = [
        name if names.count(name) == 1 else ", ".join(paths) for name, paths in zip(names, args.against, strict=True)
    ]
    if len(set(names)) < len(names):
        raise ValueError("--against has the same files twice")
    against = {
        name: [_turned(reading.read(path), args.transposed) for path in paths]
        for name, paths in zip(names, args.against, strict=True)
    }

    def with_lists(systems: list[reading.Given]) -> list[reading.Given]:
        return [lists.named(one, args.queries, args.videos, args.groups) for one in systems]

    return scores.evaluate_scores(
        with_lists(given), args.protocol, against={name: with_lists(seeds) for name, seeds in against.items()},
        metric=args.metric, post=args.post, picked_on=args.picked_on, strict=not args.departures, nan=args.nan,
        with_habits=args.habits,
    )  # fmt: skip


def _name(paths: Sequence[str]) -> str:
    """A system by the first file of its seeds; a run's scores.npz by its folder."""
    folder, name = os.path.split(os.path.normpath(paths[0]))
    name = os.path.basename(folder) if name == "scores.npz" and folder else name
    return name if len(paths) == 1 else f"{name}, … ({len(paths)} seeds)"


def _encoded(args: argparse.Namespace) -> reading.Given:
    """Scores of an encoder for the texts of a list and the files that it names."""
    if not args.queries:
        raise ValueError("--embedder needs --queries, with columns text and video, and files as videos")
    from save_jax.judge import encoders

    asked = lists.read(args.queries, ("text", "video"))
    files_of = lists.read(args.videos, ("video",))["video"] if args.videos else list(dict.fromkeys(asked["video"]))
    names = asked.get("query") or [str(number) for number in range(len(asked["video"]))]
    # The lists are checked before hours of encoding.
    nothing = reading.Given(np.zeros((len(names), len(files_of)), np.int8), names, files_of)
    lists.named(nothing, args.queries, args.videos, args.groups)
    sys.path.insert(0, "")  # a module:function of this folder
    modalities = tuple(args.modalities.split(","))
    made = encoders.encoded_scores(args.embedder, asked["text"], files_of, modalities=modalities)
    return reading.Given(made, names, files_of)


def _turned(given: reading.Given, transposed: bool) -> reading.Given:
    return reading.Given(np.asarray(given.scores).T, given.videos, given.queries) if transposed else given


def text(results: dict) -> Iterator[str]:
    """The results in lines, the size of the gallery in each."""
    protocol = results["protocol"]
    size = f"{protocol['videos']:,} videos"
    yield f"{protocol['name']}: {protocol['queries']:,} queries, a gallery of {size}" + (
        f"; mean of {results['seeds']} seeds" if results["seeds"] > 1 else ""
    )
    yield from (f"  DEPARTURE: {line}" for line in protocol["departures"])
    yield ""
    rows: list[tuple[str, ...]] = [("", *SHOWN, "among")]
    for way, name in (("t2v", "text → video"), ("v2t", "video → text")):
        rows.append((name, *(_number(results[way][m], m) for m in SHOWN), size))
        rows.append(("  95 %", *(_edges(results["intervals"][way][m], m) for m in SHOWN), ""))
    for name, group in results["groups"].items():
        rows.append((f"{name} ({group['t2v']['queries']})", *(_number(group["t2v"][m], m) for m in SHOWN), size))
        rows.append(("  95 %", *(_edges(group["intervals"]["t2v"][m], m) for m in SHOWN), ""))
    yield from _columns(rows)
    for way, name in (("t2v", "text → video"), ("v2t", "video → text")):
        if ties := results["ties"][way]:
            yield (
                f"{ties:,} queries, {name}, have another candidate with the right one's score ({results['dtype']}); "
                "ties count against the query"
            )
    if results["at_chance"]:
        yield "NOTE: text → video is at chance. Check the order of rows and columns, and that higher scores are better."
    for name, rows_of in results.get("comparisons", {}).items():
        yield f"\nagainst {name} (p corrected for {_comparisons(results)} comparisons):"
        made = {"text → video": rows_of["t2v"], "video → text": rows_of["v2t"]} | rows_of["groups"]
        width = max(map(len, made))
        yield from (f"  {label:{width}}  {difference}" for label, difference in made.items())
        fewest, most = sorted(rows_of["t2v"].seeds)
        yield "  " + (
            "One seed each: this is about these checkpoints, not about another training of the methods." if most == 1
            else "One seed on a side: it is taken to vary as the other side's seeds do." if fewest == 1
            else "Several seeds: videos and seeds both vary."
        )  # fmt: skip
    if "habits" in results:
        honest = results["habits"]["honest"]
        yield "\nWhat text → video would be under the field's habits. None of these is a result:"
        shown = ("R@1", "R@10", "SumR")
        rows = [("", *shown, "gain, SumR", "queries")]
        for name, row in results["habits"].items():
            gain = "" if row is honest else f"{row['SumR'] - honest['SumR']:+.1f}"
            rows.append((name, *(_number(row[m], m) for m in shown), gain, f"{row['queries']:,.0f}"))
        yield from _columns(rows)
    yield f"\n{results['signature']}"


def _comparisons(results: dict) -> int:
    return sum(2 + len(rows["groups"]) for rows in results["comparisons"].values())


def _number(value: float, metric: str) -> str:
    return f"{value:.3f}" if metric == "MRR" else f"{value:.1f}"


def _edges(edges: Sequence[float], metric: str) -> str:
    return "–".join(_number(edge, metric) for edge in edges)


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        right = [cell.rjust(width) for cell, width in zip(cells, others, strict=True)]
        yield "  ".join([name.ljust(first), *right]).rstrip()


def plain(results: dict) -> dict:
    """The same for JSON: differences as dictionaries."""
    return {
        key: plain(value) if isinstance(value, dict)
        else dataclasses.asdict(value) | {"established": value.established} if isinstance(value, comparison.Difference)
        else value
        for key, value in results.items()
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    args = parser().parse_args(command_line.arguments(argv))
    try:
        results = judged(args)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print("\n".join(text(results)))
    if args.latex:
        name = args.name or os.path.splitext(_name((args.scores or args.embeddings or [args.embedder])[:1]))[0]
        print(f"\n{signature.latex_row(name, results)}\n\n{signature.bibtex()}")
    if args.json:
        try:
            files.write_json(args.json, plain(results))
        except OSError as error:
            sys.exit(f"error: --json {args.json} cannot be written: {error}")
