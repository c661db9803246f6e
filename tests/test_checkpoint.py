"""Checkpoints: the best and the last survive, also a restart; parameters of another model are refused with a list."""

import jax.numpy as jnp
import numpy as np
import pytest

from save_jax import checkpoint

PARAMS = {"a": {"kernel": jnp.arange(6.0).reshape(2, 3)}, "b": jnp.ones(4)}
OPTIMIZER = {"m": jnp.zeros(4)}


def save(checkpoints: checkpoint.Checkpoints, step: int, sumr: float | None) -> None:
    params = {"a": {"kernel": PARAMS["a"]["kernel"] + step}, "b": PARAMS["b"]}
    checkpoints.save(step, params, OPTIMIZER, {"step": step}, sumr and {checkpoint.METRIC: sumr})


def test_the_best_and_the_last_survive_a_restart(tmp_path):
    checkpoints = checkpoint.Checkpoints(str(tmp_path))
    for step, sumr in ((1, 10.0), (2, 30.0), (3, 20.0), (4, None)):
        save(checkpoints, step, sumr)
    checkpoints.close()
    checkpoints = checkpoint.Checkpoints(str(tmp_path))
    assert (checkpoints.best(), checkpoints.latest()) == (2, 4)
    save(checkpoints, 5, 25.0)
    checkpoints.close()
    checkpoints = checkpoint.Checkpoints(str(tmp_path))
    assert (checkpoints.best(), checkpoints.latest()) == (2, 5)
    kept = {int(path.name) for path in (tmp_path / checkpoint.FOLDER).iterdir() if path.name.isdigit()}
    assert kept == {2, 5}
    params, optimizer, meta = checkpoints.restore(5, PARAMS, OPTIMIZER)
    np.testing.assert_array_equal(params["a"]["kernel"], PARAMS["a"]["kernel"] + 5)
    np.testing.assert_array_equal(optimizer["m"], OPTIMIZER["m"])
    assert meta == {"step": 5}
    np.testing.assert_array_equal(checkpoints.restore_params(2, PARAMS)["a"]["kernel"], PARAMS["a"]["kernel"] + 2)
    checkpoints.close()
    # From outside, a workdir stands for its best checkpoint.
    loaded = checkpoint.load_params(str(tmp_path), PARAMS)
    np.testing.assert_array_equal(loaded["a"]["kernel"], PARAMS["a"]["kernel"] + 2)


def test_parameters_of_another_model_are_refused_with_a_list(tmp_path):
    checkpoint.save_params(str(tmp_path / "params"), PARAMS)
    like = {"a": {"kernel": jnp.zeros((2, 4))}, "c": jnp.zeros(1)}
    with pytest.raises(
        ValueError, match=r"(?s)a/kernel: \[2, 3\] there, \[2, 4\] in.*b: \[4\] there, absent.*c: absent"
    ):
        checkpoint.load_params(str(tmp_path / "params"), like)


def test_nothing_is_overwritten_and_nothing_missing_is_loaded(tmp_path):
    checkpoint.save_params(str(tmp_path / "params"), PARAMS)
    with pytest.raises(ValueError, match="exists already"):
        checkpoint.save_params(str(tmp_path / "params"), PARAMS)
    with pytest.raises(ValueError, match="no checkpoint at"):
        checkpoint.load_params(str(tmp_path / "nothing"), PARAMS)
