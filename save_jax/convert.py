"""Weights of the official PyTorch code ↔ our parameter tree, by a table of rules that accounts for every name.

A rule says which source names it takes, where they go, and how the array changes. Each source name must match exactly
one rule, each of our parameters must be filled, and every problem is reported in one message.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one source array becomes ours (one or several) and back."""

    forward: Callable[[np.ndarray], list[np.ndarray]]
    backward: Callable[[list[np.ndarray]], np.ndarray]


SAME = Layout(lambda x: [x], lambda xs: xs[0])
LINEAR = Layout(lambda x: [x.T], lambda xs: xs[0].T)  # PyTorch keeps linear weights as (out, in)
CONV = Layout(lambda x: [x.transpose(2, 3, 1, 0)], lambda xs: xs[0].transpose(3, 2, 0, 1))
DROP_FIRST = Layout(lambda x: [x[0]], lambda xs: xs[0][None])
THREE_LINEAR = Layout(lambda x: [p.T for p in np.split(x, 3)], lambda xs: np.concatenate([x.T for x in xs]))
THREE = Layout(lambda x: np.split(x, 3), lambda xs: np.concatenate(xs))


@dataclasses.dataclass(frozen=True)
class Rule:
    """Source names matching `pattern` (in full) go to `targets`; without targets they are ignored, for `reason`."""

    pattern: str
    targets: tuple[str, ...] = ()
    layout: Layout = SAME
    reason: str = ""


def _linear(source: str, target: str, bias: bool = True) -> list[Rule]:
    rules = [Rule(source + r"\.weight", (target + "/kernel",), LINEAR)]
    return [*rules, Rule(source + r"\.bias", (target + "/bias",))] if bias else rules


def _norm(source: str, target: str) -> list[Rule]:
    return [Rule(source + r"\.weight", (target + "/scale",)), Rule(source + r"\.bias", (target + "/bias",))]


def _qkv(source: str, target: str, separator: str = "_") -> list[Rule]:
    parts = ("query", "key", "value")
    return [
        Rule(source + separator + "weight", tuple(f"{target}/{part}/kernel" for part in parts), THREE_LINEAR),
        Rule(source + separator + "bias", tuple(f"{target}/{part}/bias" for part in parts), THREE),
    ]


def _attention(source: str, target: str) -> list[Rule]:
    """torch.nn.MultiheadAttention."""
    return _qkv(source + r"\.in_proj", target) + _linear(source + r"\.out_proj", target + "/out")


def _clip_block(source: str, target: str) -> list[Rule]:
    source, target = source + r"\.resblocks\.(\d+)", target + r"/block_\1"
    return [
        *_attention(source + r"\.attn", target + "/attention"),
        *_norm(source + r"\.ln_1", target + "/ln_1"),
        *_linear(source + r"\.mlp\.c_fc", target + "/mlp/fc"),
        *_linear(source + r"\.mlp\.c_proj", target + "/mlp/proj"),
        *_norm(source + r"\.ln_2", target + "/ln_2"),
    ]


def clip_rules(prefix: str = "") -> list[Rule]:
    """OpenAI CLIP's names, behind a prefix."""
    p = re.escape(prefix)
    return [
        Rule(p + r"visual\.class_embedding", ("vision/class_embedding",)),
        Rule(p + r"visual\.positional_embedding", ("vision/position_embedding",)),
        Rule(p + r"visual\.conv1\.weight", ("vision/patch_embedding/kernel",), CONV),
        Rule(p + r"visual\.proj", ("vision/projection",)),
        *_norm(p + r"visual\.ln_pre", "vision/ln_pre"),
        *_norm(p + r"visual\.ln_post", "vision/ln_post"),
        *_clip_block(p + r"visual\.transformer", "vision"),
        Rule(p + r"token_embedding\.weight", ("text/token_embedding",)),
        Rule(p + r"positional_embedding", ("text/position_embedding",)),
        Rule(p + r"text_projection", ("text/projection",)),
        *_norm(p + r"ln_final", "text/ln_final"),
        *_clip_block(p + r"transformer", "text"),
        Rule(p + r"logit_scale", ("logit_scale",)),
        Rule(p + r"(input_resolution|context_length|vocab_size)", reason="sizes that OpenAI's archives carry"),
    ]


