"""Weights in and out: every name is accounted for, nothing is executed, and what is converted can start a training."""

import io
import os
import pickle
import zipfile

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from helpers.places import GOLDEN
from safetensors.numpy import load_file

from save_jax import sharding
from save_jax.config import model_sizes, resolve
from save_jax.models.retrieval import Retrieval, start_from_text_tower
from save_jax.parity import fixtures
from save_jax.training import optim, state
from save_jax.weights import command, convert, loading
from save_jax.weights import files as weight_files
from save_jax.weights.rules import RULES
from save_jax.weights.sizes import fit_positions


@pytest.fixture(scope="module")
def official() -> dict[str, np.ndarray]:
    """The state dict of a tiny official SAVE model."""
    return fixtures.load(GOLDEN / "save_tiny_train.npz").under("w/")


@pytest.fixture(scope="module")
def clip(official) -> dict[str, np.ndarray]:
    """Its CLIP part as OpenAI names it, with the sizes that OpenAI's archives carry."""
    found = {k.removeprefix("clip."): x for k, x in official.items() if k.startswith("clip.") and "audio" not in k}
    return found | {name: np.array(9) for name in ("input_resolution", "context_length", "vocab_size")}


@pytest.fixture(scope="module")
def ast(official) -> dict[str, np.ndarray]:
    """Its AST part as AST's checkpoints name it, with their classifier."""
    found = {k.replace("clip.audio.", "module."): x for k, x in official.items() if k.startswith("clip.audio.v.")}
    return found | {"module.mlp_head.0.weight": np.ones(64), "module.mlp_head.1.bias": np.ones(527)}


def as_avigate(official: dict) -> dict:
    renamed = {name.replace("Audio_Resampler", "transformer_Fusion"): x for name, x in official.items()}
    return {name: x for name, x in renamed.items() if "ASR" not in name and name != "asr_query_tokens"}


HEADS = {f"clip.audio.v.{head}.{part}" for head in ("head", "head_dist") for part in ("weight", "bias")}


@pytest.mark.parametrize("kind", ["save", "avigate"])
def test_official_weights_come_back_bit_by_bit(official, kind):
    source = official if kind == "save" else as_avigate(official)
    done = convert.convert(source, kind)
    assert done.ignored.keys() == HEADS | ({"asr_query_tokens"} if kind == "save" else set())
    assert done.new == [] and all(done.ignored.values())
    back = convert.to_official(done.params, RULES[kind])
    assert back.keys() == source.keys() - done.ignored.keys()
    for name, array in back.items():
        assert array.shape == source[name].shape, name
        np.testing.assert_array_equal(array, source[name], err_msg=name)


def test_layouts_by_hand(official):
    """One weight of each layout, checked against what the PyTorch layer means."""
    params = flatten_dict(convert.convert(official, "save").params, sep="/")
    stacked = official[
        "clip.transformer.resblocks.1.attn.in_proj_weight"
    ]  # query rows, then key, then value; (out, in)
    np.testing.assert_array_equal(params["text/block_1/attention/key/kernel"], stacked[128:256].T)
    bias = official["clip.transformer.resblocks.1.attn.in_proj_bias"]
    np.testing.assert_array_equal(params["text/block_1/attention/value/bias"], bias[256:])
    kernel = official["clip.visual.conv1.weight"]  # (out, in, height, width)
    assert params["vision/patch_embedding/kernel"][3, 5, 1, 7] == kernel[7, 1, 3, 5]
    np.testing.assert_array_equal(params["resampler/query_tokens"][4], official["query_tokens"][:, 4])


def test_half_precision_becomes_float32(clip):
    done = convert.convert({name: x.astype(np.float16) for name, x in clip.items()}, "clip")
    assert {x.dtype for x in jax.tree.leaves(done.params)} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(done.params["vision"]["projection"], clip["visual.proj"].astype(np.float16))
    assert done.new == ["frame_position_embedding"] and done.model["branches"] == "vision"


def test_all_problems_come_in_one_message(official):
    source = dict(official)
    del source["clip.visual.conv1.weight"], source["transformerClip.resblocks.1.ln_4.bias"]
    source["clip.transfomer.resblocks.0.ln_1.bias"] = np.zeros(128)  # misspelt
    source["clip.ln_final.bias"] = np.full(128, np.nan)
    source["query_tokens"] = source["query_tokens"].T[None]
    with pytest.raises(ValueError) as caught:
        convert.convert(source, "save")
    for line in (
        "clip.transfomer.resblocks.0.ln_1.bias: unknown, no rule takes it",
        "clip.ln_final.bias: holds NaN or infinity",
        "audio_fusion/block_1/ln_4/bias: nothing in the source fills it",
        "vision/patch_embedding/kernel: nothing in the source fills it",
        "patch_size cannot be told",
    ):
        assert line in str(caught.value)
    source["clip.visual.conv1.weight"] = official["clip.visual.conv1.weight"]
    with pytest.raises(ValueError, match=r"resampler/query_tokens: shape \[128, 12, 1\] in the source, \[12, 128\]"):
        convert.convert(source, "save")


