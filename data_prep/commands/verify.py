"""Says what a corpus has and lacks before it is built: counts, files that are missing, and what the build will cost.

    python -m data_prep.verify --corpus NAME --root DIR [--sample 8] [--list FILE.json]

Only the list is written. Of each media file the header alone is read. A few clips are prepared in full, to estimate
the size and time of the build. The exit code is 1 where the annotations have problems or list another number of clips
than published. With `--strict` it is 1 also where a file is missing or cannot be opened.
"""

import argparse
import datetime
import json
import random
import statistics
import time
from collections.abc import Mapping, Sequence

from tqdm import tqdm

from data_prep import names
from data_prep.clip import prepare
from data_prep.commands import shared
from data_prep.corpora import CORPORA, TEACHER, Corpus, Sample, differing_counts, survey, transcript_files
from data_prep.runners import Failure, attempt
from save_jax.data import command_line, records

_SHOWN = 5  # names of each kind of gap
# Kind of gap → what to do about it.
_ADVICE = {
    survey.NO_CAPTION: "the build counts them as failed; complete the annotations",
    survey.NO_MEDIA: "get the files; clips without are left out of train, and kept without frames in val and test",
    survey.UNREADABLE: "get the files again; the build treats them as missing",
    survey.NO_SOUND: "nothing, if they are silent; sound that is kept apart belongs in AudioData/ID.wav",
    survey.NO_TRANSCRIPT: "nothing, if nobody speaks; else save-jax prep transcribe --corpus {corpus} --root {root} "
    "--missing-only, with --engine and --model",
    survey.NOTHING_SAID: "nothing; the transcript file says so",
    survey.NO_TEACHER: "save-jax prep teach --corpus {corpus} --root {root} --teacher imagebind|pe-av --weights "
    "PATH, or train without: these clips take no part in the early alignment",
}
_SILENT_FOLDER = "nothing, if they are silent; sound that is kept apart is not read: put it into the video"
_GALLERY = "nothing, for a gallery to search; to train on them, or to measure, write captions.csv"


def estimate(samples: Sequence[Sample], settings: Mapping, number: int, seed: int) -> dict:
    """What preparing all samples costs, from a random few: {"tried", "failed", "seconds": […], "bytes": […]}.

    Per core: the samples are prepared one after another in this process.
    """
    tried = random.Random(seed).sample(list(samples), min(number, len(samples)))
    seconds, sizes, failed = [], [], {}
    for sample in tqdm(tried, unit="clip", desc="trying", disable=not tried):
        start = time.perf_counter()
        result = attempt(lambda sample: len(records.encode(prepare(sample, settings), settings)), sample)
        if isinstance(result, Failure):
            failed[sample.id] = result.reason
            continue
        seconds.append(time.perf_counter() - start)
        sizes.append(result)
    return {"clips": len(samples), "tried": len(tried), "failed": failed, "seconds": seconds, "bytes": sizes}


def table(corpus: Corpus, splits: Mapping[str, Sequence[Sample]], gaps: survey.Gaps) -> str:
    """A row for each kind of gap, a column for each split; what is published stands beside its count."""
    rows = [["", *splits], ["clips", *(f"{len(samples):,}" for samples in splits.values())]]
    rows.append(["captions", *(f"{sum(len(s.captions) for s in samples):,}" for samples in splits.values())])
    rows += [[kind, *(f"{len(gaps[kind][split]):,}" for split in splits)] for kind in survey.KINDS]
    if corpus.published:
        rows.insert(2, ["published", *(f"{corpus.published[s]:,}" if s in corpus.published else "" for s in splits)])
    width = max(len(row[0]) for row in rows) + 2
    lines = [row[0].ljust(width) + "".join(cell.rjust(10) for cell in row[1:]) for row in rows]
    sums = [f"{name} {count:,}" for name, count in corpus.published.items() if "+" in name]
    return "\n".join(lines + [f"published as one number: {', '.join(sums)}"] * bool(sums))


def advice(gaps: survey.Gaps, corpus: Corpus, root: str) -> str:
    """The first names of each kind of gap, and what to do."""
    lines = []
    for kind, by_split in gaps.items():
        details = {clip_id: detail for clips in by_split.values() for clip_id, detail in clips.items()}
        if details:
            what = _GALLERY if kind == survey.NO_CAPTION and not corpus.needs_captions else _ADVICE[kind]
            what = _SILENT_FOLDER if kind == survey.NO_SOUND and corpus.name == "folder" else what
            lines.append(f"{kind}: {len(details):,} clips → {what.format(corpus=corpus.name, root=root)}")
            lines += [f"  {clip_id}" + f": {detail}" * bool(detail) for clip_id, detail in [*details.items()][:_SHOWN]]
            lines += [f"  … and {len(details) - _SHOWN:,} more"] * (len(details) > _SHOWN)
    return "\n".join(lines)


