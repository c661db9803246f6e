"""Against PyTorch: its files are read as it wrote them; Hugging Face's CLIP and AST of full size agree with ours."""

import argparse
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.places import GOLDEN

from save_jax.config.sizes import AstSizes, ClipSizes
from save_jax.models.ast import AudioTower
from save_jax.models.clip import TextTower, VisionTower, at_end_of_text, normalize_pixels
from save_jax.models.vlsa import Stack, patches
from save_jax.parity import fixtures
from save_jax.weights import command, convert
from save_jax.weights import files as weight_files
from save_jax.weights.rules import RULES
from save_jax.weights.sizes import fit_positions

torch = pytest.importorskip("torch", reason="needs the torch extra")
transformers = pytest.importorskip("transformers")

F32 = jnp.dtype("float32")


@pytest.fixture(scope="module")
def clip() -> dict[str, "torch.Tensor"]:
    """A tiny CLIP's state dict in half precision, as OpenAI publishes them."""
    weights = fixtures.load(GOLDEN / "save_tiny_train.npz").under("w/clip.")
    return {name: torch.tensor(x).half() for name, x in weights.items() if "audio" not in name}


# ---------------------------------------------------------------- files


class Node(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def module_tree(weights: dict) -> torch.nn.Module:
    """Modules whose parameters have these dotted names."""
    root = Node()
    for name, tensor in weights.items():
        *path, leaf = name.split(".")
        node = root
        for part in path:
            if not hasattr(node, part):
                node.add_module(part, Node())
            node = getattr(node, part)
        node.register_parameter(leaf, torch.nn.Parameter(tensor, requires_grad=False))
    return root


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_torchscript_archive_is_read_as_published(clip, tmp_path):
    tree = module_tree(clip)
    for name, size in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 512)):
        tree.register_buffer(name, torch.tensor(size))
    path = str(tmp_path / "tiny.pt")
    torch.jit.script(tree.eval()).save(path)
    found = weight_files.read(path)
    assert found.keys() == clip.keys() | {"input_resolution", "context_length", "vocab_size"}
    for name, tensor in clip.items():
        assert found[name].dtype == np.float16 and found[name].shape == tuple(tensor.shape)
        np.testing.assert_array_equal(found[name], tensor.numpy())
    assert command.main(["--from", path, "--kind", "clip", "--to", str(tmp_path / "params")]) == 0
    assert (
        command.main(["--from", str(tmp_path / "params"), "--kind", "save", "--to", f"{tmp_path}/a.safetensors"]) == 0
    )
    again = weight_files.read(f"{tmp_path}/a.safetensors")
    assert again.keys() == {f"clip.{name}" for name in clip}


def test_state_dicts_of_every_shape_and_type(clip, tmp_path):
    table = torch.arange(24.0).reshape(4, 6)
    weights = {
        "whole": table,
        "view": table[1:3, ::2],
        "turned": table.T,
        "half": table.bfloat16(),
        "n": torch.tensor(3),
    }
    for content in (weights, {"state_dict": weights, "epoch": 4}, {"p": torch.nn.Parameter(table)}):
        torch.save(content, tmp_path / "w.pth")
        found = weight_files.read(str(tmp_path / "w.pth"))
        expected = content.get("state_dict", content)
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            np.testing.assert_array_equal(found[name].astype(np.float32), tensor.detach().float().numpy())


def test_files_from_before_2020_and_whole_models_are_refused(clip, tmp_path):
    torch.save(clip, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="load and save it again with a current PyTorch"):
        weight_files.read(str(tmp_path / "old.bin"))
    torch.save(torch.nn.Linear(2, 3), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"it asks for torch\.nn\.modules\.linear\.Linear, which no weights need"):
        weight_files.read(str(tmp_path / "model.pt"))
    torch.save(clip, tmp_path / "whole.bin")
    content = (tmp_path / "whole.bin").read_bytes()
    (tmp_path / "cut.bin").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="or it is cut short"):
        weight_files.read(str(tmp_path / "cut.bin"))


