"""Search of one's own videos: `save-jax search index DIR --index library`, then `save-jax search query library "…"`."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from save_jax.data import command_line, files
from save_jax.data.command_line import visible
from save_jax.search import index_command, query_command
from save_jax.search.server import command as serve_command
from save_jax.search.server import tools

# What the extras `prep`, `search` and `mcp` bring.
EXTRA = ("lancedb", "pyarrow", "filelock", "watchfiles", "av", "anyio", "fastapi", "starlette", "uvicorn", "mcp")


def parser() -> argparse.ArgumentParser:
    """All commands."""
    made = argparse.ArgumentParser(prog="save-jax search", description=(__doc__ or "").split(":")[0] + ".")
    commands = made.add_subparsers(required=True, metavar="COMMAND")

    index = _add(commands, "index", index_command.run, "make an index of folders of videos, or bring it up to date")
    index.add_argument("folders", nargs="*", metavar="DIR", help="folders of videos; those of earlier runs are known")
    index.add_argument("--index", required=True, metavar="LIBRARY", help="folder of the index")
    index.add_argument(
        "--model",
        default="",
        help="a run, a folder of weights (SAVE, AVIGATE, or CLIP alone), hf://OWNER/NAME, or demo (in this package)",
    )
    index.add_argument(
        "--speech", default="", metavar="WHISPER",
        help="hear what has no subtitles: a size such as tiny.en or base, or a folder; none: no more (default: as "
        "before, at first subtitles alone)",
    )  # fmt: skip
    index.add_argument("--language", default="", help="of the speech, such as en; none: detected, as at first")
    index.add_argument("--window", type=float, help="seconds of a window (default: what the model was trained on)")
    index.add_argument("--hop", type=float, help="seconds from one window to the next (default: half a window)")
    index.add_argument("--jobs", type=int, help="files read at once (default: one for each core)")
    index.add_argument("--nice", action="store_true", help="leave a core free and let other programs go first")
    index.add_argument(
        "--runner", choices=("local", "ray"), default="local", help="where files are read and embedded: here, or on Ray"
    )
    index.add_argument("--ray-address", help="of the cluster (default: RAY_ADDRESS, else a Ray of this machine alone)")
    index.add_argument(
        "--moved", action="append", default=[], metavar="OLD=NEW",
        help="a root, by its name or path, lies in another folder now; its files keep their vectors",
    )  # fmt: skip
    index.add_argument("--watch", action="store_true", help="stay, and follow every change of the folders")
    index.add_argument(
        "--run", metavar="RUN", help="in place of folders: the test split of a run, with the run's model"
    )
    index.add_argument("--videos", default="", metavar="DIR", help="films of that split, to play them")
    index.add_argument("--data-dir", "--data_dir", default="", help="of --run: folder of its shards, if they moved")
    index.add_argument("--queries", metavar="TXT", help="sentences, one a line, to find the cut-off with")

    query = _add(commands, "query", query_command.run, "moments that a sentence finds, best first")
    query.add_argument("library", help="folder of an index, or of a run (its test split)")
    query.add_argument("sentence", nargs="?", default="", help='what is seen, heard or said; "…" inside must be said')
    query.add_argument(
        "--like", default="", metavar="FILE[@SECOND]",
        help="moments like this one, in a sentence's place; of a run of VLSA: a clip's id, whose picture or sound asks",
    )  # fmt: skip
    query.add_argument("--top", type=int, default=10, help="how many (default: %(default)s)")
    query.add_argument("--json", action="store_true", help="print JSON")
    own = query.add_argument_group("of an index alone")
    own.add_argument("--exact", action="store_true", help="score every window, not only the nearest")
    own.add_argument(
        "--evidence", choices=("joined", "fused", "lexical"), default="joined",
        help="what ranks: joined (moments in which every word is said, then the model), fused (the model), lexical "
        "(words); default: %(default)s",
    )  # fmt: skip
    own.add_argument("--in", dest="folder", default="", metavar="FOLDER", help="files of this folder alone")
    own.add_argument("--after", default="", metavar="DATE", help="files changed since, such as 2026-05-01")
    own.add_argument("--longer", type=float, default=0.0, metavar="SECONDS", help="files that last longer")
    own.add_argument("--shorter", type=float, default=float("inf"), metavar="SECONDS", help="files that are shorter")
    own.add_argument("--language", default="", help="files in which this is spoken, such as en")
    own.add_argument("--export", metavar="FILE", help="write moments as .csv, .edl or .otio")
    own.add_argument("--cut", metavar="DIR", help="write each moment as a file of its own")
    own.add_argument("--model", default="", help="where the model lies now, if it moved")
    run = query.add_argument_group("of a run alone")
    run.add_argument("--data-dir", "--data_dir", help="folder of its shards, if they moved")
    run.add_argument(
        "--direction", default="", metavar="X2Y",
        help="of VLSA: what asks and what is found, t (text), v (picture) or a (sound): t2v, t2a; with --like "
        "v2t, v2a, a2t, a2v (default: the first that training matched)",
    )  # fmt: skip

    serve_command.add(commands, _add)
    tools.add(commands, _add)

    demo = _add(commands, "demo", _demo, "make a small library of made-up videos, index it, and open its page")
    demo.add_argument("folder", nargs="?", default="demo-library", help="for videos and index (default: %(default)s)")
    demo.add_argument("--no-serve", action="store_true", help="only make it, and say what to ask")
    demo.add_argument("--port", type=int, default=serve_command.PORT, help="of the page (default: %(default)s)")
    demo.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")

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
    forget.add_argument("file", nargs="*", help="as `stats --files` names them, or as paths")
    forget.add_argument("--root", metavar="NAME", help="a folder with all of its files, by its name or path")
    embeddings.add_argument("file", help="to write, .parquet or .npy")
    for command in (doctor, judge, embeddings):
        command.add_argument("--model", default="", help="where the model lies now, if it moved")
    return made


def _add(commands, name: str, do: Callable, what: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=what, description=what.capitalize() + ".")
    command.set_defaults(do=do)
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    args = parser().parse_args(command_line.arguments(argv))
    try:
        return args.do(args) or 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        extras = "prep,search" + ",mcp" * (error.name == "mcp")
        print(
            f"error: this needs {error.name}: pip install 'save_jax[{extras}]', or in a checkout pip install -c "
            f"constraints.txt -e '.[{extras}]'",
            file=sys.stderr,
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
    return 1


def _demo(args: argparse.Namespace) -> int:
    from pathlib import Path

    from save_jax.search import demo
    from save_jax.search.door import open_library

    command_line.check_folder("the folder", args.folder, "a library is made")
    videos, index = os.path.join(args.folder, "videos"), os.path.join(args.folder, "library")
    count = demo.make_videos(Path(videos), args.jobs)
    print(f"{count} videos in {videos}")
    if status := main(["index", videos, "--index", index, "--model", demo.MODEL, "--jobs", str(args.jobs)]):
        return status
    for sentence in demo.offer(open_library(index), demo.questions(Path(videos))):
        print(f'save-jax search query {index} "{sentence}"')
    if args.no_serve:
        return 0
    return main(["serve", index, "--port", str(args.port), "--open"])


def _doctor(args: argparse.Namespace) -> int:
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
    from save_jax.search.store import READY, Store, size_of

    store = Store.open(args.library)
    rows = store.file_rows()
    ready = [row for row in rows if row["state"] == READY]
    hours = sum(row["duration"] for row in ready) / 3600
    print(f"{len(ready)} files, {hours:.2f} hours, {store.windows.count_rows()} windows of {store.about.seconds:g} s")
    spoken = len(set(store.segments.search().select(["content"]).limit(None).to_arrow()["content"].to_pylist()))
    print(f"{store.segments.count_rows()} lines of speech, in {spoken} files")
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
    from save_jax.search import indexing, roots
    from save_jax.search.store import Store

    if not args.file and not args.root:
        raise ValueError("give files, or --root NAME")
    store = Store.open(args.library)
    with store.writing():
        if args.root:
            if (root := indexing.root_of(args.root, store.about.roots)) is None:
                known = ", ".join(store.about.roots) or "none"
                raise ValueError(f"{args.root} is no root of {args.library}; known are {known}")
            print(f"forgot {store.forget_root(root)} files of {visible(root)}")
        by_path = {roots.locate(store.about.roots[row["root"]], row["path"]): row["file"] for row in store.file_rows()}
        names = [by_path.get(os.path.abspath(given), given) for given in args.file]
        if unknown := [name for name in names if name not in by_path.values()]:
            raise ValueError(f"not in the index: {', '.join(unknown)}; `stats --files` lists its files")
        store.forget(names)
        store.tidy()
    if names:
        print(f"forgot {len(names)} files; the next `search index` takes them up again if they are still there")
    return 0


def _export(args: argparse.Namespace) -> int:
    from save_jax.search import door

    door.export_embeddings(door.open_library(args.library, args.model), args.file)
    print(f"wrote {args.file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
