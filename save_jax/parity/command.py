"""Are our numbers the authors'? Runs our model on golden files and compares everything that they hold; a command.

    python -m save_jax.parity FILE.npz … [--precision float32|high|default|bfloat16]

Prints a table (quantity, largest absolute and relative error, tolerance, verdict) for each file and ends with 0 only if
everything holds. `high` and `default` are products of float32 as config.model.precision has them; what they keep, and
so what is allowed, depends on the device (`comparison.py`). A name in a file that this check does not know counts as a
failure. Useful after an install on new hardware; `fixtures.py` says how files belong together, tests/golden/README.md
where such files come from.
"""

import argparse
import dataclasses
import re
import sys
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from save_jax.data import command_line
from save_jax.data.files import write_json
from save_jax.parity import fixtures
from save_jax.parity import metrics as parity_metrics
from save_jax.parity.comparison import (
    COMPUTATIONS,
    TOLERANCES,
    Row,
    Tolerances,
    arithmetic,
    compare,
    note,
    print_table,
    unknown,
)
from save_jax.parity.fixtures import Fixture, Twin
from save_jax.parity.input_path import twin_of_records
from save_jax.parity.reruns import (
    Arrays,
    Step,
    compile_step,
    hidden_states,
    optimizer_steps,
    outputs,
    outputs_and_gradients,
)
from save_jax.training import optim
from save_jax.weights import convert

NOISE = 3.0


# ---------------------------------------------------------------- comparing


def _probes(x: np.ndarray) -> np.ndarray:
    """Norm, sum, largest value, and the product with sin 1, sin 2, …: a check of every element of a tensor."""
    x = x.astype(np.float64).ravel()
    return np.array([np.linalg.norm(x), x.sum(), np.abs(x).max(), x @ np.sin(np.arange(1, x.size + 1))])


def _compare_probes(name: str, ours: np.ndarray, stat: np.ndarray, relative: float, noise: float) -> Row:
    # A sum may cancel to almost nothing; the norm says how large its error may be.
    return compare(name, _probes(ours), stat[:4], max(relative * max(stat[0], np.abs(stat[:4]).max()), noise))


def _by_name(arrays: Arrays, stride: dict, name: str) -> np.ndarray:
    return arrays[name].ravel()[:: stride[name]] if name in stride else arrays[name]


def forward_rows(fixture: Fixture, ours: Arrays, tolerances: Tolerances) -> Iterator[Row]:
    noise = fixture.under("noise/")
    for name, theirs in fixture.under("out/").items():
        if name not in ours:
            yield unknown(f"out/{name}")
            continue
        kind = "losses" if name.startswith("loss_") else "gradients" if name.startswith("grad_") else "outputs"
        tolerance = max(getattr(tolerances, kind) * np.abs(theirs).max(), NOISE * float(noise.get(name, 0)))
        yield compare(name, ours[name], theirs, tolerance)


def gradient_rows(fixture: Fixture, ours: Arrays, tolerances: Tolerances) -> Iterator[Row]:
    meta = fixture.meta
    stats = dict(zip(meta.get("gradstat_names", ()), fixture.arrays.get("gradstat", ()), strict=True))
    for prefix, stride in (("grad/", {}), ("gradsub/", meta.get("stride", {}))):
        for name, theirs in fixture.under(prefix).items():
            if name not in ours or (prefix == "gradsub/" and name not in stride):
                yield unknown(prefix + name)
                continue
            noise = NOISE * stats[name][-1] if name in stats else 0.0
            tolerance = max(tolerances.gradients * np.abs(theirs).max(), noise)
            yield compare(prefix + name, _by_name(ours, stride, name), theirs, tolerance)
    for name, stat in stats.items():
        if name not in ours:
            yield unknown(f"gradstat of {name}")
        else:
            yield _compare_probes(f"gradstat {name}", ours[name], stat, tolerances.probes, NOISE * stat[-1])
    if stats and (more := sorted(ours.keys() - stats.keys())):
        yield Row(f"gradients that the file lacks: {', '.join(more)}", np.inf, np.inf, 0.0, "WRONG")