@pytest.mark.parametrize(("mel", "time"), [(12, 101), (12, 50), (12, 120), (8, 101), (15, 130), (7, 33)])
def test_positions_as_ast_fits_them(mel, time):
    """AST's own lines, on a grid of 12 × 101."""
    table = torch.randn(1214, 24)
    grid = table[2:].T.reshape(1, 24, 12, 101)
    if time < 101:
        grid = grid[:, :, :, 50 - int(time / 2) : 50 - int(time / 2) + time]
    else:
        grid = torch.nn.functional.interpolate(grid, size=(12, time), mode="bilinear")
    if mel < 12:
        grid = grid[:, :, 6 - int(mel / 2) : 6 - int(mel / 2) + mel, :]
    else:
        grid = torch.nn.functional.interpolate(grid, size=(mel, time), mode="bilinear")
    expected = torch.cat([table[:2], grid.reshape(24, -1).T]).numpy()
    np.testing.assert_allclose(fit_positions(table.numpy(), (12, 101), (mel, time)), expected, atol=5e-5)


# ---------------------------------------------------------------- full size


def randomise(model: torch.nn.Module) -> None:
    """Also norms and biases, which start as ones and zeros: a swapped pair would not show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("norm.weight") or "norm1.weight" in name or "norm2.weight" in name:
                parameter.copy_(1 + 0.1 * noise)
            elif parameter.ndim > 1:
                parameter.copy_(noise * (0.7 if "embed" in name else parameter[0].numel() ** -0.5))
            else:
                parameter.copy_(0.1 * noise)


def close(ours: jax.Array, theirs: torch.Tensor) -> None:
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    assert np.abs(np.asarray(ours) - theirs).max() < 1e-4 * np.abs(theirs).max()


def count(params: dict) -> int:
    return sum(x.size for x in jax.tree.leaves(params))


# (vision width, layers, patch, text width, layers, joint width) and the published number of parameters.
CLIPS = {
    "ViT-B/32": ((768, 12, 32, 512, 12, 512), 151_277_313),
    "ViT-B/16": ((768, 12, 16, 512, 12, 512), 149_620_737),
    "ViT-L/14": ((1024, 24, 14, 768, 12, 768), 427_616_513),
}


@pytest.mark.parametrize("name", CLIPS)
def test_clip_of_full_size(name):
    (vision_width, vision_layers, patch, text_width, text_layers, joint), parameters = CLIPS[name]

    def tower(width: int, layers: int, **more: int) -> dict:
        return {
            "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": width // 64,
            "intermediate_size": 4 * width, **more,
        }  # fmt: skip

    config = transformers.CLIPConfig(
        text_config=tower(text_width, text_layers),
        vision_config=tower(vision_width, vision_layers, patch_size=patch, image_size=224),
        projection_dim=joint,
        attn_implementation="eager",
    )
    with torch.device("meta"):
        model = transformers.CLIPModel(config)
    model = model.to_empty(device="cpu").eval()
    randomise(model)
    for tower_model, length in ((model.text_model, 77), (model.vision_model, (224 // patch) ** 2 + 1)):
        tower_model.embeddings.position_ids = torch.arange(length)[None]  # a buffer, which to_empty leaves empty
    done = convert.convert({name: x.numpy() for name, x in model.state_dict().items()}, "hf-clip")
    sizes = ClipSizes(**{field.name: done.model[field.name] for field in dataclasses.fields(ClipSizes)})
    assert sizes == ClipSizes(joint, 64, 224, patch, vision_width, vision_layers, text_width, text_layers, 49408, 77)
    assert count(done.params) == parameters

    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(1, 224, 224, 3)).astype(np.float32)
    ids = np.array([[49406, *rng.integers(1, 40000, 9), 49407, 0, 0]])
    with torch.no_grad():
        image = model.get_image_features(torch.tensor(pixels).permute(0, 3, 1, 2))
        text = model.get_text_features(torch.tensor(ids))
    image, text = (x if isinstance(x, torch.Tensor) else x.pooler_output for x in (image, text))
    params = jax.tree.map(jnp.asarray, done.params)
    close(VisionTower(sizes, F32).apply({"params": params["vision"]}, jnp.asarray(pixels)), image)
    tokens = TextTower(sizes, F32).apply({"params": params["text"]}, jnp.asarray(ids))
    close(at_end_of_text(tokens, jnp.asarray(ids)), text)

    names = convert.to_official(done.params, RULES["clip"])
    assert names["visual.conv1.weight"].shape == (vision_width, 3, patch, patch)
    assert names["text_projection"].shape == (text_width, joint) and names["logit_scale"].shape == ()
    again = convert.convert(names, "clip")
    assert jax.tree.all(jax.tree.map(np.array_equal, again.params, done.params))


def test_ast_of_full_size(tmp_path):
    # timm's epsilon, which the authors' code has; Hugging Face's default is 1e-12.
    config = transformers.ASTConfig(layer_norm_eps=1e-6, attn_implementation="eager")
    model = transformers.ASTForAudioClassification(config).eval()
    randomise(model)
    model.save_pretrained(tmp_path)
    done = convert.convert(weight_files.read(str(tmp_path / "model.safetensors")), "hf-ast")
    assert len(done.ignored) == 4 and done.model["ast_heads"] == 12
    assert count(done.params) == 86_187_264
    assert done.params["ast"]["position_embedding"].shape == (1214, 768)

    fbank = np.random.default_rng(0).normal(size=(1, 1024, 128)).astype(np.float32)
    with torch.no_grad():
        tokens = model.audio_spectrogram_transformer(torch.tensor(fbank)).last_hidden_state
    ours = AudioTower(AstSizes(768, 12, 12, (16, 16), (10, 10)), F32).apply(
        {"params": jax.tree.map(jnp.asarray, done.params["ast"])}, jnp.asarray(fbank)
    )
    assert ours.shape == (1, 1213, 768)
    close(ours[:, 1:], tokens[:, 2:])
    # AST averages its two tokens before the last norm, Hugging Face after it; the official names go in as well.
    names = convert.to_official(done.params, RULES["ast"])
    assert (
        names["module.v.pos_embed"].shape == (1, 1214, 768) and names["module.v.blocks.11.attn.qkv.bias"].size == 2304
    )
    again = convert.convert(names, "ast")
    assert jax.tree.all(jax.tree.map(np.array_equal, again.params, done.params))


# ---------------------------------------------------------------- MAE


class MaeBlock(torch.nn.Module):
    """timm's pre-norm block, under its names."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (torch.nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.attn = torch.nn.ModuleDict(
            {"qkv": torch.nn.Linear(width, 3 * width), "proj": torch.nn.Linear(width, width)}
        )
        fc1, fc2 = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)
        self.mlp = torch.nn.ModuleDict({"fc1": fc1, "fc2": fc2})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, width = x.shape
        q, k, v = self.attn["qkv"](self.norm1(x)).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(dim=-1)
        x = x + self.attn["proj"]((weights @ v).transpose(1, 2).reshape(b, n, width))
        return x + self.mlp["fc2"](torch.nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))


