"""Search of one's own videos: `save-jax search index DIR --index library`, then `save-jax search query library "…"`."""

import argparse
import contextlib
import datetime
import json
import os
import sys
import time
from collections.abc import Callable

from save_jax.data import command_line, files
from save_jax.data.command_line import visible


def parser() -> argparse.ArgumentParser:
    """All commands."""
    made = argparse.ArgumentParser(prog="save-jax search", description=(__doc__ or "").split(":")[0] + ".")
    commands = made.add_subparsers(required=True, metavar="COMMAND")

    index = _add(commands, "index", _index, "make an index of folders of videos, or bring it up to date")
    index.add_argument("folders", nargs="*", metavar="DIR", help="folders of videos; those of earlier runs are known")
    index.add_argument("--index", required=True, metavar="LIBRARY", help="folder of the index")
    index.add_argument(
        "--model", default="", help="a run, a folder of weights (SAVE, AVIGATE, or CLIP alone), or hf://OWNER/NAME"
    )
    index.add_argument(
        "--speech", default="", metavar="WHISPER",
        help="hear what has no subtitles: a size such as tiny.en or base, or a folder (default: subtitles alone)",
    )  # fmt: skip
    index.add_argument("--language", default="", help="of the speech, such as en (default: detected)")
    index.add_argument("--window", type=float, help="seconds of a window (default: what the model was trained on)")
    index.add_argument("--hop", type=float, help="seconds from one window to the next (default: half a window)")
    index.add_argument("--jobs", type=int, help="files read at once (default: one for each core)")
    index.add_argument("--nice", action="store_true", help="leave a core free and let other programs go first")
    index.add_argument(
        "--runner", choices=("local", "ray"), default="local", help="where files are read and embedded: here, or on Ray"
    )
    index.add_argument("--ray-address", help="of the cluster (default: RAY_ADDRESS, else a Ray of this machine alone)")
    index.add_argument("--watch", action="store_true", help="stay, and follow every change of the folders")
    index.add_argument("--queries", metavar="TXT", help="sentences, one a line, to find the cut-off with")

    query = _add(commands, "query", _query, "moments that a sentence finds, best first")
    query.add_argument("library", help="folder of an index, or of a run (its test split)")
    query.add_argument("sentence", nargs="?", default="", help='what is seen, heard or said; "…" inside must be said')
    query.add_argument(
        "--like", default="", metavar="FILE[@SECOND]", help="moments like this one, in a sentence's place"
    )
    query.add_argument("--top", type=int, default=10, help="how many (default: %(default)s)")
    query.add_argument("--exact", action="store_true", help="score every window, not only the nearest 512")
    query.add_argument("--evidence", choices=("joined", "fused", "lexical"), default="joined", help="what ranks")
    query.add_argument("--in", dest="folder", default="", metavar="FOLDER", help="files of this folder alone")
    query.add_argument("--after", default="", metavar="DATE", help="files changed since, such as 2026-05-01")
    query.add_argument("--longer", type=float, default=0.0, metavar="SECONDS", help="files that last longer")
    query.add_argument("--shorter", type=float, default=float("inf"), metavar="SECONDS", help="files that are shorter")
    query.add_argument("--language", default="", help="files in which this is spoken, such as en")
    query.add_argument("--json", action="store_true", help="print JSON")
    query.add_argument("--export", metavar="FILE", help="write moments as .csv, .edl or .otio")
    query.add_argument("--cut", metavar="DIR", help="write each moment as a file of its own")
    query.add_argument("--model", default="", help="where the model lies now, if it moved")
    query.add_argument("--data-dir", "--data_dir", help="of a run: folder of its shards, if they moved")

    doctor = _add(commands, "doctor", _doctor, "what is wrong with an index, if anything")
    stats = _add(commands, "stats", _stats, "what an index holds")
    stats.add_argument("--files", action="store_true", help="list every file")
    judge = _add(commands, "eval", _eval, "how often an index finds what its owner means")
    forget = _add(commands, "forget", _forget, "take files out of an index")
    embeddings = _add(commands, "export", _export, "embeddings as .parquet or .npy")
    for command in (doctor, stats, judge, forget, embeddings):
        command.add_argument("library", help="folder of an index")
    judge.add_argument("queries", metavar="QUERIES.csv", help="columns query, file; start, end in seconds where known")
    judge.add_argument("--evidence", choices=("joined", "fused", "lexical"), default="joined", help="what ranks")
    judge.add_argument("--against", metavar="LIBRARY", help="another index of the same files, of another model")
    forget.add_argument("file", nargs="+", help="as `stats --files` names them, or as paths")
    embeddings.add_argument("file", help="to write, .parquet or .npy")
    for command in (doctor, judge, embeddings):
        command.add_argument("--model", default="", help="where the model lies now, if it moved")
    return made


