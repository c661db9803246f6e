"""Measurements of this installation on this machine: `python -m save_jax.bench --help` lists them.

`score` is of scoring at scale (`score.py`), `evaluation` of a run's final evaluation (`evaluation.py`), `step`, `heads`
and `memory` are of training (`step.py`), `input` of what feeds it (`input.py`), `vlsa` of VLSA's pre-training
(`vlsa.py`), `efficiency` is the papers' table of cost. `compile` needs no device (`compile.py`). `all` runs what an
accelerator is asked for (`all.py`).
"""

import argparse
import sys
from pathlib import Path

from save_jax.bench import all as bench_all
from save_jax.bench import efficiency
from save_jax.bench import evaluation as bench_evaluation
from save_jax.bench import score as bench_score
from save_jax.bench import step as bench_step
from save_jax.bench import vlsa as bench_vlsa
from save_jax.config import recipe, resolving
from save_jax.data import command_line
from save_jax.data.files import write_json


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _input(args: argparse.Namespace) -> dict:
    from save_jax.bench import (
        input as bench_input,  # it writes and reads shards: grain and its like, which the others do without
    )

    return bench_input.read(args)


def _compile(args: argparse.Namespace) -> dict:
    from save_jax.bench import compile as bench_compile  # as _input: the loader's part of training

    return bench_compile.compile_all(args)


def _names(text: str) -> list[str]:
    return text.split(",")


def _caches(text: str) -> list[str]:
    if unknown := set(text.split(",")) - set(resolving.CHOICES["cache"]):
        raise argparse.ArgumentTypeError(f"{unknown.pop()} is none of {', '.join(resolving.CHOICES['cache'])}")
    return text.split(",")


