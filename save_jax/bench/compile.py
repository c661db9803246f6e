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
from save_jax.data.files import write_json

# What takes less memory, in the order to try it.
LADDER = ("remat", "micro", "fsdp", "ast")
GIB = 2**30
Options: TypeAlias = dict[str, str | bool] | None


def compiled_row(
    topology: str,
    recipe: str,
    batch: int,
    layers: int = 0,
    options: dict[str, str | bool] | None = None,
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
    row |= {"devices": mesh.size, "memory": chip.memory, "jax": jax.__version__}
    begin, processor = time.perf_counter(), time.process_time()
    with topologies.cudnn_of(mesh):
        lowered = programs.lower(recipe, config, mesh)
        try:
            compiled = lowered.compile(options)
        except jax.errors.JaxRuntimeError as error:
            return row | {"problem": _problem(str(error), recipe)}
    row |= {"seconds": time.perf_counter() - begin, "processor_seconds": time.process_time() - processor}
    row |= _memory(compiled, chip.memory, recipe)
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
    said = compiled.memory_analysis()
    assert said is not None, "the compilers of TPUs and GPUs say it"
    parts = {
        "arguments": said.argument_size_in_bytes,
        "results": said.output_size_in_bytes - said.alias_size_in_bytes,
        "temporaries": said.temp_size_in_bytes,
        "code": said.generated_code_size_in_bytes,
    }
    total = sum(parts.values())
    row: dict[str, Any] = {"bytes": parts, "bytes_in_all": total}
    if total > size:
        row["problem"] = (
            f"takes {total / GIB:.2f} GiB of {size / GIB:.2f}, {(total - size) / GIB:.2f} too many; {_next(recipe)}"
        )
    return row


def _problem(message: str, recipe: str) -> str:
    """A compiler's refusal in one line; of a program that does not fit, by how much, and what to try."""
    if found := re.search(
        r"Used ([\d.]+)([GMK]) of ([\d.]+)([GMK]) hbm. Exceeded hbm capacity by ([\d.]+)([GMK])", message
    ):
        used, has, over = (f"{found[i]} {found[i + 1]}iB" for i in (1, 3, 5))
        return f"takes {used} of {has}, {over} too many; {_next(recipe)}"
    return message.splitlines()[0][:300]


def _next(recipe: str) -> str:
    """What to try where a recipe does not fit."""
    words = programs.words_of(recipe)
    left = [word for word in LADDER if word not in words and not (word == "ast" and "towers" in words)]
    if programs.program_of(recipe) not in ("step", "vlsa") or not left:
        return "lower --batch"
    return f"try {recipe}+{left[0]}" + (f", or {', '.join('+' + word for word in left[1:])}" if left[1:] else "")


def compile_all(args: argparse.Namespace) -> dict:
    """A row for each recipe and topology. Each is kept in --json as soon as it is there."""
    topologies.quiet()
    for topology in args.topology:
        topologies.chip_of(topology)
    for recipe in args.recipe:
        programs.words_of(recipe)
    truth = {"true": True, "false": False}  # the compiler takes no words for them
    options: Options = {name: truth.get(value, value) for name, value in (x.split("=", 1) for x in args.option)}
    print("By the compiler: nothing was run. Floors: counted work over the data sheet; ms: its cycles, a cost model.")
    print(
        f"{'':12}{'':22}{'seconds':>9}{'GiB: args':>11}{'temp.':>7}{'all':>7}{'of':>7}   floors in ms, ms, collectives"
    )
    rows = []
    for topology in args.topology:
        for recipe in args.recipe:
            row = compiled_row(topology, recipe, args.batch, args.layers, options or None, args.hlo)
            rows.append(row)
            print(line(row), flush=True)
            if args.json:
                write_json(args.json, {"bench": "compile", "rows": rows})
    return {"bench": "compile", "rows": rows}


def line(row: dict) -> str:
    """A row as a line of the table."""
    start = f"{row['topology']:12}{row['recipe']:22}"
    if "bytes" not in row:
        return f"{start}{row['problem']}"
    parts, floors = row["bytes"], row["floor_ms"]
    sizes = [parts["arguments"], parts["temporaries"], row["bytes_in_all"], row["memory"]]
    moved = ", ".join(
        f"{kind} {x['bytes'] / 2**20:.0f} MiB ({'+'.join(x['types'])})" for kind, x in row["collectives"].items()
    )
    return (
        f"{start}{row['seconds']:9.0f}{sizes[0] / GIB:11.2f}"
        + "".join(f"{size / GIB:7.2f}" for size in sizes[1:])
        + f"   {' '.join(f'{name} {ms:.1f}' for name, ms in floors.items())}"
        + (f"; {row['ms_by_cycles']:.1f} ms" if row["ms_by_cycles"] else "")
        + (f"; {moved}" if moved else "")
        + (f"; DOES NOT FIT: {row['problem']}" if "problem" in row else "")
    )
