"""The whole model: texts and videos → vectors to score. SAVE, AVIGATE and vision only are settings of it."""

import dataclasses
import math
from collections.abc import Collection

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from save_jax.models.ast import AstSizes, AudioTower
from save_jax.models.clip import ClipSizes, TextTower, VisionTower, at_end_of_text, normalize_pixels
from save_jax.models.fusion import Fused, FusionSizes, GatedFusion, Resampler
from save_jax.models.layers import normal_02, project


@dataclasses.dataclass(frozen=True)
class ModelSizes:
    """Everything the model's shapes and arithmetic depend on."""

    clip: ClipSizes
    ast: AstSizes
    fusion: FusionSizes
    branches: tuple[str, ...]  # ("vision",), ("vision", "audio") or ("vision", "audio", "speech")
    weights: tuple[float, ...]  # of the branches in the fused tokens, in the same order
    dtype: jnp.dtype  # of the computation; parameters are float32


@flax.struct.dataclass
class VideoEmbedding:
    """A video's tokens before and after fusion. `audio`, `audio_fused`, `speech_fused` are None without the branch."""

    visual: Float[Array, "b t d"]  # frame embeddings plus frame positions
    fused: Float[Array, "b t d"]
    audio: Float[Array, "b q d"] | None
    audio_fused: Fused | None
    speech_fused: Fused | None


class Retrieval(nn.Module):
    """Text and video encoder. Nothing is normalised in here; `similarity` does that."""

    sizes: ModelSizes

    def setup(self):
        s, dtype = self.sizes, self.sizes.dtype
        self.vision = VisionTower(s.clip, dtype)
        self.text = TextTower(s.clip, dtype)
        self.logit_scale = self.param("logit_scale", nn.initializers.constant(math.log(1 / 0.07)), ())
        self.frame_position_embedding = self.param(
            "frame_position_embedding", normal_02, (s.clip.context_length, s.clip.embed_dim)
        )
        if "audio" in s.branches:
            self.ast = AudioTower(s.ast, dtype)
            init = nn.initializers.normal(s.ast.width**-0.5)
            self.audio_projection = self.param("audio_projection", init, (s.ast.width, s.clip.embed_dim))
            self.resampler = Resampler(s.fusion, dtype)
            self.audio_fusion = GatedFusion(s.fusion, dtype)
        if "speech" in s.branches:
            self.speech_fusion = GatedFusion(s.fusion, dtype)

    def encode_text(self, ids: Int[Array, "b w"]) -> Float[Array, "b d"]:
        """Query ids → query embeddings."""
        return at_end_of_text(self.text(ids), ids)

    def encode_audio(self, fbank: Float[Array, "b time mel"]) -> Float[Array, "b m d"]:
        """Log-mel pictures → audio tokens in the joint space."""
        return project(self.ast(fbank), self.audio_projection)

    def encode_video(
        self,
        frames: Shaped[Array, "b t s s 3"],
        fbank: Float[Array, "b time mel"] | None = None,
        speech_ids: Int[Array, "b w"] | None = None,
    ) -> VideoEmbedding:
        """Videos → tokens. Reads no text but the video's own transcript: an embedding never depends on a query.

        Args:
            frames: uint8 pictures, or float ones that are normalised already; zero-padded frames are encoded too.
            fbank: normalised log-mel, all zeros where there is no sound track. Only the audio branch reads it.
            speech_ids: transcript tokens, all zeros where nothing was said. Only the speech branch reads it, and keeps
                every position, padding included.
        """
        sizes = self.sizes
        pixels = normalize_pixels(frames, sizes.dtype)
        visual = self.vision(pixels.reshape(-1, *pixels.shape[2:])).reshape(*frames.shape[:2], -1)
        visual = visual + self.frame_position_embedding[: frames.shape[1]]
        weights = dict(zip(sizes.branches, sizes.weights, strict=True))
        fused = weights["vision"] * visual
        audio = audio_fused = speech_fused = None
        if "audio" in sizes.branches:
            audio = self.resampler(self.encode_audio(fbank))
            audio_fused = self.audio_fusion(visual, audio)
            fused = fused + weights["audio"] * audio_fused.tokens
        if "speech" in sizes.branches:
            speech_fused = self.speech_fusion(visual, self.text(speech_ids))
            fused = fused + weights["speech"] * speech_fused.tokens
        return VideoEmbedding(visual, fused, audio, audio_fused, speech_fused)

    def __call__(self, batch: dict[str, Array]) -> tuple[Float[Array, "b d"], VideoEmbedding, Float[Array, ""]]:
        """A training batch → (text embeddings, video embeddings, log of the scale)."""
        video = self.encode_video(batch["frames"], batch.get("fbank"), batch.get("speech_ids"))
        return self.encode_text(batch["text_ids"]), video, self.logit_scale


def start_from_text_tower(params: dict, keep: Collection[str] = ()) -> dict:
    """Copies CLIP's text blocks into resampler and fusion, and its positions into the frame positions.

    Self-attention, ln_1, ln_2 and MLP of layer i start from text layer i (where both exist and have one width), as the
    reference does when it builds its model from CLIP. Cross-attention, gates and gated MLP stay as they are, and so do
    the modules named in `keep`, which a checkpoint filled.
    """
    params, text = dict(params), params["text"]
    if text["token_embedding"].shape[1] != params["frame_position_embedding"].shape[1]:
        return params
    if "frame_position_embedding" not in keep:
        params["frame_position_embedding"] = text["position_embedding"]
    for name in ("resampler", "audio_fusion", "speech_fusion"):
        if name in params and name not in keep:
            params[name] = {
                block: layer | {part: text[block][part] for part in ("attention", "ln_1", "ln_2", "mlp")}
                if block in text
                else layer
                for block, layer in params[name].items()
            }
    return params
