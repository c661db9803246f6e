"""Every config builds, a wrong one is refused with everything that is wrong, and the command line helps."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from save_jax.config import METHODS, base, differences, model_sizes, resolve, smoke

REPOSITORY = Path(__file__).parent.parent
CONFIGS = [path.stem for path in sorted((REPOSITORY / "configs").glob("*.py")) if path.stem != "__init__"]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("arg", ["", "smoke"])
def test_every_config_resolves(name, arg):
    model_sizes(resolve(importlib.import_module(f"configs.{name}").get_config(arg)))


@pytest.mark.parametrize("name", CONFIGS)
def test_an_unknown_argument_is_refused(name):
    with pytest.raises(ValueError, match="tiny is unknown"):
        importlib.import_module(f"configs.{name}").get_config("tiny")


@pytest.mark.parametrize("branches", METHODS)
def test_branches_choose_the_method(branches):
    config = base()
    config.model.branches = branches
    sizes = model_sizes(resolve(config))
    assert (
        dict(zip(sizes.branches, sizes.weights, strict=True))
        == {
            "vision": {"vision": 1.0},
            "vision,audio": {"vision": 0.95, "audio": 0.05},
            "vision,speech": {"vision": 1.0, "speech": 0.5},
            "vision,audio,speech": {"vision": 1.0, "audio": 0.5, "speech": 0.5},
        }[branches]
    )


def test_all_that_is_wrong_is_said_at_once():
    config = base()
    config.model.patch_size, config.data.max_words, config.loss.albef.save = 50, 100, "soft"
    with pytest.raises(
        ValueError, match=r"(?s)albef.save is 'soft'.*patch_size=50.*max_words=100 is not within 1..con"
    ):
        resolve(config)


def test_unknown_branches_name_the_known_ones():
    config = base()
    config.model.branches = "audio,vision"
    with pytest.raises(ValueError, match=r"choose vision \| vision,audio \| vision,speech \| vision,audio,speech"):
        resolve(config)


def test_differences_show_both_sides():
    ours, theirs = base().to_dict(), smoke(base()).to_dict()
    assert "batch_size: 128 here, 8 there" in differences(ours, theirs)
    assert differences(ours, ours) == []


def run_main(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "save_jax.main", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


def test_a_misspelt_key_is_refused_with_the_nearest_right_one(tmp_path):
    done = run_main("--config=configs/demo.py", f"--workdir={tmp_path}", "--config.model.brunches=vision")
    assert done.returncode != 0 and "branches" in done.stderr and not list(tmp_path.iterdir())


def test_missing_shards_say_what_to_do(tmp_path):
    done = run_main("--config=configs/demo.py", f"--workdir={tmp_path}/run", "--config.data_dir=/nowhere")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: no shards of split 'train' in '/nowhere'; make them with")