def test_another_kind_is_refused_with_what_does_not_fit(official):
    with pytest.raises(ValueError, match=r"transformerClip_ASR\.resblocks\.0\.\S+: unknown, no rule takes it"):
        convert.convert(official, "avigate")
    with pytest.raises(ValueError, match="speech_fusion/block_0/ln_1/bias: nothing in the source fills it"):
        convert.convert(as_avigate(official), "save")


def test_no_name_matches_two_rules():
    for kind, rules in RULES.items():
        examples = {rule.source.replace("{i}", "3"): np.zeros((3, 3, 3, 3)) for rule in rules}
        assert len(examples) == len(rules), kind
        _, _, problems = convert.apply_rules(examples, rules)
        assert not [line for line in problems if "rules" in line], kind


def test_parameters_without_a_name_there_are_refused(official):
    params = convert.convert(official, "save").params
    with pytest.raises(ValueError, match=r"(?s)parameters have no name there:.*speech_fusion/block_0"):
        convert.to_official(params, RULES["avigate"])
    del params["text"]["block_0"]["attention"]["key"]
    with pytest.raises(ValueError, match=r"(?s)4 parameters have no name there:.*text/block_0/attention/query/bias"):
        convert.to_official(params, RULES["save"])


# ---------------------------------------------------------------- AST's positions


def test_positions_are_cut_from_the_middle_or_interpolated():
    table = np.arange(2 + 3 * 5, dtype=np.float32)[:, None]
    grid = np.arange(2, 17, dtype=np.float32).reshape(3, 5)

    def fitted(mel: int, time: int) -> np.ndarray:
        found = fit_positions(table, (3, 5), (mel, time))
        np.testing.assert_array_equal(found[:2, 0], [0, 1])
        return found[2:, 0].reshape(mel, time)

    np.testing.assert_array_equal(fitted(3, 5), grid)
    np.testing.assert_array_equal(fitted(3, 2), grid[:, 1:3])  # from 5 // 2 - 2 // 2, as AST has it
    np.testing.assert_array_equal(fitted(1, 5), grid[1:2])
    np.testing.assert_allclose(fitted(3, 10)[0], [2, 2.25, 2.75, 3.25, 3.75, 4.25, 4.75, 5.25, 5.75, 6])


def test_ast_for_another_length(ast):
    done = convert.convert(ast, "ast")
    assert done.params.keys() == {"ast"} and {"module.mlp_head.0.weight", "module.v.head.bias"} <= done.ignored.keys()
    shorter = convert.convert(ast, "ast", fbank=(64, 128))
    table = done.params["ast"]["position_embedding"]  # 12 mel × 12 time patches
    cut = table[2:].reshape(12, 12, -1)[:, 4:9].reshape(60, -1)  # 6 - 5 // 2, five patches
    np.testing.assert_array_equal(shorter.params["ast"]["position_embedding"], np.concatenate([table[:2], cut]))
    longer = convert.convert(ast, "ast", fbank=(1024, 128))
    assert longer.params["ast"]["position_embedding"].shape == (1214, 64)


# ---------------------------------------------------------------- files


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def archive(path, content: bytes) -> str:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", content)
    return str(path)


def test_nothing_pickled_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"evil\.pt is refused: it asks for \w+\.system, which no weights need"):
        weight_files.read(archive(tmp_path / "evil.pt", pickle.dumps({"a": Evil()})))
    assert not (tmp_path / "executed").exists()


def test_files_that_are_no_weights(tmp_path):
    (tmp_path / "a.pt").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as file:
        file.writestr("readme.txt", "hello")
    for name, match in (
        ("none.pt", "no weight file at"),
        ("a.pt", "neither safetensors nor a zip archive of PyTorch"),
        ("a.safetensors", "damaged or no safetensors file"),
        ("zip.pt", "it holds no weights"),
    ):
        with pytest.raises(ValueError, match=match):
            weight_files.read(str(tmp_path / name))
    buffer = io.BytesIO()
    pickle.Pickler(buffer).dump({"a": 1, "b": {"c": [1.0]}})
    assert weight_files.read(archive(tmp_path / "empty.pt", buffer.getvalue())) == {}