def optimizer_rows(fixture: Fixture, twin: Twin, step: Step, tolerances: Tolerances) -> Iterator[Row]:
    arrays, meta, settings = fixture.arrays, fixture.meta, fixture.settings or twin.settings
    numbered = [re.match(r"(?:p|deltastat|loss_after_step)(\d+)", name) for name in arrays]
    count = max(len(arrays.get("loss_before_step", ())), *(int(match[1]) for match in numbered if match), 1)
    states, values, norms = optimizer_steps(twin, step, settings, count)
    start, stride = states[0], meta.get("stride", {})

    def change(step: int, name: str) -> np.ndarray:
        return states[step][name].astype(np.float64) - start[name]

    same = len(values) if tolerances.changes is not None else _unmoved(states)  # values to compare
    if tolerances.changes is None:
        yield note(f"parameters, losses and norms after their first change (step {same}): compared in float32 only")
    for key, theirs in arrays.items():
        noise = NOISE * np.atleast_1d(arrays.get(f"noise/{key}", 0.0))
        if tolerances.changes is None and re.match(r"loss_after_step|deltastat|p\d+(sub)?/", key):
            continue
        if key == "lr_table":
            yield _rates(theirs, meta["groups"], twin, settings)
        elif key == "loss_before_step":
            theirs = theirs[:same]
            tolerance = max(tolerances.losses * np.abs(theirs).max(), noise[:same].max())
            yield compare(key, np.array(values[: len(theirs)]), theirs, tolerance)
        elif match := re.fullmatch(r"loss_after_step(\d+)", key):
            yield compare(key, values[int(match[1])], theirs, max(tolerances.losses * abs(theirs), noise.max()))
        elif key == "grad_norm_before_clip":
            # Such files give no noise for norms; that of the third step is about 1e-3 of 31.
            theirs = theirs[:same]
            tolerance = max(tolerances.gradients * np.abs(theirs).max(), noise[:same].max())
            yield compare(key, np.array(norms[: len(theirs)]), theirs, tolerance)
        elif match := re.fullmatch(r"params_after_step(\d+)_equal_initial", key):
            moved = max(np.abs(change(int(match[1]), name)).max() for name in start)
            yield Row(key, moved, moved, 0.0, "ok" if (moved == 0) == bool(theirs) else "WRONG")
        elif match := re.fullmatch(r"deltastat(\d+)", key):
            for name, stat in zip(meta["deltastat_names"], theirs, strict=True):
                if name not in start:
                    yield unknown(f"{key} of {name}")
                    continue
                ours = change(int(match[1]), name)
                assert tolerances.changes is not None  # as above
                yield _compare_probes(f"{key} {name}", ours, stat, tolerances.changes, NOISE * stat[4])
        elif match := re.fullmatch(r"p(\d+)(sub)?/(.+)", key):
            number, name = int(match[1]), match[3]
            if name not in start or (match[2] and name not in stride):
                yield unknown(key)
                continue
            initial = _by_name(start, stride if match[2] else {}, name)
            ours = _by_name(states[number], stride if match[2] else {}, name)
            theirs = theirs.astype(np.float64) - initial
            stats = dict(zip(meta.get("deltastat_names", ()), arrays.get(f"deltastat{number}", ()), strict=True))
            rounding = NOISE * stats[name][5] if name in stats else 0.0
            assert tolerances.changes is not None  # as above
            tolerance = max(tolerances.changes * np.abs(theirs).max(), rounding)
            yield compare(f"change {key}", ours.astype(np.float64) - initial, theirs, tolerance)


def _unmoved(states: list[Arrays]) -> int:
    """How many of the states equal the first: the rate is 0 at the first step."""
    moved = [any((state[name] != states[0][name]).any() for name in state) for state in states]
    return moved.index(True) if any(moved) else len(states)


def _rates(table: np.ndarray, groups: list[dict], twin: Twin, settings: dict) -> Row:
    """Learning rates of every group of parameters (rows) at every step, and that each parameter is in its group."""
    config = fixtures.apply_settings(twin.config, settings)
    schedule = optim.schedule(config.optim, settings["t_total"])
    steps = np.array([float(schedule(step)) for step in range(table.shape[1])])
    ours = np.zeros_like(table)
    for row, group in enumerate(groups):
        filled, _, _ = convert.apply_rules({name: np.zeros((6, 6, 6, 6)) for name in group["names"]}, twin.rules)
        factors = {optim.multiplier(name, config.optim.multipliers) for name in filled}
        # A group of nothing has no rate of ours; one with two would be two groups of ours, which no table can equal.
        factor = factors.pop() if len(factors) == 1 else np.nan if factors else table[row].max() / steps.max()
        ours[row] = factor * steps
    base = table.max(axis=1, keepdims=True)  # groups differ by 1e5: each row is compared with its own largest rate
    return compare("lr_table, each row over its largest", ours / base, table / base, 1e-6)


def debug_rows(fixture: Fixture, base: Fixture, ours: Arrays, tolerances: Tolerances) -> Iterator[Row]:
    for name, theirs in fixture.under("dbg/").items():
        if name not in ours:
            yield unknown(f"dbg/{name}")
            continue
        # Behind the reference's additive mask its float32 numbers are coarse, see the golden README.
        branch = re.match(r"(audio|speech)_fusion", name)
        noise = float(base.arrays.get(f"noise/{branch[1]}_fused", 0)) if branch else 0.0
        yield compare(f"dbg/{name}", ours[name], theirs, max(tolerances.outputs * np.abs(theirs).max(), NOISE * noise))


# ---------------------------------------------------------------- the command

