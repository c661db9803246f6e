"""What a run starts from: random towers that hardly train are refused, unless they are meant."""

import jax
import pytest

from save_jax import sharding
from save_jax.config import resolve
from save_jax.config.finding import read_config
from save_jax.data.records import ShardError
from save_jax.methods import run
from save_jax.models.retrieval import Retrieval
from save_jax.training import state, tower_cache
from save_jax.weights import loading


def of(recipe: str, **settings: object):
    config = read_config(recipe).unlock()
    config.update_from_flattened_dict(settings)
    return resolve(config)


@pytest.mark.parametrize("recipe", ["msrvtt", "vatex:model=avigate", "charades:model=vision"])
def test_the_papers_recipes_are_refused_without_weights_and_before_any_data(recipe, tmp_path):
    config = of(recipe, data_dir=str(tmp_path / "no shards here"))
    with pytest.raises(ValueError, match=r"vision would start as random.* stay so.*config\.init_from is empty"):
        run.train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    if "vision" not in config.model.branches.split(",")[1:] and "audio" in config.model.branches:
        with pytest.raises(ValueError, match="ast, logit_scale, text, vision would start"):
            tower_cache.make(of(recipe, cache="ast"))


def test_meant_to_be_random(config, capsys):
    config = config.copy_and_resolve_references().unlock()
    config.optim.frozen, config.init_from = ("^vision/",), ""
    with pytest.raises(ValueError, match=r"^vision would start"):
        state.check_start(run.make_method(config, sharding.make_mesh()).model, config)
    config.init_from = "random"
    state.check_start(run.make_method(config, sharding.make_mesh()).model, config)
    assert f"random, of config.seed={config.seed}, and hardly trained or not at all: vision" in capsys.readouterr().out


def test_weights_that_hold_a_part_leave_the_rest_to_be_named(config, tmp_path):
    config = config.copy_and_resolve_references().unlock()
    config.optim.multipliers = (("^(vision|text)/", 1e-3),)
    model = run.make_method(config, sharding.make_mesh()).model
    assert isinstance(model, Retrieval)
    params = state.init_params(model, config, jax.random.key(0))
    loading.save_params(str(tmp_path / "text"), {"text": params["text"]})
    config.init_from = str(tmp_path / "text")
    with pytest.raises(ValueError, match=r"^vision would start .* has none of them"):
        state.check_start(model, config)
    config.init_from += ",random"
    state.check_start(model, config)
    loading.save_params(str(tmp_path / "vision"), {"vision": params["vision"]})
    config.init_from = f"{tmp_path / 'text'},{tmp_path / 'vision'}"
    state.check_start(model, config)


@pytest.mark.parametrize("recipe", ["demo", "demo:smoke", "msrvtt:smoke", "vlsa_pretrain:demo", "vlsa_finetune:demo"])
def test_what_trains_from_scratch_may(recipe, tmp_path):
    config = of(recipe, data_dir=str(tmp_path))
    with pytest.raises(ShardError, match="no shards of split 'train'"):
        run.train(config, str(tmp_path / "run"))
