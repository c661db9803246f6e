"""Where weights into and out of VLSA need more than other names: pixels, sizes, and the audio tower made of an encoder.

Works on our names, as `apply_rules` of convert.py leaves them, and changes `flat` where it says so.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from save_jax.config import vlsa_base
from save_jax.config.sizes import PIXEL_MEAN, PIXEL_STD, VlsaSizes
from save_jax.config.vlsa import MODALITIES
from save_jax.models.ast import AudioTower
from save_jax.models.trees import flatten
from save_jax.models.vlsa import Vlsa
from save_jax.weights.sizes import Flat, ast_sizes, count_layers, vote

F32 = jnp.dtype("float32")
INTO = ("mae-vlsa", "clip-vlsa")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the pixels that MAE reads
ACTIVATION = {"mae-vlsa": "gelu", "clip-vlsa": "quick_gelu"}
NOTES = {
    "mae-vlsa": "pixels stay those of CLIP: the difference to MAE's is in video_projection; MAE also has a class token",
    "clip-vlsa": "a start, not CLIP's function: no class token, no norm before blocks, epsilon 1e-6 instead of 1e-5",
    "vlsa-ast": "a start: AST reads other sound, has two more tokens and exact GELU; new parts are as AST begins",
}
_SIZES = {
    "width": [("place_position", 1), ("video_projection/kernel", 1), ("video_projection/bias", 0),
              ("encoder/ln_final/scale", 0)],
}  # fmt: skip
_DECODER_SIZES = {
    "decoder_width": [("hidden_token", 0), ("decoder_input/bias", 0), ("decoder/ln_final/scale", 0)],
}  # fmt: skip


# ---------------------------------------------------------------- into VLSA


def read_clip_pixels(flat: Flat, kind: str) -> None:
    """Makes `video_projection` one that reads pixels normalised as CLIP's, as ours are, and gives it a bias.

    With m, s and m', s' the mean and deviation of CLIP and of MAE, a pixel of MAE's is `(s x + m - m') / s'` of ours:
    the factor goes into the kernel, the constant through the kernel into the bias.
    """
    kernel = flat.get("video_projection/kernel")
    if kernel is None:
        return
    if kind == "clip-vlsa":
        flat["video_projection/bias"] = np.zeros(kernel.shape[1], np.float32)
        return
    bias = flat.get("video_projection/bias")
    if len(kernel) % 3 or bias is None or bias.shape != kernel.shape[1:]:
        return  # told by the comparison of shapes
    mean, std, mae_mean, mae_std = map(np.array, (PIXEL_MEAN, PIXEL_STD, IMAGENET_MEAN, IMAGENET_STD))
    factor, constant = std / mae_std, (mean - mae_mean) / mae_std
    rows = kernel.reshape(-1, 3, kernel.shape[1]).astype(np.float64)  # place in a patch, channel, width
    flat["video_projection/kernel"] = (rows * factor[:, None]).reshape(kernel.shape).astype(np.float32)
    flat["video_projection/bias"] = (bias + np.einsum("pcd,c->d", rows, constant)).astype(np.float32)


def _heads(width: int, size: int) -> int:
    """As many as `size` goes into the width, or fewer, so that they divide it."""
    return next(count for count in range(max(1, width // size), 0, -1) if width % count == 0)


def sizes(flat: Flat, kind: str, told: Mapping = MappingProxyType({})) -> tuple[dict, list[str]]:
    """(the fields of VLSA's `config.model` that shapes tell, problems).

    `told`: what they do not, "heads" (of encoder and decoder) and "activation"; without it they are as ViT's and MAE's.
    """
    heads = tuple(told.get("heads", ()))
    ours = vlsa_base("vlsa-pretrain").model
    decoder = any(name.startswith("decoder") for name in flat)
    places = _SIZES | (_DECODER_SIZES if decoder else {})
    fields: dict[str, Any] = {name: vote(flat, where) for name, where in places.items()}
    problems = [f"{name} cannot be told, since nothing that shows it is there" for name in fields if not fields[name]]
    fields |= {name: ours[name] for name, size in fields.items() if not size}
    fields["layers"] = count_layers(flat, "encoder")
    # 64 numbers a head, but ViT-Huge has 80. MAE's decoder has 16 heads of 32.
    fields["heads"] = heads[0] if heads else 16 if fields["width"] == 1280 else _heads(fields["width"], 64)
    if decoder:
        fields["decoder_layers"] = count_layers(flat, "decoder")
        own = heads[1:] if kind == "mae-vlsa" else ()
        fields["decoder_heads"] = own[0] if own else _heads(fields["decoder_width"], 32)
    for name in ("heads", "decoder_heads"):
        width = fields[name.replace("heads", "width")] if name in fields else 0
        if width and width % fields[name]:
            problems.append(f"{fields[name]} {name} do not divide the width {width}")
    fields["patch_size"] = ours.patch_size
    for name, size, channels in (("video_projection/kernel", "patch_size", 3), ("place_position", "image_size", 1)):
        rows = len(flat[name]) if name in flat else 0
        side = math.isqrt(rows // channels)
        if name in flat and (not side or side * side * channels != rows):
            problems.append(f"{name}: {rows} rows are not {channels} times a square")
        fields[size] = max(side, 1) if name in flat else ours[size]
    if "place_position" in flat:
        fields["image_size"] *= fields["patch_size"]
    return fields | {"activation": told.get("activation", ACTIVATION[kind])}, problems


def model_shapes(model: Mapping) -> dict:
    """The tree of VLSA's parameters' shapes.

    What `model` does not say is as in the default config, but one layer of the decoder, one frame and one word stand
    for all.
    """
    settings = vlsa_base("vlsa-pretrain").model.to_dict() | {"decoder_layers": 1, "frames": 1, "words": 1} | dict(model)
    vlsa = Vlsa(VlsaSizes(**{field: settings[field] for field in VlsaSizes.__dataclass_fields__}), F32)
    return jax.eval_shape(vlsa.init, jax.random.key(0), vlsa.example(None))["params"]


# ---------------------------------------------------------------- out of it


def hear(flat: Flat, patch: tuple[int, int], grid: tuple[int, int], vlsa: Mapping) -> np.ndarray | None:
    """Makes VLSA's audio projection AST's patch embedding where patches are alike, else takes it out of `flat`.

    The type embedding of sounds, which VLSA adds to every token, goes into the bias.

    Args:
        patch: AST's, (mel bins, time steps).
        grid: AST's patches along (mel, time).
        vlsa: `config.model` of the VLSA as far as it is known; without it a patch of as many values counts as alike.
    Returns:
        VLSA's positions [mel · time, w], if it has as many along both axes.
    """
    types, frequency, time = (
        flat.pop(name, None) for name in ("type_embedding", "frequency_position", "time_position")
    )
    kernel, bias = (flat.get(f"ast/patch_embedding/{part}") for part in ("kernel", "bias"))
    said = tuple(vlsa.get("audio_patch", patch))
    if kernel is None or kernel.ndim != 2 or len(kernel) != math.prod(patch) or said != patch:
        for part in ("kernel", "bias"):
            flat.pop(f"ast/patch_embedding/{part}", None)
    else:
        flat["ast/patch_embedding/kernel"] = kernel.reshape(*patch, 1, -1)
        if types is not None and bias is not None:
            flat["ast/patch_embedding/bias"] = bias + types[MODALITIES.index("audio")]
    if frequency is None or time is None or (len(frequency), len(time)) != grid:
        return None
    return (frequency[:, None] + time).reshape(-1, frequency.shape[-1])


def complete(flat: Flat, model: Mapping, fbank: tuple[int, int], positions: np.ndarray | None) -> list[str]:
    """Fills what is left of the tower as AST begins (seed 0) and says what that is.

    `positions`: of the patches, out of `hear`; the two tokens before them, which VLSA has not, stay new.
    """
    tower = AudioTower(ast_sizes(model), F32)
    fresh = flatten({"ast": jax.jit(tower.init)(jax.random.key(0), jnp.zeros((1, *fbank)))["params"]})
    new = [name for name in fresh if name not in flat]
    flat |= {name: np.array(fresh[name]) for name in new}
    if positions is not None:
        flat["ast/position_embedding"][2:] = positions
        new[new.index("ast/position_embedding")] += " (of its two tokens)"
    return new
