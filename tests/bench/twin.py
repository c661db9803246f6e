"""SAVE in PyTorch, as one would write it there today: what `step_torch.py` measures ours against.

In: the sizes of `save_jax.models.retrieval.ModelSizes` and the same batches, as tensors; out: the loss. It is idiomatic
and not slowed anywhere: fused projections and scaled_dot_product_attention, no bookkeeping of gradients for frozen
layers, both kinds of text in one pass of the text tower. `twin_training.py` trains it; `tests/test_torch_twin.py` holds
it to ours.
"""

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:  # the twin's process is spared the import of JAX
    from save_jax.config.sizes import ModelSizes

Batch = Mapping[str, Tensor]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TRUNK = r"clip\.audio\.v\.(?!norm\.)"  # of AST; never trained
FROZEN = {  # by config.cache; the same that config.optim.frozen names
    "none": rf"{TRUNK}|clip\.(visual\.)?(positional|class|token)_embedding|clip\.visual\.(conv1|ln_pre)\.",
    "towers": rf"{TRUNK}|clip\.(visual|transformer|ln_final|positional_embedding|token_embedding|text_projection)\b",
}
FROZEN["ast"] = FROZEN["none"]


# ---------------------------------------------------------------- layers


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def split_heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def stream(x: Tensor) -> Tensor:
    """The start of a residual stream: in autocast's type where it is on, which float32 positions would undo."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class Attention(nn.Module):
    """Multi-head self-attention; query, key and value come from one product."""

    def __init__(self, width: int, heads: int, causal: bool = False):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.in_proj, self.out_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(y, self.heads) for y in self.in_proj(x).chunk(3, dim=-1))
        out = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Multi-head attention over a memory; key and value come from one product."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.memory = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        query = split_heads(self.query(x), self.heads)
        key, value = (split_heads(y, self.heads) for y in self.memory(memory).chunk(2, dim=-1))
        out = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, width: int, activation):
        super().__init__()
        self.activation = activation
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.activation(self.c_fc(x)))


class Block(nn.Module):
    """Pre-norm residual block, of CLIP and AST."""

    def __init__(self, width: int, heads: int, activation, eps: float, causal: bool = False):
        super().__init__()
        self.attn, self.mlp = Attention(width, heads, causal), MLP(width, activation)
        self.ln_1, self.ln_2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class ResamplerLayer(Block):
    def __init__(self, width: int, heads: int):
        super().__init__(width, heads, quick_gelu, 1e-12)
        self.cross_attn, self.ln_3 = CrossAttention(width, heads), nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        x = x + self.cross_attn(self.ln_3(x), self.ln_3(memory))
        return x + self.mlp(self.ln_2(x))


class GatedLayer(Block):
    def __init__(self, width: int, heads: int):
        super().__init__(width, heads, quick_gelu, 1e-12)
        self.cross_attn = CrossAttention(width, heads)
        self.ln_3, self.ln_4 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)

        def two(first: str, inside: int, second: str, out: int, into: int) -> nn.ModuleDict:
            return nn.ModuleDict(
                {first: nn.Linear(into, inside, bias=False), second: nn.Linear(inside, out, bias=False)}
            )

        self.cross_ff = two("cross_fc", 4 * width, "cross_proj", width, width)
        self.attn_gate = two("ag_fc", width // 2, "ag_proj", 1, 2 * width)
        self.ff_gate = two("fg_fc", width // 2, "fg_proj", 1, 2 * width)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        means = torch.cat([x.mean(1), memory.mean(1)], dim=-1)[:, None]
        attn_gate = torch.tanh(self.attn_gate["ag_proj"](quick_gelu(self.attn_gate["ag_fc"](means))))
        ff_gate = torch.tanh(self.ff_gate["fg_proj"](quick_gelu(self.ff_gate["fg_fc"](means))))
        x = x + attn_gate * self.cross_attn(self.ln_3(x), memory)
        x = x + ff_gate * self.cross_ff["cross_proj"](quick_gelu(self.cross_ff["cross_fc"](self.ln_4(x))))
        return super().forward(x)


class Stack(nn.Module):
    """Layers one after the other, under the official code's name for them."""

    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        self.resblocks = nn.ModuleList(layers)

    def forward(self, x: Tensor, *memory: Tensor) -> Tensor:
        for layer in self.resblocks:
            x = layer(x, *memory)
        return x


