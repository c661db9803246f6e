"""`bench all`: everything that is asked of an accelerator, in one command for a machine that is lent for minutes.

    save-jax bench all --device gpu --json FILE          half an hour at most, no network, no data
    save-jax bench all --device cpu                      tiny sizes, to see that it runs; writes bench-all.json

The parts run one after the other, each in a process of its own, because a process keeps the device's memory; this one
never touches the device. After each part everything measured is written. A part that fails, or that time ends, says so
in its row of the summary, and the others go on. A part that is begun may take all the time that is left: on an H200,
parts that were stopped to keep time for others all came to nothing, in the middle of compiling.

The PyTorch twin is a script, `--peer`, that is called with `--twin-alone --device --backbone --batch --dtype --cache
--rounds --json`, on a GPU also `--compile`, and writes {"rows": [{"sides": {name: {"median": seconds}}}]}.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.extend

from save_jax.bench import summary, timing
from save_jax.bench.step import CACHES, settings_of
from save_jax.config import recipe
from save_jax.data.files import read_json, write_json

CHECKOUT = Path(__file__).parents[2]
PEER = CHECKOUT / "tests" / "bench" / "step_torch.py"
GOLDEN = [CHECKOUT / "tests" / "golden" / f"{name}.npz" for name in ("save_tiny_train", "avigate_tiny")]


@dataclasses.dataclass(frozen=True)
class Part:
    """One process: the arguments of Python, and how many seconds have to be left for it to be begun."""

    name: str
    command: list[str]
    least: float
    absent: str = ""  # why it cannot run here at all
    programs: str = "others"  # where it keeps compiled programs: a first start must not find another's


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of `bench all`."""
    command.add_argument("--device", choices=["gpu", "cpu"], required=True)
    command.add_argument("--minutes", type=float, default=30.0, help="in all; default %(default)s")
    command.add_argument("--small", action="store_true", help="tiny sizes, to see that it runs; always so on a CPU")
    command.add_argument("--model", choices=list(recipe.MODELS), default="save")
    command.add_argument("--peer", metavar="SCRIPT", help=f"the PyTorch twin's; default {PEER.name} of the checkout")
    command.add_argument("--golden", nargs="+", metavar="FILE.npz", help="for parity; default two of the checkout's")
    command.add_argument("--only", metavar="WORDS", help="parts whose names hold one of these, with commas")
    command.set_defaults(run=everything)


def parts(args: argparse.Namespace) -> list[Part]:
    """What is run, in this order."""
    small = args.small or args.device == "cpu"
    scale = 0.2 if small else 1.0  # of the seconds below, which are an H200's with 16 cores, or guesses
    sizes = ["--model", args.model, "--dtype", "bfloat16"]
    sizes += ["--backbone", "tiny", "--batch", "8"] if small else ["--backbone", "B/32", "--batch", "128"]
    often = ["--rounds", str(args.rounds), "--budget", "10"]
    bench, steps = ["-m", "save_jax.bench"], ["--steps", "2" if small else "10"]
    gallery = ["--queries", "100", "--videos", "2000"] if small else ["--queries", "1000", "--videos", "1000000"]
    found = [Part("top_k", [*bench, "score", "--on-device", *gallery, *often], 35)]

    def add_steps(attention: str) -> None:
        for cache in CACHES[::-1]:
            one, name = [*sizes, "--attention", attention, "--cache", cache], f"{cache} {attention}"
            found.append(Part(f"step {name}", [*bench, "step", *one, *often, *steps], 120, programs=name))
            found.append(Part(f"start {name}", [*bench, "first", *one], 30, programs=name))

    add_steps("cudnn" if args.device == "gpu" else "xla")
    peer, torch = Path(args.peer or PEER), importlib.util.find_spec("torch")
    absent = "" if torch else "torch is not installed"
    if args.model != "save":
        absent = f"the twin is of save, and --model is {args.model}"
    if not peer.exists():
        absent = f"there is no {peer}; --peer names the twin's script"
    for cache in CACHES[::-1]:
        of_twin = [str(peer), "--twin-alone", "--device", args.device, "--cache", cache, *sizes[2:]]
        of_twin += ["--compile", "eager"] if args.device == "gpu" else []
        found.append(Part(f"twin {cache}", [*of_twin, "--rounds", str(args.rounds)], 30, absent=absent))
    golden = [str(path) for path in args.golden or GOLDEN]
    missing = [path for path in golden if not Path(path).exists()]
    no_golden = f"there is no {missing[0]}; --golden names such files" if missing else ""
    parity = ["-m", "save_jax.parity", *golden, "--failed-only", "--precision"]
    found += [Part(f"parity {name}", [*parity, name], 90, absent=no_golden) for name in ("float32", "bfloat16")]
    memory = [*bench, "memory", *sizes, "--cache", "none", "--micro-batches", "0", "--remats", "none,blocks"]
    compiled = "none cudnn" if args.device == "gpu" else "none xla"
    found.append(Part("memory", [*memory, "--measure"], 120, programs=compiled))
    if args.device == "gpu":
        add_steps("xla")
        found.append(Part("parity default", [*parity, "default"], 90, absent=no_golden))  # on a CPU the same as float32
        for cache in CACHES[::-1]:  # minutes of compiling; a short step may wait for launches, which a graph spares
            compile = ["--compile", "whole,graphs" if cache == "towers" else "whole"]
            of_twin = [str(peer), "--twin-alone", "--device", "gpu", "--cache", cache, *sizes[2:], *compile]
            found.append(Part(f"twin {cache} compiled", [*of_twin, "--rounds", str(args.rounds)], 120, absent=absent))
    words = args.only.split(",") if args.only else [""]
    chosen = [part for part in found if any(word in part.name for word in words)]
    if not chosen:
        raise ValueError(f"--only {args.only} fits none of {', '.join(part.name for part in found)}")
    return [dataclasses.replace(part, least=scale * part.least) for part in chosen]