def _add(commands, name: str, do: Callable, what: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=what, description=what.capitalize() + ".")
    command.set_defaults(do=do)
    return command


def main() -> int:
    """The command line."""
    args = parser().parse_args(command_line.arguments())
    try:
        return args.do(args) or 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _require() -> None:
    """Raises ValueError where the extra is not installed."""
    try:
        import lancedb  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "an index needs LanceDB: pip install 'save_jax[prep,search]', or in a checkout pip install -c "
            "constraints.txt -e '.[prep,search]'"
        ) from error


# ---------------------------------------------------------------- index


def _index(args: argparse.Namespace) -> int:
    _require()
    from save_jax.search import indexing
    from save_jax.search.models import open_embedder, sentences_of
    from save_jax.search.store import ABOUT, Store
    from save_jax.search.transcripts import Transcriber
    from save_jax.search.windows import Cut
    from save_jax.training import process

    command_line.check_folder("--index", args.index, "an index is written")
    there = os.path.exists(os.path.join(args.index, ABOUT))
    store = Store.open(args.index) if there else None
    if store is None and not args.folders:
        raise ValueError(f"{args.index} is new; give folders of videos: save-jax search index DIR --index {args.index}")
    if store is None and not args.model:
        raise ValueError("a new index needs --model: a run, a folder of weights, or hf://OWNER/NAME")
    for name in ("window", "hop", "jobs"):
        if (value := getattr(args, name)) is not None and not value > 0:
            raise ValueError(f"--{name} is {value}; it must be more than 0")
    named = indexing.name_roots(args.folders, store.about.roots if store else {})
    if args.nice:
        os.nice(10)
    process.set_up_process()
    embedder = open_embedder(args.model or (store.about.model if store else ""))
    if store is None:
        cut = Cut(args.window or embedder.cut.seconds, args.hop or (args.window or embedder.cut.seconds) / 2)
        if cut.hop > cut.seconds:
            raise ValueError(f"--hop is {cut.hop:g} and a window {cut.seconds:g} s: what lies between would be lost")
        store = Store.create(args.index, embedder, cut)
    elif (args.window or args.hop) and Cut(
        args.window or store.about.seconds, args.hop or store.about.hop
    ) != store.about.cut:
        raise ValueError(
            f"{args.index} has windows of {store.about.seconds:g} s every {store.about.hop:g} s; index anew for others"
        )
    store.about.roots, store.about.speech = named, args.speech or store.about.speech
    transcriber = Transcriber(store.about.speech, os.path.join(args.index, "speech"), args.language)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = args.jobs or max(1, cores - args.nice)
    sentences = _sentences(args.queries) if args.queries else sentences_of(embedder.name)

    runner, embed = contextlib.nullcontext(), None
    if args.runner == "ray":
        from data_prep import runners
        from save_jax.search import cluster

        runner = runners.Ray(args.jobs, None, None, args.ray_address)
        about = cluster.Task(
            os.path.abspath(embedder.name) if os.path.exists(embedder.name) else embedder.name,
            embedder.digest, store.about.cut, store.about.speech, os.path.abspath(os.path.join(args.index, "speech")),
            args.language,
        )  # fmt: skip
        embed = cluster.embed_on(runner, about)

    def once(progress: bool = True) -> bool:
        with runner:
            summary = indexing.update(store, embedder, transcriber, jobs, progress, embed)
        if summary.embedded or summary.removed:
            _calibrate(store, embedder, sentences)
        _tell(summary, args)
        return summary.stopped

    stopped = once()
    if args.watch and not stopped:
        import watchfiles

        print(f"watching {', '.join(named.values())}; Ctrl-C ends", file=sys.stderr)
        for _ in watchfiles.watch(*named.values(), debounce=3000, raise_interrupt=False):
            time.sleep(2)  # a file that is being written is left for the next turn
            if once(progress=False):
                break
    return 130 if stopped else 0


