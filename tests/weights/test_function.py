"""What no tensor shows (activation, heads, epsilon, strides) is read, asked for or known, and never guessed."""

import json

import numpy as np
import pytest
from helpers.places import GOLDEN

from save_jax.config import base, resolve, vlsa_base
from save_jax.parity import fixtures
from save_jax.weights import command, convert, description, function
from save_jax.weights import files as weight_files
from save_jax.weights.rules import RULES

OFFICIAL = fixtures.load(GOLDEN / "save_tiny_train.npz").under("w/")
CLIP = {k.removeprefix("clip."): x for k, x in OFFICIAL.items() if k.startswith("clip.") and "audio" not in k}
AST = {k.replace("clip.audio.", "module."): x for k, x in OFFICIAL.items() if k.startswith("clip.audio.v.")}
OF_OPENAI = CLIP | {name: np.array(9) for name in function.OPENAI}
HF_CLIP = convert.to_official(convert.convert(CLIP, "clip").params, RULES["hf-clip"])
HF_AST = convert.to_official(convert.convert(AST, "ast").params, RULES["hf-ast"])


def converted(folder, kind, arrays, *options, **configs):
    """(exit code, `config.model` of the description) after the command, with `configs` beside the weights."""
    folder.mkdir(exist_ok=True)
    source, out = folder / f"{len(list(folder.iterdir()))}.safetensors", folder / f"out{len(list(folder.iterdir()))}"
    weight_files.write(str(source), arrays)
    for name, content in configs.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    code = command.main(["--from", str(source), "--kind", kind, "--to", str(out), *options])
    return code, json.loads((out / description.NAME).read_text())["config"]["model"] if code == 0 else {}


def hf_config(act="gelu", heads=(4, 4), epsilon=1e-5, **more):
    towers = [
        {"hidden_act": act, "num_attention_heads": n, "layer_norm_eps": epsilon, "vocab_size": 512} for n in heads
    ]
    towers[1]["eos_token_id"] = 511
    return {"model_type": "clip", "vision_config": towers[0], "text_config": towers[1]} | more


def test_hugging_faces_configuration_is_read(tmp_path, capsys):
    code, model = converted(tmp_path / "a", "hf-clip", HF_CLIP, config=hf_config())
    assert (code, model["activation"], model["head_dim"]) == (0, "gelu", 32)
    assert "activation gelu, heads 4,4, epsilon 1e-05: as " in capsys.readouterr().out
    _, model = converted(tmp_path / "b", "hf-clip", HF_CLIP, config=hf_config("quick_gelu", (2, 2)))
    assert (model["activation"], model["head_dim"]) == ("quick_gelu", 64)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (hf_config("gelu_new"), "activation 'gelu_new' is unknown here"),
        (hf_config(epsilon=1e-6), "epsilon 1e-06 in its norms"),
        (hf_config(heads=(4, 2)), "4 and 2 heads of widths [128, 128]"),
        (hf_config(vision_config_dict={"hidden_act": "relu"}), "hidden_act is relu for pictures and gelu for text"),
        ({"model_type": "siglip"}, "is of a model of type 'siglip'"),
        ({}, "give --activation, --heads, --epsilon"),
        ([1], "is no configuration of a model"),
    ],
)
def test_what_no_model_here_computes_is_refused(config, said, tmp_path, capsys):
    code, _ = converted(tmp_path / "a", "hf-clip", HF_CLIP, config=config)
    assert code == 1 and said in capsys.readouterr().err


def test_without_a_configuration_it_asks(tmp_path, capsys):
    assert converted(tmp_path / "a", "hf-clip", HF_CLIP)[0] == 1
    said = capsys.readouterr().err
    assert "do not say activation, heads, epsilon" in said and "give --activation, --heads, --epsilon" in said
    given = ("--activation", "gelu", "--heads", "2", "--epsilon", "1e-5")
    assert converted(tmp_path / "a", "hf-clip", HF_CLIP, *given)[1]["activation"] == "gelu"
    assert converted(tmp_path / "b", "ast", AST)[0] == 1  # 144 patches: of 12 × 12, or of other strides
    assert "do not say stride" in capsys.readouterr().err
    assert converted(tmp_path / "c", "hf-clip", HF_CLIP, *given, config=hf_config("quick_gelu"))[0] == 1
    assert "--activation gives activation gelu, and" in capsys.readouterr().err


