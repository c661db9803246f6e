"""Rule tables: every name of a PyTorch state dict, where it goes in our tree, and how the array changes on the way.

Ports the names of OpenAI's CLIP, of AST (timm's distilled ViT), of the official SAVE and AVIGATE code, and of Hugging
Face's CLIP and AST as its files have them. A table works in both directions; `convert.py` applies it. `{i}` stands for
a layer's number.
"""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one source array becomes ours (one or several), and back."""

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
    """The source name goes to `targets`; without targets it is ignored, for `reason`."""

    source: str
    targets: tuple[str, ...] = ()
    layout: Layout = SAME
    reason: str = ""


def _ignored(reason: str, *sources: str) -> list[Rule]:
    return [Rule(source, reason=reason) for source in sources]


def _linear(source: str, target: str, bias: bool = True) -> list[Rule]:
    rules = [Rule(source + ".weight", (target + "/kernel",), LINEAR)]
    return [*rules, Rule(source + ".bias", (target + "/bias",))] if bias else rules


def _norm(source: str, target: str) -> list[Rule]:
    return [Rule(source + ".weight", (target + "/scale",)), Rule(source + ".bias", (target + "/bias",))]


def _qkv(source: str, target: str) -> list[Rule]:
    """Query, key and value stacked in one array. `source` ends where `weight` or `bias` follows."""
    parts = ("query", "key", "value")
    return [
        Rule(source + "weight", tuple(f"{target}/{part}/kernel" for part in parts), THREE_LINEAR),
        Rule(source + "bias", tuple(f"{target}/{part}/bias" for part in parts), THREE),
    ]


def _attention(source: str, target: str) -> list[Rule]:
    """torch.nn.MultiheadAttention."""
    return _qkv(source + ".in_proj_", target) + _linear(source + ".out_proj", target + "/out")


def _clip_blocks(source: str, target: str) -> list[Rule]:
    source, target = source + ".resblocks.{i}", target + "/block_{i}"
    return [
        *_attention(source + ".attn", target + "/attention"),
        *_norm(source + ".ln_1", target + "/ln_1"),
        *_linear(source + ".mlp.c_fc", target + "/mlp/fc"),
        *_linear(source + ".mlp.c_proj", target + "/mlp/proj"),
        *_norm(source + ".ln_2", target + "/ln_2"),
    ]


def clip_rules(prefix: str = "") -> list[Rule]:
    """OpenAI CLIP, behind a prefix."""
    return [
        Rule(prefix + "visual.class_embedding", ("vision/class_embedding",)),
        Rule(prefix + "visual.positional_embedding", ("vision/position_embedding",)),
        Rule(prefix + "visual.conv1.weight", ("vision/patch_embedding/kernel",), CONV),
        Rule(prefix + "visual.proj", ("vision/projection",)),
        *_norm(prefix + "visual.ln_pre", "vision/ln_pre"),
        *_norm(prefix + "visual.ln_post", "vision/ln_post"),
        *_clip_blocks(prefix + "visual.transformer", "vision"),
        Rule(prefix + "token_embedding.weight", ("text/token_embedding",)),
        Rule(prefix + "positional_embedding", ("text/position_embedding",)),
        Rule(prefix + "text_projection", ("text/projection",)),
        *_norm(prefix + "ln_final", "text/ln_final"),
        *_clip_blocks(prefix + "transformer", "text"),
        Rule(prefix + "logit_scale", ("logit_scale",)),
        *_ignored(
            "a size that OpenAI's archives carry; ours come from the shapes",
            *(prefix + name for name in ("input_resolution", "context_length", "vocab_size")),
        ),
        *_ignored("the causal mask, which our attention makes", prefix + "transformer.resblocks.{i}.attn_mask"),
    ]


def ast_rules(prefix: str = "module.v.") -> list[Rule]:
    """AST, behind a prefix; the default is that of its published checkpoints."""
    source, block = prefix + "blocks.{i}", "ast/block_{i}"
    heads = [prefix + f"{head}.{part}" for head in ("head", "head_dist") for part in ("weight", "bias")]
    classifier = [f"module.mlp_head.{layer}.{part}" for layer in (0, 1) for part in ("weight", "bias")]
    return [
        Rule(prefix + "cls_token", ("ast/class_token",)),
        Rule(prefix + "dist_token", ("ast/distillation_token",)),
        Rule(prefix + "pos_embed", ("ast/position_embedding",), DROP_FIRST),
        Rule(prefix + "patch_embed.proj.weight", ("ast/patch_embedding/kernel",), CONV),
        Rule(prefix + "patch_embed.proj.bias", ("ast/patch_embedding/bias",)),
        *_norm(source + ".norm1", block + "/ln_1"),
        *_qkv(source + ".attn.qkv.", block + "/attention"),
        *_linear(source + ".attn.proj", block + "/attention/out"),
        *_norm(source + ".norm2", block + "/ln_2"),
        *_linear(source + ".mlp.fc1", block + "/mlp/fc"),
        *_linear(source + ".mlp.fc2", block + "/mlp/proj"),
        *_norm(prefix + "norm", "ast/norm"),
        *_ignored("ImageNet's heads, which nothing uses", *heads),
        *(_ignored("AudioSet's classifier", *classifier) if prefix == "module.v." else ()),
    ]


def _fusion_rules(source: str, target: str) -> list[Rule]:
    layer, block = source + ".resblocks.{i}", target + "/block_{i}"
    return [
        *_clip_blocks(source, target),
        *_attention(layer + ".cross_attn", block + "/cross_attention"),
        *_norm(layer + ".ln_3", block + "/ln_3"),
        *_norm(layer + ".ln_4", block + "/ln_4"),
        *_linear(layer + ".cross_ff.cross_fc", block + "/gated_mlp/fc", bias=False),
        *_linear(layer + ".cross_ff.cross_proj", block + "/gated_mlp/proj", bias=False),
        *_linear(layer + ".attn_gate.ag_fc", block + "/attention_gate/fc", bias=False),
        *_linear(layer + ".attn_gate.ag_proj", block + "/attention_gate/proj", bias=False),
        *_linear(layer + ".ff_gate.fg_fc", block + "/mlp_gate/fc", bias=False),
        *_linear(layer + ".ff_gate.fg_proj", block + "/mlp_gate/proj", bias=False),
    ]


def official_rules(kind: str = "save") -> list[Rule]:
    """State dicts of the official code, `kind` "save" or "avigate". AVIGATE has another name for the resampler."""
    resampler = {"save": "Audio_Resampler", "avigate": "transformer_Fusion"}[kind]
    layer, block = resampler + ".resblocks.{i}", "resampler/block_{i}"
    speech = [
        *_fusion_rules("transformerClip_ASR", "speech_fusion"),
        *_ignored("the reference creates them and never uses them", "asr_query_tokens"),
    ]
    return [
        *clip_rules("clip."),
        *ast_rules("clip.audio.v."),
        Rule("clip.audio_projection", ("audio_projection",)),
        Rule("query_tokens", ("resampler/query_tokens",), LINEAR),  # one query per column there, per row here
        Rule("query_position_embeddings.weight", ("resampler/query_position_embedding",)),
        *_clip_blocks(resampler, "resampler"),
        *_attention(layer + ".cross_attn", block + "/cross_attention"),
        *_norm(layer + ".ln_3", block + "/ln_3"),
        Rule("frame_position_embeddings.weight", ("frame_position_embedding",)),
        *_fusion_rules("transformerClip", "audio_fusion"),
        *(speech if kind == "save" else ()),
    ]


def _hf_attention(source: str, target: str, names: tuple[str, str, str, str]) -> list[Rule]:
    ours = ("query", "key", "value", "out")
    return [
        rule for name, part in zip(names, ours, strict=True) for rule in _linear(f"{source}.{name}", f"{target}/{part}")
    ]


def hf_clip_rules() -> list[Rule]:
    """Hugging Face's CLIPModel."""

    def blocks(source: str, target: str) -> list[Rule]:
        source, target = source + ".encoder.layers.{i}", target + "/block_{i}"
        names = ("q_proj", "k_proj", "v_proj", "out_proj")
        return [
            *_hf_attention(source + ".self_attn", target + "/attention", names),
            *_norm(source + ".layer_norm1", target + "/ln_1"),
            *_linear(source + ".mlp.fc1", target + "/mlp/fc"),
            *_linear(source + ".mlp.fc2", target + "/mlp/proj"),
            *_norm(source + ".layer_norm2", target + "/ln_2"),
        ]

    return [
        Rule("vision_model.embeddings.class_embedding", ("vision/class_embedding",)),
        Rule("vision_model.embeddings.position_embedding.weight", ("vision/position_embedding",)),
        Rule("vision_model.embeddings.patch_embedding.weight", ("vision/patch_embedding/kernel",), CONV),
        Rule("visual_projection.weight", ("vision/projection",), LINEAR),
        *_norm("vision_model.pre_layrnorm", "vision/ln_pre"),  # their spelling
        *_norm("vision_model.post_layernorm", "vision/ln_post"),
        *blocks("vision_model", "vision"),
        Rule("text_model.embeddings.token_embedding.weight", ("text/token_embedding",)),
        Rule("text_model.embeddings.position_embedding.weight", ("text/position_embedding",)),
        Rule("text_projection.weight", ("text/projection",), LINEAR),
        *_norm("text_model.final_layer_norm", "text/ln_final"),
        *blocks("text_model", "text"),
        Rule("logit_scale", ("logit_scale",)),
        *_ignored("0, 1, 2, …", *(f"{tower}_model.embeddings.position_ids" for tower in ("text", "vision"))),
    ]


