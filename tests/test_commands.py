"""Every command by both of its names: `python -m …`, as version 0.1's README typed them, and `save-jax …`."""

import json
import os
import re
import subprocess
import sys

import pytest
from helpers import official_corpora as made
from helpers.places import REPOSITORY

from save_jax import cli, load_model, open_run
from save_jax.config import resolve
from save_jax.config.finding import ConfigNotFound, find_config, read_config
from save_jax.data import command_line
from save_jax.training import flags, process

MODULES = [
    "save_jax.judge",
    *(f"save_jax.{name}" for name in ("main", "report", "convert", "parity", "bench", "doctor", "sweep", "sweep_vlsa")),
    "save_jax.search",
    *(f"data_prep.{name}" for name in ("demo", "verify", "transcribe", "teach", "build", "inspect", "parity")),
]
# What 0.1's README typed after them, where it named more than a help page would show.
OPTIONS = {
    "save_jax.main": ["--config", "--workdir", "--mode", "--coordinator", "--processes", "--process"],
    "save_jax.report": ["--data_dir", "--split", "--queries", "--open"],
    "save_jax.convert": ["--from", "--kind", "--to", "--frames", "--ast-patch", "--ast-stride", "--describe"],
    "save_jax.sweep": ["--grid", "--seeds", "--workdir"],
    "save_jax.sweep_vlsa": ["--finetune", "--seeds", "--workdir"],
    "save_jax.doctor": ["--config", "--shards", "--weights", "--json"],
    "save_jax.bench": ["score", "efficiency", "step", "heads", "memory", "input", "vlsa"],
    "data_prep.build": ["--corpus", "--root", "--out", "--spectrogram", "--partial", "--update", "--retry-failed"],
    "data_prep.transcribe": ["--engine", "--model"],
    "data_prep.teach": ["--teacher", "--weights"],
}