def everything(args: argparse.Namespace) -> dict:
    """Runs all parts, prints and returns their figures and the summary.

    Raises ValueError where the device that is asked for is not there, and, at the end, where a part failed.
    """
    deadline = time.monotonic() + 60 * args.minutes
    todo, args.json = parts(args), args.json or "bench-all.json"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # through `finally`, which ends the part that runs
    env = os.environ | ({"JAX_PLATFORMS": "cpu"} if args.device == "cpu" else {})
    found: dict[str, Any] = {"bench": "all", "settings": settings_of(args), "parts": {}}
    with tempfile.TemporaryDirectory() as folder:
        check = Part("machine", ["-m", "save_jax.bench", "machine", "--device", args.device], 0)
        done = run_part(check, folder, env, 120)
        if "failed" in done:
            raise ValueError(done["failed"].removeprefix("error: "))
        found["machine"] = done["figures"]
        write_json(args.json, found)
        for part in todo:
            left = deadline - time.monotonic()
            print(f"\n=== {part.name}", flush=True)
            if part.absent:
                found["parts"][part.name] = {"left_out": part.absent}
            elif left < part.least:
                why = f"{max(left, 0):.0f} s of {args.minutes:g} minutes were left for it, {part.least:.0f} needed"
                found["parts"][part.name] = {"left_out": why}
            else:
                found["parts"][part.name] = run_part(part, folder, env, left)
            for word in ("left_out", "failed"):
                if word in found["parts"][part.name]:
                    print(f"{word.replace('_', ' ')}: {found['parts'][part.name][word]}", flush=True)
            write_json(args.json, found)
    found["summary"] = summary.of_parts(found, goals=args.device == "gpu" and not args.small)
    write_json(args.json, found)
    print("\n" + summary.as_text(found["summary"]) + f"\nwritten to {args.json}", flush=True)
    if failed := [name for name, part in found["parts"].items() if "failed" in part]:
        raise ValueError(f"{len(failed)} of {len(todo)} parts failed: {', '.join(failed)}; all else is in {args.json}")
    return found


def run_part(part: Part, folder: str, env: dict[str, str], limit: float) -> dict:
    """{"seconds"; "figures", what it wrote; "failed", why it did not end well}; it has `limit` seconds."""
    path, log = Path(folder, "part.json"), Path(folder, "log")
    path.unlink(missing_ok=True)
    begin, done = time.monotonic(), {}
    words = [*part.command, "--json", str(path)]
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, *words],
            env=env | {timing.BEGAN: str(time.time()), "JAX_COMPILATION_CACHE_DIR": str(Path(folder, part.programs))},
            stderr=errors,
            start_new_session=True,  # so that what it starts ends with it
        )
        try:
            if process.wait(timeout=limit):
                done["failed"] = ""
        except subprocess.TimeoutExpired:
            done["failed"] = f"it was stopped after {limit:.0f} s, when time was up"
        finally:
            with contextlib.suppress(ProcessLookupError):  # none of them is left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if done.get("failed") == "":
        done["failed"] = last_words(log.read_text(errors="replace")) or f"it ended with {process.returncode}"
    done["seconds"] = time.monotonic() - begin
    return done | ({"figures": read_json(path)} if path.exists() else {})


def last_words(log: str) -> str:
    """The last error that a log tells: JAX adds lines below its own."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"error: |[\w.]*(Error|Exception|Interrupt)\b", line)]
    return (errors or lines or [""])[-1][:300]


def machine(args: argparse.Namespace) -> dict:
    """`bench machine`: this machine and its devices. Raises ValueError where `--device` is not what JAX computes on."""
    devices, backend = jax.devices(), jax.default_backend()
    if args.device and args.device != backend:
        asked = os.environ.get("JAX_PLATFORMS")
        reason = "save-jax doctor says why"
        reason = f"JAX_PLATFORMS={asked} is set; unset it" if asked else reason
        raise ValueError(
            f"--device {args.device}, but JAX finds no {args.device.upper()} and computes on {backend} "
            f"({devices[0].device_kind}) here: {reason}, or give --device {backend}"
        )
    figures = timing.machine() | {
        "device_kind": devices[0].device_kind,
        "device_count": len(devices),
        "device_memory": (devices[0].memory_stats() or {}).get("bytes_limit"),
        "compute_capability": getattr(devices[0], "compute_capability", None),
        "runtime": jax.extend.backend.get_backend().platform_version,
    }
    if backend == "gpu" and (program := shutil.which("nvidia-smi")):
        query = [program, "--query-gpu=name,driver_version,power.limit,memory.total", "--format=csv,noheader"]
        figures["nvidia_smi"] = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    print(timing.describe(figures))
    print(", ".join(str(figures[name]) for name in ("runtime", "nvidia_smi") if figures.get(name)), flush=True)
    return figures