def hf_ast_rules() -> list[Rule]:
    """Hugging Face's ASTForAudioClassification."""
    prefix, block = "audio_spectrogram_transformer.", "ast/block_{i}"
    embeddings, source = prefix + "embeddings.", prefix + "encoder.layer.{i}"
    attention = tuple(f"attention.attention.{part}" for part in ("query", "key", "value"))
    return [
        Rule(embeddings + "cls_token", ("ast/class_token",)),
        Rule(embeddings + "distillation_token", ("ast/distillation_token",)),
        Rule(embeddings + "position_embeddings", ("ast/position_embedding",), DROP_FIRST),
        Rule(embeddings + "patch_embeddings.projection.weight", ("ast/patch_embedding/kernel",), CONV),
        Rule(embeddings + "patch_embeddings.projection.bias", ("ast/patch_embedding/bias",)),
        *_norm(source + ".layernorm_before", block + "/ln_1"),
        *_hf_attention(source, block + "/attention", (*attention, "attention.output.dense")),
        *_norm(source + ".layernorm_after", block + "/ln_2"),
        *_linear(source + ".intermediate.dense", block + "/mlp/fc"),
        *_linear(source + ".output.dense", block + "/mlp/proj"),
        *_norm(prefix + "layernorm", "ast/norm"),
        *_ignored(
            "AudioSet's classifier",
            *(f"classifier.{layer}.{part}" for layer in ("layernorm", "dense") for part in ("weight", "bias")),
        ),
    ]


RULES = {
    "clip": clip_rules(),
    "ast": ast_rules(),
    "save": official_rules("save"),
    "avigate": official_rules("avigate"),
    "hf-clip": hf_clip_rules(),
    "hf-ast": hf_ast_rules(),
}