def test_the_command_goes_there_and_back(official, tmp_path, capsys):
    source, folder, back = tmp_path / "save.safetensors", tmp_path / "save", tmp_path / "back.safetensors"
    weight_files.write(str(source), official)
    assert command.main(["--from", str(source), "--kind", "save", "--to", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "ignored asr_query_tokens: the reference creates them and never uses them" in out
    assert "--config.model.vision_width=128" in out
    assert command.main(["--from", str(folder), "--kind", "save", "--to", str(back)]) == 0
    found = load_file(str(back))
    assert found.keys() == official.keys() - HEADS - {"asr_query_tokens"}
    assert all(np.array_equal(found[name], official[name]) for name in found)
    for number, (kind, code) in enumerate((("save", 0), ("avigate", 1), ("clip", 1), ("clip-vlsa", 1))):
        arguments = ["--from", str(folder), "--kind", kind, "--to", str(tmp_path / f"again{number}")]
        assert command.main(arguments) == code and (tmp_path / f"again{number}").exists() == (code == 0)
        said = capsys.readouterr().err
        assert code == 0 or "have no name there" in said or "holds parameters of ours" in said
    assert command.main(["--from", str(source), "--kind", "save", "--to", str(folder)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert command.main(["--from", str(source), "--kind", "clip", "--to", str(tmp_path / "no")]) == 1
    assert "problems with weights of kind 'clip'" in capsys.readouterr().err and not (tmp_path / "no").exists()


# ---------------------------------------------------------------- starting a training from converted weights


@pytest.fixture
def save_config(config):
    """A SAVE model around the tiny CLIP and AST, for fbank pictures of the usual size."""
    config = config.copy_and_resolve_references().unlock()
    config.model.update({
        "embed_dim": 128, "head_dim": 64, "patch_size": 16, "vision_width": 128, "vision_layers": 2, "text_width": 128,
        "text_layers": 2, "vocab_size": 512, "context_length": 77, "ast_width": 64, "ast_layers": 2,
        "ast_patch": (16, 16), "ast_stride": (10, 10), "fusion_layers": 3,
    })  # fmt: skip
    return resolve(config)


def created(config, init_from: str = "") -> dict:
    config = config.copy_and_resolve_references().unlock()
    config.init_from = init_from
    optimizer = optim.make_optimizer(config.optim, 10)
    mesh = sharding.make_mesh(jax.devices()[:1])
    return jax.device_get(state.start(Retrieval(model_sizes(config)), optimizer, config, mesh).params)


def equal(one, other) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


def test_clip_and_ast_start_a_save_model(save_config, clip, ast, tmp_path, capsys):
    towers = convert.convert(clip, "clip").params
    audio = convert.convert(ast, "ast", fbank=(1024, 128)).params
    loading.save_params(str(tmp_path / "clip"), towers)
    loading.save_params(str(tmp_path / "ast"), audio)
    params = created(save_config, f"{tmp_path}/clip,{tmp_path}/ast")
    out = capsys.readouterr().out
    assert f"from {tmp_path}/clip: logit_scale, text, vision" in out and f"from {tmp_path}/ast: ast" in out
    assert "new: audio_fusion, audio_projection, frame_position_embedding, resampler, speech_fusion" in out
    assert equal({k: params[k] for k in towers}, towers) and equal(params["ast"], audio["ast"])
    # Everything new that CLIP's text tower can start does start from it, and the third fusion layer has nothing to.
    np.testing.assert_array_equal(params["frame_position_embedding"], towers["text"]["position_embedding"])
    for module in ("resampler", "audio_fusion", "speech_fusion"):
        for block, layer in params[module].items():
            if not block.startswith("block"):
                continue
            for part in layer:
                if part in ("attention", "ln_1", "ln_2", "mlp") and block != "block_2":
                    assert equal(layer[part], towers["text"][block][part]), (module, block, part)
                else:  # as initialised: norms do nothing, the rest is random and small
                    largest = {name: np.abs(x).max() for name, x in flatten_dict(layer[part], sep="/").items()}
                    assert all((value > 0) == ("bias" not in name) for name, value in largest.items()), largest
                    assert largest.get("scale", 1) == 1 and max(largest.values()) <= 1


def test_what_a_checkpoint_holds_is_not_started_anew(save_config, official, tmp_path):
    params = convert.convert(official, "save").params
    kept = start_from_text_tower(params, keep=params.keys())
    assert equal(kept, params)
    assert not equal(start_from_text_tower(params)["audio_fusion"], params["audio_fusion"])
    other = start_from_text_tower(params, keep=("audio_fusion",))
    assert equal(other["audio_fusion"], params["audio_fusion"])
    np.testing.assert_array_equal(other["frame_position_embedding"], params["text"]["position_embedding"])


def test_checkpoints_that_do_not_fit_say_everything(save_config, clip, ast, tmp_path):
    towers = convert.convert(clip, "clip").params
    del towers["vision"]["ln_post"]
    towers["text"]["projection"] = np.zeros((128, 64), np.float32)
    towers["poetry"] = {"rhyme": np.zeros(2, np.float32)}
    loading.save_params(str(tmp_path / "clip"), towers)
    loading.save_params(str(tmp_path / "ast"), convert.convert(ast, "ast").params)  # for 128 time steps
    with pytest.raises(ValueError) as caught:
        created(save_config, f"{tmp_path}/clip,{tmp_path}/ast,{tmp_path}/ast")
    for line in (
        "clip: poetry/rhyme: [2] there, absent in this model",
        "clip: text/projection: [128, 64] there, [128, 128] in this model",
        "clip: vision/ln_post/scale: absent there, [128] in this model",
        "ast: ast/position_embedding: [146, 64] there, [1214, 64] in this model",
        f"ast: ast is in {tmp_path}/ast too",
    ):
        assert line in str(caught.value)
