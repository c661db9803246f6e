"""`bench compile`: this project's programs, compiled for TPUs and GPUs that are not there.

What it proves and what it does not: `topologies.py`.
"""

import argparse
import dataclasses
import os
import re
import time
from typing import Any, TypeAlias

import jax

from save_jax import sharding
from save_jax.bench import hlo, programs, topologies
from save_jax.bench import step as bench_step
from save_jax.data.files import write_json

# What takes less memory, in the order to try it.
LADDER = ("remat", "micro", "fsdp", "ast")
# How a TPU compiler says that a program is too large: all of it, or its temporaries alone.
_FULL = r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm"
_FULL_TEMPORARIES = r"temporaries \(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)([KMGT])\)"
GIB = 2**30
Options: TypeAlias = dict[str, str | bool] | None


def compiled_row(
    topology: str,
    recipe: str,
    batch: int,
    layers: int = 0,
    options: Options = None,
    text_in: str = "",
) -> dict[str, Any]:
    """Figures of one program for one topology; `problem` says why where it does not compile or fit.

    Args:
        batch: over all devices.
        layers: at most so many in each tower; 0: all.
        options: of the compiler.
        text_in: a folder for the optimised program as text.
    Raises:
        ValueError for a name that does not exist, a missing compiler, or a batch that the devices do not divide.
    """
    chip, mesh = topologies.CHIPS[topologies.chip_of(topology)], topologies.mesh_of(topology)
    sharding.check_batch_size(batch, mesh)
    config = programs.config_of(recipe, batch, layers)
    row: dict[str, Any] = {"topology": topology, "recipe": recipe, "batch": batch, "layers": layers or "all"}
    row |= {"devices": mesh.size, "memory": chip.share * chip.memory, "jax": jax.__version__}
    begin, processor = time.perf_counter(), time.process_time()
    with topologies.cudnn_of(mesh):
        lowered = programs.lower(recipe, config, mesh)
        try:
            compiled = lowered.compile(options)
        except jax.errors.JaxRuntimeError as error:
            return row | {"problem": _problem(str(error), recipe)}
    row |= {"seconds": time.perf_counter() - begin, "processor_seconds": time.process_time() - processor}
    row |= _memory(compiled, chip.share * chip.memory, recipe)
    cost, text = compiled.cost_analysis() or {}, compiled.as_text() or ""
    if text_in:
        os.makedirs(text_in, exist_ok=True)
        with open(os.path.join(text_in, re.sub(r"\W+", "_", f"{topology} {recipe}") + ".hlo"), "w") as file:
            file.write(text)
    program = hlo.read(text)
    counted = programs.counted(recipe, config)
    row |= {"flops": cost.get("flops"), "bytes_accessed": cost.get("bytes accessed")} | dataclasses.asdict(program)
    moved = sum((2 if kind == "all-reduce" else 1) * x["bytes"] for kind, x in program.collectives.items())
    work = counted / mesh.size if counted else sum(program.products.values())
    row["floor_ms"] = {"flops": 1e3 * work / chip.flops, "links": 1e3 * moved * (1 - 1 / mesh.size) / chip.links}
    if "bytes accessed" in cost:  # a GPU's compiler does not say
        row["floor_ms"]["memory"] = 1e3 * cost["bytes accessed"] / chip.bandwidth
    row["ms_by_cycles"] = 1e-6 * program.cycles / chip.clock if chip.clock and program.cycles else None
    return row


def _memory(compiled: jax.stages.Compiled, size: float, recipe: str) -> dict[str, Any]:
    """Bytes that a device holds while the program runs, its code included, and whether it has them."""
    parts = bench_step.parts_of_memory(compiled)
    total = sum(parts.values())
    row: dict[str, Any] = {"bytes": parts, "bytes_in_all": total}
    if total > size:
        row["problem"] = (
            f"takes {total / GIB:.2f} GiB of {size / GIB:.2f}, {(total - size) / GIB:.2f} too many; {_next(recipe)}"
        )
    return row