# ---------------------------------------------------------------- towers


class Vision(nn.Module):
    mean: Tensor  # buffers
    std: Tensor

    def __init__(self, s):
        super().__init__()
        width, grid = s.vision_width, s.image_size // s.patch_size
        self.conv1 = nn.Conv2d(3, width, s.patch_size, s.patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = nn.Parameter(torch.randn(grid**2 + 1, width) * width**-0.5)
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Stack([Block(width, width // s.head_dim, quick_gelu, 1e-5) for _ in range(s.vision_layers)])
        self.proj = nn.Parameter(torch.randn(width, s.embed_dim) * width**-0.5)
        for name, value in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, 255 * torch.tensor(value), persistent=False)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """uint8 [n, s, s, 3], and which are real, bool [n] → [n, d]."""
        with torch.no_grad():  # frozen
            pixels = ((frames - self.mean) / self.std).masked_fill(~mask[:, None, None, None], 0)
            pixels = pixels.permute(0, 3, 1, 2)  # channels last in memory, as they came
            x = self.conv1(pixels).flatten(2).transpose(1, 2)
            x = torch.cat([self.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
            x = stream(self.ln_pre(x + self.positional_embedding))
        return self.ln_post(self.transformer(x)[:, 0]) @ self.proj


class Audio(nn.Module):
    """AST: the frozen trunk (log-mel → tokens) and the trained norm apart."""

    def __init__(self, s):
        super().__init__()
        self.conv1 = nn.Conv2d(1, s.width, s.patch_size, s.stride)
        tokens = math.prod((n - p) // t + 1 for n, p, t in zip((128, 1024), s.patch_size, s.stride, strict=True))
        self.cls_token, self.dist_token = (nn.Parameter(0.02 * torch.randn(1, 1, s.width)) for _ in range(2))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, tokens + 2, s.width))
        self.transformer = Stack([Block(s.width, s.heads, F.gelu, 1e-6) for _ in range(s.layers)])
        self.norm = nn.LayerNorm(s.width, eps=1e-6)

    @torch.no_grad()
    def trunk(self, fbank: Tensor) -> Tensor:
        """[b, 1024, 128] → [b, m, w]."""
        x = self.conv1(fbank.to(self.conv1.weight.dtype).transpose(1, 2)[:, None]).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), self.dist_token.expand(len(x), -1, -1), x], dim=1)
        x = self.transformer(x + self.pos_embed)
        return torch.cat([x[:, :2].mean(1, keepdim=True), x[:, 2:]], dim=1)


class Clip(nn.Module):
    """CLIP's text tower, with the two other towers in it, as in the official code."""

    def __init__(self, sizes: "ModelSizes"):
        super().__init__()
        s = sizes.clip
        self.visual, self.audio = Vision(s), nn.ModuleDict({"v": Audio(sizes.ast)})
        self.token_embedding = nn.Embedding(s.vocab_size, s.text_width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(s.context_length, s.text_width))
        heads = s.text_width // s.head_dim
        self.transformer = Stack(
            [Block(s.text_width, heads, quick_gelu, 1e-5, causal=True) for _ in range(s.text_layers)]
        )
        self.ln_final = nn.LayerNorm(s.text_width)
        self.text_projection = nn.Parameter(torch.randn(s.text_width, s.embed_dim) * s.text_width**-0.5)
        self.audio_projection = nn.Parameter(torch.randn(sizes.ast.width, s.embed_dim) * sizes.ast.width**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def text(self, ids: Tensor) -> Tensor:
        """[n, w] → [n, w, d]."""
        x = stream(self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]])
        return self.ln_final(self.transformer(x)) @ self.text_projection


