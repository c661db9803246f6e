"""Several processes on one machine: the same run as one process, and one that goes on with other devices."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from helpers.corpus import write_corpus
from helpers.places import COMPILE_FASTEST, REPOSITORY

from save_jax.training import place

STEPS = 20


def start(
    workdir: Path,
    shards: Path | list[Path],
    processes: int,
    devices: int,
    *more: str,
    first: str = "",
) -> list[subprocess.Popen]:
    """`processes` × `devices` fake devices that train together.

    Args:
        shards: of all, or of each.
        first: a folder whose modules come first in process 1.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    found = []
    for process in range(processes):
        data = shards[process] if isinstance(shards, list) else shards
        together = [f"--coordinator=localhost:{port}", f"--processes={processes}", f"--process={process}"]
        command = [
            sys.executable, "-m", "save_jax.main", "--config=configs/demo.py:smoke", f"--workdir={workdir}",
            f"--config.data_dir={data}", f"--config.steps={STEPS}", "--config.eval_every=10", "--config.log_every=1",
            "--config.optim.learning_rate=1e-4",
            "--config.model.image_size=32", "--config.model.patch_size=16", "--config.model.vocab_size=600",
            "--config.evaluation.without_modalities=False", *more, *(together if processes > 1 else []),
        ]  # fmt: skip
        environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}{COMPILE_FASTEST}"}
        if process == 1 and first:
            environment["PYTHONPATH"] = os.pathsep.join([first, os.environ.get("PYTHONPATH", "")])
        found.append(
            subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    return found


def finish(processes: list[subprocess.Popen]) -> list[str]:
    """What each printed; all must have ended well."""
    printed = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), printed
    return [out for out, _ in printed]


def failed(processes: list[subprocess.Popen]) -> list[str]:
    """What each said before it ended with an error of its own words."""
    printed = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [1] * len(processes), printed
    assert not [error for _, error in printed if "Traceback" in error], printed
    return [error for _, error in printed]


def trained(workdir: Path) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Rows of the training steps; parameters and moments (the gradients, in their way) of the last checkpoint."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    arrays = {}
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with ocp.StandardCheckpointer() as checkpointer:
        for item in ("params", "optimizer"):
            path = workdir / "checkpoints" / str(STEPS) / item
            like = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
                checkpointer.metadata(path).item_metadata.tree,
            )
            for name, x in jax.tree.leaves_with_path(checkpointer.restore(path, like)):
                arrays[item + jax.tree_util.keystr(name)] = jax.device_get(x)
    return [row for row in rows if row["split"] == "train"], arrays


def assert_same(one: tuple[list[dict], dict], other: tuple[list[dict], dict]) -> None:
    """Losses to 1e-5 (later 5e-5), the gradient's norm to 1e-3; weights and moments to 1e-5 (of the largest).

    The bias of a key adds one number to a whole row of a softmax: its gradient is 0 but for rounding, which the
    optimiser blows up to full steps, other ones everywhere. It changes nothing, and is left out.
    """
    assert [row["step"] for row in one[0]] == [row["step"] for row in other[0]] == list(range(1, STEPS + 1))
    for ours, theirs in zip(one[0], other[0], strict=True):
        for name in ("loss", "contrastive", "albef", "grad_norm"):
            # From step to step, rounding adds up: 1.1e-5 after a dozen steps with jax 0.12.
            tolerance = 1e-3 if name == "grad_norm" else 1e-5 if ours["step"] <= 5 else 5e-5
            np.testing.assert_allclose(ours[name], theirs[name], rtol=tolerance, atol=1e-6, err_msg=name)
    assert one[1].keys() == other[1].keys()
    for kind in ("params", "mu", "nu"):
        names = [n for n in one[1] if (n.startswith(kind) or f"'{kind}'" in n) and not ("key" in n and "bias" in n)]
        largest = 1.0 if kind == "params" else max(np.abs(one[1][name]).max() for name in names)
        for name in names:
            np.testing.assert_allclose(one[1][name], other[1][name], rtol=0, atol=1e-5 * largest, err_msg=name)


@pytest.fixture(scope="module")
def alone(shards, tmp_path_factory) -> Path:
    """The run of one process with one device."""
    workdir = tmp_path_factory.mktemp("alone")
    finish(start(workdir, shards, 1, 1))
    return workdir


@pytest.mark.parametrize("mode", ["replicated", "fsdp"])
def test_two_processes_equal_one(mode, alone, shards, tmp_path):
    printed = finish(start(tmp_path, shards, 2, 2, f"--config.sharding={mode}"))
    assert f"step {STEPS}/{STEPS}" in printed[0] and "in all) in 2 processes; float32" in printed[0]
    # The first alone tells. By first words: Gloo writes to the same stream from threads that cut each other's lines.
    told = {"step", "test,", "text", "protocol:"}
    first, second = ({line.split(" ")[0] for line in out.splitlines()} for out in printed)
    assert told <= first and not told & second, printed
    assert_same(trained(alone), trained(tmp_path))
    ours, theirs = (json.loads((workdir / "results.json").read_text()) for workdir in (alone, tmp_path))
    assert ours["test"]["t2v"] == theirs["test"]["t2v"]


def test_a_signal_to_one_process_stops_all_and_one_goes_on_alone(alone, shards, tmp_path):
    both = start(tmp_path, shards, 2, 2)
    assert any("step 2/" in line for line in both[0].stdout), both[0].stderr.read()
    both[1].send_signal(signal.SIGTERM)
    printed = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [128 + signal.SIGTERM] * 2, printed
    assert "stopped by a signal to another process at step" in printed[0][0]
    assert "continuing" in finish(start(tmp_path, shards, 1, 1))[0]
    assert_same(trained(alone), trained(tmp_path))


def test_processes_with_other_shards_are_refused(alone, shards, tmp_path):
    """Other clips under the same names, in training and in evaluation."""
    write_corpus(tmp_path / "other", {"train": 24, "val": 9, "test": 13}, clips=100)
    for workdir, more in ((tmp_path / "run", ()), (alone, ("--mode=eval",))):
        for said in failed(start(workdir, [shards, tmp_path / "other"], 2, 1, *more)):
            assert "the content of the shards" in said and "differs between process 0 and process 1" in said
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_processes_with_other_versions_are_refused(shards, tmp_path):
    """One says that it runs another JAX; two that are have been seen to be refused in the same way."""
    (tmp_path / "sitecustomize.py").write_text("import jax\n\njax.__version__ = '0.0.1'\n")
    printed = failed(start(tmp_path / "run", shards, 2, 1, first=str(tmp_path)))
    for said, version in zip(printed, (jax.__version__, "0.0.1"), strict=True):
        assert f", jax {version}, jaxlib" in said and "differs between process 0 and process 1" in said
    assert not (tmp_path / "run").exists()


def test_an_error_of_one_process_ends_all_and_all_say_it(shards, tmp_path):
    first, second = failed(start(tmp_path / "run", [shards, tmp_path / "none"], 2, 1))
    assert "error: no shards of split 'train'" in second
    assert "error: process 1 has ended: no shards of split 'train'" in first and "start all again" in first


def test_a_second_training_in_the_workdir_is_refused_in_every_process(shards, tmp_path):
    with place.alone_in(str(tmp_path)):
        for said in failed(start(tmp_path, shards, 2, 1)):
            assert "another training is running in" in said or "process 0 cannot train in" in said