def _problem(message: str, recipe: str) -> str:
    """A compiler's refusal in one line; of a program that does not fit, by how much, and what to try."""
    for pattern in (_FULL, _FULL_TEMPORARIES):
        if said := re.search(pattern, message):
            used, has = (_bytes(*said.group(i, i + 1)) for i in (1, 3))
            least = "at least " if pattern is _FULL_TEMPORARIES else ""
            over = f"{(used - has) / GIB:.2f} too many"
            return f"takes {least}{used / GIB:.2f} GiB of {has / GIB:.2f}, {over}; {_next(recipe)}"
    return message.splitlines()[0][:300]


def _bytes(number: str, unit: str) -> float:
    return float(number) * {"K": 2**10, "M": 2**20, "G": GIB, "T": 2**40}[unit]


def _option(text: str) -> tuple[str, str]:
    name, given, value = text.partition("=")
    if not given:
        raise ValueError(f"--option {text} has no value; give NAME=VALUE")
    return name, value


def _next(recipe: str) -> str:
    """What to try where a recipe does not fit."""
    words = programs.words_of(recipe)
    left = [word for word in LADDER if word not in words and not (word == "ast" and "towers" in words)]
    if programs.program_of(recipe) not in ("step", "vlsa") or not left:
        return "lower --batch"
    return f"try {recipe}+{left[0]}" + (f", or {', '.join('+' + word for word in left[1:])}" if left[1:] else "")


def compile_all(args: argparse.Namespace) -> dict:
    """A row for each recipe and topology. Each is kept in --json as soon as it is there.

    Raises ValueError for what does not exist, before anything is compiled, and at the end where something did not
    compile or fit.
    """
    topologies.quiet()
    if args.layers < 0:
        raise ValueError(f"--layers {args.layers} is negative; give at least 1, or 0 for all")
    for topology in args.topology:
        sharding.check_batch_size(args.batch, topologies.mesh_of(topology))
    for recipe in args.recipe:
        programs.words_of(recipe)
    truth: dict[str, str | bool] = {"true": True, "false": False}  # the compiler takes no words for them
    options: Options = {name: truth.get(value, value) for name, value in map(_option, args.option)}
    print("Compiled, not run: GiB on a device; least ms by its data sheet; by cycles: its compiler's cost model (TPUs)")
    if args.layers:
        print(f"With {args.layers} layers in each tower: these are not the figures of the model.")
    rows = []
    for topology in args.topology:
        for recipe in args.recipe:
            print(f"{topology:10} {recipe:20} ", end="", flush=True)
            row = compiled_row(topology, recipe, args.batch, args.layers, options or None, args.hlo)
            rows.append(row)
            print(line(row), flush=True)
            if args.json:
                write_json(args.json, {"bench": "compile", "rows": rows})
    if bad := [f"{row['recipe']} on {row['topology']}" for row in rows if "problem" in row]:
        raise ValueError(f"{len(bad)} of {len(rows)} did not compile or fit: {', '.join(bad)}")
    return {"bench": "compile", "rows": rows}


def line(row: dict) -> str:
    """A row in words, without its topology and recipe."""
    if "bytes" not in row:
        return row["problem"]
    parts, has = row["bytes"], row["memory"] / GIB
    moved = ", ".join(
        f"{kind} {x['bytes'] / 2**20:.0f} MiB" for kind, x in row["collectives"].items() if x["bytes"] > 1 << 20
    )
    words = [
        f"{row['bytes_in_all'] / GIB:6.2f} of {has:.0f} GiB ({parts['temporaries'] / GIB:.2f} temporary)",
        "least " + ", ".join(f"{name} {ms:.1f}" for name, ms in row["floor_ms"].items()),
        f"by cycles {row['ms_by_cycles']:.1f} ms" if row["ms_by_cycles"] else "",
        moved,
        f"compiled in {row['seconds']:.0f} s",
        f"DOES NOT FIT: {row['problem']}" if "problem" in row else "",
    ]
    return "; ".join(filter(None, words))
