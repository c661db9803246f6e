"""Against PyTorch: weights of another activation and of other heads compute here what they compute there."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from save_jax.config import model_sizes
from save_jax.models.ast import AudioTower
from save_jax.models.clip import TextTower, VisionTower, at_end_of_text
from save_jax.weights import command, description, loading
from save_jax.weights.sizes import config_for

torch = pytest.importorskip("torch", reason="needs the torch extra")
transformers = pytest.importorskip("transformers")

F32 = jnp.dtype("float32")


def converted(model, kind: str, folder, *options: str):
    """(sizes, parameters) after the command, from what `save_pretrained` wrote."""
    model.save_pretrained(folder)
    arguments = ["--from", f"{folder}/model.safetensors", "--kind", kind, "--to", f"{folder}/ours", *options]
    assert command.main(arguments) == 0
    path = folder / "ours" / description.NAME
    model = json.loads(path.read_text())["config"]["model"] if path.exists() else {}
    return model, jax.tree.map(jnp.asarray, loading.read_params(str(folder / "ours")))


def close(ours, theirs) -> None:
    theirs = theirs.numpy()
    np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())


@pytest.mark.parametrize(("act", "heads"), [("gelu", 4), ("quick_gelu", 2), ("gelu", 1)])
def test_clip_of_another_activation_and_other_heads(act, heads, tmp_path):
    tower = {
        "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "hidden_act": act,
        "num_attention_heads": heads, "projection_dim": 64, "initializer_factor": 4.0,
    }  # fmt: skip
    text = tower | {"vocab_size": 128, "eos_token_id": 127, "bos_token_id": 126, "max_position_embeddings": 16}
    config = transformers.CLIPConfig(
        text_config=text, vision_config=tower | {"image_size": 32, "patch_size": 16}, projection_dim=64
    )
    torch.manual_seed(0)
    theirs = transformers.CLIPModel(config).eval()
    model, params = converted(theirs, "hf-clip", tmp_path)
    assert (model["activation"], model["head_dim"]) == (act, 64 // heads)
    pixels = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    ids = np.array([[126, 5, 9, 127, 0], [126, 7, 127, 0, 0]])
    with torch.no_grad():
        image = theirs.get_image_features(torch.tensor(pixels).permute(0, 3, 1, 2))
        words = theirs.get_text_features(torch.tensor(ids))
    image, words = (x if isinstance(x, torch.Tensor) else x.pooler_output for x in (image, words))
    sizes = model_sizes(config_for(model, max_words=8, max_frames=1)).clip
    close(VisionTower(sizes, F32).apply({"params": params["vision"]}, jnp.asarray(pixels)), image)
    tokens = TextTower(sizes, F32).apply({"params": params["text"]}, jnp.asarray(ids))
    close(at_end_of_text(tokens, jnp.asarray(ids)), words)


def test_ast_with_its_own_strides_heads_and_epsilon(tmp_path):
    config = transformers.ASTConfig(
        hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, frequency_stride=16,
        time_stride=16, max_length=1024, initializer_range=0.02,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.ASTForAudioClassification(config).eval()
    model, params = converted(theirs, "hf-ast", tmp_path)
    assert (model["ast_heads"], model["ast_stride"], model["ast_epsilon"]) == (4, [16, 16], 1e-12)
    fbank = np.random.default_rng(0).normal(size=(1, 1024, 128)).astype(np.float32)
    with torch.no_grad():
        tokens = theirs.audio_spectrogram_transformer(torch.tensor(fbank)).last_hidden_state
    sizes = model_sizes(config_for(model, max_words=8, max_frames=1)).ast
    ours = AudioTower(sizes, F32).apply({"params": params["ast"]}, jnp.asarray(fbank))
    close(ours[:, 1:], tokens[:, 2:])
