"""Stored outputs of frozen towers, tables on the device: the same batches, the same loss, and what is refused."""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from helpers.corpus import write_corpus

from save_jax import sharding
from save_jax.config import frozen_patterns, model_sizes, resolve
from save_jax.config.retrieval import FROZEN_BY_CACHE
from save_jax.data import pipeline, stored
from save_jax.models.retrieval import Retrieval
from save_jax.training import optim, resident, state, tower_cache
from save_jax.training.objectives import RetrievalObjective

KINDS = ("ast", "towers")
one_kind = pytest.mark.parametrize("cached", ["towers"], indirect=True)


def changed(config, **settings):
    """The config with these settings, `data__workers` for data.workers."""
    config = config.copy_and_resolve_references().unlock()
    for name, value in settings.items():
        config.update_from_flattened_dict({name.replace("__", "."): value})
    return resolve(config)


_PARAMETERS = {}  # by seed, of which alone they depend here


def parameters(config) -> dict:
    if config.seed not in _PARAMETERS:
        model, optimizer = Retrieval(model_sizes(config)), optim.make_optimizer(config.optim, 1)
        _PARAMETERS[config.seed] = state.create(model, optimizer, config, sharding.make_mesh(), {}).params
    return _PARAMETERS[config.seed]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("cached"), {"train": 12, "val": 5, "test": 3})


@pytest.fixture
def small(config, corpus):
    return changed(config, data_dir=str(corpus))


@pytest.fixture(scope="module")
def made(corpus) -> dict:
    return {}


@pytest.fixture(params=KINDS)
def cached(request, small, made):
    """(config, data that read the cache, parameters); made once a kind."""
    config = changed(small, cache=request.param)
    if config.cache not in made:
        made[config.cache] = tower_cache.make(config)
    params = parameters(config)
    data = pipeline.Data(config, ("train", "val", "test"))
    data = data.with_stored(tower_cache.open_checked(config, data, params, sharding.make_mesh()))
    return config, data, params


def first(iterator) -> dict:
    batch = next(iterator)
    iterator.close()
    return batch


def test_batches_hold_what_the_towers_give(cached):
    config, data, params = cached
    live_data = pipeline.Data(config, ("train",))
    live, batch = (first(pipeline.train_iterator(d, config, start=2)) for d in (live_data, data))
    model = Retrieval(model_sizes(config))
    towers = jax.jit(lambda batch: model.apply({"params": params}, batch, method=Retrieval.towers))(live)
    fields = tower_cache.fields(config)
    replaced = {tower_cache.INPUTS[field][0] for field in fields}
    assert batch.keys() == live.keys() - replaced | set(fields)
    for name in batch.keys() - set(fields):
        np.testing.assert_array_equal(batch[name], live[name])
    for name in fields:
        assert batch[name].dtype == ml_dtypes.bfloat16
        # One rounding to bfloat16: half a unit of its 8 bits, and float32's noise of another batch on top.
        expected = np.asarray(towers[name], np.float32)
        np.testing.assert_allclose(batch[name].astype(np.float32), expected, rtol=2**-8, atol=1e-5)


def test_the_loss_is_that_of_live_towers(cached):
    """Within 1 %: the towers' outputs are rounded to 8 bits once."""
    config, data, params = cached
    objective = RetrievalObjective(Retrieval(model_sizes(config)), config)
    total = jax.jit(lambda params, batch: objective.loss(params, objective.embed(params, batch), batch)[0])
    losses = [
        float(total(params, first(pipeline.train_iterator(source, config))))
        for source in (pipeline.Data(config, ("train",)), data)
    ]
    assert losses[0] != losses[1]  # the cache was read
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-2)


@one_kind
def test_whole_splits_are_read_stored_and_chosen_or_changed_clips_live(cached):
    config, data, _ = cached
    whole = list(pipeline.eval_batches(data, config, "val"))
    assert all("ast" in batch and "fbank" not in batch for batch in whole)
    for options in ({"numbers": [3, 1]}, {"change": lambda clip, _: dataclasses.replace(clip, fbank=None)}):
        assert "fbank" in first(pipeline.eval_batches(data, config, "val", **options))


