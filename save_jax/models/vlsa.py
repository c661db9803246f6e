"""VLSA: one encoder for video, text and audio patches, trained by masked modelling and global audio matching.

arXiv 2405.07202. Its authors have published no code. What the paper leaves open is chosen here, with a comment.
"""

import functools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key
from ml_collections import ConfigDict

from save_jax.config.sizes import VlsaSizes, vlsa_sizes
from save_jax.config.vlsa import MODALITIES
from save_jax.models.attention import kernel_for
from save_jax.models.clip import normalize_pixels
from save_jax.models.layers import ACTIVATIONS, Block, LayerNorm, normal_02, remat
from save_jax.models.masking import Masking, draw_masking
from save_jax.models.similarity import masked_mean, unit

EPSILON = 1e-6
Tokens = dict[str, tuple[Array, Array]]  # modality → (patches or word ids, mask [b, n]: True for real tokens)


class MaskedTokens(NamedTuple):
    """Masked modelling of one modality: of every masked token the prediction and the target."""

    predictions: Float[Array, "b h p"]
    targets: Float[Array, "b h p"] | Int[Array, "b h"]
    masking: Masking


def patches(x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b n p"]:
    """A picture cut into patches, row by row, each as one vector (row, column, channel)."""
    batch, height, width, channels = x.shape
    ph, pw = size
    grid = x.reshape(batch, height // ph, ph, width // pw, pw, channels).swapaxes(2, 3)
    return grid.reshape(batch, -1, ph * pw * channels)


def pictures(x: Float[Array, "b n p"], shape: tuple[int, int, int], size: tuple[int, int]) -> Float[Array, "b h w c"]:
    """The inverse of `patches`."""
    (height, width, channels), (ph, pw) = shape, size
    grid = x.reshape(-1, height // ph, width // pw, ph, pw, channels).swapaxes(2, 3)
    return grid.reshape(-1, height, width, channels)


class Stack(nn.Module):
    """Pre-norm blocks and a last norm. Tokens where `mask` is False are not attended to."""

    width: int
    depth: int
    heads: int
    activation: str
    dtype: jnp.dtype
    remat: str
    kernel: str

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], mask: Bool[Array, "b n"]) -> Float[Array, "b n d"]:
        activation = ACTIVATIONS[self.activation]
        block = functools.partial(
            remat(Block, self.remat), self.width, self.heads, self.depth, activation, EPSILON, self.dtype
        )
        for layer in range(self.depth):
            x = block(self.kernel, name=f"block_{layer}")(x, mask)
        return LayerNorm(EPSILON, self.dtype, name="ln_final")(x)


class Vlsa(nn.Module):
    """Encoder, decoder and matching heads.

    A modality that a sample lacks is not attended to, has the zero vector as its embedding and nothing to predict.
    """

    sizes: VlsaSizes
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"
    kernel: str = "cpu"

    exact_kernels = r"^(heads|matching)_"  # float32 in every dtype

    def setup(self):
        s, init = self.sizes, normal_02
        dense = functools.partial(nn.Dense, dtype=self.dtype)
        self.video_projection, self.audio_projection = dense(s.width), dense(s.width)
        self.word_embedding = self.param("word_embedding", init, (s.vocab_size, s.width))
        side = s.image_size // s.patch_size
        rows, columns = (n // p for n, p in zip(s.spectrogram, s.audio_patch, strict=True))
        for name, length in {
            "place_position": side * side,  # in a frame
            "frame_position": s.frames,
            "word_position": s.words,
            "frequency_position": rows,
            "time_position": columns,
            "type_embedding": len(MODALITIES),
        }.items():
            setattr(self, name, self.param(name, init, (length, s.width)))
        same = {"dtype": self.dtype, "remat": self.remat, "kernel": self.kernel}
        self.encoder = Stack(s.width, s.layers, s.heads, s.activation, **same)
        self.decoder = Stack(s.decoder_width, s.decoder_layers, s.decoder_heads, s.activation, **same)
        self.decoder_input, self.decoder_position = dense(s.decoder_width), dense(s.decoder_width)
        # The learned mask tokens. Stored runs name these parameters, and the setting drop_hidden, "hidden".
        self.mask_token = self.param("hidden_token", init, (s.decoder_width,))
        if not s.drop_hidden:
            self.encoder_mask_token = self.param("encoder_hidden_token", init, (s.width,))
        self.heads = {name: dense(size, dtype=jnp.float32) for name, size in s.targets.items()}
        # A linear head on two concatenated vectors adds a number that depends on the first to one that depends on the
        # second. It cannot compare them: its loss stays at ln 2. With their product as a third input it can.
        self.matching = {name: nn.Dense(1) for name in ("video", "text")}
        self.logit_scale = self.param("logit_scale", nn.initializers.constant(math.log(s.initial_scale)), ())

    def example(self, config: ConfigDict) -> dict[str, jax.Array]:
        """A batch of zeros, to initialise with."""
        s = self.sizes
        return {
            "frames": jnp.zeros((1, s.frames, s.image_size, s.image_size, 3), jnp.uint8),
            "frame_mask": jnp.ones((1, s.frames), bool),
            "words": jnp.ones((1, s.words), jnp.int32),
            "spectrogram": jnp.zeros((1, *s.spectrogram), jnp.float16),
            "has_audio": jnp.ones(1, bool),
            "draw": jnp.zeros(1, jnp.int32),
        }

    def complete(self, params: dict, keep: tuple[str, ...] = ()) -> dict:
        """Nothing here starts as a copy of something else."""
        return params

    # ------------------------------------------------------------ tokens

    def raw(self, batch: dict, names: tuple[str, ...] = MODALITIES) -> Tokens:
        """Patches or word ids of each modality in `names`, and their masks. The batch needs the inputs of these alone.

        Reads `frames` uint8 [b, t, s, s, 3] and `frame_mask` [b, t]; `words` int32 [b, w], padded with 0;
        `spectrogram` [b, f, t] and `has_audio` [b].
        """
        s, tokens = self.sizes, {}
        if "video" in names:
            frames, mask = batch["frames"], batch["frame_mask"]
            b, t = mask.shape
            pixels = normalize_pixels(frames, jnp.dtype("float32")).reshape(b * t, s.image_size, s.image_size, 3)
            cut = patches(pixels, (s.patch_size, s.patch_size))
            tokens["video"] = (cut.reshape(b, -1, cut.shape[-1]), jnp.repeat(mask, cut.shape[1], axis=1))
        if "text" in names:
            tokens["text"] = (batch["words"], batch["words"] > 0)
        if "audio" in names:
            cut = patches(batch["spectrogram"].astype(jnp.float32)[..., None], s.audio_patch)
            tokens["audio"] = (cut, jnp.broadcast_to(batch["has_audio"][:, None], cut.shape[:2]))
        return tokens

    def read(self, name: str, raw: Tokens) -> tuple[Array, Array]:
        """(patches or word ids, mask) as the encoder reads them: `standardize` takes out what all clips share.

        That is the mean and deviation of all tokens, also of masked ones, as in evaluation, which masks none. Targets
        stay as they are: level and contrast of a sound are then a part of them that cannot be predicted.
        """
        values, mask = raw[name]
        if not self.sizes.standardize or name == "text":
            return values, mask
        return standardized(values, mask, {"video": 3, "audio": 1}[name]), mask

    def position(self, name: str) -> Float[Array, "n d"]:
        """Position and type of every token of a modality."""
        if name == "video":
            table = self.frame_position[:, None] + self.place_position
        elif name == "text":
            table = self.word_position
        else:
            table = self.frequency_position[:, None] + self.time_position
        return table.reshape(-1, self.sizes.width) + self.type_embedding[MODALITIES.index(name)]

    def look(self, name: str, raw: Array) -> Float[Array, "b n d"]:
        """Patches or words as vectors of the encoder's width, without position."""
        if name == "text":
            return self.word_embedding[raw].astype(self.dtype)
        return {"video": self.video_projection, "audio": self.audio_projection}[name](raw)

    # ------------------------------------------------------------ what losses and evaluation use

    def embed(self, batch: dict, names: tuple[str, ...]) -> dict[str, Float[Array, "b d"]]:
        """The mean of all tokens of each modality, each encoded alone, float32; zero where a sample has none."""
        raw, embeddings = self.raw(batch, names), {}
        for name in raw:
            values, mask = self.read(name, raw)
            x = self.look(name, values) + self.position(name).astype(self.dtype)
            embeddings[name] = masked_mean(self.encoder(x, mask).astype(jnp.float32), mask)
        return embeddings

    def maskings(self, batch: dict, raw: Tokens) -> dict[str, Masking]:
        """Which tokens of each sample are masked. Its `draw`, int32 [b], and its masks decide it."""
        maskings = {}
        for number, (name, share) in enumerate(zip(MODALITIES, self.sizes.shares, strict=True)):
            key = jax.random.key(number)
            keys: Key[Array, " b"] = jax.vmap(functools.partial(jax.random.fold_in, key))(batch["draw"])
            mask = raw[name][1]
            groups = self.sizes.frames if name == "video" else 1
            maskings[name] = draw_masking(keys, mask.reshape(len(mask), groups, -1), share)
        return maskings

    def visible(self, name: str, raw: Array, mask: Array, masking: Masking) -> tuple[Array, Array]:
        """(tokens, mask) of a modality that the encoder reads."""
        position = self.position(name)
        if not self.sizes.drop_hidden:
            x = jnp.where(
                _is_masked(masking)[..., None], self.encoder_mask_token.astype(self.dtype), self.look(name, raw)
            )
            return x + position.astype(self.dtype), mask
        slots = masking.visible  # cut before anything is multiplied
        raw = jnp.take_along_axis(raw, slots if name == "text" else slots[..., None], axis=1)
        everywhere = jnp.broadcast_to(position.astype(self.dtype), (len(raw), *position.shape))
        return self.look(name, raw) + masking.ordered(everywhere)[:, : slots.shape[1]], masking.visible_mask

    def decode(self, name: str, encoded: Array, mask: Array, masking: Masking) -> Float[Array, "b h p"]:
        """The prediction for every masked token. The decoder reads one modality at a time."""
        x = self.decoder_input(encoded)
        if self.sizes.drop_hidden:
            token, (batch, rest) = self.mask_token.astype(x.dtype), masking.masked.shape
            x = jnp.where(masking.visible_mask[..., None], x, token)
            x = jnp.concatenate([x, jnp.broadcast_to(token, (batch, rest, len(token)))], axis=1)
            x = masking.restored(x)
        x = self.decoder(x + self.decoder_position(self.position(name)), mask)
        return self.heads[name](masking.ordered(x)[:, masking.visible.shape[1] :])

    def target(self, name: str, raw: Array, masking: Masking) -> Float[Array, "b h p"] | Int[Array, "b h"]:
        """What is to be predicted: word ids or patches. `normalize_patches` normalises each patch of a video."""
        if name == "text":
            return jnp.take_along_axis(raw, masking.masked, axis=1)
        values = jnp.take_along_axis(raw, masking.masked[..., None], axis=1)
        return normalize(values) if name == "video" and self.sizes.normalize_patches else values

    def masked(self, batch: dict) -> dict[str, MaskedTokens]:
        """Masked modelling: one joint pass over the visible tokens of all modalities, then each one is decoded."""
        raw = self.raw(batch)
        maskings = self.maskings(batch, raw)
        visible = {name: self.visible(name, *self.read(name, raw), maskings[name]) for name in MODALITIES}
        joint = self.encoder(*(jnp.concatenate(parts, axis=1) for parts in zip(*visible.values(), strict=True)))
        ends = [sum(x.shape[1] for x, _ in list(visible.values())[:stop]) for stop in (1, 2)]
        masked = {}
        for name, encoded in zip(MODALITIES, jnp.split(joint, ends, axis=1), strict=True):
            masking, (values, mask) = maskings[name], raw[name]
            predictions = self.decode(name, encoded, mask, masking)
            masked[name] = MaskedTokens(predictions, self.target(name, values, masking), masking)
        return masked

    def embed_visible(self, batch: dict) -> dict[str, Float[Array, "b d"]]:
        """As `embed`, but of visible tokens alone. Each modality has a pass of its own.

        In the joint pass tokens of one modality attend to those of the others. An embedding of the video would then
        contain the very sound that it is matched with.
        """
        raw, embeddings = self.raw(batch), {}
        maskings = self.maskings(batch, raw)
        for name in MODALITIES:
            x, mask = self.visible(name, *self.read(name, raw), maskings[name])
            embeddings[name] = masked_mean(self.encoder(x, mask).astype(jnp.float32), mask)
        return embeddings

    def match(self, name: str, audio: Float[Array, "b d"], other: Float[Array, "b d"]) -> Float[Array, " b"]:
        """Logits of the question whether each sound belongs to its video or text."""
        a, o = unit(audio), unit(other)
        return self.matching[name](jnp.concatenate([a, o, a * o * a.shape[-1]], axis=-1))[:, 0]

    def __call__(self, batch: dict) -> dict:
        """Everything once, to initialise with."""
        embeddings = self.embed_visible(batch)
        matched = {name: self.match(name, embeddings["audio"], embeddings[name]) for name in self.matching}
        return {"masked": self.masked(batch), "matched": matched}


def _is_masked(masking: Masking) -> Bool[Array, "b n"]:
    flags = jnp.concatenate([jnp.zeros_like(masking.visible_mask), masking.masked_mask], axis=1)
    return masking.restored(flags[..., None])[..., 0]


def normalize(x: Float[Array, "*b p"]) -> Float[Array, "*b p"]:
    """Each patch with mean 0 and standard deviation 1."""
    return (x - x.mean(axis=-1, keepdims=True)) / jnp.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)


def standardized(x: Float[Array, "b n p"], mask: Bool[Array, "b n"], channels: int) -> Float[Array, "b n p"]:
    """Each channel (the last axis of a patch) of a sample with mean 0 and standard deviation 1 over its real tokens.

    Of a short sound these are also the silence that fills its spectrogram.
    """
    values = x.reshape(len(x), -1, channels)
    mask = jnp.repeat(mask, values.shape[1] // mask.shape[1], axis=1)
    values -= masked_mean(values, mask)[:, None]
    return (values / jnp.sqrt(masked_mean(jnp.square(values), mask)[:, None] + 1e-4)).reshape(x.shape)


def errors(name: str, predictions: Array, targets: Array) -> Float[Array, "b h"]:
    """The error of every prediction: mean squared error of a patch, cross entropy (in nats) of a word."""
    if name == "text":
        return optax.softmax_cross_entropy_with_integer_labels(predictions, targets)
    return jnp.mean(jnp.square(predictions - targets), axis=-1)


def make_model(config: ConfigDict, mesh: Mesh) -> Vlsa:
    """The model of a resolved config for the devices of a mesh. Raises ValueError as `attention.kernel_for`."""
    m = config.model
    return Vlsa(vlsa_sizes(config), jnp.dtype(m.dtype), m.remat, kernel_for(config, mesh))
