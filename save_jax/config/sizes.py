"""Sizes of the models, frozen: everything that their shapes and their arithmetic depend on."""

import dataclasses

import ml_dtypes  # noqa: F401 — makes bfloat16 known to NumPy
import numpy as np
from ml_collections import ConfigDict

from save_jax.config.retrieval import branches, method

PIXEL_MEAN, PIXEL_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's, of 0 … 1


@dataclasses.dataclass(frozen=True)
class ClipSizes:
    """Sizes of both towers. OpenAI's models have `head_dim` 64 throughout."""

    embed_dim: int  # joint width
    head_dim: int
    image_size: int
    patch_size: int
    vision_width: int
    vision_layers: int
    text_width: int
    text_layers: int
    vocab_size: int
    context_length: int
    activation: str = "quick_gelu"  # OpenAI's; "gelu" for weights of others


@dataclasses.dataclass(frozen=True)
class AstSizes:
    """Sizes of the tower. Patch and stride are (mel bins, time steps); AST-base has 16×16 patches, 10 apart."""

    width: int
    layers: int
    heads: int
    patch_size: tuple[int, int]
    stride: tuple[int, int]
    epsilon: float = 1e-6  # of its norms; the authors' value. Hugging Face's files say 1e-12


@dataclasses.dataclass(frozen=True)
class FusionSizes:
    """Sizes of resampler and fusion; their width is the joint width."""

    width: int
    head_dim: int
    queries: int  # tokens that a sound track is resampled to
    resampler_layers: int
    fusion_layers: int
    init_std: float = 0.02  # of new weights; the reference's value, made for width 512


@dataclasses.dataclass(frozen=True)
class ModelSizes:
    """Everything the model's shapes and arithmetic depend on."""

    clip: ClipSizes
    ast: AstSizes
    fusion: FusionSizes
    branches: tuple[str, ...]  # ("vision",), ("vision", "audio") or ("vision", "audio", "speech")
    weights: tuple[float, ...]  # of the branches in the fused tokens, in the same order
    dtype: np.dtype  # of the computation; parameters are float32
    remat: str  # what the gradient computes again: "none", "blocks" or "dots"
    precision: str  # of float32 products on accelerators, as jax.default_matmul_precision takes it
    pixel_mean: tuple[float, ...] = PIXEL_MEAN  # pixels are normalised with them
    pixel_std: tuple[float, ...] = PIXEL_STD


@dataclasses.dataclass(frozen=True)
class VlsaSizes:
    """ViT-Base with MAE's decoder by default of the config: 151M parameters."""

    width: int
    layers: int
    heads: int
    decoder_width: int
    decoder_layers: int
    decoder_heads: int
    image_size: int
    patch_size: int
    frames: int
    words: int
    vocab_size: int
    spectrogram: tuple[int, int]  # frequencies, times
    audio_patch: tuple[int, int]
    shares: tuple[float, float, float]  # masked of video (of each frame), text, audio
    activation: str
    normalize_patches: bool  # a video patch is predicted with its own mean and deviation taken out, as MAE found better
    drop_hidden: bool  # the encoder never sees hidden tokens; False puts a learned one in their place, as BERT does
    precision: str = "highest"  # as in ModelSizes
    standardize: bool = False  # the encoder reads a clip's pictures, by channel, and its sound with mean 0, deviation 1
    initial_scale: float = 1 / 0.07  # what cosines are multiplied with in InfoNCE, before any training

    @property
    def counts(self) -> dict[str, int]:
        """Tokens of each modality."""
        side = self.image_size // self.patch_size
        audio = [whole // part for whole, part in zip(self.spectrogram, self.audio_patch, strict=True)]
        return {"video": self.frames * side * side, "text": self.words, "audio": audio[0] * audio[1]}

    @property
    def targets(self) -> dict[str, int]:
        """What the decoder gives for a masked token: pixels, scores of words, values of a spectrogram."""
        area = self.audio_patch[0] * self.audio_patch[1]
        return {"video": 3 * self.patch_size**2, "text": self.vocab_size, "audio": area}


def model_sizes(config: ConfigDict) -> ModelSizes:
    """The sizes dataclass of a resolved config."""
    m = config.model
    clip = ClipSizes(
        **{field: m[field] for field in ClipSizes.__dataclass_fields__},
    )
    return ModelSizes(
        clip=clip,
        ast=AstSizes(m.ast_width, m.ast_layers, m.ast_heads, tuple(m.ast_patch), tuple(m.ast_stride), m.ast_epsilon),
        fusion=FusionSizes(m.embed_dim, m.head_dim, m.queries, m.resampler_layers, m.fusion_layers, m.fusion_init_std),
        branches=branches(config),
        weights=tuple(m.weights[method(config)]),
        dtype=np.dtype(m.dtype),
        remat=m.remat,
        precision=precision(config),
    )


def vlsa_sizes(config: ConfigDict) -> VlsaSizes:
    """The sizes dataclass of a resolved config."""
    data = config.data
    settings = config.model.to_dict() | {"frames": data.max_frames, "words": data.max_words}
    settings["precision"] = precision(config)
    return VlsaSizes(**{field: settings[field] for field in VlsaSizes.__dataclass_fields__})


def precision(config: ConfigDict) -> str:
    """What config.model.precision means: "auto" is "highest" for a model that computes in float32.

    Products of bfloat16 have one precision everywhere. Operands of float32 products are rounded to TF32 on GPUs and to
    bfloat16 on TPUs, unless more is asked for. On the authors' golden numbers that makes the error of a score 450 and
    1,600 times as large (`python tests/bench/products.py`).
    """
    if config.model.precision != "auto":
        return config.model.precision
    return "highest" if config.model.dtype == "float32" else "default"
