"""What it takes to use a folder of weights: description.json and a copy of the tokenizer beside them.

Weights alone do not say which tokenizer they want, how pictures are normalised, or what they may be used for.

description.json: {
  format: of this file,
  method: "save", "avigate", "speech" or "vision"; modules: which parts of it are there, such as vision and text,
  config: {"model": …, "data": {"max_words", "max_frames"}}: sizes, and how the score is computed,
  tokenizer: {"source": hub name or folder it came from, "digest": of vocabulary and merges; null where not known},
  preprocessing: how frames and sound become what the model reads,
  licence, source: in words,
  params_sha256: digest of the parameters}
"""

import dataclasses
import os
import shutil

from ml_collections import ConfigDict

from save_jax.config import base, branches, method, resolve
from save_jax.data import files
from save_jax.data.records import FBANK_SHAPE
from save_jax.data.tokenizer import Tokenizer, WordPieces, open_words
from save_jax.models.clip import PIXEL_MEAN, PIXEL_STD

FORMAT = 1
NAME = "description.json"
TOKENIZER = "tokenizer"  # folder beside it
DATA = ("max_words", "max_frames")  # settings of config.data that the model's shapes depend on
# How preparation makes what the model reads; whoever prepares otherwise gets other numbers.
PREPROCESSING = {
    "frames": "one a second, shorter side resized, centre cut out",
    "pixel_mean": PIXEL_MEAN,
    "pixel_std": PIXEL_STD,
    "fbank": "16 kHz mono, 128 mel bins every 10 ms, normalised as AST's",
    "fbank_shape": FBANK_SHAPE,
}


class WeightsError(ValueError):
    """A folder that cannot be used as it is; the message says what is missing and how to make it."""


@dataclasses.dataclass(frozen=True)
class Description:
    """description.json, read."""

    folder: str
    method: str
    modules: tuple[str, ...]
    config: ConfigDict  # resolved and locked
    tokenizer: dict  # "source", "digest"
    licence: str
    source: str
    params_sha256: str

    def open_tokenizer(self) -> Tokenizer:
        """The tokenizer that the weights were trained with: the copy beside them, or the one that is named.

        Raises WeightsError where it has another vocabulary.
        """
        copy = os.path.join(self.folder, TOKENIZER)
        tokenizer = Tokenizer(copy if os.path.isdir(copy) else self.tokenizer["source"])
        check_tokenizer(tokenizer, self.tokenizer["digest"], self.folder)
        return tokenizer


def write(
    folder: str,
    config: ConfigDict,
    modules: list[str],
    *,
    tokenizer: Tokenizer | None,
    licence: str,
    source: str,
    params_sha256: str,
) -> str:
    """Writes description.json, and the tokenizer where it is at hand; returns the path of the description.

    Args:
        config: whose `model` and `data` say sizes and score.
        modules: top-level names of the parameters in the folder.
        tokenizer: None where it could not be had; its name in config.data.tokenizer is noted.
        licence, source: in words, for people.
    """
    if tokenizer is not None:
        tokenizer.save(os.path.join(folder, TOKENIZER))
    path = os.path.join(folder, NAME)
    settings = config.to_dict()
    files.write_json(
        path,
        {
            "format": FORMAT,
            "method": method(config),
            "modules": sorted(modules),
            "config": {"model": settings["model"], "data": {name: settings["data"][name] for name in DATA}},
            "tokenizer": {
                "source": config.data.tokenizer,
                "digest": tokenizer.digest if tokenizer is not None else None,
            },
            "preprocessing": PREPROCESSING | {"image_size": config.model.image_size},
            "licence": licence,
            "source": source,
            "params_sha256": params_sha256,
        },
    )
    return path


def read(folder: str) -> Description:
    """The description of a folder of weights. Raises WeightsError that says how to make one where there is none."""
    path = os.path.join(folder, NAME)
    if not os.path.exists(path):
        raise WeightsError(
            f"{folder} has no {NAME}, so nothing says which model and tokenizer its weights are for; make one with "
            f"python -m save_jax.convert --describe {folder} --config configs/msrvtt.py --tokenizer FOLDER"
        )
    stored = files.read_json(path)
    if stored.get("format") != FORMAT:
        raise WeightsError(
            f"{path} has format {stored.get('format')}, this version reads {FORMAT}; write it again with "
            "python -m save_jax.convert --describe, or use the version of save_jax that wrote it"
        )
    config = base()
    config.model.update(stored["config"]["model"])
    config.data.update(stored["config"]["data"])
    config.data.tokenizer = stored["tokenizer"]["source"]
    config.model.attention = "xla"  # weights may be used on another machine than they were made on
    names = ("method", "modules", "tokenizer", "licence", "source", "params_sha256")
    return Description(folder=folder, config=resolve(config), **{name: stored[name] for name in names})


def needed_modules(config: ConfigDict) -> set[str]:
    """Top-level names of the parameters that a model of this config has."""
    names = {"vision", "text", "logit_scale", "frame_position_embedding"}
    names |= {"ast", "audio_projection", "resampler", "audio_fusion"} if "audio" in branches(config) else set()
    return names | ({"speech_fusion"} if "speech" in branches(config) else set())


def stored_digest(path: str) -> str | None:
    """Digest of the vocabulary that the weights of a workdir or folder want; None where nothing there says it."""
    if os.path.exists(os.path.join(path, NAME)):
        return files.read_json(os.path.join(path, NAME))["tokenizer"]["digest"]
    copy = os.path.join(path, TOKENIZER)
    return open_words(copy).digest if os.path.isdir(copy) else None


def check_tokenizer(tokenizer: Tokenizer | WordPieces, digest: str | None, where: str) -> None:
    """Raises WeightsError where weights were trained with another vocabulary: every word would mean something else."""
    if digest and tokenizer.digest != digest:
        raise WeightsError(
            f"the weights in {where} were trained with another vocabulary (digest {digest[:12]}) than the tokenizer "
            f"{tokenizer.source!r} has ({tokenizer.digest[:12]}, {tokenizer.vocab_size} tokens); set "
            f"config.data.tokenizer to {os.path.join(where, TOKENIZER)} or to the one they were trained with"
        )


def copy_tokenizer(tokenizer: Tokenizer | WordPieces, folder: str) -> None:
    """Keeps a run's tokenizer in its workdir; a half-written copy is never left."""
    target = os.path.join(folder, TOKENIZER)
    if not os.path.isdir(target):
        shutil.rmtree(f"{target}.tmp", ignore_errors=True)
        tokenizer.save(f"{target}.tmp")
        os.replace(f"{target}.tmp", target)