class MaeEncoder(torch.nn.Module):
    """MAE's encoder with nothing hidden and, as VLSA's, without the class token that it still has in its files."""

    def __init__(self, width: int, heads: int, layers: int, places: int, patch: int):
        super().__init__()
        self.cls_token = torch.nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = torch.nn.Parameter(torch.zeros(1, 1 + places, width))
        self.patch_embed = torch.nn.ModuleDict({"proj": torch.nn.Conv2d(3, width, patch, patch)})
        self.blocks = torch.nn.ModuleList(MaeBlock(width, heads) for _ in range(layers))
        self.norm = torch.nn.LayerNorm(width, eps=1e-6)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed["proj"](pictures).flatten(2).transpose(1, 2) + self.pos_embed[:, 1:]
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def test_maes_encoder_from_a_picture_to_its_tokens(tmp_path):
    """Each reads the picture as it is used to: MAE with ImageNet's mean and deviation, we with CLIP's."""
    theirs = MaeEncoder(width=128, heads=2, layers=2, places=6 * 6, patch=4).eval()
    randomise(theirs)
    settings = argparse.Namespace(model="mae_vit_tiny", lr=1e-3)
    torch.save({"model": theirs.state_dict(), "epoch": 3, "args": settings}, tmp_path / "mae.pth")
    done = convert.convert(weight_files.read(str(tmp_path / "mae.pth")), "mae-vlsa")
    sizes = {"width": 128, "layers": 2, "heads": 2, "patch_size": 4, "image_size": 24, "activation": "gelu"}
    assert done.model == sizes and done.ignored.keys() == {"cls_token"}

    frames = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), np.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = theirs(((torch.tensor(frames) / 255 - mean) / std).permute(0, 3, 1, 2))
    params = jax.tree.map(jnp.asarray, done.params)
    projection = params["video_projection"]
    cut = patches(normalize_pixels(jnp.asarray(frames), F32), (4, 4))
    x = cut @ projection["kernel"] + projection["bias"] + params["place_position"]
    stack = Stack(128, 2, 2, done.model["activation"], F32, "none", "xla")
    ours = stack.apply({"params": params["encoder"]}, x, jnp.ones(x.shape[:2], bool))
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-5 * float(expected.abs().max()))
