"""Rule tables: every name of a PyTorch state dict, where it goes in our tree, and how the array changes on the way.

Ports the names of OpenAI's CLIP, of AST (timm's distilled ViT), of MAE, of the official SAVE and AVIGATE code, and of
Hugging Face's CLIP and AST as its files have them. A table works in both directions, but for those that make or take a
VLSA; `convert.py` applies it. `{i}` stands for a layer's number.
"""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one source array becomes ours (one or several), and back, where there is a way back."""

    forward: Callable[[np.ndarray], list[np.ndarray]]
    backward: Callable[[list[np.ndarray]], np.ndarray] | None = None


SAME = Layout(lambda x: [x], lambda xs: xs[0])
LINEAR = Layout(lambda x: [x.T], lambda xs: xs[0].T)  # PyTorch keeps linear weights as (out, in)
CONV = Layout(lambda x: [x.transpose(2, 3, 1, 0)], lambda xs: xs[0].transpose(3, 2, 0, 1))
DROP_FIRST = Layout(lambda x: [x[0]], lambda xs: xs[0][None])
THREE_LINEAR = Layout(lambda x: [p.T for p in np.split(x, 3)], lambda xs: np.concatenate([x.T for x in xs]))
THREE = Layout(lambda x: np.split(x, 3), lambda xs: np.concatenate(xs))
# Into VLSA: a convolution as a linear layer on patches (row, column, channel); positions without the class token's.
PATCHES = Layout(lambda x: [x.transpose(2, 3, 1, 0).reshape(-1, len(x))])
PLACES = Layout(lambda x: [x.reshape(-1, x.shape[-1])[1:]])
ONE_TOKEN = Layout(lambda x: [x[0, 0]])
FLAT_PATCH = Layout(lambda x: [x])  # out of VLSA: vlsa.py gives it the shape of AST's patch


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


def _timm_blocks(source: str, target: str) -> list[Rule]:
    source, target = source + ".{i}", target + "/block_{i}"
    return [
        *_norm(source + ".norm1", target + "/ln_1"),
        *_qkv(source + ".attn.qkv.", target + "/attention"),
        *_linear(source + ".attn.proj", target + "/attention/out"),
        *_norm(source + ".norm2", target + "/ln_2"),
        *_linear(source + ".mlp.fc1", target + "/mlp/fc"),
        *_linear(source + ".mlp.fc2", target + "/mlp/proj"),
    ]


def ast_rules(prefix: str = "module.v.") -> list[Rule]:
    """AST, behind a prefix; the default is that of its published checkpoints."""
    heads = [prefix + f"{head}.{part}" for head in ("head", "head_dist") for part in ("weight", "bias")]
    classifier = [f"module.mlp_head.{layer}.{part}" for layer in (0, 1) for part in ("weight", "bias")]
    return [
        Rule(prefix + "cls_token", ("ast/class_token",)),
        Rule(prefix + "dist_token", ("ast/distillation_token",)),
        Rule(prefix + "pos_embed", ("ast/position_embedding",), DROP_FIRST),
        Rule(prefix + "patch_embed.proj.weight", ("ast/patch_embedding/kernel",), CONV),
        Rule(prefix + "patch_embed.proj.bias", ("ast/patch_embedding/bias",)),
        *_timm_blocks(prefix + "blocks", "ast"),
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
    query, key, value = (f"attention.attention.{part}" for part in ("query", "key", "value"))
    return [
        Rule(embeddings + "cls_token", ("ast/class_token",)),
        Rule(embeddings + "distillation_token", ("ast/distillation_token",)),
        Rule(embeddings + "position_embeddings", ("ast/position_embedding",), DROP_FIRST),
        Rule(embeddings + "patch_embeddings.projection.weight", ("ast/patch_embedding/kernel",), CONV),
        Rule(embeddings + "patch_embeddings.projection.bias", ("ast/patch_embedding/bias",)),
        *_norm(source + ".layernorm_before", block + "/ln_1"),
        *_hf_attention(source, block + "/attention", (query, key, value, "attention.output.dense")),
        *_norm(source + ".layernorm_after", block + "/ln_2"),
        *_linear(source + ".intermediate.dense", block + "/mlp/fc"),
        *_linear(source + ".output.dense", block + "/mlp/proj"),
        *_norm(prefix + "layernorm", "ast/norm"),
        *_ignored(
            "AudioSet's classifier",
            *(f"classifier.{layer}.{part}" for layer in ("layernorm", "dense") for part in ("weight", "bias")),
        ),
    ]


# ---------------------------------------------------------------- into VLSA, and out of it

NO_CLASS_TOKEN = "VLSA's encoder has no class token"


def mae_vlsa_rules() -> list[Rule]:
    """MAE (arXiv 2111.06377), with or without its decoder. Pixels are accounted for in convert_vlsa.py."""
    return [
        *_ignored(NO_CLASS_TOKEN, "cls_token"),
        Rule("pos_embed", ("place_position",), PLACES),
        Rule("patch_embed.proj.weight", ("video_projection/kernel",), PATCHES),
        Rule("patch_embed.proj.bias", ("video_projection/bias",)),
        *_timm_blocks("blocks", "encoder"),
        *_norm("norm", "encoder/ln_final"),
        *_linear("decoder_embed", "decoder_input"),
        Rule("mask_token", ("hidden_token",), ONE_TOKEN),
        *_timm_blocks("decoder_blocks", "decoder"),
        *_norm("decoder_norm", "decoder/ln_final"),
        *_ignored("VLSA's decoder makes its positions from the encoder's", "decoder_pos_embed"),
        *_ignored("it predicts pixels as MAE normalises them", "decoder_pred.weight", "decoder_pred.bias"),
    ]


def clip_vlsa_rules() -> list[Rule]:
    """OpenAI CLIP's picture tower. VLSA's encoder has no norm before its blocks: a start, not its function."""
    reasons = {
        "vision/class_embedding": NO_CLASS_TOKEN,
        "vision/ln_pre/scale": "VLSA's encoder has no norm before its blocks",
        "vision/ln_pre/bias": "VLSA's encoder has no norm before its blocks",
        "vision/projection": "VLSA compares the encoder's own vectors",
        "logit_scale": "VLSA learns a scale of its own",
    }
    layouts = {"vision/position_embedding": PLACES, "vision/patch_embedding/kernel": PATCHES}
    names = {"position_embedding": "place_position", "patch_embedding/kernel": "video_projection/kernel"}
    names |= {f"ln_post/{part}": f"encoder/ln_final/{part}" for part in ("scale", "bias")}
    rules = []
    for rule in clip_rules():
        first = rule.targets[0] if rule.targets else ""
        if first.startswith("vision/") and first not in reasons:
            ours = [target.removeprefix("vision/") for target in rule.targets]
            targets = tuple(names.get(target, f"encoder/{target}") for target in ours)
            rules.append(Rule(rule.source, targets, layouts.get(first, rule.layout)))
        else:
            reason = rule.reason or reasons.get(first, "VLSA's words are BERT's, read by the one encoder")
            rules += _ignored(reason, rule.source)
    return rules


def vlsa_ast_rules() -> list[Rule]:
    """Our own names on both sides: a VLSA's encoder and audio patches → SAVE's audio tower."""
    blocks = [target.removeprefix("/") for rule in _timm_blocks("", "") for target in rule.targets]
    norm = [("encoder/ln_final/" + part, "ast/norm/" + part) for part in ("scale", "bias")]
    sound = ("frequency_position", "time_position", "type_embedding")  # convert_vlsa.py makes them AST's
    dense = ("video_projection", "decoder_input", "decoder_position", "heads_video", "heads_text", "heads_audio",
             "matching_video", "matching_text")  # fmt: skip
    unheard = [f"{name}/{part}" for name in dense for part in ("kernel", "bias")]
    unheard += [f"decoder/{name}" for name in (*blocks, "ln_final/scale", "ln_final/bias")]
    unheard += ["word_embedding", "word_position", "place_position", "frame_position", "hidden_token"]
    return [
        *(Rule(f"encoder/{name}", (f"ast/{name}",)) for name in blocks),
        *(Rule(source, (target,)) for source, target in norm),
        Rule("audio_projection/kernel", ("ast/patch_embedding/kernel",), FLAT_PATCH),
        Rule("audio_projection/bias", ("ast/patch_embedding/bias",)),
        *(Rule(name, (name,)) for name in sound),
        *_ignored("no part of hearing", *unheard, "encoder_hidden_token", "logit_scale"),
    ]


RULES = {
    "clip": clip_rules(),
    "ast": ast_rules(),
    "save": official_rules("save"),
    "avigate": official_rules("avigate"),
    "hf-clip": hf_clip_rules(),
    "hf-ast": hf_ast_rules(),
    "mae-vlsa": mae_vlsa_rules(),
    "clip-vlsa": clip_vlsa_rules(),
    "vlsa-ast": vlsa_ast_rules(),
}
# What only some sources of a kind hold, all of it or nothing: our names begin so.
OPTIONAL = {"mae-vlsa": ("decoder/", "decoder_input/", "hidden_token"), "vlsa-ast": ("ast/patch_embedding/",)}
