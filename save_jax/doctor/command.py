"""`save-jax doctor`: what this machine and this installation can do, a line for each, with what to do next."""

import argparse
import functools
import os
import textwrap
from collections.abc import Callable, Iterator

from save_jax.data import command_line
from save_jax.doctor import inputs, machine
from save_jax.doctor.line import LIMIT, Line, answered

WIDTH = 120
_WITHOUT_DEVICES = (
    "see that JAX_PLATFORMS names what this machine has and that no other process holds its TPU; or make a new "
    "environment (docs/quickstart.md, Install)"
)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns 1 if there is a problem, else 0. `argv` instead of the process's arguments."""
    parser = argparse.ArgumentParser(prog="save-jax doctor", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("--config", metavar="NAME", help="also check the shards, tokenizer and weights of this config")
    parser.add_argument("--shards", metavar="FOLDER", help="also check these shards, and how fast they are read")
    parser.add_argument("--weights", metavar="FOLDER", help="also check these weights; several with commas")
    parser.add_argument("--json", metavar="FILE", help="also write the lines here")
    arguments = parser.parse_args(command_line.arguments(argv))
    lines = []
    for line in examine(arguments.config, arguments.shards, arguments.weights):
        print(shown(line), flush=True)
        lines.append(line)
    problems = [line for line in lines if line.state == "problem"]
    print(f"\n{len(problems)} problem{'' if len(problems) == 1 else 's'}" if problems else "\nno problem")
    if arguments.json:
        from save_jax.data import files

        files.write_json(arguments.json, {"ok": not problems, "lines": [line._asdict() for line in lines]})
    return int(bool(problems))


def examine(config: str | None, shards: str | None, weights: str | None, limit: float = LIMIT) -> Iterator[Line]:
    """The lines of all checks, as they come.

    Args:
        config: name or path of a configuration whose shards, tokenizer and weights are checked, too.
        shards, weights: a folder of shards, and weights as config.init_from takes them.
        limit: seconds that each check may take.
    """
    checks: list[tuple[str, Callable]] = [("Python", machine.check_python), ("packages", machine.check_packages)]
    for name, check in checks:
        yield from answered(name, check, limit)
    devices = answered("devices", machine.check_devices, limit, _WITHOUT_DEVICES)
    yield from devices
    # What asks JAX again would fail, or wait, in the same way.
    if not any(line.state == "problem" for line in devices):
        yield from answered("accelerator", machine.check_accelerator, limit)
        yield from answered("cuDNN attention", machine.check_cudnn, limit)
        yield from answered("compiled programs", machine.check_cache, limit)
    checks = [("FFmpeg", inputs.check_ffmpeg)]
    if shards:
        checks.append(("shards", functools.partial(inputs.check_shards, shards)))
        if os.path.isdir(learned := os.path.join(shards, "tokenizer")):
            checks.append(("tokenizer", functools.partial(inputs.check_tokenizer, learned)))
    if weights:
        checks.append(("weights", functools.partial(inputs.check_weights, weights)))
    for name, check in checks:
        yield from answered(name, check, limit)
    if config:
        yield from _examine_config(config, limit)


def _examine_config(name: str, limit: float) -> Iterator[Line]:
    """The lines of what a configuration reads."""
    found = {}

    def read() -> Line:
        from save_jax.config import resolve
        from save_jax.config.finding import read_config

        found["config"] = config = resolve(read_config(name))
        return Line("config", "ok", f"{config.name}: shards in {config.data_dir}, tokenizer {config.data.tokenizer!r}")

    def tokenizer() -> Line:
        from save_jax.data.pipeline import tokenizer_source

        return inputs.check_tokenizer(tokenizer_source(found["config"]))

    yield from answered("config", read, limit)
    if config := found.get("config"):
        yield from answered("shards", functools.partial(inputs.check_shards, config.data_dir), limit)
        yield from answered("tokenizer", tokenizer, limit)
        yield from answered("weights", functools.partial(inputs.check_start, config.init_from), limit)


def shown(line: Line) -> str:
    """A line as it is printed, the next step below it."""
    head, indent = f"{line.state:<9}{line.name:<19}", " " * 28
    text = textwrap.fill(line.text, WIDTH, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False)
    step = textwrap.fill(f"→ {line.step}", WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")
    return f"{text}\n{step}" if line.step else text