def run(*arguments: str) -> subprocess.CompletedProcess:
    """On a terminal that holds ASCII alone: no help may need more."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=REPOSITORY, env=environment)


@pytest.mark.parametrize("module", MODULES)
def test_modules_answer(module):
    done = run("-m", module, "--help")
    assert done.returncode in (0, 1), done.stderr  # absl's own --help ends with 1
    for option in OPTIONS.get(module, []):
        assert option in done.stdout, f"{module} has no {option}"
    assert "Traceback" not in done.stderr
    if done.stdout.startswith("usage: "):  # argparse's: by the name that the README and the docs have
        name = module.replace("data_prep.", "prep ").replace("save_jax.", "")
        assert done.stdout.startswith(f"usage: save-jax {name} ")


BARE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # as in many containers and cron jobs
PREPARE = """
import sys
from data_prep.commands import build, inspect, verify
from save_jax.data import files
root, name = sys.argv[1:]
corpus = ["--corpus", "folder", "--root", root]
codes = [verify.main([*corpus, "--sample", "1"]), build.main([*corpus, "--out", root + "/shards", "--jobs", "1"])]
codes += [inspect.main([root + "/shards"]), inspect.main([root + "/shards", name, "--out", root + "/look"])]
written = files.read_json(root + "/shards/manifest.json")["written"]["test"]
assert name.encode("utf-8", "surrogateescape").decode() in written
sys.exit(any(codes))
"""


@pytest.mark.parametrize("environment", [BARE, {"PYTHONIOENCODING": "cp1252"}])
def test_a_terminal_that_is_not_utf_8_ends_nothing(tmp_path, environment):
    """Names that it cannot write are shown with escapes; arrows, too."""
    name = "Café – 海.mp4"
    made.video(tmp_path / name)
    (tmp_path / "captions.csv").write_text(f"video,caption\n{name},a dog → a cat\n", encoding="utf-8")
    (tmp_path / "Café – 海.srt").write_text("1\n00:00:00,000 --> 00:00:00,900\n海へ行きます。\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    command = [sys.executable, "-c", PREPARE, str(tmp_path), os.fsencode(name)]
    done = subprocess.run(command, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-2000:]
    assert b"no sound" in done.stdout and b"\\u6d77" in done.stdout and b"\\u2192" in done.stdout
    (folder,) = (tmp_path / "look").iterdir()
    assert json.loads((folder / "record.json").read_text(encoding="utf-8"))["id"] == name


def test_every_command_takes_what_is_typed_in_the_same_way():
    for package in ("save_jax", "data_prep"):
        for path in (REPOSITORY / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert text.count(".parse_args(") == text.count(".parse_args(command_line.arguments("), path


def test_a_tilde_is_the_home_in_every_argument_and_setting(monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    given = ["--root=~/videos", "--out", "~/out", "--config.init_from=~/a,weights/b,~", "a ~ b", "x~", "--n=1"]
    assert command_line.arguments(given) == [
        *(
            "--root=/home/anna/videos",
            "--out",
            "/home/anna/out",
            "--config.init_from=/home/anna/a,weights/b,/home/anna",
        ),
        *("a ~ b", "x~", "--n=1"),
    ]
    config = read_config("demo")
    config.data_dir, config.init_from, config.data.tokenizer = "~/shards", "~/a,weights/b", "~/words"
    resolved = resolve(config)
    assert (resolved.data_dir, resolved.init_from) == ("/home/anna/shards", "/home/anna/a,weights/b")
    assert resolved.data.tokenizer == "/home/anna/words" and config.data_dir == "~/shards"
    with pytest.raises(ValueError, match="/home/anna/run is not the folder of a run"):
        open_run("~/run")
    with pytest.raises(ValueError, match="/home/anna/weights is no folder"):
        load_model("~/weights")


def test_every_command_of_the_console_script_is_a_module():
    targets = {cli.resolve([name])[0] for name in cli.COMMANDS} | {cli.resolve(["prep", n])[0] for n in cli.PREPARATION}
    assert {*MODULES, "save_jax.inference.card_command"} == targets
    assert cli.resolve(["eval", "--config", "demo"]) == ("save_jax.main", ["--mode=eval", "--config", "demo"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "save-jax has no command 'nothing'\nusage: save-jax COMMAND"),
        (["prep"], "save-jax prep takes one of demo, .*; one must be named"),
        (["prep", "train"], "'train' is none of them"),
    ],
)
def test_an_unknown_command_lists_those_there_are(arguments, message):
    with pytest.raises(ValueError, match=message):
        cli.resolve(arguments)


def test_the_console_script():
    assert re.search(r"^  train +train, then evaluate", run("-m", "save_jax.cli").stdout, re.MULTILINE)
    assert run("-m", "save_jax.cli", "--version").stdout.startswith("save_jax 0.")
    assert "NAME: demo, verify, transcribe" in run("-m", "save_jax.cli", "prep", "--help").stdout
    done = run("-m", "save_jax.cli", "report", "nowhere")
    assert done.returncode == 1 and done.stderr.startswith("error: nowhere is not the folder of a run")
    assert run("-m", "save_jax.cli", "nothing").stderr.startswith("error: save-jax has no command 'nothing'")


def test_a_config_by_path_or_by_name(tmp_path, monkeypatch):
    path = REPOSITORY / "configs" / "demo.py"
    assert find_config(str(path) + ":smoke") == f"{path}:smoke"
    assert find_config("demo:model=vision,smoke") == f"{path}:model=vision,smoke"
    assert read_config("demo:seed=3").seed == 3
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from save_jax.config import base\n\n\ndef get_config(arg=''):\n    return base()\n"
    )
    assert find_config("mine.py") == "mine.py" and read_config("mine.py").name == "base"
    for name in ("nothing", "configs/nothing.py"):
        with pytest.raises(
            ConfigNotFound, match=rf"{name} is neither a file nor one of charades, demo, .*vlsa_pretrain"
        ):
            find_config(name)
    assert flags._with_config_files(["x", "--config=demo", "--workdir", "demo", "-finetune", "vlsa_finetune:demo"]) == [
        "x", f"--config={path}", "--workdir", "demo", "-finetune", f"{path.with_name('vlsa_finetune.py')}:demo"
    ]  # fmt: skip


@pytest.mark.parametrize(("sign", "name"), [("nvidia0", "NVIDIA GPU"), ("accel0", "TPU")])
def test_an_accelerator_that_is_not_used_is_told(tmp_path, monkeypatch, capsys, sign, name):
    monkeypatch.setattr(process, "SIGNS", {name: (str(tmp_path / f"{sign[:-1]}[0-9]*"),)})
    process.warn_of_unused_accelerator()
    assert capsys.readouterr().err == ""  # there is none
    (tmp_path / sign).touch()
    process.warn_of_unused_accelerator()
    assert capsys.readouterr().err == ""  # the tests ask for the CPU: JAX_PLATFORMS=cpu
    monkeypatch.setattr(process, "_chose_cpu", lambda: False)
    process.warn_of_unused_accelerator()
    said = capsys.readouterr().err
    assert f"has an accelerator ({name}), and JAX computes on the CPU" in said and process.EXTRAS[name] in said
