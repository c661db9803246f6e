"""Our training step beside the PyTorch twin's (`twin.py`), in turns, on made batches that lie on the device already.

    python tests/bench/step_torch.py --json out.json                    two cores: float32, batch 4, live and heads only
    python tests/bench/step_torch.py --device gpu --json out.json       bfloat16, batch 128, all three, starts, scoring
    save-jax bench all --device gpu                                     calls it with --twin-alone, and measures ours

Each side lives in a process of its own and sleeps while the other works, so that neither the other's threads nor its
memory count. Every turn is some steps in a row, waited for at their end; so are the matrix products that say what the
machine can do, in the precision of the step: on a GPU both sides multiply float32 as TF32. The file is written after
every row; what is not begun within `--limit` seconds is left out, and said. Needs torch, and no media packages.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parent), str(HERE.parents[2])]  # the twin, and this checkout where it is not installed
MARK = ">> "  # begins a line that is an answer; libraries print, too
OURS = "ours"


# ---------------------------------------------------------------- the two sides, each in its process


def serve(ready, steps, product, peak) -> None:
    """Says that the first step is done, then answers one command a line until there are no more."""
    print(MARK + json.dumps(ready), flush=True)
    for line in sys.stdin:
        name, count = line.split()
        if name == "steps":
            begin, of_processor = time.perf_counter(), time.process_time()
            steps(int(count))
            passed = {"seconds": time.perf_counter() - begin, "processor": time.process_time() - of_processor}
            found = {name: x / int(count) for name, x in passed.items()}
        else:
            found = {"bytes": peak(), "rate": product()}  # in this order: the product's arrays do not count
        print(MARK + json.dumps(found), flush=True)


def resident_bytes() -> int:
    """The most memory this process has held; what counts on a CPU."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fastest(call, operations: int, count: int = 5) -> float:
    """Operations a second of the fastest of some calls, after one that is not counted."""
    seconds = []
    for _ in range(count + 1):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return operations / min(seconds[1:])


def be_ours(spec: SimpleNamespace) -> None:
    import jax

    from save_jax import sharding
    from save_jax.bench import step as bench_step
    from save_jax.bench import timing

    config, mesh = bench_step.config_of(argparse.Namespace(**vars(spec)), spec.cache), sharding.make_mesh()
    batch = bench_step.made(bench_step.batch_shapes(config), config, sharding.by_sample(mesh))
    training = bench_step.Step(config, mesh, batch)
    loss = float(training.run(batch)["loss"])

    def rate() -> float:
        size, count = spec.products
        product, operations = timing.matrix_product(size, spec.dtype, count)
        return fastest(lambda: product().block_until_ready(), operations)

    serve(
        {"loss": loss, "version": f"jax {jax.__version__}", "device": jax.devices()[0].device_kind},
        lambda count: training.run(batch, count),
        rate,
        lambda: bench_step.peak_bytes() or resident_bytes(),
    )


def be_twin(spec: SimpleNamespace) -> None:
    import torch
    import twin
    import twin_training

    device, dtype = "cuda" if spec.device == "gpu" else "cpu", getattr(torch, spec.dtype)
    if spec.device == "cpu":
        torch.set_num_threads(spec.threads)
    else:
        torch.set_float32_matmul_precision("high")  # TF32, as JAX's default
    torch.manual_seed(0)
    sizes = SimpleNamespace(**{k: SimpleNamespace(**v) if isinstance(v, dict) else v for k, v in spec.sizes.items()})
    batch = {}
    for name, (shape, kind) in spec.shapes.items():
        if kind == "bool":
            x = torch.ones(shape, dtype=torch.bool, device=device)
        elif kind in ("uint8", "int32"):
            high = 256 if kind == "uint8" else sizes.clip.vocab_size
            x = torch.randint(0, high, shape, dtype=getattr(torch, kind), device=device)
        else:
            x = torch.randn(shape, device=device).to(getattr(torch, kind))
        batch[name] = x
    with torch.device(device):
        model = twin.Save(sizes, spec.cache)  # pyright: ignore[reportArgumentType] (named as ModelSizes' are)
    trainer = twin_training.Trainer(model, spec.total_steps, dtype, spec.compile)

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def steps(count: int) -> float:
        for _ in range(count):
            loss = trainer.step(batch)
        wait()
        return loss.item()

    def product() -> float:
        size, count = spec.products
        a = torch.randn(size, size, device=device).to(dtype)

        def multiply() -> None:
            for _ in range(count):
                a @ a
            wait()

        return fastest(multiply, count * 2 * size**3)

    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    serve(
        {"loss": steps(1), "version": f"torch {torch.__version__}", "device": name},
        steps,
        product,
        lambda: torch.cuda.max_memory_allocated() if device == "cuda" else resident_bytes(),
    )


# ---------------------------------------------------------------- taking turns