def test_open_clips_configuration_is_read(tmp_path, capsys):
    towers = {"vision_cfg": {"width": 128}, "text_cfg": {"heads": 2, "width": 128}}
    code, model = converted(tmp_path / "a", "clip", CLIP, open_clip_config={"model_cfg": towers})
    assert (code, model["activation"], model["head_dim"]) == (0, "gelu", 64)
    assert (
        converted(tmp_path / "b", "clip", CLIP, open_clip_config={"model_cfg": {"quick_gelu": True, **towers}})[1][
            "activation"
        ]
        == "quick_gelu"
    )
    other = {"model_cfg": towers, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}
    assert converted(tmp_path / "c", "clip", CLIP, open_clip_config=other)[0] == 1
    assert "pictures are normalised with mean [0.5" in capsys.readouterr().err


def test_names_of_a_code_that_leaves_no_choice(tmp_path, capsys):
    """OpenAI's archives are known by what only they hold; their names alone are taken as OpenAI's code, and told."""
    _, model = converted(
        tmp_path / "a", "clip", OF_OPENAI, open_clip_config={"model_cfg": {"vision_cfg": 1, "text_cfg": 1}}
    )
    assert model["activation"] == "quick_gelu" and "as the code has it" not in capsys.readouterr().out
    assert converted(tmp_path / "b", "clip", CLIP)[1]["activation"] == "quick_gelu"
    assert "as the code has it whose names these are (--activation" in capsys.readouterr().out
    assert converted(tmp_path / "c", "save", OFFICIAL, "--frames", "1024")[0] == 0
    assert "stride 10,10: as the code has it" in capsys.readouterr().out


def test_ast_of_hugging_face(tmp_path):
    config = {"model_type": "audio-spectrogram-transformer", "num_attention_heads": 4, "max_length": 128}
    told, _ = function.settle(
        str(tmp_path / "x"), "hf-ast", {}, {"heads": (2,), "epsilon": 1e-6, "stride": (10, 10), "activation": "gelu"}
    )
    assert told["heads"] == (2,)
    (tmp_path / "config.json").write_text(json.dumps(config))
    told, _ = function.settle(str(tmp_path / "model.safetensors"), "hf-ast", {}, {})
    done = convert.convert(HF_AST, "hf-ast", ast_stride=told["stride"], told=told)
    assert (done.model["ast_heads"], done.model["ast_epsilon"], done.model["ast_stride"]) == (4, 1e-12, (10, 10))


def test_a_run_starts_from_weights_of_its_own_function_alone(tmp_path):
    assert converted(tmp_path / "a", "hf-clip", HF_CLIP, config=hf_config(heads=(2, 2)))[0] == 0
    weights = next(path for path in (tmp_path / "a").iterdir() if path.is_dir())
    config = base()
    description.check_function(resolve(config), str(tmp_path))  # says nothing
    with pytest.raises(ValueError, match=r"are for activation=gelu .* config\.model\.activation is quick_gelu"):
        description.check_function(resolve(config), str(weights))
    config.model.activation = "gelu"
    description.check_function(resolve(config), str(weights))
    config.model.head_dim = 32
    with pytest.raises(ValueError, match=r"are for head_dim=64 .* set --config\.model\.head_dim=64"):
        description.check_function(resolve(config), str(weights))


def test_openclip_has_openais_names_and_another_activation(tmp_path):
    """Its files are told by their name, and asked about."""
    shapes = {name: np.shape(x) for name, x in CLIP.items()}
    with pytest.raises(ValueError, match=r"do not say activation, .* give --activation"):
        function.settle(str(tmp_path / "open_clip_pytorch_model.bin"), "clip", shapes, {})
    told, _ = function.settle(str(tmp_path / "open_clip_pytorch_model.bin"), "clip", shapes, {"activation": "gelu"})
    assert told["activation"] == "gelu"


def test_parts_of_a_vlsa_keep_what_they_compute(tmp_path):
    source, out = tmp_path / "clip.safetensors", tmp_path / "out"
    weight_files.write(str(source), CLIP)
    assert command.main(["--from", str(source), "--kind", "clip-vlsa", "--to", str(out)]) == 0
    config = vlsa_base("vlsa-pretrain")
    config.model.heads = 2
    with pytest.raises(ValueError, match=r"are for activation=quick_gelu .* config\.model\.activation is gelu"):
        description.check_function(resolve(config), str(out))
    config.model.activation = "quick_gelu"
    description.check_function(resolve(config), str(out))
    config.model.standardize = True
    with pytest.raises(ValueError, match=r"are for standardize=False .* set --config\.model\.standardize=False"):
        description.check_function(resolve(config), str(out))
