"""VLSA: what is masked, what leaks and what does not, who takes part in which loss, what cannot work."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from save_jax import sharding
from save_jax.config import resolve, smoke, vlsa_base, vlsa_sizes
from save_jax.config.vlsa import MODALITIES
from save_jax.models import trees
from save_jax.models.masking import draw_masking
from save_jax.models.vlsa import Vlsa, errors, make_model, normalize, patches, pictures, standardized
from save_jax.training import losses, step
from save_jax.training.crops import cropped
from save_jax.training.vlsa_objectives import Finetuning, Pretraining

loss_of_batch = jax.jit(step.loss_of_batch, static_argnums=0)
SIZES = vlsa_sizes(vlsa_base("vlsa-pretrain"))


def small(task: str = "vlsa-pretrain", **changes: object):
    config = vlsa_base(task)
    config.model.image_size, config.model.vocab_size = 32, 600
    config = smoke(config)
    config.model.patch_size = 8
    config.data.max_frames, config.data.max_words = 3, 10
    config.update_from_flattened_dict(changes)
    return resolve(config)


def made_batch(size: int = 8, seed: int = 0) -> dict[str, jax.Array]:
    """Clips of three frames, of which clip 1 has one; clip 2 is silent, clip 3 says nothing, clip 4 has no picture."""
    rng = np.random.default_rng(seed)
    mask = np.ones((size, 3), bool)
    mask[1, 1:], mask[4] = False, False
    words = rng.integers(1, 600, (size, 10)).astype(np.int32)
    words[3], words[5, 4:] = 0, 0
    sound = np.arange(size) != 2
    return {
        "frames": jnp.array(rng.integers(0, 255, (size, 3, 32, 32, 3), np.uint8) * mask[..., None, None, None]),
        "frame_mask": jnp.array(mask),
        "words": jnp.array(words),
        "text_ids": jnp.array(rng.integers(1, 600, (size, 10)).astype(np.int32)),
        "spectrogram": jnp.array(rng.normal(size=(size, 256, 256)).astype(np.float16) * sound[:, None, None]),
        "has_audio": jnp.array(sound),
        "draw": jnp.array(rng.integers(0, 2**31, size).astype(np.int32)),
    }


@pytest.fixture(scope="module")
def model() -> Vlsa:
    return make_model(small(), sharding.make_mesh())


@pytest.fixture(scope="module")
def params(model) -> dict:
    return jax.jit(lambda key: model.init(key, model.example(None))["params"])(jax.random.key(0))


# ---------------------------------------------------------------- sizes and masks


def test_vit_base_has_as_many_parameters_as_the_paper():
    whole = Vlsa(SIZES, jnp.dtype("float32"))
    shapes = jax.eval_shape(lambda: whole.init(jax.random.key(0), whole.example(None))["params"])
    assert 151e6 < sum(np.prod(x.shape) for x in jax.tree.leaves(shapes)) < 156e6
    assert SIZES.counts == {"video": 1568, "text": 40, "audio": 256}


def test_shares_are_exact_and_of_every_frame():
    shapes = {"video": (3, 8, 196), "text": (3, 1, 40), "audio": (3, 1, 256)}
    visible = 0
    for (name, shape), share in zip(shapes.items(), SIZES.shares, strict=True):
        masking = draw_masking(jax.random.split(jax.random.key(1), 3), jnp.ones(shape, bool), share)
        assert masking.masked_mask.all() and masking.visible_mask.all()
        for clip in range(3):
            slots = np.concatenate([masking.visible[clip], masking.masked[clip]])
            assert sorted(slots) == list(range(shape[1] * shape[2]))
            of_group = np.bincount(np.asarray(masking.masked[clip]) // shape[2], minlength=shape[1])
            assert (of_group == {"video": 147, "text": 6, "audio": 192}[name]).all()
        visible += masking.visible.shape[1]
    assert visible == 392 + 34 + 64


def test_a_masking_is_its_keys_alone():
    keys, mask = jax.random.split(jax.random.key(2), 4), jnp.ones((4, 2, 12), bool)
    whole, part = draw_masking(keys, mask, 0.75), draw_masking(keys[2:3], mask[2:3], 0.75)
    np.testing.assert_array_equal(whole.masked[2], part.masked[0])
    assert (np.asarray(whole.masked[0]) != np.asarray(whole.masked[1])).any()
    often = draw_masking(jax.random.split(jax.random.key(3), 4000), jnp.ones((4000, 1, 8), bool), 0.25)
    share = np.bincount(np.asarray(often.masked).ravel(), minlength=8) / 4000
    np.testing.assert_allclose(share, 0.25, atol=0.03)  # four deviations: every token is equally likely


@pytest.mark.parametrize("words", [0, 1, 3, 4, 10])
def test_short_texts_mask_their_share_of_real_words(words):
    mask = jnp.arange(10)[None, None] < words
    masking = draw_masking(jax.random.split(jax.random.key(4), 1), mask, 0.15)
    masked = set(np.asarray(masking.masked)[np.asarray(masking.masked_mask)].tolist())
    visible = set(np.asarray(masking.visible)[np.asarray(masking.visible_mask)].tolist())
    assert len(masked) == {0: 0, 1: 0, 3: 0, 4: 1, 10: 2}[words]
    assert masked | visible == set(range(words)) and not masked & visible


def test_patches_come_back():
    x = np.random.default_rng(0).normal(size=(2, 6, 8, 3)).astype(np.float32)
    cut = patches(jnp.array(x), (3, 4))
    np.testing.assert_array_equal(cut[1, 1], x[1, :3, 4:].ravel())
    np.testing.assert_array_equal(pictures(cut, (6, 8, 3), (3, 4)), x)
    flat = normalize(cut)
    np.testing.assert_allclose(flat.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(flat.std(-1), 1, atol=1e-4)


# ---------------------------------------------------------------- what leaks


def test_a_joint_pass_leaks_sound_into_pictures_and_separate_passes_do_not(model, params):
    batch = made_batch()
    louder = batch | {"spectrogram": batch["spectrogram"].at[0].add(1.0)}

    def joint(batch: dict) -> jax.Array:
        """Video tokens of one pass over all three, averaged: what a contrastive loss must not be given."""

        def run(net: Vlsa) -> jax.Array:
            parts = [(net.look(name, raw) + net.position(name), mask) for name, (raw, mask) in net.raw(batch).items()]
            x = net.encoder(*(jnp.concatenate(side, axis=1) for side in zip(*parts, strict=True)))
            return x[:, : parts[0][0].shape[1]].mean(axis=1)

        return model.apply({"params": params}, method=run)

    joint = jax.jit(joint)
    assert np.abs(joint(batch)[0] - joint(louder)[0]).max() > 1e-3
    for method, more in ((Vlsa.embed_visible, ()), (Vlsa.embed, (MODALITIES,))):
        run = jax.jit(lambda b, method=method, more=more: model.apply({"params": params}, b, *more, method=method))
        apart = [run(b) for b in (batch, louder)]
        np.testing.assert_array_equal(apart[0]["video"], apart[1]["video"])
        np.testing.assert_array_equal(apart[0]["text"], apart[1]["text"])
        assert np.abs(apart[0]["audio"][0] - apart[1]["audio"][0]).max() > 1e-3
        np.testing.assert_array_equal(apart[0]["audio"][1:], apart[1]["audio"][1:])


def test_masked_patches_are_not_read(model, params):
    """Other values of masked patches change the targets of masked modelling, and no prediction."""
    batch = made_batch()
    masked = jax.jit(lambda b: model.apply({"params": params}, b, method=Vlsa.masked)["audio"])
    masking = masked(batch).masking
    cut = patches(batch["spectrogram"][..., None], model.sizes.audio_patch)
    cut = cut.at[0, masking.masked[0]].add(1.0)
    other = batch | {"spectrogram": pictures(cut, (256, 256, 1), model.sizes.audio_patch)[..., 0]}
    one, two = masked(batch), masked(other)
    np.testing.assert_array_equal(one.predictions, two.predictions)
    np.testing.assert_allclose(two.targets[0] - one.targets[0], 1, atol=2e-3)


# ---------------------------------------------------------------- who takes part


def test_standardized_by_hand():
    """Over real tokens, each channel apart; what is plain stays plain; a sample without tokens stays finite."""
    x = np.random.default_rng(0).normal(5, 3, (3, 4, 6)).astype(np.float32)  # patches of two pixels of three channels
    mask = np.array([[True, True, True, False], [True] * 4, [False] * 4])
    x[1] = 7
    found = np.asarray(standardized(jnp.array(x), jnp.array(mask), 3))
    real = x[0, :3].reshape(-1, 3)
    np.testing.assert_allclose(found[0, :3].reshape(-1, 3), (real - real.mean(0)) / real.std(0), rtol=1e-4, atol=1e-5)
    assert not found[1].any() and np.isfinite(found).all()


def _embedded(model: Vlsa, params: dict, batch: dict) -> dict:
    return model.apply({"params": params}, batch, ("video", "audio"), method=Vlsa.embed)


def _of_visible(model: Vlsa, params: dict, batch: dict) -> dict:
    found = model.apply({"params": params}, batch, method=Vlsa.embed_visible)
    return {name: found[name] for name in ("video", "audio")}


def _predicted(model: Vlsa, params: dict, batch: dict) -> dict:
    """Predictions of masked patches, zero where a clip has none."""
    found = model.apply({"params": params}, batch, method=Vlsa.masked)
    masked = {name: (found[name].predictions, found[name].masking.masked_mask) for name in ("video", "audio")}
    return {name: jnp.where(mask[..., None], x, 0).reshape(len(x), -1) for name, (x, mask) in masked.items()}


@pytest.mark.parametrize("read", [_embedded, _of_visible, _predicted])
@pytest.mark.parametrize("standardize", [False, True])
def test_brightness_and_loudness_are_read_unless_they_are_taken_out(standardize, read, params):
    model = make_model(small(**{"model.standardize": standardize}), sharding.make_mesh())
    embed = jax.jit(functools.partial(read, model, params))
    batch = made_batch() | {"frames": made_batch()["frames"] // 2}
    changed = batch | {
        "frames": batch["frames"] + jnp.array([20, 90, 0], jnp.uint8),  # brighter and of another colour
        "spectrogram": 0.5 * batch["spectrogram"] - 1,  # quieter
    }
    for name, before in embed(batch).items():
        after, there = embed(changed)[name], np.abs(before).max(axis=1) > 0
        assert (~there).nonzero()[0].tolist() == [{"video": 4, "audio": 2}[name]]  # what is not there stays zero
        same = np.allclose(before, after, atol=2e-2)
        assert same == standardize, name


def test_a_clip_takes_part_in_the_losses_that_it_can(model, params):
    """Terms of a batch are those of the clips that have the inputs: the others may be exchanged without a trace."""
    objective, batch = Pretraining(model, small()), made_batch()
    embed = jax.jit(objective.embed)
    embedded = embed(params, batch)
    names = {"video": 4, "text": 3, "audio": 2}  # the clip that lacks it
    inputs = {"video": "frames", "text": "words", "audio": "spectrogram"}
    _, parts = loss_of_batch(objective, params, batch)
    assert all(np.isfinite(x) for x in parts.values())
    for name, lacking in names.items():
        assert embedded[f"{name} masked"][lacking] == 0 and not np.asarray(embedded[name])[lacking].any()
        assert embedded[f"{name} masked"][0] > 0
        if name != "text":  # a word where the flag says that there is none would be a word
            noise = batch[inputs[name]].at[lacking].set(7)
            _, same = loss_of_batch(objective, params, batch | {inputs[name]: noise})
            assert same == parts


def test_terms_of_a_silent_batch_are_zero_and_give_no_gradient(model, params):
    objective = Pretraining(model, small())
    silent = made_batch() | {"has_audio": jnp.zeros(8, bool), "words": jnp.zeros((8, 10), jnp.int32)}
    value_and_grad = jax.jit(jax.value_and_grad(lambda p: step.loss_of_batch(objective, p, silent), has_aux=True))
    (_, parts), grads = value_and_grad(params)
    assert {name for name, x in parts.items() if x == 0} == {
        "text", "audio", "audio-video", "audio-text", "match video", "match text",
    }  # fmt: skip
    assert parts["loss"] == parts["video"] > 0
    flat = trees.flatten(grads)
    assert all(np.isfinite(x).all() for x in flat.values())
    assert not any(np.abs(x).any() for name, x in flat.items() if name.startswith(("audio_proj", "word_emb", "match")))
    empty = silent | {"frame_mask": jnp.zeros((8, 3), bool)}
    assert loss_of_batch(objective, params, empty)[0] == 0


def test_infonce_by_hand():
    a = jnp.array([[1.0, 0], [0, 2], [5, 5]])
    b = jnp.array([[1.0, 0], [3, 3], [9, 9]])
    loss = losses.info_nce(a, b, jnp.log(2.0), jnp.array([True, True, False]))
    s = 2 * np.array([[1, 0.5**0.5], [0, 0.5**0.5]])  # the third has no part
    rows = np.log(np.exp(s).sum(1)) - np.diag(s)
    columns = np.log(np.exp(s).sum(0)) - np.diag(s)
    np.testing.assert_allclose(loss, (rows + columns).mean() / 2, rtol=1e-5)
    assert losses.info_nce(a, b, jnp.log(2.0), jnp.zeros(3, bool)) == 0


def test_errors_by_hand():
    predictions = jnp.array([[[1.0, 3.0]]])
    np.testing.assert_allclose(errors("video", predictions, jnp.array([[[0.0, 1.0]]])), [[2.5]])
    np.testing.assert_allclose(errors("text", predictions, jnp.array([[1]])), [[np.log(1 + np.exp(-2))]], rtol=1e-6)


def test_weights_leave_terms_out(model, params):
    batch = made_batch()
    both = loss_of_batch(Pretraining(model, small()), params, batch)[1]
    masked = loss_of_batch(Pretraining(model, small(**{"loss.matching": 0.0})), params, batch)[1]
    matching = loss_of_batch(Pretraining(model, small(**{"loss.masked": 0.0})), params, batch)[1]
    assert masked.keys() == {"video", "text", "audio", "loss"}
    assert matching.keys() == {"audio-video", "match video", "audio-text", "match text", "loss"}
    np.testing.assert_allclose(both["loss"], masked["loss"] + matching["loss"], rtol=1e-6)
    terms = sum(x for name, x in matching.items() if name != "loss")
    np.testing.assert_allclose(matching["loss"], 5 * terms, rtol=1e-6)


def test_matching_may_read_all_tokens(model, params):
    """Then what is masked, which `draw` decides, has no part in it; masked modelling hides as before."""
    batch = made_batch()
    other = batch | {"draw": batch["draw"] + 1}
    whole = Pretraining(model, small(**{"loss.matching_reads": "all"}))
    seen, again = (jax.jit(whole.embed)(params, x) for x in (batch, other))
    for name in MODALITIES:
        chex.assert_trees_all_close(seen[name], again[name])
        expected = model.apply({"params": params}, batch, MODALITIES, method=Vlsa.embed)[name]
        np.testing.assert_allclose(seen[name], expected, atol=1e-5)
    assert not np.allclose(seen["video error"], again["video error"])
    few = jax.jit(Pretraining(model, small()).embed)(params, batch)
    assert not np.allclose(few["video"], seen["video"])


def test_pictures_are_cropped_by_the_draw_alone():
    """A part of the picture, no edge added, the same in all frames; some mirrored; whatever the batch."""
    rows, columns = np.meshgrid(np.arange(0, 256, 8), np.arange(0, 256, 8), indexing="ij")
    picture = np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)  # a pixel says where it is from
    frames = jnp.array(np.broadcast_to(picture, (64, 2, 32, 32, 3)))
    draws = jnp.arange(64, dtype=jnp.int32)
    found = np.asarray(jax.jit(cropped)(frames, draws)).astype(int)
    assert found.shape == frames.shape and (found[:, 0] == found[:, 1]).all()
    np.testing.assert_array_equal(np.asarray(cropped(frames[5:7], draws[5:7])), found[5:7])
    down, across = found[:, 0, :, 0, 0], found[:, 0, 0, :, 1]
    assert (np.diff(down) >= 0).all(), "upside down"
    mirrored = across[:, 0] > across[:, -1]
    assert 16 < mirrored.sum() < 48
    across = np.where(mirrored[:, None], across[:, ::-1], across)
    for way in (down, across):
        shown = (way[:, -1] - way[:, 0]) / 248
        assert (np.diff(way) >= 0).all() and shown.min() > 0.6 and shown.max() <= 1 and len(np.unique(shown)) > 16
        assert way[:, 0].min() < 10 and way[:, -1].max() > 238  # from every side
    assert not found[..., 2].any()


def test_pre_training_reads_crops_where_it_is_told(model, params):
    batch = made_batch()
    plain, crops = (Pretraining(model, small(**{"data.crops": told})) for told in (False, True))
    expected = plain.embed(params, batch | {"frames": cropped(batch["frames"], batch["draw"])})
    chex.assert_trees_all_close(crops.embed(params, batch), expected)
    assert not np.allclose(plain.embed(params, batch)["video"], expected["video"])


LITTLE_DATA = {"data.crops": True, "loss.matching_reads": "all", "model.standardize": True}


@pytest.mark.parametrize(("task", "told"), [(Pretraining, {}), (Pretraining, LITTLE_DATA), (Finetuning, {})])
def test_micro_batches_give_the_gradients_of_the_whole(params, task, told):
    made, mesh = small(**told), sharding.make_mesh(jax.devices()[:2])
    objective = task(make_model(made, mesh), made)
    batch, flat = sharding.to_devices(jax.device_get(made_batch()), mesh), trees.flatten(params)

    def run(parts: int) -> tuple[dict, dict]:
        config = small(batch_size=8, micro_batch=8 // parts, **told)
        return jax.jit(lambda p, b: step.gradients(objective, p, {}, b, config=config, mesh=mesh))(flat, batch)

    (one, expected), (four, actual) = run(1), run(4)
    chex.assert_trees_all_close(one, four, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(actual, expected, rtol=0, atol=1e-5 * float(optax.tree.norm(expected)))


def test_the_encoder_may_read_masked_tokens_as_one_learned_token():
    """The other side of the bench: all tokens are read, in one dtype, and masked ones do not show their values."""
    config = small(**{"model.drop_hidden": False, "model.dtype": "bfloat16"})
    net, batch = make_model(config, sharding.make_mesh()), made_batch()
    params = jax.jit(lambda key: net.init(key, net.example(None))["params"])(jax.random.key(0))

    def given(batch: dict) -> jax.Array:
        def run(net: Vlsa) -> jax.Array:
            raw = net.raw(batch)
            return net.visible("audio", *raw["audio"], net.maskings(batch, raw)["audio"])[0]

        return jax.jit(lambda: net.apply({"params": params}, method=run))()

    one, other = given(batch), given(batch | {"spectrogram": batch["spectrogram"] + 1})
    assert one.dtype == jnp.bfloat16 and one.shape[1] == net.sizes.counts["audio"]
    assert (np.abs(one[0] - other[0]).max(axis=-1) > 0).sum() == 4  # of 16: a quarter is visible


def test_cudnn_is_refused_where_it_cannot_be_had():
    with pytest.raises(ValueError, match=r"attention=cudnn needs an NVIDIA GPU, and the model runs on cpu here"):
        make_model(small(**{"model.attention": "cudnn"}), sharding.make_mesh())


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("task", "vlsa", "config.task is 'vlsa'; choose retrieval | vlsa-pretrain | vlsa-finetune"),
        ("model.activation", "relu", "config.model.activation is 'relu'; choose one of gelu, quick_gelu"),
        ("model.heads", 5, "config.model.width=768 is not a multiple of config.model.heads=5"),
        (
            "model.audio_patch",
            (16, 48),
            "config.model.spectrogram=(256, 256) is not a multiple of config.model.audio_p",
        ),
        ("model.shares", (0.75, 0.0, 0.75), "config.model.shares: 0.0 of text is masked; it must be between 0 and 1"),
        ("loss.pairs", ("text-speech",), "config.loss.pairs has 'text-speech'; write two of video, text, audio"),
        ("loss.pairs", (), "config.loss.pairs is empty"),
        ("loss.matching", -1.0, "config.loss.masked=1.0 and .matching=-1.0"),
        ("evaluation.peak_on_test", True, "config.evaluation.peak_on_test: VLSA's results have no such row"),
        ("model.spectrogram", (128, 256), "config.model.spectrogram=(128, 256): shards hold (256, 256)"),
        ("model.shares", (0.75, 0.15), "config.model.shares=(0.75, 0.15) has not 3 numbers"),
        ("model.initial_scale", 0.0, "config.model.initial_scale=0.0: it must be above 0, and at most "),
        ("model.initial_scale", 101.0, "config.optim.max_logit_scale=100.0"),
        ("cache", "ast", "config.cache=ast: nothing of VLSA is frozen"),
        ("data.resident", True, "config.data.resident: VLSA's frames are chosen anew every time"),
        ("evaluation.pick", "t2s", "config.evaluation.pick is 't2s'; choose one of v2t, v2a, t2v, t2a, a2v, a2t"),
    ],
)
def test_what_cannot_work(setting, value, message):
    config = vlsa_base("vlsa-pretrain")
    config.update_from_flattened_dict({setting: value})
    with pytest.raises(ValueError) as caught:
        resolve(config)
    assert message in str(caught.value)


def test_fine_tuning_has_no_matching_that_could_read_more():
    with pytest.raises(ValueError, match="matching_reads is of pre-training; fine-tuning reads all tokens"):
        small("vlsa-finetune", **{"loss.matching_reads": "all"})


def test_sizes_are_those_of_the_config():
    changed = small(**{"model.width": 48, "model.heads": 3})
    assert dataclasses.replace(vlsa_sizes(small()), width=48, heads=3) == vlsa_sizes(changed)


@pytest.mark.parametrize("changes", [{}, {"model.initial_scale": 3.0}])
def test_the_scale_that_training_begins_with(changes):
    config = small(**changes)
    model = make_model(config, sharding.make_mesh(jax.devices()[:1]))
    params = model.init(jax.random.key(0), model.example(config))["params"]
    np.testing.assert_allclose(np.exp(params["logit_scale"]), changes.get("model.initial_scale", 1 / 0.07), rtol=1e-6)
