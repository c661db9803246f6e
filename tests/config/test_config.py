"""Every config builds, a wrong one is refused with everything that is wrong, and the command line helps."""

import re
import subprocess
import sys

import pytest
from helpers.places import REPOSITORY

from save_jax.config import METHODS, base, differences, frozen_patterns, model_sizes, resolve, smoke, vlsa_sizes
from save_jax.config.finding import read_config

CONFIGS = [path.stem for path in sorted((REPOSITORY / "configs").glob("*.py")) if path.stem != "__init__"]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("arg", ["", "smoke"])
def test_every_config_resolves(name, arg):
    config = resolve(read_config(f"{name}:{arg}"))
    (model_sizes if config.task == "retrieval" else vlsa_sizes)(config)


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
        ValueError, match=r"(?s)albef.save is 'soft'.*patch_size=50.*max_words=100 is more than config.model.con"
    ):
        resolve(config)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("cache", "clip", "config.cache is 'clip'; choose one of none, ast, towers"),
        ("model.score", "mean", "config.model.score is 'mean'; choose one of both, global"),
        ("model.dtype", "float16", "config.model.dtype is 'float16'; choose one of float32, bfloat16"),
        ("model.head_dim", 48, "config.model.embed_dim=512 is not a multiple of config.model.head_dim=48"),
        ("model.patch_size", 0, "config.model.image_size=224 is not a multiple of config.model.patch_size=0"),
        ("model.ast_heads", 5, "config.model.ast_width=768 is not a multiple of config.model.ast_heads=5"),
        (
            "model.weights.save",
            (1.0, 0.5),
            "config.model.weights.save is (1.0, 0.5), not one for each of vision,audio,",
        ),
        ("model.temperature", 0.0, "config.model.temperature=0.0 is not positive"),
        ("data.max_frames", 0, "config.data.max_frames=0 is less than 1"),
        ("data.max_frames", 78, "config.data.max_frames=78 is more than config.model.context_length=77"),
        ("micro_batch", 48, "config.micro_batch=48 does not divide config.batch_size=128"),
        ("micro_batch", -1, "config.micro_batch=-1 is less than 0"),
        ("seed", -1, "config.seed=-1 is less than 0"),
    ],
)
def test_what_cannot_work(setting, value, message):
    config = base()
    config.update_from_flattened_dict({setting: value})
    with pytest.raises(ValueError) as caught:
        resolve(config)
    assert f"  {message}" in str(caught.value)


def test_early_alignment_needs_the_audio_branch():
    config = base()
    config.model.branches, config.loss.albef.speech = "vision,speech", "pearson"
    with pytest.raises(ValueError, match=r"albef.speech=pearson needs the audio branch; branches are vision,speech"):
        resolve(config)


@pytest.mark.parametrize(
    ("cache", "frozen"),
    [("none", set()), ("ast", {"ast/block_0/mlp"}), ("towers", {"ast/block_0/mlp", "vision/ln_post", "text/block_0"})],
)
def test_what_is_cached_is_frozen_also_where_all_is_trained(cache, frozen):
    config = base()
    config.cache, config.optim.frozen = cache, ()
    patterns = frozen_patterns(resolve(config))
    assert resolve(config).optim.frozen == ()  # what the user said stays
    names = ("ast/block_0/mlp", "ast/norm", "vision/ln_post", "text/block_0", "audio_fusion/block_0", "logit_scale")
    assert {name for name in names if any(re.search(p, f"{name}/kernel") for p in patterns)} == frozen
    config.optim.frozen = patterns
    assert resolve(config).optim.frozen == patterns  # nothing twice, so that a run can go on


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


def test_an_unknown_word_of_a_config_is_refused(tmp_path):
    done = run_main("--config=configs/vatex.py:model=safe", f"--workdir={tmp_path}")
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    assert "'model=safe' is unknown; allowed are model=" in done.stderr


def test_missing_shards_say_what_to_do(tmp_path):
    done = run_main("--config=configs/demo.py", f"--workdir={tmp_path}/run", "--config.data_dir=/nowhere")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: no shards of split 'train' in '/nowhere'; make them with")