@one_kind
def test_silence_is_stored_once(cached):
    data = cached[1]
    meta = stored.read_meta(data.stored.directory)["splits"]["train"]["ast"]
    assert meta["rows"] == 12 - 4 + 1 and meta["shared"]  # every third clip is silent
    rows = data.stored.read("train", "clips", [0, 3, 1])["ast"]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])


def test_rows_come_back_as_they_were_written(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(5, 3, 2)).astype(ml_dtypes.bfloat16)
    rows[3] = rows[1]
    writer = stored.Writer(str(tmp_path), "val", "ast")
    for number, row in enumerate(rows):
        writer.add(row, same=number in (1, 3))
    meta = {"format": stored.FORMAT, "splits": {"val": {"ast": writer.close()}}}
    (tmp_path / stored.META).write_text(json.dumps(meta))
    assert meta["splits"]["val"]["ast"] == {"rows": 4, "shape": [3, 2], "shared": True}
    read = stored.Stored(str(tmp_path), ["ast"], {"val": {"clips": 5, "captions": 7}}).read
    order = [4, 3, 0, 1, 2, 3]
    np.testing.assert_array_equal(read("val", "clips", order)["ast"], rows[order])
    assert read("val", "captions", [0]) == {}
    with pytest.raises(ValueError, match="has ast for 5 clips of split 'val', the shards have 6"):
        stored.Stored(str(tmp_path), ["ast"], {"val": {"clips": 6, "captions": 7}})
    with pytest.raises(ValueError, match="has no ast of split 'test'; run --mode=cache again"):
        stored.Stored(str(tmp_path), ["ast"], {"test": {"clips": 5, "captions": 7}})


@one_kind
def test_workers_read_the_cache(cached):
    config, data, _ = cached
    plain = first(pipeline.train_iterator(data, config, start=1))
    batch = first(pipeline.train_iterator(data, changed(config, data__workers=1), start=1))
    assert batch.keys() == plain.keys()
    for name in batch:
        assert batch[name].dtype == plain[name].dtype
        np.testing.assert_array_equal(batch[name], plain[name])


def refusal(config, params=None, data=None) -> str:
    data = data or pipeline.Data(config, ("train",))
    with pytest.raises(ValueError) as error:
        tower_cache.open_checked(config, data, params or parameters(config), sharding.make_mesh())
    return str(error.value)


@one_kind
def test_what_does_not_fit_is_refused(cached, tmp_path):
    config, _, params = cached
    folder = os.path.basename(tower_cache.make(config))  # is there already
    message = refusal(config, params | {"text": jax.tree.map(lambda x: x + 1, params["text"])})
    assert "no cache of these weights" in message and folder in message and "once with --mode=cache" in message
    message = refusal(changed(config, model__dtype="bfloat16"), params)
    assert 'settings.dtype: "bfloat16" here, "float32" there' in message
    # Other shards in the same place: what the cache says of them is another checksum.
    other = write_corpus(tmp_path / "other", {"train": 10, "val": 5, "test": 3})
    shutil.copytree(os.path.join(config.data_dir, tower_cache.FOLDER), other / tower_cache.FOLDER)
    message = refusal(changed(config, data_dir=str(other)), params)
    assert "shards.clips-train.tfrecord-00000-of-00002" in message


@one_kind
def test_towers_that_are_cached_never_train(cached):
    """Whatever config.optim.frozen says: a cache of towers that move would be of other towers after one step."""
    config, data, params = cached
    config = config.copy_and_resolve_references().unlock()
    config.optim.frozen = ()
    trained = optim.split_frozen(params, frozen_patterns(config))[0]
    assert trained and not [name for name in trained if any(re.search(p, name) for p in FROZEN_BY_CACHE[config.cache])]
    assert tower_cache.open_checked(config, data, params, sharding.make_mesh()).directory == data.stored.directory


