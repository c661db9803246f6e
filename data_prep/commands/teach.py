"""Teacher vectors of a corpus: pictures and sound of each clip in, one vector each out, as data_prep.build reads them.

    python -m data_prep.teach --corpus msrvtt-9k --root DIR --teacher pe-av --weights facebook/pe-av-base
    python -m data_prep.build --corpus msrvtt-9k --root DIR --out DIR/shards --teacher PE-AV

Writes DIR/FeatureData/NAME/{VideoFeature,AudioFeature}/ID.npy and teacher.json, which says what made them. Running the
command again does only what is missing. Clips that cannot be used are listed in failed.json and do not stop the work;
where the sound alone cannot be used, the clip has the vector of its pictures. The next run tries all of them again.
"""

import argparse
import os
from collections.abc import Sequence

from data_prep import runners
from data_prep.commands import shared
from data_prep.corpora import CORPORA, Corpus, Sample
from data_prep.teachers import TEACHERS
from data_prep.teachers.folder import FAILED, claim
from data_prep.teachers.teach import Teach, teach
from save_jax.data import command_line


def read_samples(corpus: Corpus, root: str, splits: Sequence[str]) -> list[Sample]:
    """Samples of some splits, each id once. Raises ValueError for wrong annotations and splits without a clip."""
    by_split = corpus.read(root)
    if empty := [split for split in splits if not by_split.get(split)]:
        there = ", ".join(split for split, samples in by_split.items() if samples) or "none"
        raise ValueError(f"{root} has no clips in split {', '.join(empty)}; it has {there} (--splits)")
    return list({sample.id: sample for split in splits for sample in by_split[split]}.values())


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="save-jax prep teach", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpus", required=True, choices=sorted(CORPORA))
    parser.add_argument("--root", required=True, help="folder of the official layout")
    parser.add_argument("--teacher", required=True, choices=sorted(TEACHERS))
    parser.add_argument("--weights", required=True, help="imagebind_huge.pth, or PE-AV's folder or hub id")
    parser.add_argument("--out", help="folder for the vectors (default: ROOT/FeatureData/ and the teacher's name)")
    parser.add_argument("--splits", nargs="+", default=["train"], help="default: train, which alone reads vectors")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if any clip failed, or its sound did")
    runners.add_arguments(parser)
    args = parser.parse_args(command_line.arguments(argv))
    stopped = "stopped; the vectors written are kept, the same command goes on"
    return shared.run("data_prep.teach", lambda: _main(args), stopped)


def _main(args: argparse.Namespace) -> int:
    if args.runner == "local" and args.jobs is None:
        args.jobs = 1  # a model fills its device; Ray takes one worker for each GPU
    print(f"Licence: {TEACHERS[args.teacher].licence}", flush=True)
    teacher = TEACHERS[args.teacher](shared.weights("--weights", args.weights))
    teacher.check()
    root = os.path.abspath(args.root)  # workers of a Ray cluster have another working directory
    samples = read_samples(CORPORA[args.corpus], root, args.splits)
    folder = os.path.abspath(args.out) if args.out else os.path.join(root, "FeatureData", teacher.name)
    claim(folder, teacher)
    with runners.from_arguments(args, gpus=None) as runner:
        failed, mute = teach(Teach(teacher, folder), samples, runner)
    print(f"{len(samples) - len(failed)} of {len(samples)} clips have vectors of {teacher.name} in {folder}")
    for what, reasons in (("failed", failed), ("have no vector of their sound, which cannot be used", mute)):
        if reasons:
            print(
                f"{len(reasons)} clips {what}:", *shared.first_reasons(reasons, os.path.join(folder, FAILED)), sep="\n"
            )
    print(f"data_prep.build reads them with --teacher {teacher.name}")
    return int(len(failed) == len(samples) or (args.strict and bool(failed or mute)))