class Side:
    """One side's process, started; `start` is how many seconds its first step took to be done."""

    def __init__(self, name: str, spec: dict, folder: str):
        kept = {name: os.path.join(folder, name) for name in ("JAX_COMPILATION_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")}
        # Both sides hold the device for as long as a row lasts: neither may take all of its memory at once.
        env = os.environ | kept | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        if spec["device"] == "cpu":
            env |= {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": str(spec["threads"])}
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (as long as the process)
        begin = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, str(HERE), "--side", name],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.ready = self.ask(json.dumps(spec))
        self.start = time.perf_counter() - begin

    def ask(self, line: str) -> dict:
        """The answer to one line. Raises RuntimeError with what the process last said where it died."""
        assert self._process.stdin and self._process.stdout  # pipes
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died: its output says why
        for answer in self._process.stdout:
            if answer.startswith(MARK):
                return json.loads(answer.removeprefix(MARK))
        self._log.seek(0)
        raise RuntimeError((self._log.read().strip().splitlines() or ["it ended without a word"])[-1][:300])

    def close(self) -> float:
        """Ends the process; gives `start`."""
        assert self._process.stdin  # a pipe
        with contextlib.suppress(BrokenPipeError):  # it died with a line unread
            self._process.stdin.close()
        self._process.wait()
        return self.start


def compare(specs: dict[str, dict], rounds: int, steps: int, deadline: float, warm: bool) -> dict[str, dict]:
    """Side → seconds of a step (median, min, max), the turns, matrix rate, bytes, seconds to start.

    A side that dies, at whatever point, keeps what it had said and has `failed` beside it; the others go on.
    """
    found: dict[str, dict] = {name: {"turns": []} for name in specs}
    sides: dict[str, Side] = {}

    def attempt(what: Callable[[str], dict], name: str) -> None:
        try:
            found[name] |= what(name)
        except RuntimeError as error:
            found[name]["failed"] = str(error)
            if name in sides:
                sides.pop(name).close()

    def start(name: str) -> dict:
        sides[name] = Side(name, specs[name], folder)
        return {**sides[name].ready, "start_cold": sides[name].start}

    with tempfile.TemporaryDirectory() as folder:
        for name in specs:
            attempt(start, name)
        for number in range(rounds):
            if number > 1 and time.perf_counter() > deadline:
                break
            for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
                time.sleep(0.5)  # the other's threads stop spinning
                attempt(lambda name: {"turns": [*found[name]["turns"], sides[name].ask(f"steps {steps}")]}, name)
        for name in list(sides):
            attempt(lambda name: sides[name].ask("measure 1"), name)
        for side in sides.values():
            side.close()
        for name in list(sides):
            if warm and time.perf_counter() < deadline:
                attempt(lambda name: {"start_warm": Side(name, specs[name], folder).close()}, name)
    for side in found.values():
        if turns := side["turns"]:
            seconds = [turn["seconds"] for turn in turns]
            side |= {"median": float(np.median(seconds)), "min": min(seconds), "max": max(seconds)}
            # Threads of a busy machine wait for each other; what they computed says more there.
            side |= {"processor_median": float(np.median([turn["processor"] for turn in turns]))}
    return found


def row(cache: str, args: argparse.Namespace, deadline: float) -> dict:
    """Both sides with one setting of config.cache, and how they compare."""
    from save_jax import config
    from save_jax.bench import step as bench_step
    from save_jax.bench import timing
    from save_jax.models import operations

    spec = {"cache": cache, "model": "save", "micro_batch": 0, "remat": args.remat, "attention": args.attention}
    spec |= {name: getattr(args, name) for name in ("backbone", "batch", "dtype", "device", "threads")}
    settings = bench_step.config_of(argparse.Namespace(**spec), cache)
    sizes = dataclasses.asdict(config.model_sizes(settings)) | {"dtype": args.dtype}
    spec |= {"sizes": sizes, "shapes": bench_step.batch_shapes(settings), "total_steps": bench_step.TOTAL_STEPS}
    work = sum(operations.of_step(settings).values())
    steps = args.steps or {"cpu": 1, "gpu": 10}[args.device] * (3 if cache == "towers" else 1)
    spec["products"] = timing.saturating(steps * work, args.device)
    # The first side named is measured first of each odd round.
    specs = {} if args.twin_alone else {OURS: spec}
    specs |= {f"twin, {kind}": spec | {"compile": kind.replace("eager", "")} for kind in args.compile}
    sides = compare(specs, args.rounds, steps, deadline, args.starts and not args.twin_alone)
    rate = max((side["rate"] for side in sides.values() if "rate" in side), default=float("nan"))
    twins = [side["median"] for name, side in sides.items() if name != OURS and "median" in side]
    for side in sides.values():
        if "median" in side:
            side["share_of_matrix_rate"] = work / side["median"] / rate
    found = {"cache": cache, "operations": work, "matrix_rate": rate, "steps_in_a_row": steps, "sides": sides}
    if twins and "median" in sides.get(OURS, {}):
        found["ours_over_twin"] = sides[OURS]["median"] / min(twins)
        of_processor = [side["processor_median"] for name, side in sides.items() if name != OURS and "median" in side]
        found["ours_over_twin_of_processor_time"] = sides[OURS]["processor_median"] / min(of_processor)
    return found