class Save(nn.Module):
    """The whole model and its loss. `cache` as config.cache: what is frozen, and what a batch brings computed."""

    def __init__(self, sizes: "ModelSizes", cache: str, beta: float = 0.2, delta: float = 0.1):
        super().__init__()
        s, width = sizes.fusion, sizes.fusion.width
        heads = width // s.head_dim
        self.clip, self.weights, self.beta, self.delta = Clip(sizes), sizes.weights, beta, delta
        self.query_tokens = nn.Parameter(nn.init.orthogonal_(torch.empty(width, s.queries)))
        self.query_position_embeddings = nn.Embedding(s.queries, width)
        self.Audio_Resampler = Stack([ResamplerLayer(width, heads) for _ in range(s.resampler_layers)])
        self.frame_position_embeddings = nn.Embedding(sizes.clip.context_length, width)
        self.transformerClip = Stack([GatedLayer(width, heads) for _ in range(s.fusion_layers)])
        self.transformerClip_ASR = Stack([GatedLayer(width, heads) for _ in range(s.fusion_layers)])
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not re.match(FROZEN[cache], name))

    def texts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(queries [b, d], transcripts [b, w, d]), both from one pass of the tower they share."""
        if "text" in batch:
            return batch["text"], batch["speech"]
        ids = batch["text_ids"]
        queries, speech = self.clip.text(torch.cat([ids, batch["speech_ids"]])).chunk(2)
        return queries[torch.arange(len(ids), device=ids.device), ids.argmax(1)], speech

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch, float32."""
        texts, speech = self.texts(batch)
        if "visual" in batch:
            visual = batch["visual"]
        else:
            frames = batch["frames"]
            visual = self.clip.visual(frames.flatten(0, 1), batch["frame_mask"].flatten()).unflatten(
                0, frames.shape[:2]
            )
        visual = visual.float() + self.frame_position_embeddings.weight[: visual.shape[1]]
        ast: Any = self.clip.audio["v"]
        tokens = batch["ast"] if "ast" in batch else ast.trunk(batch["fbank"])
        audio = ast.norm(tokens.to(ast.norm.weight.dtype)) @ self.clip.audio_projection
        queries = self.query_tokens.T + self.query_position_embeddings.weight
        audio = self.Audio_Resampler(queries.expand(len(audio), -1, -1), audio)
        heard, said = self.transformerClip(visual, audio), self.transformerClip_ASR(visual, speech.to(visual.dtype))
        own, of_audio, of_speech = self.weights
        fused = own * visual + of_audio * heard + of_speech * said
        with torch.autocast(visual.device.type, enabled=False):
            return self.loss(texts.float(), visual.float(), audio.float(), fused.float(), batch)

    def loss(self, texts: Tensor, visual: Tensor, audio: Tensor, fused: Tensor, batch: Batch) -> Tensor:
        mask, scale = batch["frame_mask"], self.clip.logit_scale.exp()
        texts, frames, plain = (F.normalize(x, dim=-1) for x in (texts, fused, visual))
        means = F.normalize(masked_mean(frames, mask), dim=-1)
        by_frame = (scale * torch.einsum("qd,vtd->qvt", texts, frames)).masked_fill(~mask, -1e30)
        scores = 0.5 * (scale * (texts @ means.T) + by_frame.logsumexp(-1))
        with torch.no_grad():
            videos = F.normalize(masked_mean(plain, mask), dim=-1)
            margin = (self.beta * (1 - 0.5 * (texts @ texts.T + videos @ videos.T))).clamp(max=self.delta)
            margin.fill_diagonal_(0)
        scores, labels = scores + scale * margin, torch.arange(len(texts), device=texts.device)
        contrastive = 0.5 * (F.cross_entropy(scores, labels) + F.cross_entropy(scores.T, labels))
        student = F.normalize(plain.mean(1), dim=-1) @ F.normalize(F.normalize(audio, dim=-1).mean(1), dim=-1).T
        teacher = F.normalize(batch["teacher_video"], dim=-1) @ F.normalize(batch["teacher_audio"], dim=-1).T
        valid = batch["has_audio"] & batch["has_teacher"]
        return contrastive + pearson(student, teacher, valid) + pearson(student.T, teacher.T, valid)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    weight = mask.to(x.dtype)
    return torch.einsum("btd,bt->bd", x, weight) / weight.sum(1, keepdim=True).clamp(min=1)


def pearson(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Mean over valid rows of 1 − correlation of the two softmaxes over valid columns; 0 for fewer than two of them."""
    count, both = valid.sum(), valid[:, None] & valid
    p, q = ((5 * x).masked_fill(~both, -1e30).softmax(-1) * both for x in (student, teacher))
    p, q = ((x - x.sum(-1, keepdim=True) / count.clamp(min=1)) * both for x in (p, q))
    distance = ((1 - F.cosine_similarity(p, q, dim=-1, eps=1e-12)) * valid).sum() / count.clamp(min=1)
    return torch.where(count >= 2, distance, 0.0)