_KNOWN = re.compile(
    r"meta_json|gradstat|(w|out|noise|grad|gradsub|dbg|p\d+|p\d+sub)/.*|lr_table|loss_before_step|loss_after_step\d+|"
    r"grad_norm_before_clip|params_after_step\d+_equal_initial|deltastat\d+|"
    r"in/(text_ids|text_mask|asr_ids|asr_mask|video|video_mask|fbank|audio_mask|teacher_audio|teacher_video|"
    r"eval_text_ids|eval_text_mask)"
)


def _temperatures(fixture: Fixture) -> list[float]:
    """Other temperatures of the score that a file has logits of."""
    wanted = [re.fullmatch(r"out/logits_no_margin_lambda([\d.]+)", name) for name in fixture.arrays]
    return [float(match[1]) for match in wanted if match]


class Checker:
    """Compares golden files; keeps what our model made of a file's inputs for the files that share them.

    Args:
        computation: a key of COMPUTATIONS.
    """

    def __init__(self, computation: str):
        self.computation = computation
        self.arithmetic = arithmetic(computation, jax.default_backend())
        self.tolerances = TOLERANCES[self.arithmetic]
        self._bases: dict = {}

    def _base(self, fixture: Fixture) -> tuple[Fixture, Twin, Step, Arrays, Arrays]:
        base = fixtures.inputs_of(fixture)
        if base.path not in self._bases:
            twin = fixtures.twin(base, *COMPUTATIONS[self.computation])
            step = compile_step(twin, _temperatures(base))
            self._bases[base.path] = (base, twin, step, *outputs_and_gradients(twin, step))
        return self._bases[base.path]

    def rows(self, fixture: Fixture) -> list[Row]:
        """The table of one file. Raises ValueError where files that it needs are missing or do not fit."""
        if parity_metrics.is_mine(fixture.arrays):
            return parity_metrics.rows(fixture.arrays)
        if any(name == "pairs" or name.endswith("/wave_int16") for name in fixture.arrays):
            return [note("numbers of the preparation: python -m data_prep.parity checks them")]
        rows = [unknown(name) for name in fixture.arrays if not _KNOWN.fullmatch(name)]
        if rows and len(rows) == len(fixture.arrays):
            return rows
        with jax.default_matmul_precision("highest"):
            base, twin, step, ours, gradients = self._base(fixture)
            rows += forward_rows(fixture, ours, self.tolerances)
            rows += gradient_rows(fixture, gradients, self.tolerances)
            if fixture.under("out/"):
                rows += self._input_path_rows(fixture, twin)
            if any(re.match(r"p\d+(sub)?/|lr_table|loss_before_step", name) for name in fixture.arrays):
                rows += optimizer_rows(fixture, twin, step, self.tolerances)
            if fixture.under("dbg/"):
                rows += debug_rows(fixture, base, hidden_states(twin), self.tolerances)
        return rows

    def _input_path_rows(self, fixture: Fixture, twin: Twin) -> list[Row]:
        """The same outputs, with inputs that come as records hold them."""
        try:
            stored = twin_of_records(twin)
        except ValueError as error:
            return [note(f"not compared through the input path: {error}")]
        arrays = {name: x for name, x in fixture.arrays.items() if not name.startswith("out/grad_")}
        rows = forward_rows(Fixture(fixture.path, arrays), outputs(stored, _temperatures(fixture)), self.tolerances)
        return [dataclasses.replace(row, quantity=f"from records: {row.quantity}") for row in rows]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: 0 if everything holds, 1 if something does not, 2 for files that cannot be used."""
    parser = argparse.ArgumentParser(prog="save-jax parity", description="Compare this model with golden numbers.")
    parser.add_argument("files", nargs="+", metavar="FILE.npz")
    parser.add_argument(
        "--precision", choices=list(COMPUTATIONS), default="float32", help="what is computed; default %(default)s"
    )
    parser.add_argument("--failed-only", action="store_true", help="print only what does not hold, and the sums")
    parser.add_argument("--json", metavar="FILE", help="also write what came of each file here")
    options = parser.parse_args(command_line.arguments(arguments))
    checker, failed, files = Checker(options.precision), 0, []
    device = jax.devices()[0].device_kind
    told = {"bench": "parity", "precision": options.precision, "allowed": checker.arithmetic, "device": device}
    print(f"{options.precision} on {device}, held to what {checker.arithmetic} may differ")
    for path in fixtures.gather(options.files):
        try:
            rows = checker.rows(fixtures.load(path))
        except (ValueError, KeyError) as error:
            print(f"error: {path}: {error}", file=sys.stderr)
            return 2
        wrong = print_table(str(path), rows, options.failed_only)
        failed += wrong
        files.append({"file": path.name, "lines": len(rows), "failed": wrong})
        if options.json:
            write_json(options.json, told | {"files": files})
    return 1 if failed else 0
