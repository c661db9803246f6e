"""`save-jax search index`: folders into an index, and what became of them in words."""

import argparse
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable

from save_jax.data import command_line
from save_jax.data.command_line import visible


def run(args: argparse.Namespace) -> int:
    """Makes an index, or brings it up to date."""
    from save_jax.search import indexing
    from save_jax.search.models import open_embedder
    from save_jax.search.store import ABOUT, About, Store, read_about
    from save_jax.search.transcripts import Transcriber
    from save_jax.search.windows import Cut
    from save_jax.training import process

    command_line.check_folder("--index", args.index, "an index is written")
    if args.run:
        return _index_split(args)
    there = os.path.exists(os.path.join(args.index, ABOUT))
    store = Store.open(args.index) if there else None
    if store and store.about.split:
        raise ValueError(
            f"{args.index} holds the {store.about.split} split of a run, and no folders; choose a new --index"
        )
    if store is None and not args.folders:
        raise ValueError(f"{args.index} is new; give folders of videos: save-jax search index DIR --index {args.index}")
    if store is None and not args.model:
        raise ValueError(
            "a new index needs --model: a run, a folder of weights, hf://OWNER/NAME, or demo, which is small and knows "
            "the demo's made-up videos alone"
        )
    for name in ("window", "hop", "jobs"):
        if (value := getattr(args, name)) is not None and not value > 0:
            raise ValueError(f"--{name} is {value}; it must be more than 0")
    about = store.about if store else None
    roots = about.roots if about else {}
    for given in args.moved:
        roots = indexing.move_root(given, roots)
    indexing.name_roots(args.folders, roots)  # told before the model is opened
    speech, language = (_chosen(getattr(args, name), getattr(about, name, "")) for name in ("speech", "language"))
    if args.language and not speech:
        raise ValueError("--language is what a recogniser is told; give --speech, too")
    if args.nice and hasattr(os, "nice"):  # not on Windows
        os.nice(10)
    process.set_up_process()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # no callback of JAX is here that could lose it
    name = args.model or (store.about.model if store else "")
    print(f"opening the model {visible(name)}", file=sys.stderr, flush=True)  # JAX takes some seconds
    embedder = open_embedder(name)
    transcriber = Transcriber(speech, os.path.join(args.index, "speech"), language)
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
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = args.jobs or max(1, cores - args.nice)
    if args.queries:
        _keep_queries(args.queries, args.index)

    runner, embed = contextlib.nullcontext(), None
    if args.runner == "ray":
        from data_prep import runners
        from save_jax.search import cluster

        runner = runners.Ray(args.jobs, None, None, args.ray_address)
        task = cluster.Task(
            os.path.abspath(embedder.name) if os.path.exists(embedder.name) else embedder.name,
            embedder.digest, store.about.cut, speech, os.path.abspath(os.path.join(args.index, "speech")),
            language,
        )  # fmt: skip
        embed = cluster.embed_on(runner, task)

    def wanted(about: About) -> None:
        indexing.with_folders(args.folders, args.moved)(about)
        about.speech, about.language = speech, language
        if args.queries:
            about.cutoff = {}  # found with others

    def once(progress: bool = True, change: Callable[[About], None] = lambda about: None) -> indexing.Summary:
        with runner:
            summary = indexing.update(store, embedder, transcriber, jobs, progress, embed, change)
        if progress or summary.embedded or summary.moved or summary.removed or summary.failed:
            _tell(summary, args, store)
        if not summary.stopped:
            _calibrate(store, embedder)
        return summary

    summary = once(change=wanted)
    if args.watch and not summary.stopped:
        from save_jax.search import watching

        print(f"watching {visible(', '.join(store.about.roots.values()))}; Ctrl-C ends", file=sys.stderr, flush=True)
        watching.follow(lambda: [*read_about(args.index).roots.values()], args.index, lambda: once(progress=False))
    return 130 if summary.stopped else 0


def _chosen(given: str, known: str) -> str:
    """What is typed counts from now on; "none" takes it back."""
    return "" if given == "none" else given or known


def _index_split(args: argparse.Namespace) -> int:
    """The test split of a run as a new index."""
    from save_jax.search import splits
    from save_jax.search.models import open_embedder
    from save_jax.training import process

    if args.folders or args.model or args.moved:
        raise ValueError("--run brings its clips and its model; give neither folders nor --model nor --moved")
    process.set_up_process()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as for folders
    embedder = open_embedder(args.run)
    store, summary = splits.make(args.index, embedder, args.run, args.videos, args.data_dir)
    _calibrate(store, embedder)
    print(f"{summary.embedded} clips of the {store.about.split} split embedded")
    return 0


def _keep_queries(path: str, folder: str) -> None:
    """Into the index, so that later runs ask the same. What was found with others is found anew."""
    from save_jax.search import cutoff

    cutoff.read(path)
    shutil.copyfile(path, os.path.join(folder, cutoff.QUERIES))


def _calibrate(store, embedder) -> None:
    """Finds the cut-off anew where the windows or the sentences are others than those it was found with."""
    from save_jax.search import cutoff
    from save_jax.search.library import Library

    with store.writing():
        library = Library(store, embedder)
        asked, about = cutoff.sentences(store.folder, embedder.name)
        before = store.about.cutoff
        if before.get("version") != library.view.version[1] or before.get("about") != about:
            store.about.cutoff = cutoff.calibrate(library, asked, about)
            store.save()


def _tell(summary, args: argparse.Namespace, store) -> None:
    """What a run did, what it could not do, and what comes next."""
    rows = store.file_rows()
    known = {row["root"] for row in rows}
    bare = [name for name in summary.offline if name in store.about.roots and name not in known]
    head = f"{summary.embedded} files embedded ({summary.windows} windows, {summary.duration / 60:.1f} minutes)"
    parts = [head, f"{summary.same} as they were"]
    parts += [f"{summary.again} of them read again"] if summary.again else []
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
    if summary.left:
        print(f"{summary.left} of these are tried again by the next run: they are not at fault themselves")
    for what, names in (
        ("offline, its files stay known", [name for name in summary.offline if name not in bare]),
        ("no videos in it", bare),
        ("still being written, left for the next run", summary.growing),
        ("cannot be read, or not as it is", summary.skipped),
    ):
        if names:
            shown = visible(", ".join(names[:5]))
            print(f"{what}: {shown}" + (f" and {len(names) - 5} more" if len(names) > 5 else ""))
    if summary.notes:
        print(f"{summary.notes} files lost something, such as sound that does not decode (stats --files)")
    if summary.unread:
        print(f"{summary.unread} words are more than the model reads of their windows; exact search finds them")
    unread = sum(row["state"] != "ready" for row in rows) - len(summary.failed) + summary.left
    if unread > 0:
        print(
            f"{unread} files could not be read before and are as they were (save-jax search stats {args.index} --files)"
        )
    if summary.embedded and not summary.stopped:
        print(f'ask it: save-jax search query {args.index} "…", or save-jax search serve {args.index}')
    if summary.stopped:
        print("stopped; what was committed is kept, and the same command goes on")