def ast_rules(prefix: str = "module.v.") -> list[Rule]:
    """AST's names (timm's distilled ViT), behind a prefix."""
    p, block = re.escape(prefix), r"ast/block_\1"
    source = p + r"blocks\.(\d+)"
    return [
        Rule(p + r"cls_token", ("ast/class_token",)),
        Rule(p + r"dist_token", ("ast/distillation_token",)),
        Rule(p + r"pos_embed", ("ast/position_embedding",), DROP_FIRST),
        Rule(p + r"patch_embed\.proj\.weight", ("ast/patch_embedding/kernel",), CONV),
        Rule(p + r"patch_embed\.proj\.bias", ("ast/patch_embedding/bias",)),
        *_norm(source + r"\.norm1", block + "/ln_1"),
        *_qkv(source + r"\.attn\.qkv", block + "/attention", r"\."),
        *_linear(source + r"\.attn\.proj", block + "/attention/out"),
        *_norm(source + r"\.norm2", block + "/ln_2"),
        *_linear(source + r"\.mlp\.fc1", block + "/mlp/fc"),
        *_linear(source + r"\.mlp\.fc2", block + "/mlp/proj"),
        *_norm(p + r"norm", "ast/norm"),
        Rule(p + r"head(_dist)?\.(weight|bias)", reason="ImageNet heads that nothing uses"),
    ]


def _fusion_rules(source: str, target: str) -> list[Rule]:
    layer, block = source + r"\.resblocks\.(\d+)", target + r"/block_\1"
    return [
        *_clip_block(source, target),
        *_attention(layer + r"\.cross_attn", block + "/cross_attention"),
        *_norm(layer + r"\.ln_3", block + "/ln_3"),
        *_norm(layer + r"\.ln_4", block + "/ln_4"),
        *_linear(layer + r"\.cross_ff\.cross_fc", block + "/gated_mlp/fc", bias=False),
        *_linear(layer + r"\.cross_ff\.cross_proj", block + "/gated_mlp/proj", bias=False),
        *_linear(layer + r"\.attn_gate\.ag_fc", block + "/attention_gate/fc", bias=False),
        *_linear(layer + r"\.attn_gate\.ag_proj", block + "/attention_gate/proj", bias=False),
        *_linear(layer + r"\.ff_gate\.fg_fc", block + "/mlp_gate/fc", bias=False),
        *_linear(layer + r"\.ff_gate\.fg_proj", block + "/mlp_gate/proj", bias=False),
    ]


def official_rules() -> list[Rule]:
    """State dicts of the official SAVE and AVIGATE code (AVIGATE calls the resampler `transformer_Fusion`)."""
    resampler = r"(?:Audio_Resampler|transformer_Fusion)"
    layer = resampler + r"\.resblocks\.(\d+)"
    return [
        *clip_rules("clip."),
        *ast_rules("clip.audio.v."),
        Rule(r"clip\.audio_projection", ("audio_projection",)),
        Rule(r"query_tokens", ("resampler/query_tokens",), LINEAR),  # one query per column there, per row here
        Rule(r"query_position_embeddings\.weight", ("resampler/query_position_embedding",)),
        *_clip_block(resampler, "resampler"),
        *_attention(layer + r"\.cross_attn", r"resampler/block_\1/cross_attention"),
        *_norm(layer + r"\.ln_3", r"resampler/block_\1/ln_3"),
        Rule(r"frame_position_embeddings\.weight", ("frame_position_embedding",)),
        *_fusion_rules("transformerClip", "audio_fusion"),
        *_fusion_rules("transformerClip_ASR", "speech_fusion"),
        Rule(r"asr_query_tokens", reason="the reference creates them and never uses them"),
    ]


def convert(source: Mapping[str, np.ndarray], rules: list[Rule], like: Mapping) -> dict:
    """Fills a parameter tree from a state dict.

    Args:
        source: official names → arrays.
        rules: the table to go by.
        like: a tree of ours (arrays or shapes) that says which parameters must come out.
    Returns:
        A tree of float32 arrays shaped as `like`.
    Raises:
        ValueError: names without a rule or with several, missing or surplus parameters, other shapes, NaNs.
    """
    wanted = {"/".join(path): tuple(leaf.shape) for path, leaf in flatten_dict(dict(like)).items()}
    filled: dict[str, np.ndarray] = {}
    problems = []
    for name, array in source.items():
        matches = [(rule, match) for rule in rules if (match := re.fullmatch(rule.pattern, name))]
        if len(matches) != 1:
            problems.append(f"{name}: matches {len(matches)} rules, must match exactly one")
            continue
        rule, match = matches[0]
        if not rule.targets:
            continue
        if not np.isfinite(array).all():
            problems.append(f"{name}: holds NaN or infinity")
        for target, part in zip(rule.targets, rule.layout.forward(np.asarray(array, np.float32)), strict=True):
            path = match.expand(target)
            if path not in wanted:
                problems.append(f"{name}: goes to {path}, which this model does not have")
            elif part.shape != wanted[path]:
                problems.append(f"{name}: {path} would get shape {list(part.shape)}, has {list(wanted[path])}")
            filled[path] = np.array(part, order="C")
    problems += [f"{path}: nothing in the source fills it" for path in wanted if path not in filled]
    if problems:
        raise ValueError(f"{len(problems)} problems in converting weights:\n  " + "\n  ".join(problems))
    return unflatten_dict({tuple(path.split("/")): array for path, array in filled.items()})
