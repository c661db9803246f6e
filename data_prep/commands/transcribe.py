"""Transcribes a corpus with Whisper: media in, one transcript file in the official form out.

    python -m data_prep.transcribe --corpus msrvtt-9k --root DIR

Rows are {"key": "video0.wav", "text": …} with what the build also understands: "source", "language", "segments" (text
with start and end in seconds, and its language where it is not the file's) and "dropped" (text that Whisper gave for
silence, noise or music, each with the reason). A clip without sound, or in which nobody speaks, has the text "". What
Whisper said is cached by the content of the files, before the filters: running again, after a kill or with other
limits, transcribes only what is missing.
"""

import argparse
import collections
import contextlib
import dataclasses
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tqdm import tqdm

from data_prep import names, runners
from data_prep.commands import shared
from data_prep.corpora import CORPORA, Sample, survey, transcript_files
from data_prep.files import write_json
from data_prep.speech import filters, model_names, vad, whisper
from data_prep.speech.cache import Cache, model_identity
from data_prep.speech.recognise import Recognise, Stop, in_own_process
from data_prep.speech.rows import make_row, read_rows
from save_jax.data import command_line

MODEL = "openai/whisper-large-v3"  # what the published transcripts were made with


def transcribe(
    samples: Sequence[Sample], out: str, task: Recognise, runner, limits: filters.Thresholds, keys_are_ids: bool = False
) -> dict:
    """Writes the rows of `samples` to `out`, where those of other clips stay, and returns counts for `summary`.

    `keys_are_ids`: keys are written without ".wav", as for plain folders. Raises ValueError for an `out` of another
    form and for a model that does not load; a clip that cannot be read gets a row with its "problem", unless it has an
    earlier transcript.
    """
    rows = read_rows(out)
    known = names.matcher(rows)
    source = f"{whisper.short_name(task.model, task.model_identity)}/{task.engine}"
    counts: collections.Counter = collections.Counter()
    problems = {}
    keys = {sample.id: known(sample.id if keys_are_ids else sample.id + ".wav") for sample in samples}
    for key in keys.values():  # rows stand in the order of the samples, whichever is heard first
        rows.setdefault(key, [])
    together = f"{min(task.group, len(samples))} at a time" if isinstance(runner, runners.Here) else None
    with _Bar(len(samples), together) as bar:
        for sample, result in _results(samples, task, runner, bar):
            key = keys[sample.id]
            row = make_row(key, source, result, limits)
            if "problem" in row:
                problems[sample.id] = row["problem"]
            if "problem" in row and rows[key] and not any("problem" in before for before in rows[key]):
                problems[sample.id] += "; its earlier transcript stays"
            else:
                rows[key] = [row]
            counts["clips"] += 1
            counts["with speech"] += bool(row["text"])
            counts["without sound"] += not result.get("sound", True)
            counts["from the cache"] += bool(result.get("cached"))
            counts["segments kept"] += len(row.get("segments", ()))
            counts["dropped"] += len(row.get("dropped", ()))
            bar.done(_path(sample))
    write_json(out, [row for of_key in rows.values() for row in of_key], indent=0)
    return {"counts": dict(counts), "problems": problems, "rows": sum(map(len, rows.values()))}


class _Bar:
    """Clips that are heard, with shares of those under way: a film of ten hours is one clip."""

    def __init__(self, clips: int, how: str | None):
        self._bar = tqdm(total=clips, desc=how, unit="clip", disable=not clips, unit_scale=True)
        self._done, self._shares = 0, dict[str, float]()
        self._turn = threading.Lock()  # threads tell

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()

    def share(self, path: str, share: float) -> None:
        with self._turn:
            self._shares[path] = max(share, self._shares.get(path, 0.0))
            self._show()

    def done(self, path: str) -> None:
        with self._turn:
            self._shares.pop(path, None)
            self._done += 1
            self._show()

    def _show(self) -> None:
        heard = min(self._done + sum(self._shares.values()), self._bar.total)  # sums of fractions are not exact
        self._bar.update(heard - self._bar.n)


def _path(sample: Sample) -> str:
    path = sample.audio or sample.video
    assert path is not None, f"{sample.id} has neither"  # corpora give one of them
    return path


