"""Weights into VLSA from MAE and CLIP, and out of it into SAVE's audio tower."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from helpers.places import GOLDEN

from save_jax.config import vlsa_base
from save_jax.config.sizes import AstSizes, VlsaSizes
from save_jax.data.files import write_json
from save_jax.models.ast import AudioTower
from save_jax.models.vlsa import Stack, Vlsa, patches
from save_jax.parity import fixtures
from save_jax.weights import checkpoint, command, convert, loading
from save_jax.weights import files as weight_files
from save_jax.weights.rules import RULES

F32 = jnp.dtype("float32")
# As MAE's own decoder is narrower than its encoder; widths and counts all differ, so that a swapped pair shows.
TINY = VlsaSizes(
    width=64, layers=2, heads=1, decoder_width=32, decoder_layers=3, decoder_heads=1, image_size=12, patch_size=4,
    frames=2, words=5, vocab_size=11, spectrogram=(16, 32), audio_patch=(8, 8), shares=(0.75, 0.15, 0.75),
    activation="gelu", normalize_patches=True, drop_hidden=True,
)  # fmt: skip


def vit(prefix: str, norm: str, width: int, layers: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of timm's blocks, as MAE has them."""
    shapes = {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    for layer in range(layers):
        for name, out, into in (
            ("attn.qkv", 3 * width, width), ("attn.proj", width, width),
            ("mlp.fc1", 4 * width, width), ("mlp.fc2", width, 4 * width),
        ):  # fmt: skip
            shapes |= {f"{prefix}.{layer}.{name}.weight": (out, into), f"{prefix}.{layer}.{name}.bias": (out,)}
        for name in ("norm1", "norm2"):
            shapes |= {f"{prefix}.{layer}.{name}.{part}": (width,) for part in ("weight", "bias")}
    return shapes


def mae_shapes(s: VlsaSizes, decoder: bool) -> dict[str, tuple[int, ...]]:
    """As models_mae.py of facebookresearch/mae names and shapes them."""
    places, d = 1 + (s.image_size // s.patch_size) ** 2, s.decoder_width
    shapes = {"cls_token": (1, 1, s.width), "pos_embed": (1, places, s.width)}
    shapes |= {"patch_embed.proj.weight": (s.width, 3, s.patch_size, s.patch_size), "patch_embed.proj.bias": (s.width,)}
    shapes |= vit("blocks", "norm", s.width, s.layers)
    if decoder:
        shapes |= {"mask_token": (1, 1, d), "decoder_pos_embed": (1, places, d)}
        shapes |= {"decoder_embed.weight": (d, s.width), "decoder_embed.bias": (d,)}
        shapes |= vit("decoder_blocks", "decoder_norm", d, s.decoder_layers)
        shapes |= {"decoder_pred.weight": (3 * s.patch_size**2, d), "decoder_pred.bias": (3 * s.patch_size**2,)}
    return shapes


def made(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def mae() -> dict[str, np.ndarray]:
    return made(mae_shapes(TINY, decoder=True))


@pytest.fixture(scope="module")
def vlsa_params() -> dict:
    """Of a VLSA whose every number is random: zeros would hide a forgotten bias."""
    model = Vlsa(TINY, F32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), model.example(None))["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: (0.1 * rng.normal(size=x.shape)).astype(np.float32), shapes)


def modules(params: dict) -> dict:
    return {name: jax.tree.map(np.shape, module) for name, module in params.items()}


# ---------------------------------------------------------------- MAE


def test_mae_of_full_width_fits_the_default_config():
    settings = vlsa_base("vlsa-pretrain").model.to_dict() | {"frames": 8, "words": 40, "layers": 2, "decoder_layers": 1}
    base = VlsaSizes(**{field: settings[field] for field in VlsaSizes.__dataclass_fields__})
    shapes = mae_shapes(base, decoder=True)
    assert shapes["patch_embed.proj.weight"] == (768, 3, 16, 16) and shapes["pos_embed"] == (1, 197, 768)
    assert shapes["decoder_blocks.0.mlp.fc1.weight"] == (2048, 512) and base.decoder_heads == 16
    done = convert.convert({name: np.zeros(shape, np.float16) for name, shape in shapes.items()}, "mae-vlsa")
    assert done.model == {name: getattr(base, name) for name in done.model}
    assert {"width", "heads", "layers", "decoder_heads", "image_size", "patch_size", "activation"} < done.model.keys()
    model = Vlsa(base, F32)
    ours = jax.eval_shape(model.init, jax.random.key(0), model.example(None))["params"]
    assert modules(done.params) == modules({name: ours[name] for name in done.params})


def test_what_mae_gives_and_what_stays_new(mae):
    done = convert.convert(mae, "mae-vlsa")
    assert done.params.keys() == {
        "encoder", "video_projection", "place_position", "decoder", "decoder_input", "hidden_token",
    }  # fmt: skip
    assert done.ignored.keys() == {"cls_token", "decoder_pos_embed", "decoder_pred.weight", "decoder_pred.bias"}
    assert done.ignored["cls_token"] == "VLSA's encoder has no class token"
    assert {"word_embedding", "audio_projection/kernel", "heads_video/bias", "frame_position"} <= set(done.new)
    assert not {"decoder", "encoder", "hidden_token"} & {name.split("/")[0] for name in done.new}
    np.testing.assert_array_equal(done.params["place_position"], mae["pos_embed"][0, 1:])
    np.testing.assert_array_equal(done.params["hidden_token"], mae["mask_token"][0, 0])
    stacked = mae["decoder_blocks.2.attn.qkv.weight"]
    np.testing.assert_array_equal(done.params["decoder"]["block_2"]["attention"]["value"]["kernel"], stacked[64:].T)

    published = convert.convert({name: mae[name] for name in mae_shapes(TINY, decoder=False)}, "mae-vlsa")
    assert published.params.keys() == {"encoder", "video_projection", "place_position"}
    assert {"hidden_token", "decoder/ln_final/scale", "decoder_input/kernel"} <= set(published.new)
    assert "decoder_width" not in published.model
    assert jax.tree.all(jax.tree.map(np.array_equal, published.params, {k: done.params[k] for k in published.params}))


def test_a_picture_looks_to_us_as_it_looks_to_mae(mae, vlsa_params):
    frames = np.random.default_rng(2).integers(0, 256, (1, 2, 12, 12, 3), np.uint8)
    pixels = (frames[0] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    grid = pixels.reshape(2, 3, 4, 3, 4, 3)  # frame, row of patches, row, column of patches, column, channel
    expected = np.einsum("trhswc,dchw->trsd", grid, mae["patch_embed.proj.weight"]) + mae["patch_embed.proj.bias"]
    params = convert.convert(mae, "mae-vlsa").params
    raw, _ = Vlsa(TINY, F32).raw({"frames": jnp.asarray(frames), "frame_mask": jnp.ones((1, 2), bool)}, ("video",))[
        "video"
    ]
    ours = Vlsa(TINY, F32).apply({"params": vlsa_params | params}, "video", raw, method="look")
    np.testing.assert_allclose(ours[0], expected.reshape(18, 64), atol=1e-5 * np.abs(expected).max())


def test_all_problems_of_mae_come_in_one_message(mae):
    broken = {name: x for name, x in mae.items() if name not in ("mask_token", "patch_embed.proj.bias")}
    broken |= {"head.weight": np.ones((10, 64)), "blocks.1.norm2.bias": np.full(64, np.inf)}
    broken["decoder_norm.bias"] = np.ones(31)
    with pytest.raises(ValueError) as caught:
        convert.convert(broken, "mae-vlsa")
    for line in (
        "head.weight: unknown, no rule takes it",
        "blocks.1.norm2.bias: holds NaN or infinity",
        "hidden_token: nothing in the source fills it",
        "video_projection/bias: nothing in the source fills it",
        "decoder/ln_final/bias: shape [31] in the source, [32] in the model",
    ):
        assert line in str(caught.value)
    with pytest.raises(ValueError, match=r"place_position: 7 rows are not 1 times a square"):
        convert.convert(mae | {"pos_embed": np.ones((1, 8, 64))}, "mae-vlsa")
    with pytest.raises(ValueError, match=r"cannot be what video_projection/kernel comes from"):
        convert.convert(mae | {"patch_embed.proj.weight": np.ones((64, 48))}, "mae-vlsa")


def test_a_model_starts_from_what_the_command_wrote(mae, vlsa_params, tmp_path, capsys):
    source, folder = str(tmp_path / "mae.safetensors"), str(tmp_path / "mae")
    weight_files.write(source, mae)
    arguments = ["--from", source, "--kind", "mae-vlsa", "--to", folder]
    assert command.main(arguments) == 1 and "do not say heads" in capsys.readouterr().err
    assert command.main([*arguments, "--heads", "1,1"]) == 0
    out = capsys.readouterr().out
    assert "--config.model.decoder_width=32" in out and "--config.model.activation=gelu" in out
    assert "new, not in this kind of file: audio_projection, decoder_position, frame_position" in out
    loaded = loading.load_modules(folder, like=jax.tree.map(jnp.asarray, vlsa_params))
    assert modules(loaded) == modules({name: vlsa_params[name] for name in loaded}) and len(loaded) == 6
    assert command.main(["--from", folder, "--kind", "mae-vlsa", "--to", str(tmp_path / "b.safetensors")]) == 1
    assert "go one way" in capsys.readouterr().err


# ---------------------------------------------------------------- CLIP


def test_clips_picture_tower_starts_a_vlsa():
    official = fixtures.load(GOLDEN / "save_tiny_train.npz").under("w/")
    clip = {k.removeprefix("clip."): x for k, x in official.items() if k.startswith("clip.") and "audio" not in k}
    done, usual = convert.convert(clip, "clip-vlsa"), convert.convert(clip, "clip").params["vision"]
    assert done.params.keys() == {"encoder", "video_projection", "place_position"}
    assert done.model["activation"] == "quick_gelu" and done.model["heads"] == 2 and done.model["layers"] == 2
    same = {name: usual[name] for name in usual if name.startswith("block")} | {"ln_final": usual["ln_post"]}
    assert jax.tree.all(jax.tree.map(np.array_equal, done.params["encoder"], same))
    np.testing.assert_array_equal(done.params["place_position"], usual["position_embedding"][1:])
    kernel = usual["patch_embedding"]["kernel"]
    picture = np.random.default_rng(0).normal(size=(1, *kernel.shape[:3])).astype(np.float32)
    seen = patches(jnp.asarray(picture), kernel.shape[:2]) @ done.params["video_projection"]["kernel"]
    np.testing.assert_allclose(seen[0, 0], np.einsum("hwc,hwcd->d", picture[0], kernel), rtol=1e-4, atol=1e-5)
    assert not done.params["video_projection"]["bias"].any()
    for name in ("visual.ln_pre.weight", "visual.class_embedding", "visual.proj", "ln_final.bias", "logit_scale"):
        assert done.ignored[name], name


# ---------------------------------------------------------------- into SAVE's audio tower

SOUND = {"fbank": (32, 16), "ast_patch": (8, 8), "ast_stride": (8, 8), "mel_bins": 16}  # 2 × 4 patches, as TINY's
HEARD = {"heads": 4, "audio_patch": [8, 8]}


def test_the_audio_tower_computes_what_the_encoder_does(vlsa_params):
    done = convert.convert(flatten_dict(vlsa_params, sep="/"), "vlsa-ast", **SOUND, vlsa=HEARD)
    assert done.new == ["ast/class_token", "ast/distillation_token", "ast/position_embedding (of its two tokens)"]
    assert done.model["ast_heads"] == 4 and done.model["ast_layers"] == 2 and done.params.keys() == {"ast"}
    ast = done.params["ast"]
    assert all(np.abs(x).max() > 0 for x in (ast["class_token"], ast["position_embedding"][:2]))
    spectrogram = np.random.default_rng(3).normal(size=(1, 16, 32)).astype(np.float32)  # frequency by time

    def embedded(model: Vlsa) -> jax.Array:
        raw, _ = model.raw({"spectrogram": jnp.asarray(spectrogram), "has_audio": jnp.ones(1, bool)}, ("audio",))[
            "audio"
        ]
        return model.look("audio", raw) + model.position("audio")

    @jax.jit
    def both() -> tuple[jax.Array, jax.Array]:
        tokens = Vlsa(TINY, F32).apply({"params": vlsa_params}, method=embedded)
        two = jnp.concatenate([ast["class_token"], ast["distillation_token"]], axis=1) + ast["position_embedding"][:2]
        x = jnp.concatenate([two, tokens], axis=1)
        stack = Stack(64, 2, 4, "gelu", F32, "none", "xla")
        tower = AudioTower(AstSizes(64, 2, 4, (8, 8), (8, 8)), F32)
        ours = tower.apply({"params": ast}, jnp.swapaxes(jnp.asarray(spectrogram), 1, 2))
        return ours, stack.apply({"params": vlsa_params["encoder"]}, x, jnp.ones(x.shape[:2], bool))

    ours, expected = both()
    np.testing.assert_allclose(ours[:, 1:], expected[:, 2:], atol=1e-5)


def test_what_does_not_fit_starts_as_ast_does(vlsa_params):
    flat = flatten_dict(vlsa_params, sep="/")
    patch_is_new = {"ast/patch_embedding/kernel", "ast/patch_embedding/bias"}
    other = convert.convert(flat, "vlsa-ast", **SOUND, vlsa=HEARD | {"audio_patch": [4, 16]})
    assert patch_is_new < set(other.new) and other.params["ast"]["patch_embedding"]["kernel"].shape == (8, 8, 1, 64)
    longer = convert.convert(flat, "vlsa-ast", **(SOUND | {"fbank": (48, 16)}), vlsa=HEARD)
    assert "ast/position_embedding" in longer.new and not patch_is_new & set(longer.new)
    assert longer.params["ast"]["position_embedding"].shape == (2 + 2 * 6, 64)
    with pytest.raises(
        ValueError, match=r"(?s)poetry: unknown, no rule.*ast/norm/scale: nothing in the source fills it"
    ):
        convert.convert({k: x for k, x in flat.items() if k != "encoder/ln_final/scale"} | {"poetry": 1}, "vlsa-ast")


def test_a_run_tells_its_heads(vlsa_params, tmp_path, capsys, caplog):
    checkpoints = checkpoint.Checkpoints(str(tmp_path / "run"))
    checkpoints.save(3, jax.tree.map(jnp.asarray, vlsa_params), {"count": jnp.zeros(1)}, {}, {checkpoint.METRIC: 1.0})
    checkpoints.close()
    write_json(str(tmp_path / "run" / "config.json"), {"model": HEARD})
    arguments = ["--kind", "vlsa-ast", "--frames", "32", "--ast-patch", "8,8", "--ast-stride", "128,8"]
    assert command.main(["--from", str(tmp_path / "run"), "--to", str(tmp_path / "ast"), *arguments]) == 0
    assert not caplog.records  # Orbax warns of how our checkpoints are laid out
    out = capsys.readouterr().out
    assert "--config.model.ast_heads=4" in out and "ast_stride=(128, 8)" in out
    assert "new, not in this kind of file: ast/class_token" in out and "ast/position_embedding" in out
    assert loading.read_params(str(tmp_path / "ast"))["ast"]["position_embedding"].shape == (2 + 4, 64)
    assert command.main(["--from", str(tmp_path / "none"), "--to", str(tmp_path / "no"), *arguments]) == 1
    assert "is no folder; kind vlsa-ast is made of a VLSA's workdir" in capsys.readouterr().err


def test_rules_know_every_parameter_of_a_vlsa(vlsa_params):
    """A parameter added to the model has to be said here, or the way to SAVE ends at it."""
    _, _, problems = convert.apply_rules(flatten_dict(vlsa_params, sep="/"), RULES["vlsa-ast"])
    assert problems == []