def test_a_cache_half_made_is_not_read(small, corpus, tmp_path, monkeypatch):
    shutil.copytree(corpus, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(tower_cache.FOLDER))
    config = changed(small, cache="ast", data_dir=str(tmp_path))
    params = parameters(config)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(stored.Writer, "close", full_disk)
        with pytest.raises(ValueError, match="No space left on device; free some space"):
            tower_cache.make(config)
    assert "no cache of these weights" in refusal(config, params)
    directory = tower_cache.make(config)
    rows = Path(stored.rows_file(directory, "train", "ast"))
    rows.write_bytes(rows.read_bytes()[:-2])
    assert f"has {rows.stat().st_size} bytes" in refusal(config, params)
    (Path(directory) / stored.META).write_text(json.dumps({"format": 0}))
    assert "has format 0, not 2" in refusal(config, params)
    assert tower_cache.make(config) == directory and stored.read_meta(directory)["format"] == 2


def test_nothing_to_store_is_refused(small):
    config = changed(small, model__branches="vision", cache="ast")
    with pytest.raises(ValueError, match=r"stores nothing for config\.model.branches=vision"):
        tower_cache.make(config)


@pytest.mark.parametrize(("stored", "long"), [(False, resident.LONG), (True, resident.LONG), (False, 1000)])
def test_resident_tables_give_the_very_batches(small, made, stored, long, monkeypatch):
    """Also where the small pictures of the tests lie in pieces, as those of 224 × 224 do."""
    monkeypatch.setattr(resident, "LONG", long)
    config = changed(small, cache="towers" if stored else "none")
    mesh, data = sharding.make_mesh(), pipeline.Data(config, ("train", "val", "test"))
    if stored:
        tower_cache.make(config)
        data = data.with_stored(tower_cache.open_checked(config, data, parameters(config), mesh))
    tables, gather = resident.load(data, config, "train", mesh)
    size = resident.table_bytes(pipeline.table_shapes(data, config, "train"))
    assert sum(x.nbytes for name, x in tables.items() if name != "clip") == size
    numbers = pipeline.pair_iterator(data, config, start=2)
    batches = pipeline.train_iterator(data, config, start=2)
    for _ in range(4):  # over the end of an epoch of three
        expected, rows = next(batches), next(numbers)
        batch = gather(tables, sharding.to_devices(rows, mesh))
        np.testing.assert_array_equal(rows["clip"], expected["clip"])
        chex.assert_trees_all_equal(jax.device_get(batch), expected, strict=True)
    numbers.close()
    batches.close()


@pytest.mark.parametrize(
    ("row", "dtype"), [((2, 160, 160, 3), "uint8"), ((200, 768), "bfloat16"), ((131073,), "float16"), ((7,), "int32")]
)
def test_rows_in_pieces_are_the_rows(row, dtype):
    """Long rows lie in whole tiles, of up to 32 times 128; short ones as they are."""
    table = np.random.default_rng(0).integers(0, 255, (5, *row)).astype(dtype)
    pieces = np.zeros(resident.pieces_shape(table.shape), dtype)
    pieces.reshape(5, -1)[:, : table[0].size] = table.reshape(5, -1)
    assert pieces.shape == table.shape if row == (7,) else pieces.shape[0] == 40 and pieces.shape[1] % 32 == 0
    mesh = sharding.make_mesh(jax.devices()[:1])
    gather = resident.make_gather({"x": row}, mesh)
    tables = {"x": jnp.asarray(pieces), "clip": jnp.array([4, 0, 0, 2], jnp.int32)}
    batch = gather(tables, {"pair": jnp.array([3, 0, 2], jnp.int32)})
    np.testing.assert_array_equal(batch["x"], table[[2, 4, 0]], strict=True)


def test_tables_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"takes 16.00 GiB, the memory of a device has 20.00 GiB free, .* 60%"):
        resident.check_fits(16 << 30, {"a device": 20 << 30})
    resident.check_fits(11 << 30, {"a device": 20 << 30})
    assert all(size > 1 << 20 for size in resident.room(sharding.make_mesh()).values())