def show(found: dict) -> None:
    from save_jax.bench.step import NAMES, milliseconds

    for name, side in found["sides"].items():
        if "failed" in side:
            print(f"{NAMES[found['cache']]:12}{name:15} failed: {side['failed']}", flush=True)
        if "median" not in side:
            continue
        rate, held = (side.get(measured, float("nan")) for measured in ("rate", "bytes"))  # none where it died
        warm = f"{side['start_warm']:.1f}" if "start_warm" in side else ""
        print(
            f"{NAMES[found['cache']]:12}{name:15}{milliseconds(side):>30}{side['share_of_matrix_rate']:>8.0%}"
            f"{rate / 1e12:>10.3g}{held / 2**30:>9.2f}{side['start_cold']:>9.1f}{warm:>8}",
            flush=True,
        )
    if "ours_over_twin" in found:
        print(
            f"{'':12}ours / the fastest twin: {found['ours_over_twin']:.2f}; of processor time, "
            f"{found['ours_over_twin_of_processor_time']:.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--cache", type=lambda text: text.split(","), help="none, ast, towers; default: see above")
    parser.add_argument("--batch", type=int, help="default: 4 on a CPU, 128 on a GPU")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"])
    parser.add_argument("--backbone", default="B/32", help="of save_jax.bench step")
    parser.add_argument("--remat", default="none", help="ours")
    parser.add_argument("--attention", default="xla", help="ours")
    parser.add_argument("--compile", type=lambda text: text.split(","), help="twins: eager, blocks, whole, graphs")
    parser.add_argument("--threads", type=int, default=2, help="on a CPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=0, help="in a row in each turn; 0: as many as seem right")
    parser.add_argument("--starts", action="store_true", help="also start with compiled programs kept (gpu: always)")
    parser.add_argument("--twin-alone", action="store_true", help="neither ours, nor starts, nor scoring")
    parser.add_argument("--limit", type=float, default=0, help="seconds; default: 540 on a GPU, none on a CPU")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        spec = SimpleNamespace(**json.loads(sys.stdin.readline()))
        if spec.device == "cpu" and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: spec.threads])
        (be_ours if args.side == OURS else be_twin)(spec)
        return
    begin, gpu = time.perf_counter(), args.device == "gpu"
    args.cache = args.cache or (["none", "ast", "towers"] if gpu else ["none", "towers"])
    args.batch, args.dtype = args.batch or (128 if gpu else 4), args.dtype or ("bfloat16" if gpu else "float32")
    args.compile, args.starts = args.compile or (["whole", "graphs"] if gpu else ["eager"]), args.starts or gpu
    deadline = begin + (args.limit or (540 if gpu else float("inf")))
    found = {"bench": "step_torch", "settings": vars(args), "rows": []}

    def keep() -> None:
        if args.json:
            Path(args.json).write_text(json.dumps(found, indent=2))

    print(f"batch {args.batch}, {args.dtype}, {args.device}; ms a step, median (smallest–largest) of turns")
    print("share: of the matrix rate, by the work of the method as written; our resampler's attention does less of it")
    print(f"{'':27}{'ms':>30}{'share':>8}{'matrix TF/s':>12}{'GiB':>7}{'cold s':>9}{'warm s':>8}", flush=True)
    for cache in args.cache:
        if time.perf_counter() > deadline:
            found["rows"].append({"cache": cache, "not_run": "no time left"})
            print(f"{cache}: not run, no time left", flush=True)
        else:
            found["rows"].append(row(cache, args, deadline))
            show(found["rows"][-1])
        found["seconds"] = time.perf_counter() - begin
        keep()
    if gpu and not args.twin_alone:
        score = ["score", "--on-device", "--videos", "1000000", "--budget", "20"]
        path = f"{args.json or 'step_torch'}.score.json"
        left = deadline - time.perf_counter()
        try:
            command = [sys.executable, "-m", "save_jax.bench", *score, "--json", path]
            done = subprocess.run(command, timeout=max(left, 1), cwd=HERE.parents[2])
            found["score"] = json.loads(Path(path).read_text()) if done.returncode == 0 else {"failed": done.returncode}
        except subprocess.TimeoutExpired:
            found["score"] = {"not_run": f"not done within the {left:.0f} s left"}
        keep()
    if any("failed" in side for found_row in found["rows"] for side in found_row.get("sides", {}).values()):
        sys.exit(1)  # said above


if __name__ == "__main__":
    main()