def cost(result: Mapping) -> str:
    """The estimate in a line: the mean of the tried clips times all that can be opened, and how far they differ."""
    seconds, sizes, clips = result["seconds"], result["bytes"], result["clips"]
    lines = []
    if seconds:
        size = tqdm.format_sizeof(statistics.mean(sizes) * clips, "B")
        duration = datetime.timedelta(seconds=round(statistics.mean(seconds) * clips))
        lines.append(
            f"the build of {clips:,} clips: about {size} and {duration} (h:m:s) on one core, less with --jobs; from "
            f"{len(seconds)} of {result['tried']} clips tried, which took {min(seconds):.2f} to {max(seconds):.2f} s "
            f"and {min(sizes) / 1e3:.0f} to {max(sizes) / 1e3:.0f} kB each"
        )
    elif result["tried"]:
        lines.append(f"no estimate of the build: none of {result['tried']} clips tried could be prepared")
    return "\n".join(lines + [f"  {clip_id}: {reason}" for clip_id, reason in result["failed"].items()])


def verify(args: argparse.Namespace) -> int:
    """Prints all of it and gives the exit code. Raises ValueError for annotations with problems."""
    if args.sample < 0:
        raise ValueError(f"--sample is {args.sample}; give the number of clips to try, 0 for no estimate")
    corpus = CORPORA[args.corpus]
    splits = corpus.read(args.root, transcripts=args.transcripts, teacher=args.teacher)
    of_files = {
        path: survey.transcribed_ids(corpus, path)
        for path in transcript_files(args.root, corpus.transcripts, args.transcripts)
    }
    gaps = survey.survey(splits)
    unusable = [*gaps[survey.NO_MEDIA].values(), *gaps[survey.UNREADABLE].values()]
    broken = {clip_id for clips in unusable for clip_id in clips}
    textless = gaps[survey.NO_CAPTION].values() if corpus.needs_captions else ()
    useless = broken.union(*textless)
    good = [sample for samples in splits.values() for sample in samples if sample.id not in useless]
    settings = {"image_size": corpus.image_size, "max_frames": corpus.max_frames, "frames": "jpeg"}
    settings |= {"spectrogram": args.spectrogram}
    tried = estimate(good, settings, args.sample, args.seed)
    clips = {names.form(sample.id) for samples in splits.values() for sample in samples}
    unknown = {path: sorted(ids - clips) for path, ids in of_files.items()}
    differing = differing_counts(corpus, splits)

    print(table(corpus, splits, gaps))
    for number, (path, strange) in enumerate(unknown.items()):
        examples = f", e.g. {', '.join(strange[:_SHOWN])}" if strange else ""
        what = "transcripts" if number == 0 else "transcripts of clips that are not in the former"
        print(f"{what}: {path}; {len(strange):,} of its rows name no clip{examples}")
    if not unknown:
        print("transcripts: no file")
    print(advice(gaps, corpus, args.root), cost(tried), sep="\n")
    for line in differing:
        print(f"{line}; complete the annotations, or build what is there with --partial")
    if args.list:
        listed = {"corpus": corpus.name, "root": args.root, "differing": differing, "gaps": gaps}
        with open(args.list, "w", encoding="utf-8") as file:
            json.dump(listed | {"rows_of_no_clip": unknown, "estimate": tried}, file, indent=1)
    return int(bool(differing) or (args.strict and bool(broken)))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="save-jax prep verify", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpus", required=True, choices=sorted(CORPORA))
    parser.add_argument("--root", required=True, help="folder of the corpus")
    parser.add_argument("--transcripts", help="transcript file (default: the corpus's own)")
    parser.add_argument("--teacher", default=TEACHER, help="folder in FeatureData (default: %(default)s)")
    parser.add_argument(
        "--sample", type=int, default=8, help="clips to prepare for the estimate (default: %(default)s)"
    )
    parser.add_argument("--spectrogram", action="store_true", help="estimate a build with --spectrogram")
    parser.add_argument("--seed", type=int, default=0, help="of their choice (default: %(default)s)")
    parser.add_argument("--list", metavar="FILE.json", help="write the names of all gaps there")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a file is missing or cannot be opened")
    args = parser.parse_args(command_line.arguments(argv))
    return shared.run("data_prep.verify", lambda: verify(args))
