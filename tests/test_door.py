"""The package's door: quick to import, typed, and the README's lines of Python as they stand there."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import media
from helpers.made_run import make_run, plain_clips
from helpers.places import REPOSITORY

import save_jax
from save_jax.search import command

PROGRAM = """
import sys, time
begin = time.perf_counter()
import save_jax
print(time.perf_counter() - begin)
print(sorted({"jax", "numpy", "flax", "ml_collections", "transformers", "data_prep"} & sys.modules.keys()))
"""


def test_opening_a_run_draws_nothing():
    program = "import sys, save_jax.inference.runs as _; print({'matplotlib', 'jinja2'} & sys.modules.keys())"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert out.stdout == "set()\n"


def test_importing_is_quick_and_brings_nothing():
    seconds, modules = [], set()
    for _ in range(5):
        out = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=REPOSITORY
        )
        first, second = out.stdout.splitlines()
        seconds.append(float(first))
        modules.add(second)
    assert modules == {"[]"}
    assert min(seconds) < 0.05


def test_what_the_door_has():
    functions = {"evaluate_scores", "load_model", "open_library", "open_run", "open_vlsa"}
    assert set(dir(save_jax)) == {"__version__", *functions}
    assert all(getattr(save_jax, name) for name in dir(save_jax))
    with pytest.raises(AttributeError, match="no attribute 'nothing'; it has"):
        save_jax.nothing  # noqa: B018 — asking is the test
    assert (REPOSITORY / "save_jax" / "py.typed").exists()
    assert f'version = "{save_jax.__version__}"' in (REPOSITORY / "pyproject.toml").read_text()
    assert f"## {save_jax.__version__} (" in (REPOSITORY / "CHANGELOG.md").read_text()
    assert importlib.metadata.distribution("save_jax")


def test_the_lines_of_the_readme_run(tmp_path, monkeypatch, capsys):
    """On a made run in place of the demo's, and two made videos; .ci/run does the same with the demo itself."""
    [lines] = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    (tmp_path / "runs").mkdir()
    make_run(tmp_path, "vision,audio,speech", plain_clips(8)).rename(tmp_path / "runs" / "demo")
    for name in ("a.mp4", "b.mkv"):
        media.write_media(
            tmp_path / name, [media.numbered(k) for k in range(16)], fps=8, sound=np.full(32000, 0.1, np.float32)
        )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    shutil.copy("a.mp4", "own")
    os.utime("own/a.mp4", (1e9, 1e9))  # one just written is left for the next run
    monkeypatch.setattr(sys, "argv", ["search", "index", "own", "--index", "library", "--model", "runs/demo"])
    assert command.main() == 0
    names = {"matrix": np.eye(1000)}
    exec(compile(lines, "README.md", "exec"), names)
    assert (
        names["texts"].shape == (1, 32) and names["videos"].files == ["a.mp4", "b.mkv"] and not names["videos"].failed
    )
    assert "Hit(id=" in capsys.readouterr().out
    assert len(lines.splitlines()) <= 13


def test_the_readme_is_one_screen_and_a_half():
    text = (REPOSITORY / "README.md").read_text()
    assert len(text.split()) <= 1200
    for target in re.findall(r"\]\(([^)#:]+)[^):]*\)", text):
        assert (REPOSITORY / target).exists(), target
    pages = [*(REPOSITORY / "docs").glob("*.md"), REPOSITORY / "CONTRIBUTING.md"]
    for page in pages:
        for target in re.findall(r"\]\(((?!https?:)[^)#]+)[^)]*\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} → {target}"
