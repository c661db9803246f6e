"""`save-jax doctor`: each line with its state and next step, whatever is missing or broken, and never a traceback."""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from helpers.places import REPOSITORY

from save_jax.doctor import command, inputs, machine
from save_jax.doctor.line import Line, answered
from save_jax.doctor.machine import Gpu
from save_jax.training import process
from save_jax.weights import loading


def doctor(*arguments: str, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    """In a process of its own; `path`: a folder whose modules come first."""
    places = os.pathsep.join(map(str, [*([path] if path else []), REPOSITORY]))
    environment = {**os.environ, "PYTHONPATH": places, **environment}
    called = [sys.executable, "-m", "save_jax.cli", "doctor", *arguments]
    done = subprocess.run(called, capture_output=True, text=True, env=environment, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def states(lines) -> dict[str, str]:
    return {line.name: line.state for line in lines}


def test_it_looks_at_everything_and_writes_it(shards, tmp_path):
    done = doctor("--shards", str(shards), "--json", str(tmp_path / "found.json"))
    assert done.returncode == 0, done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["ok"]
    lines = [Line(**line) for line in found["lines"]]
    names = ["Python", "packages", "devices", "accelerator", "cuDNN attention", "compiled programs", "FFmpeg"]
    assert list(dict.fromkeys(line.name for line in lines)) == [*names, "shards", "tokenizer"]
    assert {line.state for line in lines} <= {"ok", "note"}
    assert done.stdout == "".join(f"{command.shown(line)}\n" for line in lines) + "\nno problem\n"
    text = {line.name: line.text for line in lines}
    assert f"jax {jax.__version__}" in text["packages"] and "8 × CPU (" in text["devices"]
    (counts, rate) = (line.text for line in lines if line.name == "shards")
    assert counts == f"{shards}: clips test 13, train 24, val 9" and "clips/s" in rate and "MB/s" in rate


def test_without_jax_the_rest_is_told(tmp_path):
    (tmp_path / "jax.py").write_text("raise RuntimeError('jaxlib is version 0.1, but this version of jax needs 0.2')")
    done = doctor(path=tmp_path)
    assert done.returncode == 1
    assert "problem  devices            RuntimeError: jaxlib is version 0.1" in done.stdout
    assert "make a new environment" in " ".join(done.stdout.split()) and "FFmpeg" in done.stdout
    assert done.stdout.endswith("\n1 problem\n")


def test_a_platform_that_is_not_there_is_a_problem():
    done = doctor(JAX_PLATFORMS="tpu")
    assert done.returncode == 1 and "problem  devices" in done.stdout
    assert "see that JAX_PLATFORMS names what this machine has" in " ".join(done.stdout.split())


def test_a_check_that_fails_or_hangs_is_a_line():
    def fails():
        yield Line("a", "ok", "so far")
        raise KeyError("nothing")

    assert answered("a", fails) == [Line("a", "ok", "so far"), Line("a", "problem", "KeyError: 'nothing'")]
    assert answered("a", lambda: sys.exit(3), step="try") == [Line("a", "problem", "SystemExit: 3", "try")]
    begin = time.monotonic()
    (line,) = answered("a", lambda: time.sleep(60), limit=0.1)
    assert line.state == "problem" and line.text == "no answer within 0.1 s" and time.monotonic() - begin < 50


# ---------------------------------------------------------------- the machine


A100 = Gpu("NVIDIA A100-SXM4-80GB", "550.54.15", 8.0)


@pytest.mark.parametrize(
    ("gpu", "installed", "state", "step"),
    [
        (A100._replace(driver="580.65.06"), set(), "problem", "'.[cuda13]'"),
        (A100, set(), "problem", "'.[cuda12]'"),
        (A100._replace(driver="525.60.13"), set(), "problem", "'.[cuda12]'"),
        (A100._replace(driver="470.10"), set(), "problem", "driver 525 or newer"),
        (A100, {"cuda13"}, "problem", "in a new environment: pip install -c constraints.txt -e '.[cuda12]'"),
        (A100, {"cuda12"}, "problem", "says why"),
        (Gpu("Tesla V100", "580.65.06", 7.0), set(), "problem", "'.[cuda12]'"),  # CUDA 13 is without Volta
        (Gpu("Tesla K80", "470.10", 3.7), set(), "note", "JAX_PLATFORMS=cpu"),
    ],
)
def test_what_to_install_for_a_gpu(gpu, installed, state, step):
    line = machine.advise(gpu, installed)
    assert line.state == state and step in line.step and gpu.name in line.text and gpu.driver in line.text


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Puts a program of the name nvidia-smi first, which prints a text."""

    def put(text: str) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return put


def test_gpus_are_asked_of_their_driver(smi, monkeypatch):
    smi("NVIDIA H200, 580.65.06, 9.0\nNVIDIA H200, 580.65.06, 9.0")
    assert machine.gpus_of_machine() == [Gpu("NVIDIA H200", "580.65.06", 9.0)] * 2
    smi("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")
    assert machine.gpus_of_machine() == []
    monkeypatch.setenv("PATH", "/nowhere")
    assert machine.gpus_of_machine() == []


def test_an_accelerator_that_jax_does_not_use(tmp_path, smi, monkeypatch):
    smi("")
    assert machine.check_accelerator() == Line("accelerator", "ok", "none that JAX leaves unused")
    smi("NVIDIA H200, 580.65.06, 9.0")
    line = machine.check_accelerator()  # the tests ask for the CPU
    assert line.state == "note" and "NVIDIA H200 is there, and JAX_PLATFORMS=cpu chooses the CPU" in line.text
    monkeypatch.setattr(process, "_chose_cpu", lambda: False)
    for name, step in (("TPU", "pip install -c constraints.txt -e '.[tpu]'"), ("NVIDIA GPU", "'.[cuda13]'")):
        monkeypatch.setattr(process, "SIGNS", {name: (str(tmp_path),)})
        line = machine.check_accelerator()
        assert line.state == "problem" and step in line.step
    smi("")
    assert "nvidia-smi tells nothing" in machine.check_accelerator().text


def test_a_plugin_of_another_jaxlib_is_a_problem(tmp_path, monkeypatch):
    assert [line.state for line in machine.check_packages()] == ["ok"]
    for name in ("jax_cuda12_plugin", "jax_cuda13_plugin"):
        (tmp_path / f"{name}-0.1.dist-info").mkdir()
        text = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 0.1\n"
        (tmp_path / f"{name}-0.1.dist-info" / "METADATA").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    _, older, newer, both = machine.check_packages()
    assert older.state == newer.state == "problem" and both.state == "note"
    assert older.text.startswith("jax-cuda12-plugin 0.1 is not of jaxlib") and "'.[cuda12]'" in older.step


def test_fused_attention(monkeypatch):
    """There is no GPU here: JAX refuses its kernel, as it does where cuDNN is missing."""
    assert machine.check_cudnn().text.startswith("not for this machine")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    gpus = [SimpleNamespace(compute_capability="7.5", platform="gpu")]
    monkeypatch.setattr(jax, "local_devices", lambda: gpus)
    line = machine.check_cudnn()
    assert line.state == "note" and "needs compute capability 8.0, this GPU has 7.5" in line.text
    gpus[0].compute_capability = "9.0"
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/local/cuda/lib64")
    monkeypatch.setattr(machine, "_version", lambda name: "")  # PyTorch for CUDA brings a cuDNN
    line = machine.check_cudnn()
    assert line.state == "problem" and line.text.startswith("fails (none of pip's): ")
    assert line.step.startswith("unset LD_LIBRARY_PATH, then pip install") and "attention=xla" in line.step


def test_the_folder_of_compiled_programs(tmp_path):
    before = jax.config.values["jax_compilation_cache_dir"]
    try:
        jax.config.update("jax_compilation_cache_dir", str(tmp_path / "xla"))
        assert machine.check_cache() == Line(
            "compiled programs", "ok", f"{tmp_path}/xla (no limit) is made by the first run"
        )
        (tmp_path / "xla").mkdir()
        (tmp_path / "xla" / "one").write_bytes(bytes(3 << 20))
        assert machine.check_cache().text == f"{tmp_path}/xla: 1 files, 3 MiB, no limit"
        jax.config.update("jax_compilation_cache_dir", str(tmp_path / "xla" / "one"))
        assert machine.check_cache().state == "problem"
        jax.config.update("jax_compilation_cache_dir", "gs://bucket/xla")
        assert "an address" in machine.check_cache().text
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


# ---------------------------------------------------------------- what a run reads


def test_ffmpeg(monkeypatch):
    assert inputs.check_ffmpeg().state == "ok"
    monkeypatch.setattr(inputs, "DECODERS", ("h264", "nothing"))
    monkeypatch.setattr(inputs, "DEMUXERS", ("none",))
    line = inputs.check_ffmpeg()
    assert line.state == "note" and "lacks decoder nothing, format none" in line.text
    monkeypatch.setitem(sys.modules, "av", None)
    line = inputs.check_ffmpeg()
    assert line.state == "note" and line.step == "pip install -c constraints.txt -e '.[prep]'"


def test_shards_that_are_not_whole(shards, tmp_path, monkeypatch):
    assert "none in" in next(iter(inputs.check_shards(str(tmp_path)))).text
    shutil.copytree(shards, tmp_path / "shards")
    (tmp_path / "shards" / "manifest.json").unlink()
    monkeypatch.setattr(inputs, "SLOW", 1e9)
    lines = list(inputs.check_shards(str(tmp_path / "shards")))
    assert [line.state for line in lines] == ["problem", "ok", "note"] and "data.workers" in lines[-1].step
    next((tmp_path / "shards").glob("clips-val*00001-of*.json")).unlink()
    lines = answered("shards", lambda: inputs.check_shards(str(tmp_path / "shards")))
    assert lines[-1].state == "problem" and "split 'val' has 1 of 2 shards" in lines[-1].text


def test_tokenizers_are_not_downloaded(shards, tmp_path):
    line = inputs.check_tokenizer(str(shards / "tokenizer"))
    assert line.state == "ok" and " tokens, digest " in line.text
    assert inputs.check_tokenizer(str(tmp_path / "none")).state == "problem"
    done = doctor("--config", "msrvtt", HF_HOME=str(tmp_path), HF_ENDPOINT="http://127.0.0.1:9")
    assert "note     tokenizer          openai/clip-vit-base-patch32 is not in the Hugging Face cache" in done.stdout
    assert "note     weights            config.init_from is empty" in done.stdout
    assert "problem  shards             none in data/msrvtt-9k/shards" in done.stdout and done.returncode == 1


def test_weights(tmp_path):
    loading.save_params(str(tmp_path / "clip"), {"text": {"a": jnp.ones(3)}, "vision": {"b": jnp.ones(2)}})
    (line,) = inputs.check_weights(str(tmp_path / "clip"))
    assert line == Line("weights", "ok", f"{tmp_path}/clip: text, vision")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.safetensors").touch()
    both = f"{tmp_path}/clip,{tmp_path}/other"
    lines = answered("weights", lambda: inputs.check_weights(both))
    assert [line.state for line in lines] == ["ok", "problem"] and "convert that first" in lines[1].text


def test_a_config_is_checked_with_what_it_reads(shards, tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(
        "from save_jax.config.finding import read_config\n\n\ndef get_config(arg=''):\n"
        f"    config = read_config('demo:smoke')\n    config.data_dir = {str(shards)!r}\n    return config\n"
    )
    assert command.main(["--config", str(path)]) == 0
    said = capsys.readouterr().out
    assert " tokens, digest " in said and "none: it starts random" in said and said.endswith("\nno problem\n")
    assert command.main(["--config", "nothing"]) == 1
    assert "problem  config" in capsys.readouterr().out