def _results(samples: Sequence[Sample], task: Recognise, runner, bar: _Bar) -> Iterator[tuple[Sample, dict]]:
    """Each sample with its raw result, as soon as it is there."""
    by_path: dict[str, list[Sample]] = {}
    for sample in samples:
        by_path.setdefault(_path(sample), []).append(sample)
    here = isinstance(runner, runners.Here)
    for path, result in _here(list(by_path), task, bar) if here else _elsewhere(list(by_path), task, runner):
        yield from ((sample, result) for sample in by_path[path])


def _here(paths: Sequence[str], task: Recognise, bar: _Bar) -> Iterator[tuple[str, dict]]:
    """In this process; a file that was under way when two runs died is heard in one of its own, at the end."""
    deadly = []
    with contextlib.closing(task.stream(paths, bar.share, leave_deadly=True)) as results:
        for path, result in results:
            if result.get("deadly"):
                deadly.append(path)
            else:
                yield path, result
    if deadly:
        yield from in_own_process(task, deadly)


def _elsewhere(paths: Sequence[str], task: Recognise, runner) -> Iterator[tuple[str, dict]]:
    """By workers, a group each. A group that is lost as a whole is done again one by one, at the end."""
    # A worker of a cluster has few cores, and hears one file after the other.
    size = 1 if task.engine == "faster-whisper" else task.group
    groups = [paths[first : first + size] for first in range(0, len(paths), size)]
    alone = []
    for group, answer in zip(groups, _run(runner, task, groups), strict=True):
        if not isinstance(answer, runners.Failure):
            yield from zip(group, answer, strict=True)
        else:
            alone += [[path] for path in group]
    for [path], answer in zip(alone, _run(runner, task, alone), strict=True):
        yield path, {"problem": answer.reason} if isinstance(answer, runners.Failure) else answer[0]


def _run(runner, task: Recognise, groups: Sequence[Sequence[str]]) -> Iterator[list[dict] | runners.Failure]:
    for answer in runner.run(task, groups):
        if isinstance(answer, Stop):
            raise ValueError(answer.reason)
        yield answer


def missing(samples: Iterable[Sample], out: str, keys_are_ids: bool = False) -> list[Sample]:
    """Those of which nothing is known yet.

    No transcript file has a row of them, they have no subtitles, and `out` has no row, or one with a problem.
    """
    known = {names.form(key) for key, rows in read_rows(out).items() if not any("problem" in row for row in rows)}
    suffix = "" if keys_are_ids else ".wav"
    unknown = (s for s in samples if not s.transcribed and names.form(s.id + suffix) not in known)
    return [sample for sample in unknown if not survey.has_subtitles(sample)]


