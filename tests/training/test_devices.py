"""What a run says of its devices, and the warning, with its estimate, of a full-size model on a CPU."""

import re
from types import SimpleNamespace

import jax
import pytest

from save_jax import main
from save_jax.config import resolve
from save_jax.config.finding import read_config
from save_jax.models import operations
from save_jax.training import devices


def test_devices_in_words():
    """There are no accelerators here, so these are only shaped like theirs."""
    cpu = devices.name_devices(jax.devices())
    assert re.fullmatch(r"8 × CPU \(\d+ cores, \d+ GiB in all\)", cpu)
    config = resolve(read_config("demo"))
    assert devices.describe(config) == f"{cpu}; float32"  # which a CPU never rounds

    def tpu(process: int, memory: dict | None) -> SimpleNamespace:
        kind = {"platform": "tpu", "device_kind": "TPU v5 lite", "process_index": process}
        return SimpleNamespace(**kind, memory_stats=lambda: memory)

    own, other = tpu(0, {"bytes_limit": 16 * 2**30}), tpu(1, None)
    assert devices.name_devices([other, own]) == "2 × TPU v5 lite, 16 GiB each"
    assert devices.name_devices([other]) == "1 × TPU v5 lite"  # a kind that does not tell its memory


def test_a_gpu_without_cudnn_says_that_attention_falls_back(monkeypatch):
    """The GPU is only shaped like one; what JAX says of cuDNN on this machine is real."""
    gpu = SimpleNamespace(platform="gpu", device_kind="NVIDIA H200", process_index=0, memory_stats=lambda: None)
    monkeypatch.setattr(jax, "devices", lambda: [gpu])
    config = resolve(read_config("demo"))
    assert devices.describe(config).startswith("1 × NVIDIA H200; float32 (products: ")
    config.model.dtype = "bfloat16"
    assert "bfloat16; attention: JAX's own, for cuDNN's cannot be used (" in devices.describe(config)
    config.model.attention = "xla"  # asked for
    assert devices.describe(config) == "1 × NVIDIA H200; bfloat16"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_rate_is_measured(dtype):
    assert 1e8 < devices.matrix_rate(dtype, seconds=0.01) < 1e14


@pytest.mark.parametrize("name", ["msrvtt", "msrvtt:backbone=L/14", "charades", "vlsa_pretrain", "vlsa_finetune"])
def test_a_full_size_model_on_a_cpu_is_told_with_an_estimate(name, capsys):
    config = resolve(read_config(name))
    devices.warn_of_training_on_cpu(config, 0)  # nothing is left to train
    assert not capsys.readouterr().err
    devices.warn_of_training_on_cpu(config, 7030)
    said = capsys.readouterr().err
    assert said.startswith(f"WARNING: {config.name} is a full-size model, and JAX computes on the CPU. An estimate: ")
    counted = 7030 * sum(operations.of_training(config).values())
    assert f"the 7,030 steps of {config.name} would take" in said and f"{counted:.1e} operations (counted)" in said
    rate = float(re.search(r"at the ([\d,]+) GFLOP/s that matrix products reached", said)[1].replace(",", "")) * 1e9
    about, unit = re.search(r"take about ([\d,]+) (year|day|hour|minute)s or more", said).groups()
    seconds = float(about.replace(",", "")) * dict(devices._LENGTHS)[unit]
    assert seconds == pytest.approx(counted / rate, rel=0.3)  # rounded to a whole unit, two of them at least
    assert "save-jax doctor" in said and "--config demo" in said


@pytest.mark.parametrize(
    "name", ["demo", "demo:model=vision", "demo:smoke", "msrvtt:smoke", "vlsa_pretrain:demo", "vlsa_finetune:demo"]
)
def test_what_is_made_for_a_cpu_is_not_warned_of(name, capsys):
    config = resolve(read_config(name))
    devices.warn_of_training_on_cpu(config, 100_000)
    devices.warn_of_evaluating_on_cpu(config, 100_000)
    assert not capsys.readouterr().err


def test_cached_towers_count(capsys):
    """Scores alone, of the vision model's stored towers, are nothing; the heads of SAVE are too much still."""
    config = read_config("msrvtt:model=vision")
    config.cache = "towers"
    devices.warn_of_training_on_cpu(resolve(config), 7030)
    assert not capsys.readouterr().err
    devices.warn_of_evaluating_on_cpu(resolve(config), 1000)  # which runs the towers
    assert "encoding the 1,000 clips of split 'test' once would take about" in capsys.readouterr().err
    config = read_config("msrvtt")
    config.cache = "towers"
    devices.warn_of_training_on_cpu(resolve(config), 7030)
    assert "would take about" in capsys.readouterr().err


def test_training_and_evaluation_tell_both_first(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(devices, "FULL_SIZE", 0.0)
    config = config.copy_and_resolve_references().unlock()
    config.model.branches = "vision"  # whose programs are small
    config.steps = config.eval_every = 2
    main.run(config, str(tmp_path), "train")
    said = capsys.readouterr()
    assert said.out.startswith("8 × CPU (") and said.out.splitlines()[0].endswith("; float32")
    assert f"the 2 steps of {config.name} would take" in said.err
    main.run(config, str(tmp_path), "eval")
    said = capsys.readouterr()
    assert said.out.startswith("8 × CPU (")
    assert "encoding the 13 clips of split 'test' once would take" in said.err
    main.run(config, str(tmp_path), "train")  # which is trained
    assert "would take" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7200, "2 hours"), (64 * 86400, "64 days")],
)
def test_lengths_of_time(seconds, words):
    assert devices.in_words(seconds) == words