def _sentences(path: str) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip()]


def _calibrate(store, embedder, sentences: list[str]) -> None:
    from save_jax.search import cutoff
    from save_jax.search.library import Library

    with store.writing():
        store.about.cutoff = cutoff.calibrate(Library(store, embedder), sentences)
        store.save()


def _tell(summary, args: argparse.Namespace) -> None:
    """What a run did, and what it could not do."""
    head = f"{summary.embedded} files embedded ({summary.windows} windows, {summary.duration / 60:.1f} minutes)"
    parts = [head, f"{summary.same} as they were"]
    parts += [
        f"{count} {what}" for count, what in ((summary.moved, "moved or copied"), (summary.removed, "gone")) if count
    ]
    print(", ".join(parts))
    if summary.embedded:
        speed = summary.duration / max(summary.seconds, 1e-9)
        spent = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in summary.stages.items())
        print(f"{speed:.1f} times real time ({spent}; {summary.seconds:.0f} s in all)")
    for reason in list(summary.failed.values())[:5]:
        print(f"failed: {visible(reason)}")
    if len(summary.failed) > 5:
        print(f"and {len(summary.failed) - 5} more (save-jax search stats {args.index} --files)")
    for what, names in (
        ("offline, its files stay known", summary.offline),
        ("still being written, left for the next run", summary.growing),
        ("cannot be read", summary.skipped),
    ):
        if names:
            shown = visible(", ".join(names[:5]))
            print(f"{what}: {shown}" + (f" and {len(names) - 5} more" if len(names) > 5 else ""))
    if summary.notes:
        print(f"{summary.notes} files lost something, such as sound that does not decode (stats --files)")
    if summary.unread:
        print(f"{summary.unread} words are more than the model reads of their windows; exact search finds them")
    if summary.stopped:
        print("stopped; what was committed is kept, and the same command goes on")


# ---------------------------------------------------------------- query


def _query(args: argparse.Namespace) -> int:
    from save_jax.training import process

    if args.top < 1:
        raise ValueError(f"--top is {args.top}; show at least one")
    sentence = command_line.as_text(args.sentence)  # typed where letters are ASCII alone
    if not sentence.strip() and not args.like:
        raise ValueError("give a sentence, or --like FILE")
    process.set_up_process()
    if os.path.exists(os.path.join(args.library, "config.json")):
        return _query_run(args, sentence)
    _require()
    from save_jax.search import export
    from save_jax.search.door import open_library
    from save_jax.search.library import Filters

    after = datetime.datetime.fromisoformat(args.after).timestamp() if args.after else 0.0
    filters = Filters(args.folder, after, args.longer, args.shorter, args.language)
    library = open_library(args.library, args.model)
    options = {"exact": args.exact, "filters": filters, "evidence": args.evidence}
    answer = library.search(sentence, args.top, like=args.like, **options)
    if args.export:
        export.write(args.export, answer.hits, sentence or args.like)
    if args.cut:
        for path in export.cut(answer.hits, args.cut):
            print(f"wrote {visible(path)}", file=sys.stderr)
    if args.json:
        print(json.dumps(answer.as_json(), ensure_ascii=False, indent=2))
        return 0
    _show(answer)
    return 0


def _query_run(args: argparse.Namespace, sentence: str) -> int:
    from save_jax.inference import runs

    for row in runs.open_run(args.library, args.data_dir).search(sentence, args.top):
        print(f"{row.score:8.2f}  {row.id}")
    return 0


