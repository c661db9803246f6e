"""What model a set of weights makes: its sizes, read off the shapes, and AST's positions for sounds of another length.

Works on our names (`apply_rules` of convert.py makes them), so that it is the same for every source.
"""

import collections
import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from save_jax.config import base, model_sizes, resolve
from save_jax.config.sizes import AstSizes
from save_jax.models.ast import AudioTower
from save_jax.models.retrieval import Retrieval

Flat = dict[str, np.ndarray]  # our names, such as "vision/block_0/ln_1/scale" → array
MEL_BINS = 128
AST_STRIDE = (10, 10)  # of AST-base and of the official code; the weights cannot tell
AST_EPSILON = 1e-6  # as above
MOST_LAYERS = 256
_BRANCHES = {"clip": "vision", "hf-clip": "vision", "avigate": "vision,audio", "save": "vision,audio,speech"}

# For each size of config.model, where it can be read: (parameter, axis). The most frequent answer wins, so that one
# missing or misshapen tensor is reported as such and nothing else.
_CLIP_SIZES = {
    "embed_dim": [("vision/projection", 1), ("text/projection", 1), ("frame_position_embedding", 1),
                  ("audio_projection", 1), ("resampler/query_tokens", 1)],
    "vision_width": [("vision/class_embedding", 0), ("vision/ln_pre/scale", 0), ("vision/ln_post/scale", 0),
                     ("vision/position_embedding", 1), ("vision/patch_embedding/kernel", 3)],
    "patch_size": [("vision/patch_embedding/kernel", 0), ("vision/patch_embedding/kernel", 1)],
    "text_width": [("text/ln_final/scale", 0), ("text/token_embedding", 1), ("text/position_embedding", 1)],
    "vocab_size": [("text/token_embedding", 0)],
    "context_length": [("text/position_embedding", 0), ("frame_position_embedding", 0)],
}  # fmt: skip
_AST_SIZES = {
    "ast_width": [("ast/class_token", 2), ("ast/norm/scale", 0), ("ast/patch_embedding/bias", 0),
                  ("ast/position_embedding", 1)],
}  # fmt: skip
_FUSION_SIZES = {"queries": [("resampler/query_position_embedding", 0), ("resampler/query_tokens", 0)]}


def vote(flat: Flat, places: Sequence[tuple[str, int]]) -> int | None:
    """The most frequent answer of the (parameter, axis) that are there; None where none is."""
    answers = [flat[path].shape[axis] for path, axis in places if path in flat and flat[path].ndim > axis]
    return collections.Counter(answers).most_common(1)[0][0] if answers else None


def count_layers(flat: Flat, *modules: str) -> int:
    """One more than the highest number of a block, without numbers far beyond the blocks that are there."""
    blocks = [re.match(rf"({'|'.join(modules)})/block_(\d+)/", path) for path in flat]
    numbers = sorted({int(match[2]) for match in blocks if match})
    # A name costs nothing, and a model of as many layers as it says would not fit into any memory.
    return next((number + 1 for number in reversed(numbers) if number < min(2 * len(numbers) + 16, MOST_LAYERS)), 0)


