"""The whole model: texts and videos → vectors to score. SAVE, AVIGATE and vision alone are settings of it."""

import math
from collections.abc import Collection, Mapping

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Shaped
from ml_collections import ConfigDict

from save_jax.config.sizes import ModelSizes, model_sizes
from save_jax.data.records import FBANK_SHAPE
from save_jax.models.ast import AudioTower
from save_jax.models.attention import kernel_for
from save_jax.models.clip import TextTower, VisionTower, at_end_of_text, normalize_pixels
from save_jax.models.fusion import Fused, GatedFusion, Resampler
from save_jax.models.layers import normal_02, project


@flax.struct.dataclass
class VideoEmbedding:
    """A video's tokens before and after fusion. What belongs to a branch that the model lacks is None."""

    visual: Float[Array, "b t d"]  # frame embeddings plus frame positions
    fused: Float[Array, "b t d"]
    audio: Float[Array, "b q d"] | None
    audio_fused: Fused | None
    speech_fused: Fused | None


class Retrieval(nn.Module):
    """Text and video encoder. Its outputs are not normalised; `similarity` does that."""

    sizes: ModelSizes
    kernel: str = "cpu"  # of attention, see `attention.attend`; it changes no shape and no parameter

    exact_kernels = r"^resampler/.*/cross_attention/(key|value)/"  # a norm's scale is multiplied into them first

    def setup(self):
        s = self.sizes
        # On a TPU a head at a time is for what is long and has no gradient: AST.
        how = (s.dtype, s.remat, "xla" if self.kernel == "tpu" else self.kernel)
        self.vision = VisionTower(s.clip, *how)
        self.text = TextTower(s.clip, *how)
        self.logit_scale = self.param("logit_scale", nn.initializers.constant(math.log(1 / 0.07)), ())
        self.frame_position_embedding = self.param(
            "frame_position_embedding", normal_02, (s.clip.context_length, s.clip.embed_dim)
        )
        if "audio" in s.branches:
            self.ast = AudioTower(s.ast, s.dtype, s.remat, self.kernel)
            init = nn.initializers.normal(s.ast.width**-0.5)
            self.audio_projection = self.param("audio_projection", init, (s.ast.width, s.clip.embed_dim))
            self.resampler = Resampler(s.fusion, *how)
            self.audio_fusion = GatedFusion(s.fusion, *how)
        if "speech" in s.branches:
            self.speech_fusion = GatedFusion(s.fusion, *how)

    def example(self, config: ConfigDict) -> dict[str, Array]:
        """A batch of zeros, to initialise with."""
        size, frames, words = config.model.image_size, config.data.max_frames, config.data.max_words
        return {
            "frames": jnp.zeros((1, frames, size, size, 3), jnp.uint8),
            "frame_mask": jnp.ones((1, frames), bool),
            "fbank": jnp.zeros((1, *FBANK_SHAPE), jnp.float16),
            "speech_ids": jnp.zeros((1, words), jnp.int32),
            "text_ids": jnp.zeros((1, words), jnp.int32),
        }

    def complete(self, params: dict, keep: Collection[str] = ()) -> dict:
        """Copies parts of the text tower, see `start_from_text_tower`; modules in `keep` stay as they are."""
        return start_from_text_tower(params, keep)

    def encode_text(self, ids: Int[Array, "b w"]) -> Float[Array, "b d"]:
        """Query ids → query embeddings."""
        return at_end_of_text(self.text(ids), ids)

    def encode_query(self, inputs: Mapping[str, Array]) -> Float[Array, "b d"]:
        """Queries → embeddings: the stored output `text` of `towers` if the inputs have it, else from `text_ids`."""
        return inputs["text"].astype(jnp.float32) if "text" in inputs else self.encode_text(inputs["text_ids"])

    def encode_frames(
        self, frames: Shaped[Array, "b t s s 3"], frame_mask: Bool[Array, "b t"]
    ) -> Float[Array, "b t d"]:
        """Pictures (uint8, or float and normalised already) → one vector each, without its position in time.

        Padded frames are encoded, too: fusion and early alignment read them, as in the reference, which pads with zeros
        *after* normalisation. So the mask is applied to normalised pixels.
        """
        sizes = self.sizes
        pixels = normalize_pixels(frames, sizes.dtype, sizes.pixel_mean, sizes.pixel_std)
        pixels = jnp.where(frame_mask[..., None, None, None], pixels, 0)
        return self.vision(pixels.reshape(-1, *pixels.shape[2:])).reshape(*frames.shape[:2], -1)

    def encode_audio(self, inputs: Mapping[str, Array]) -> Float[Array, "b m d"]:
        """Audio tokens in the joint space, from the stored output `ast` of `towers` if given, else from `fbank`."""
        trunk = inputs["ast"] if "ast" in inputs else self.ast.trunk(inputs["fbank"])
        return project(self.ast.norm(trunk), self.audio_projection)

    def towers(self, inputs: Mapping[str, Array]) -> dict[str, Float[Array, "..."]]:
        """Outputs of the frozen towers for these inputs, to be stored and read instead of the inputs.

        Returns:
            `ast` from `fbank`: AST's tokens before its last norm, [b, m, w], in the dtype of the computation;
            float32 `visual` [b, t, d] from `frames` and `frame_mask`, `speech` [b, w, d] from `speech_ids`, `text`
            [b, d] from `text_ids`. Inputs that no branch of the model reads are left out.
        """
        branches = self.sizes.branches
        outputs = {}
        if "frames" in inputs:
            outputs["visual"] = self.encode_frames(inputs["frames"], inputs["frame_mask"])
        if "fbank" in inputs and "audio" in branches:
            outputs["ast"] = self.ast.trunk(inputs["fbank"])
        if "speech_ids" in inputs and "speech" in branches:
            outputs["speech"] = self.text(inputs["speech_ids"])
        if "text_ids" in inputs:
            outputs["text"] = self.encode_text(inputs["text_ids"])
        return outputs

    def encode_video(self, inputs: Mapping[str, Array]) -> VideoEmbedding:
        """Videos → tokens. The only text it reads is the video's own transcript: no embedding depends on a query.

        Args:
            inputs: these arrays; others are ignored. Inputs of branches that the model lacks may be missing.
                frames: uint8 pictures [b, t, s, s, 3], or float ones that are normalised already.
                frame_mask: bool [b, t], False for what only pads; see `encode_frames`.
                fbank: normalised log-mel [b, time, mel], all zeros where there is no sound track.
                speech_ids: transcript tokens [b, w], all zeros where nothing was said. Every position is kept, padding
                    included.
                visual, ast, speech: stored outputs of `towers`, in any float dtype. Where given, they are read instead.
        """
        return self.fuse(*self.encode_modalities(inputs))

    def encode_modalities(
        self, inputs: Mapping[str, Array]
    ) -> tuple[Float[Array, "b t d"], Float[Array, "b q d"] | None, Float[Array, "b w d"] | None]:
        """Videos → tokens of frames (with position), sound and speech, each of its own input alone.

        Args and absent branches: as in `encode_video`.
        """
        branches = self.sizes.branches
        stored = "visual" in inputs
        visual = inputs["visual"] if stored else self.encode_frames(inputs["frames"], inputs["frame_mask"])
        visual = visual + self.frame_position_embedding[: visual.shape[1]]  # float32, whatever was stored
        audio = self.resampler(self.encode_audio(inputs)) if "audio" in branches else None
        speech = None
        if "speech" in branches:
            speech = inputs["speech"].astype(jnp.float32) if "speech" in inputs else self.text(inputs["speech_ids"])
        return visual, audio, speech

    def fuse(
        self,
        visual: Float[Array, "b t d"],
        audio: Float[Array, "b q d"] | None,
        speech: Float[Array, "b w d"] | None,
    ) -> VideoEmbedding:
        """Lets the frames take from sound and speech; from `encode_modalities`."""
        weights = dict(zip(self.sizes.branches, self.sizes.weights, strict=True))
        fused = weights["vision"] * visual
        audio_fused = speech_fused = None
        if audio is not None:
            audio_fused = self.audio_fusion(visual, audio)
            fused = fused + weights["audio"] * audio_fused.tokens
        if speech is not None:
            speech_fused = self.speech_fusion(visual, speech)
            fused = fused + weights["speech"] * speech_fused.tokens
        return VideoEmbedding(visual, fused, audio, audio_fused, speech_fused)

    def __call__(self, batch: Mapping[str, Array]) -> tuple[Float[Array, "b d"], VideoEmbedding, Float[Array, ""]]:
        """A training batch → (text embeddings, video embeddings, log of the scale)."""
        texts = None
        if "speech" in self.sizes.branches and "speech_ids" in batch and "text_ids" in batch:
            # Transcript and query in one pass through the text tower, side by side: no row leaves its device.
            ids = jnp.stack([batch["speech_ids"], batch["text_ids"]], axis=1)
            both = self.text(ids.reshape(-1, ids.shape[-1])).reshape(*ids.shape, -1)
            batch, texts = {**batch, "speech": both[:, 0]}, at_end_of_text(both[:, 1], batch["text_ids"])
        video = self.encode_video(batch)
        return self.encode_query(batch) if texts is None else texts, video, self.logit_scale


def make_model(config: ConfigDict, mesh: Mesh) -> Retrieval:
    """The model of a resolved config for the devices of a mesh. Raises ValueError as `attention.kernel_for`."""
    return Retrieval(model_sizes(config), kernel_for(config, mesh))


def start_from_text_tower(params: dict, keep: Collection[str] = ()) -> dict:
    """Copies CLIP's text blocks into resampler and fusion, and its positions into the frame positions.

    Self-attention, ln_1, ln_2 and MLP of layer i start as text layer i, where both exist and have the same width. The
    reference does so when it builds its model from CLIP. Cross-attention, gates and gated MLP stay as they are. So do
    the modules named in `keep`: they come from a checkpoint.
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