def main(argv: list[str] | None = None) -> None:
    """The command line; `argv` instead of the process's arguments."""
    parser = argparse.ArgumentParser(prog="save-jax bench", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--rounds", type=int, default=5, help="times each way is timed; default %(default)s")
    common.add_argument("--json", metavar="FILE", help="also write the figures here")

    command = commands.add_parser("score", parents=[common], help="scoring at scale, beside plain NumPy")
    command.add_argument("--queries", type=int, default=1000)
    command.add_argument("--videos", type=_numbers, default=[1000, 10_000, 100_000], help="numbers, with commas")
    command.add_argument("--frames", type=int, default=12)
    command.add_argument("--dim", type=int, default=512)
    command.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the stored index")
    command.add_argument("--budget", type=float, default=60.0, help="seconds after which no further round begins")
    command.add_argument("--on-device", action="store_true", help="top_k alone, of an index made there, and its floor")
    command.set_defaults(run=bench_score.score)

    command = commands.add_parser("efficiency", parents=[common], help="the papers' table of cost, as Markdown")
    command.add_argument("--videos", type=int, default=1000)
    command.set_defaults(run=efficiency.table)

    command = commands.add_parser("evaluation", parents=[common], help="the final evaluation, beside one pass")
    command.add_argument("workdir", help="of a finished run")
    command.add_argument("--data-dir", help="where its shards are now, if they moved")
    command.add_argument("--budget", type=float, default=120.0, help="seconds after which no further round begins")
    command.set_defaults(run=bench_evaluation.evaluation)

    training = argparse.ArgumentParser(add_help=False, parents=[common])
    training.add_argument(
        "--dtype", choices=resolving.CHOICES["model.dtype"], default="float32", help="of the computation"
    )
    training.add_argument("--micro-batch", type=int, default=0, help="samples at a time; 0: all of them")
    training.add_argument("--remat", choices=resolving.CHOICES["model.remat"], default="none")
    training.add_argument("--attention", choices=resolving.CHOICES["model.attention"], default="auto")
    training.add_argument("--budget", type=float, default=60.0, help="seconds after which no further round begins")
    training.add_argument("--steps", type=int, default=1, help="steps in a row in each round, waited for at their end")

    model = argparse.ArgumentParser(add_help=False, parents=[training])
    model.add_argument("--model", choices=list(recipe.MODELS), default="save")
    model.add_argument("--backbone", choices=[*recipe.BACKBONES, "tiny"], default="B/32")
    model.add_argument("--batch", type=int, default=128, help="over all devices; default %(default)s")
    caches = {"type": _caches, "help": "with commas: none (live), ast (AST cached), towers (heads only); default all"}

    command = commands.add_parser("step", parents=[model], help="the training step: time, work, memory, start")
    command.add_argument("--cache", default=["none", "ast", "towers"], **caches)
    command.add_argument("--startup", action="store_true", help="also time two starts of a fresh process, up to a step")
    command.set_defaults(run=bench_step.step)

    command = commands.add_parser("first", parents=[model], help="one step and its memory, for timing from outside")
    command.add_argument("--cache", default=["none"], **caches)
    command.set_defaults(run=bench_step.first)

    command = commands.add_parser("heads", parents=[model], help="training on stored towers that lie on the device")
    command.add_argument("--clips", type=int, default=1024, help="in the tables; default %(default)s")
    command.set_defaults(run=bench_step.heads)

    command = commands.add_parser("memory", parents=[model], help="memory against micro-batch and remat")
    command.add_argument("--cache", default=["none"], **caches)
    command.add_argument("--micro-batches", type=_numbers, default=[0], help="numbers, with commas; 0: none")
    command.add_argument("--remats", type=lambda text: text.split(","), default=["none", "blocks", "dots"])
    command.add_argument("--measure", action="store_true", help="also run a step of each in a process of its own")
    command.set_defaults(run=bench_step.memory)

    command = commands.add_parser("input", parents=[common], help="what the loader gives, beside what a step takes")
    command.add_argument("--clips", type=int, default=256, help="in the made shards; default %(default)s")
    command.add_argument("--captions", type=int, default=4, help="of each clip; default %(default)s")
    command.add_argument("--frames", type=int, default=12)
    command.add_argument("--image-size", type=int, default=224)
    command.add_argument("--batch", type=int, default=128)
    command.add_argument("--batches", type=int, default=4, help="read in each round; default %(default)s")
    command.add_argument("--threads", type=_numbers, default=[1, 2, 4], help="numbers, with commas")
    command.add_argument("--workers", type=_numbers, default=[0], help="numbers of processes, with commas")
    command.add_argument("--step-ms", type=float, default=0.0, help="what a step takes: also the share of time waited")
    command.set_defaults(run=_input)

    command = commands.add_parser(
        "vlsa", parents=[training], help="VLSA's pre-training: what leaving masked tokens out saves"
    )
    command.add_argument("--batch", type=int, default=0, help="over all devices; default 2 on a CPU, else 64")
    command.add_argument("--small", action="store_true", help="tiny sizes, to see that it runs")
    command.set_defaults(run=bench_vlsa.pretraining)

    command = commands.add_parser("compile", help="the programs compiled for TPUs and GPUs that are not there")
    devices = "with commas: v5e-8, v4:2x2x2, h100x8, …; an unknown one lists them; default v5e-8,h100x8"
    command.add_argument("--topology", type=_names, default=["v5e-8", "h100x8"], help=devices)
    words = "with commas: words joined by +, as B/16+fsdp+micro; an unknown one lists them; default live,ast,towers"
    command.add_argument("--recipe", type=_names, default=["live", "ast", "towers"], help=words)
    command.add_argument("--batch", type=int, default=128, help="over all devices; default %(default)s")
    command.add_argument("--layers", type=int, default=0, help="at most so many in each tower, to be quick; 0: all")
    command.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="of the compiler")
    command.add_argument("--hlo", metavar="FOLDER", default="", help="also write the optimised programs there")
    command.add_argument("--json", metavar="FILE", help="also write the figures here")
    command.set_defaults(run=_compile)

    command = commands.add_parser("all", parents=[common], help="all that an accelerator is asked for, in ten minutes")
    bench_all.add_options(command)

    command = commands.add_parser("machine", parents=[common], help="this machine and what JAX computes on")
    command.add_argument("--device", choices=["gpu", "cpu", "tpu"], help="that it has to be")
    command.set_defaults(run=bench_all.machine)

    args = parser.parse_args(command_line.arguments(argv))
    try:
        if args.json and not (parent := Path(args.json).absolute().parent).is_dir():
            raise ValueError(f"--json {args.json}: there is no folder {parent}; make it first")
        figures = args.run(args)
    except ValueError as error:
        sys.exit(f"error: {error}")
    if args.json:
        write_json(args.json, figures)