def sizes(
    flat: Flat, kind: str, ast_stride: tuple[int, int] = AST_STRIDE, told: Mapping = MappingProxyType({})
) -> tuple[dict, list[str]]:
    """(the fields of `config.model` that shapes tell, problems).

    `told`: what they do not, "heads" of each tower (vision, text, audio), "activation" and "epsilon" as function.py has
    them. Without it all is as in the official code: heads are as many as 64 goes into the width.
    """
    heads = list(told.get("heads", ()))
    with_ast, with_clip = "clip" not in kind, "ast" not in kind
    places = (_CLIP_SIZES if with_clip else {}) | (_AST_SIZES if with_ast else {})
    places |= _FUSION_SIZES if with_ast and with_clip else {}
    fields: dict[str, Any] = {name: vote(flat, where) for name, where in places.items()}
    problems = [f"{name} cannot be told, since nothing that shows it is there" for name in fields if not fields[name]]
    fields |= {name: base().model[name] for name, size in fields.items() if not size}
    if with_clip:
        fields |= {"branches": _BRANCHES[kind], "head_dim": 64, "activation": told.get("activation", "quick_gelu")}
        if heads:
            widths = [fields["vision_width"], fields["text_width"]]
            if len(heads) < 2:
                heads = heads * 2
            found = {width / count for width, count in zip(widths, heads, strict=False)}
            if len(found) > 1 or not min(found).is_integer():
                problems.append(
                    f"{heads[0]} and {heads[1]} heads of widths {widths}: here all have the same whole size"
                )
            fields["head_dim"] = max(1, round(min(found)))
        fields |= {"vision_layers": count_layers(flat, "vision"), "text_layers": count_layers(flat, "text")}
        rows = (
            flat["vision/position_embedding"].size // fields["vision_width"]
            if "vision/position_embedding" in flat
            else 0
        )
        side = math.isqrt(max(rows - 1, 0))
        if not side or side * side != rows - 1:
            problems.append(f"vision/position_embedding: {rows} rows are not 1 + a square of patches")
        fields["image_size"] = max(side, 1) * fields["patch_size"]
    if with_ast:
        fields["ast_layers"] = count_layers(flat, "ast")
        own = heads[2:] if with_clip else heads
        fields["ast_heads"] = own[0] if own else max(1, fields["ast_width"] // 64)
        if fields["ast_width"] % fields["ast_heads"]:
            problems.append(f"{fields['ast_heads']} heads do not divide AST's width {fields['ast_width']}")
        fields["ast_epsilon"] = told.get("epsilon", AST_EPSILON) if not with_clip else AST_EPSILON
        kernel = flat.get("ast/patch_embedding/kernel")
        fields["ast_patch"] = tuple(kernel.shape[:2]) if kernel is not None else (16, 16)
        fields["ast_stride"] = ast_stride
    if with_ast and with_clip:
        fields["resampler_layers"] = count_layers(flat, "resampler")
        fields["fusion_layers"] = count_layers(flat, "audio_fusion", "speech_fusion")
    return fields, problems


def config_for(model: Mapping, max_words: int, max_frames: int) -> ConfigDict:
    """The base config with these fields of `config.model`, resolved."""
    config = base()
    config.model.update(model)
    config.data.max_words, config.data.max_frames = max_words, max_frames
    return resolve(config)


def ast_sizes(model: Mapping) -> AstSizes:
    """The audio tower's sizes out of fields of `config.model`."""
    return AstSizes(*(model[f"ast_{field}"] for field in ("width", "layers", "heads", "patch", "stride", "epsilon")))


def model_shapes(model: Mapping, fbank: tuple[int, int]) -> dict:
    """The tree of our parameters' shapes. `fbank`: time steps and mel bins that the audio tower reads."""
    if "branches" not in model:
        ast = ast_sizes(model)
        picture = jax.ShapeDtypeStruct((1, *fbank), jnp.float32)
        return {"ast": jax.eval_shape(AudioTower(ast, jnp.dtype("float32")).init, jax.random.key(0), picture)["params"]}
    config = config_for(model, max_words=min(4, model["context_length"]), max_frames=1)
    side = model["image_size"]
    batch = {
        "frames": jax.ShapeDtypeStruct((1, 1, side, side, 3), jnp.uint8),  # no arrays: sizes may be of any size
        "frame_mask": jax.ShapeDtypeStruct((1, 1), bool),
        "fbank": jax.ShapeDtypeStruct((1, *fbank), jnp.float32),
        "speech_ids": jax.ShapeDtypeStruct((1, 4), jnp.int32),
        "text_ids": jax.ShapeDtypeStruct((1, 4), jnp.int32),
    }
    return jax.eval_shape(Retrieval(model_sizes(config)).init, jax.random.key(0), batch)["params"]


# ---------------------------------------------------------------- AST's positions for sounds of another length


def grid(fbank: tuple[int, int], patch: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
    """Patches along (mel, time)."""
    time, mel = fbank
    return (mel - patch[0]) // stride[0] + 1, (time - patch[1]) // stride[1] + 1


def _interpolate(table: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Linear interpolation along one axis, pixel centres aligned as PyTorch's `interpolate(mode="bilinear")` has it."""
    before = table.shape[axis]
    position = np.clip((np.arange(size) + 0.5) * before / size - 0.5, 0, before - 1)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, before - 1)
    weight = (position - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(table.ndim)])
    return np.take(table, low, axis) * (1 - weight) + np.take(table, high, axis) * weight


def fit_positions(table: np.ndarray, before: tuple[int, int], after: tuple[int, int]) -> np.ndarray:
    """AST's rule for another input: the middle is cut out where there is too much, else the grid is interpolated.

    Args:
        table: [2 + mel·time, w], class and distillation token first.
        before, after: patches along (mel, time).
    """
    tokens, grid = table[:2], table[2:].reshape(*before, -1)
    for axis in (1, 0):  # time first, as AST does
        size, wanted = before[axis], after[axis]
        if wanted < size:
            start = size // 2 - wanted // 2
            grid = np.take(grid, np.arange(start, start + wanted), axis)
        elif wanted > size:
            grid = _interpolate(grid, axis, wanted)
    return np.concatenate([tokens, grid.reshape(-1, table.shape[1])])
