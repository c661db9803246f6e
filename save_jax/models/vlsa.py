"""VLSA: one encoder for video, text and audio patches, taught by masked modelling and global audio matching.

arXiv 2405.07202; no code of its authors is public. What the paper leaves open is chosen here and said beside it.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key
from ml_collections import ConfigDict

from save_jax.config.sizes import VlsaSizes, vlsa_sizes
from save_jax.config.vlsa import MODALITIES
from save_jax.models import masking
from save_jax.models.clip import normalize_pixels
from save_jax.models.layers import Block, LayerNorm, check_attention, exact_gelu, normal_02, quick_gelu, remat
from save_jax.models.similarity import masked_mean, unit

ACTIVATIONS = {"gelu": exact_gelu, "quick_gelu": quick_gelu}  # of MAE's weights, and of CLIP's
EPSILON = 1e-6
Tokens = dict[str, tuple[Array, Array]]  # modality → (what a patch or word is made of, bool [b, n]: is it there)


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
    """Pre-norm blocks and a last norm; tokens that are not there are not attended to."""

    width: int
    depth: int
    heads: int
    activation: str
    dtype: jnp.dtype
    remat: str
    attention_kind: str

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], there: Bool[Array, "b n"]) -> Float[Array, "b n d"]:
        activation = ACTIVATIONS[self.activation]
        block = functools.partial(
            remat(Block, self.remat), self.width, self.heads, self.depth, activation, EPSILON, self.dtype
        )
        for layer in range(self.depth):
            x = block(self.attention_kind, name=f"block_{layer}")(x, there)
        return LayerNorm(EPSILON, self.dtype, name="ln_final")(x)


class Vlsa(nn.Module):
    """Encoder, decoder and matching heads.

    A modality that a sample lacks is not attended to, has zero as its embedding and nothing to guess.
    """

    sizes: VlsaSizes
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"
    attention_kind: str = "xla"

    def setup(self):
        s, init = self.sizes, normal_02
        check_attention(self.attention_kind, self.dtype)
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
        same = {"dtype": self.dtype, "remat": self.remat, "attention_kind": self.attention_kind}
        self.encoder = Stack(s.width, s.layers, s.heads, s.activation, **same)
        self.decoder = Stack(s.decoder_width, s.decoder_layers, s.decoder_heads, s.activation, **same)
        self.decoder_input, self.decoder_position = dense(s.decoder_width), dense(s.decoder_width)
        self.hidden_token = self.param("hidden_token", init, (s.decoder_width,))
        if not s.drop_hidden:
            self.encoder_hidden_token = self.param("encoder_hidden_token", init, (s.width,))
        self.heads = {name: dense(size, dtype=jnp.float32) for name, size in s.targets.items()}
        # A linear head on two concatenated vectors adds a number of one to a number of the other: whichever pair it
        # sees, it cannot do better than ln 2. Their product beside them is what lets it compare.
        self.matching = {name: nn.Dense(1) for name in ("video", "text")}
        self.logit_scale = self.param("logit_scale", nn.initializers.constant(math.log(1 / 0.07)), ())

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
        """Patches and word ids, and which of them are there; missing inputs need not be in the batch.

        Reads `frames` uint8 [b, t, s, s, 3] and `frame_mask` [b, t]; `words` int32 [b, w], 0 where there is none;
        `spectrogram` [b, f, t] and `has_audio` [b].
        """
        s, found = self.sizes, {}
        if "video" in names:
            frames, mask = batch["frames"], batch["frame_mask"]
            b, t = mask.shape
            pixels = normalize_pixels(frames, jnp.dtype("float32")).reshape(b * t, s.image_size, s.image_size, 3)
            cut = patches(pixels, (s.patch_size, s.patch_size))
            found["video"] = (cut.reshape(b, -1, cut.shape[-1]), jnp.repeat(mask, cut.shape[1], axis=1))
        if "text" in names:
            found["text"] = (batch["words"], batch["words"] > 0)
        if "audio" in names:
            cut = patches(batch["spectrogram"].astype(jnp.float32)[..., None], s.audio_patch)
            found["audio"] = (cut, jnp.broadcast_to(batch["has_audio"][:, None], cut.shape[:2]))
        return found

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

    # ------------------------------------------------------------ what a loss or a search asks for

    def embed(self, batch: dict, names: tuple[str, ...]) -> dict[str, Float[Array, "b d"]]:
        """The mean of all tokens of each modality, each encoded alone, float32; zero where a sample has none."""
        found = {}
        for name, (raw, there) in self.raw(batch, names).items():
            x = self.look(name, raw) + self.position(name).astype(self.dtype)
            found[name] = masked_mean(self.encoder(x, there).astype(jnp.float32), there)
        return found

    def choices(self, batch: dict, raw: Tokens) -> dict[str, masking.Choice]:
        """What is hidden of each sample: given by its `draw`, int32 [b], and nothing else."""
        found = {}
        for number, (name, share) in enumerate(zip(MODALITIES, self.sizes.shares, strict=True)):
            key = jax.random.key(number)
            keys: Key[Array, " b"] = jax.vmap(functools.partial(jax.random.fold_in, key))(batch["draw"])
            there = raw[name][1]
            groups = self.sizes.frames if name == "video" else 1
            found[name] = masking.choose(keys, there.reshape(len(there), groups, -1), share)
        return found

    def visible(self, name: str, raw: Array, there: Array, choice: masking.Choice) -> tuple[Array, Array]:
        """(tokens, bool) that the encoder is given of a modality."""
        position = self.position(name)
        if not self.sizes.drop_hidden:
            x = jnp.where(
                _hidden(choice)[..., None], self.encoder_hidden_token.astype(self.dtype), self.look(name, raw)
            )
            return x + position.astype(self.dtype), there
        seen = choice.seen  # cut before anything is multiplied
        raw = jnp.take_along_axis(raw, seen if name == "text" else seen[..., None], axis=1)
        everywhere = jnp.broadcast_to(position.astype(self.dtype), (len(raw), *position.shape))
        return self.look(name, raw) + choice.ordered(everywhere)[:, : seen.shape[1]], choice.seen_there

    def decode(self, name: str, encoded: Array, there: Array, choice: masking.Choice) -> Float[Array, "b h p"]:
        """What the decoder, which sees one modality at a time, makes of every hidden token."""
        x = self.decoder_input(encoded)
        if self.sizes.drop_hidden:
            token, (batch, rest) = self.hidden_token.astype(x.dtype), choice.hidden.shape
            x = jnp.where(choice.seen_there[..., None], x, token)
            x = jnp.concatenate([x, jnp.broadcast_to(token, (batch, rest, len(token)))], axis=1)
            x = choice.restored(x)
        x = self.decoder(x + self.decoder_position(self.position(name)), there)
        return self.heads[name](choice.ordered(x)[:, choice.seen.shape[1] :])

    def target(self, name: str, raw: Array, choice: masking.Choice) -> Float[Array, "b h p"] | Int[Array, "b h"]:
        """What is to be guessed: patches (of video normalised each, if the sizes say so), or word ids."""
        if name == "text":
            return jnp.take_along_axis(raw, choice.hidden, axis=1)
        found = jnp.take_along_axis(raw, choice.hidden[..., None], axis=1)
        return normalize(found) if name == "video" and self.sizes.normalize_patches else found

    def masked(self, batch: dict) -> dict[str, tuple[Array, Array, masking.Choice]]:
        """Masked modelling: one joint pass over what is visible of all three, then each is decoded.

        Returns {modality: (guesses [b, h, p], targets, choice)}.
        """
        raw = self.raw(batch)
        choices = self.choices(batch, raw)
        seen = {name: self.visible(name, *raw[name], choices[name]) for name in MODALITIES}
        joint = self.encoder(*(jnp.concatenate(parts, axis=1) for parts in zip(*seen.values(), strict=True)))
        ends = [sum(x.shape[1] for x, _ in list(seen.values())[:stop]) for stop in (1, 2)]
        found = {}
        for name, encoded in zip(MODALITIES, jnp.split(joint, ends, axis=1), strict=True):
            choice, (values, there) = choices[name], raw[name]
            found[name] = (self.decode(name, encoded, there, choice), self.target(name, values, choice), choice)
        return found

    def embed_visible(self, batch: dict) -> dict[str, Float[Array, "b d"]]:
        """As `embed`, of visible tokens alone, each modality in a pass of its own.

        In the joint pass tokens of one modality see those of the others: an embedding of the video would hold the sound
        that it is to be matched with.
        """
        raw, found = self.raw(batch), {}
        choices = self.choices(batch, raw)
        for name in MODALITIES:
            x, there = self.visible(name, *raw[name], choices[name])
            found[name] = masked_mean(self.encoder(x, there).astype(jnp.float32), there)
        return found

    def match(self, name: str, audio: Float[Array, "b d"], other: Float[Array, "b d"]) -> Float[Array, " b"]:
        """Logits of whether these sounds belong to these videos or texts."""
        a, o = unit(audio), unit(other)
        return self.matching[name](jnp.concatenate([a, o, a * o * a.shape[-1]], axis=-1))[:, 0]

    def __call__(self, batch: dict) -> dict:
        """Everything once, to initialise with."""
        found = self.embed_visible(batch)
        matched = {name: self.match(name, found["audio"], found[name]) for name in self.matching}
        return {"masked": self.masked(batch), "matched": matched}


def _hidden(choice: masking.Choice) -> Bool[Array, "b n"]:
    flags = jnp.concatenate([jnp.zeros_like(choice.seen_there), choice.hidden_there], axis=1)
    return choice.restored(flags[..., None])[..., 0]


def normalize(x: Float[Array, "*b p"]) -> Float[Array, "*b p"]:
    """Each patch with mean 0 and deviation 1."""
    return (x - x.mean(axis=-1, keepdims=True)) / jnp.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)


def errors(name: str, guesses: Array, targets: Array) -> Float[Array, "b h"]:
    """Of every hidden token: mean squared error of a patch, cross entropy (in nats) of a word."""
    if name == "text":
        return optax.softmax_cross_entropy_with_integer_labels(guesses, targets)
    return jnp.mean(jnp.square(guesses - targets), axis=-1)


def make_model(config: ConfigDict) -> Vlsa:
    """The model of a resolved config."""
    m = config.model
    return Vlsa(vlsa_sizes(config), jnp.dtype(m.dtype), m.remat, m.attention)