def summary(result: Mapping, out: str, read_by_build: Sequence[str]) -> str:
    counts, problems = result["counts"], result["problems"]
    names = ("clips", "with speech", "without sound", "from the cache")
    lines = [
        ", ".join(f"{counts[name]} {name}" for name in names),
        f"{counts['segments kept']} segments kept, {counts['dropped']} dropped as not spoken",
    ]
    if problems:
        lines.append(f'{len(problems)} clips could not be heard (rows without a transcript say so under "problem"):')
        lines += shared.first_reasons(problems, out)
    lines.append(f"written to {out}, which has {result['rows']} rows")
    if not any(os.path.samefile(path, out) for path in read_by_build):
        read = " and ".join(read_by_build) or "no transcripts"
        lines.append(f"the build reads {read} unless it is given --transcripts {out}")
    elif len(read_by_build) > 1:
        lines.append(f"the build reads it for clips that {read_by_build[0]} does not have")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="save-jax prep transcribe", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpus", required=True, choices=sorted(CORPORA))
    parser.add_argument("--root", required=True, help="folder of the corpus")
    parser.add_argument("--out", help="transcript file to write (default: ROOT/transcripts.json)")
    parser.add_argument("--cache", help="folder of raw results (default: OUT.cache)")
    parser.add_argument("--splits", nargs="+", help="only these (default: all)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--missing-only", action="store_true", help="only clips without a transcript or subtitles")
    which.add_argument("--all", action="store_true", help="all clips, whatever the corpus has (the default)")
    parser.add_argument("--engine", choices=whisper.ENGINES, default=whisper.ENGINES[0])
    parser.add_argument(
        "--model", default=MODEL, help="size such as tiny.en, OWNER/NAME on the hub, or a folder (default: %(default)s)"
    )
    parser.add_argument(
        "--language", default="", help="code such as en (default: detected for each clip, and each long piece of it)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=16, help="clips, and pieces of 30 s, at a time, of transformers"
    )
    parser.add_argument("--vad", choices=vad.METHODS, default=vad.METHODS[0], help="voice activity detection")
    parser.add_argument("--ast", default="", help="AST weights with AudioSet classes: drops lines heard in music")
    parser.add_argument("--runner", choices=("local", "ray"), default="local")
    parser.add_argument("--jobs", type=int, help="Ray actors (default: one for each GPU, or CPU)")
    parser.add_argument("--time-limit", type=float, help="seconds for a group of clips, on Ray (default: none)")
    parser.add_argument("--ray-address", help="of a running cluster (default: RAY_ADDRESS, else a Ray of this machine)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if any clip could not be read")
    limits = parser.add_argument_group("limits of the filters; changing them transcribes nothing again")
    for field in dataclasses.fields(filters.Thresholds):
        flag = f"--limit-{field.name.replace('_', '-')}"
        meaning = f"{field.metadata['help']} (default: %(default)s)"
        limits.add_argument(flag, type=float, default=field.default, metavar="X", help=meaning)
    args = parser.parse_args(command_line.arguments(argv))
    stopped = "stopped; what was heard is kept, the same command goes on"
    return shared.run("data_prep.transcribe", lambda: _main(args), stopped)


def _main(args: argparse.Namespace) -> int:
    if args.batch_size < 1:
        raise ValueError(f"--batch-size is {args.batch_size}; it must be at least 1")
    of = [field.name for field in dataclasses.fields(filters.Thresholds)]
    limits = filters.Thresholds(**{name: getattr(args, f"limit_{name}") for name in of})
    root = os.path.abspath(args.root)  # workers of a Ray cluster have another working directory
    corpus, out = CORPORA[args.corpus], os.path.abspath(args.out or os.path.join(root, "transcripts.json"))
    given, ast = shared.weights("--model", args.model), args.ast and shared.weights("--ast", args.ast)
    by_split = corpus.read(root)
    if unknown := sorted(set(args.splits or ()) - set(by_split)):
        raise ValueError(f"--splits {unknown} are not in {corpus.name}, which has {sorted(by_split)}")
    samples = [sample for split in args.splits or by_split for sample in by_split[split]]
    keys_are_ids = corpus.name == "folder"
    if args.missing_only:
        samples = missing(samples, out, keys_are_ids)
    subtitled = sum(map(survey.has_subtitles, samples))
    if not samples:
        print("nothing to transcribe")
        return 0
    whisper.require(args.engine, args.language)
    vad.require(args.vad)
    if ast:
        whisper.require("transformers")  # AST runs there, whatever the engine
    whisper.check(args.engine, given, args.language)
    model = model_names.resolve(args.engine, given)
    task = Recognise(
        engine=args.engine,
        model=model,
        model_identity=model_identity(model),
        cache=Cache(os.path.abspath(args.cache or out + ".cache")),
        language=args.language,
        detector=args.vad,
        batch_size=args.batch_size,
        ast=ast,
        ast_identity=model_identity(ast) if ast else "",
    )
    os.makedirs(task.cache.folder, exist_ok=True)  # now, not after the first hour
    if args.runner == "ray":
        runner = runners.Ray(args.jobs, args.time_limit, gpus=None, address=args.ray_address)
    else:
        runner = runners.Here()  # one copy of the model; a GPU, or torch's threads, work in parallel within it
    with runner:
        result = transcribe(samples, out, task, runner, limits, keys_are_ids)
    print(summary(result, out, transcript_files(root, corpus.transcripts)))
    if subtitled:
        print(
            f"{subtitled} of these clips have subtitles, too, which the build does not read beside a transcript; "
            "--missing-only leaves such clips alone"
        )
    return int(args.strict and bool(result["problems"]))
