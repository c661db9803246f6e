"""What weights compute that no tensor shows: activation, heads, epsilon of the norms, AST's strides.

It comes from the configuration beside the file (Hugging Face's config.json, OpenCLIP's open_clip_config.json), from the
command's options, or from the code whose names the file has, where that code leaves no choice. Nothing is guessed.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from save_jax.data import files
from save_jax.models.clip import EPSILON, PIXEL_MEAN, PIXEL_STD
from save_jax.weights.sizes import MEL_BINS

Told = dict[str, Any]  # of "activation", "heads" (of each tower), "epsilon" and "stride" those that are known
OPTIONS = {"activation": "--activation", "heads": "--heads", "epsilon": "--epsilon", "stride": "--ast-stride"}
# What a kind must know before it is converted.
NEEDS = {
    "clip": ("activation", "heads", "epsilon"),
    "hf-clip": ("activation", "heads", "epsilon"),
    "clip-vlsa": ("activation", "heads", "epsilon"),
    "ast": ("heads", "epsilon", "stride"),
    "hf-ast": ("activation", "heads", "epsilon", "stride"),
    "save": ("heads", "stride"),
    "avigate": ("heads", "stride"),
    "mae-vlsa": ("heads",),
    "vlsa-ast": (),
}
# In names of the files that OpenCLIP publishes: the same tensors as OpenAI's, and any activation.
OPENCLIP = ("open_clip_pytorch_model", "open_clip_model", "laion")
OPENAI = ("input_resolution", "context_length", "vocab_size")  # only OpenAI's own archives hold these
AST_GRIDS = {1212: 10, 850: 12, 657: 14, 512: 16}  # patches of 1024 × 128 → stride, as AST's authors published them
MAE_HEADS = {768: 12, 1024: 16, 1280: 16}  # of MAE's three encoders, by width; its decoder has 512 and 16
GELU = ("gelu", "gelu_python")  # names for the exact one; tanh's approximation has others


def settle(
    path: str, kind: str, shapes: Mapping[str, Sequence[int]], given: Mapping[str, Any]
) -> tuple[Told, list[str]]:
    """(what the weights compute, lines that tell where it is known from).

    Args:
        path: of the weight file.
        shapes: of its tensors, by their names there.
        given: by the command's options.
    Raises:
        ValueError that names the option to give for what is not known, or what this model cannot compute.
    """
    given = {name: value for name, value in given.items() if value is not None}
    beside, notes = {}, []
    if kind in READERS and not (kind.startswith("clip") and all(name in shapes for name in OPENAI)):
        beside, where = _beside(path, kind)
        if beside:
            notes.append(f"{_words(beside)}: as {where} says")
        if differ := [name for name in given if name in beside and given[name] != beside[name]]:
            name = differ[0]
            raise ValueError(
                f"{OPTIONS[name]} gives {_words({name: given[name]})}, and {where} {_words({name: beside[name]})}; "
                "leave the option out, or convert a copy of the file in a folder of its own"
            )
    code = {name: x for name, x in _of_code(kind, shapes).items() if name not in beside and name not in given}
    if any(name in os.path.basename(path).lower() for name in OPENCLIP):
        code.pop("activation", None)
    if code and not (kind.startswith("clip") and all(name in shapes for name in OPENAI)):
        notes.append(f"{_words(code)}: as the code has it whose names these are ({_options(code)} where it is not so)")
    told = code | beside | given
    if missing := [name for name in NEEDS[kind] if name not in told]:
        config = ", or put the model's config.json beside it" if kind in READERS else ""
        raise ValueError(
            f"{path}: its tensors do not say {', '.join(missing)}, and nothing beside it does; give {_options(missing)}"
            f"{config}"
        )
    _check(told, kind, path)
    return told, notes


def _options(names: Collection[str]) -> str:
    return ", ".join(OPTIONS[name] for name in names)


def _words(told: Told) -> str:
    words = {name: ",".join(map(str, x)) if isinstance(x, tuple) else x for name, x in told.items()}
    return ", ".join(f"{name} {'of 64 numbers' if value == '' else value}" for name, value in words.items())


def _check(told: Told, kind: str, path: str) -> None:
    """Refuses what no model here computes."""
    clip = "clip" in kind
    if clip and told["activation"] not in ("quick_gelu", "gelu"):
        raise ValueError(f"{path}: activation {told['activation']!r} is unknown here, only quick_gelu and gelu are")
    if kind == "hf-ast" and told["activation"] not in GELU:
        raise ValueError(f"{path}: activation {told['activation']!r}, and the audio tower here computes gelu alone")
    if clip and told["epsilon"] != EPSILON:
        raise ValueError(f"{path}: epsilon {told['epsilon']} in its norms, and CLIP's towers here have {EPSILON}")


def _of_code(kind: str, shapes: Mapping[str, Sequence[int]]) -> Told:
    """What follows from the code that writes these names.

    OpenAI's `build_model` reads sizes off a state dict and takes width / 64 heads, QuickGELU and PyTorch's epsilon for
    every one. The code of SAVE and AVIGATE does the same, and builds AST-base with strides of 10. AST's code builds
    timm's DeiT models, of 64 numbers a head. So their checkpoints have this function whatever they hold.
    """

    def width(*names: str) -> int:
        return next((shapes[name][-1] for name in names if shapes.get(name)), 0)

    vision, text = (width(prefix + name) for prefix, name in (("", "visual.class_embedding"), ("", "ln_final.weight")))
    if kind in ("save", "avigate"):
        widths = [width(f"clip.{name}") for name in ("visual.class_embedding", "ln_final.weight", "audio.v.cls_token")]
        return _by_64(widths) | {"stride": (10, 10)}
    if kind in ("clip", "clip-vlsa"):
        return {"activation": "quick_gelu", "epsilon": EPSILON} | _by_64([vision, text])
    if kind == "ast":
        positions = shapes.get("module.v.pos_embed", ())
        rows = positions[1] - 2 if len(positions) == 3 else 0
        stride = {"stride": (AST_GRIDS[rows],) * 2} if rows in AST_GRIDS else {}
        return {"epsilon": 1e-6} | _by_64([width("module.v.cls_token")]) | stride
    if kind == "mae-vlsa":
        encoder, decoder = width("cls_token"), width("mask_token")
        known = encoder in MAE_HEADS and decoder in (0, 512)
        return {"heads": (MAE_HEADS[encoder], 16) if decoder else (MAE_HEADS[encoder],)} if known else {}
    return {}


def _by_64(widths: Sequence[int]) -> Told:
    return {} if any(width % 64 for width in widths) else {"heads": ()}  # none named: of 64 numbers each


# ---------------------------------------------------------------- configurations beside a file


def _beside(path: str, kind: str) -> tuple[Told, str]:
    """(what the configurations beside a file say, the path of the one that says it); ({}, "") where there is none."""
    folder = os.path.dirname(path)
    for name, read in READERS[kind]:
        config = os.path.join(folder, name)
        if not os.path.exists(config):
            continue
        try:
            content = files.read_json(config)
        except (ValueError, OSError) as error:
            raise ValueError(f"{config} is no readable JSON ({error}); bring it back, or give the options") from error
        if not isinstance(content, dict):
            raise ValueError(f"{config} is no configuration of a model; bring it back, or move it away")
        try:
            told = read(content)
        except (ValueError, TypeError, AttributeError, ZeroDivisionError) as error:
            raise ValueError(f"{config}: {error}") from error
        if told:
            _check_preprocessor(folder, kind)
            return told, config
        if name == "config.json" and kind.startswith("hf-") and content.get("model_type"):
            raise ValueError(f"{config} is of a model of type {content['model_type']!r}, which kind {kind} is not")
    return {}, ""


def _same(what: str, values: Sequence[Any]) -> Any:
    if len(set(values)) > 1:
        raise ValueError(f"{what} is {values[0]} for pictures and {values[1]} for text, and here both have the same")
    return values[0]


def _hf_clip(config: Mapping) -> Told:
    """Hugging Face's CLIPConfig. It leaves out what is as in its own defaults, which OpenAI's ViT-B/32 has."""
    if config.get("model_type") != "clip":
        return {}
    towers = []
    for tower, heads in (("vision", 12), ("text", 8)):
        usual = {"num_attention_heads": heads, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
        # The second name is an older one; where both are there it counts.
        said = (config.get(f"{tower}_config") or {}) | (config.get(f"{tower}_config_dict") or {})
        towers.append(usual | said)
    words = towers[1].get("vocab_size", 49408)
    if (end := towers[1].get("eos_token_id", words - 1)) not in (2, words - 1):  # 2: it takes the largest id, too
        raise ValueError(f"its texts end at token {end}, and here at the largest one, {words - 1}")
    activation = _same("hidden_act", [tower["hidden_act"] for tower in towers])
    return {
        "activation": "gelu" if activation in GELU else activation,
        "heads": tuple(int(tower["num_attention_heads"]) for tower in towers),
        "epsilon": _same("layer_norm_eps", [float(tower["layer_norm_eps"]) for tower in towers]),
    }


def _open_clip(config: Mapping) -> Told:
    """OpenCLIP's model_cfg, or a whole open_clip_config.json; what it leaves out is as in OpenCLIP's code."""
    config = config.get("model_cfg", config)
    if "vision_cfg" not in config or "text_cfg" not in config:
        return {}
    vision, text = config["vision_cfg"], config["text_cfg"]
    usual = {"no_causal_mask": (False,), "pool_type": ("tok", "argmax"), "act_kwargs": (None, {})}
    for tower, settings in (("vision_cfg", vision), ("text_cfg", text)):
        for name, allowed in usual.items():
            if name in settings and settings[name] not in allowed:
                raise ValueError(f"{tower}.{name} is {settings[name]!r}, which no tower here computes")
    epsilons = [float((tower.get("norm_kwargs") or {}).get("eps", EPSILON)) for tower in (vision, text)]
    return {
        "activation": "quick_gelu" if config.get("quick_gelu") else "gelu",
        "heads": (int(vision.get("width", 768)) // int(vision.get("head_width", 64)), int(text.get("heads", 8))),
        "epsilon": _same("norm_kwargs.eps", epsilons),
    }


def _hf_ast(config: Mapping) -> Told:
    """Hugging Face's ASTConfig, with its own defaults for what it leaves out."""
    if config.get("model_type") != "audio-spectrogram-transformer":
        return {}
    if (bins := config.get("num_mel_bins", MEL_BINS)) != MEL_BINS:
        raise ValueError(f"it hears {bins} mel bins, and shards hold {MEL_BINS}")
    return {
        "activation": config.get("hidden_act", "gelu"),
        "heads": (int(config.get("num_attention_heads", 12)),),
        "epsilon": float(config.get("layer_norm_eps", 1e-12)),
        "stride": (int(config.get("frequency_stride", 10)), int(config.get("time_stride", 10))),
    }


def _check_preprocessor(folder: str, kind: str) -> None:
    """Refuses pictures that are normalised otherwise than ours."""
    for name, inner in (("preprocessor_config.json", ""), ("open_clip_config.json", "preprocess_cfg")):
        path = os.path.join(folder, name)
        if "clip" not in kind or not os.path.exists(path):
            continue
        content = files.read_json(path)
        content = content.get(inner) or {} if inner else content
        for key, ours in (("mean", PIXEL_MEAN), ("std", PIXEL_STD)):
            theirs = content.get(key if inner else f"image_{key}")
            if theirs and max(abs(a - b) for a, b in zip(theirs, ours, strict=False)) > 1e-4:
                raise ValueError(f"{path}: pictures are normalised with {key} {theirs}, and here with {list(ours)}")


_CLIP_FILES = (("open_clip_config.json", _open_clip), ("config.json", _hf_clip))
READERS: dict[str, tuple[tuple[str, Callable[[Mapping], Told]], ...]] = {
    "clip": _CLIP_FILES,
    "clip-vlsa": _CLIP_FILES,
    "hf-clip": (("config.json", _hf_clip),),
    "hf-ast": (("config.json", _hf_ast),),
}