def _show(answer) -> None:
    if answer.nothing_relevant:
        print("nothing relevant" + ("; the nearest are:" if answer.hits else ""))
    for hit in answer.hits:
        why = "  ".join(f"{SENSES.get(name, name)} {lost:+.2f}" for name, lost in hit.why.items() if len(hit.why) > 1)
        print(f"{hit.score:8.2f}  {clock(hit.start)}–{clock(hit.end)}  best {clock(hit.best)}  {visible(hit.file)}")
        said = visible(hit.quoted or hit.words)
        print("          " + "   ".join(filter(None, (why, f"“{said}”" if said else ""))))
    if len(answer.senses) == 1:
        print("(ranked by pictures" + (" and exact words)" if answer.hits else " alone)"))
    if answer.cutoff is not None:
        print(f"(below {answer.cutoff:.2f} lie nine of ten answers to what is not there)")
    for name in answer.offline:
        print(f"(root {name} is offline: its files cannot be played now)")


SENSES = {"vision": "picture", "audio": "sound", "speech": "speech"}


def clock(seconds: float) -> str:
    """75.5 → 1:15.5"""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


# ---------------------------------------------------------------- the rest


def _doctor(args: argparse.Namespace) -> int:
    _require()
    from save_jax.search import checks
    from save_jax.search.models import open_embedder
    from save_jax.search.store import ABOUT

    digest = None
    path = os.path.join(args.library, ABOUT)
    try:
        name = args.model or (files.read_json(path).get("model", "") if os.path.exists(path) else "")
        digest = open_embedder(name).digest if name else None
    except ValueError as error:
        print(f"!  the model cannot be opened: {error}")
    fine = digest is not None
    for check in checks.run(args.library, digest):
        fine &= check.fine
        print(("ok " if check.fine else "!  ") + check.what + (f" ({check.advice})" if check.advice else ""))
    return int(not fine)


def _stats(args: argparse.Namespace) -> int:
    _require()
    from save_jax.search.store import READY, Store, size_of

    store = Store.open(args.library)
    rows = store.file_rows()
    ready = [row for row in rows if row["state"] == READY]
    hours = sum(row["duration"] for row in ready) / 3600
    print(f"{len(ready)} files, {hours:.2f} hours, {store.windows.count_rows()} windows of {store.about.seconds:g} s")
    print(f"{store.segments.count_rows()} lines of speech; {sum(bool(row['source']) for row in ready)} files speak")
    print(f"model {store.about.model} ({store.about.digest[:12]}): {', '.join(store.about.senses)}")
    print(f"{size_of(args.library) / 1e6:.1f} MB; {len(rows) - len(ready)} files failed")
    for row in rows if args.files else ():
        told = row["reason"] or "; ".join(row["notes"])
        print(
            f"{row['state']:7} {row['duration']:8.1f} s  {visible(row['file'])}"
            + (f"  ({visible(told)})" if told else "")
        )
    return 0


def _eval(args: argparse.Namespace) -> int:
    _require()
    from save_jax.search import judgements
    from save_jax.search.door import open_library

    judged = judgements.read(args.queries)
    for folder in filter(None, (args.library, args.against)):
        found = judgements.evaluate(open_library(folder, args.model), judged, evidence=args.evidence)
        shown = ", ".join(
            f"{name} {value:.1f}" if name != "queries" else f"{value} queries" for name, value in found.items()
        )
        print(f"{folder}: {shown}")
    return 0


def _forget(args: argparse.Namespace) -> int:
    _require()
    from save_jax.search import roots
    from save_jax.search.store import Store

    store = Store.open(args.library)
    by_path = {roots.locate(store.about.roots[row["root"]], row["path"]): row["file"] for row in store.file_rows()}
    names = [by_path.get(os.path.abspath(given), given) for given in args.file]
    if unknown := [name for name in names if name not in by_path.values()]:
        raise ValueError(f"not in the index: {', '.join(unknown)}; `stats --files` lists its files")
    with store.writing():
        store.forget(names)
        store.tidy()
    print(f"forgot {len(names)} files; the next `search index` takes them up again if they are still there")
    return 0


def _export(args: argparse.Namespace) -> int:
    _require()
    from save_jax.search import door

    door.export_embeddings(door.open_library(args.library, args.model), args.file)
    print(f"wrote {args.file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
