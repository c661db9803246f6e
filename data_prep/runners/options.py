"""The options of a command that say where it runs, and the runner they ask for."""

import argparse
import os

from data_prep.runners.local import Local
from data_prep.runners.ray import Ray


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--runner, --jobs, --time-limit and --ray-address, for `from_arguments`."""
    group = parser.add_argument_group("where it runs")
    group.add_argument("--runner", choices=("local", "ray"), default="local", help="processes here, or a Ray cluster")
    group.add_argument("--jobs", type=int, help="worker processes (default: one for each CPU)")
    group.add_argument("--time-limit", type=float, default=600.0, help="seconds for a clip (default: %(default)g)")
    group.add_argument("--ray-address", help="of the cluster (default: RAY_ADDRESS, else a Ray of this machine alone)")


def from_arguments(args: argparse.Namespace, gpus: float | None = 0) -> Local | Ray:
    """The runner that the command line asks for; `gpus` is for Ray. Raises ValueError for numbers that cannot work."""
    if args.runner == "ray":
        return Ray(args.jobs, args.time_limit, gpus, args.ray_address)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Local(cores if args.jobs is None else args.jobs, args.time_limit)
