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
from collections.abc import Mapping

from ml_collections import ConfigDict

from save_jax.config import base, defaults, method, resolve
from save_jax.config.retrieval import start_paths
from save_jax.config.sizes import PIXEL_MEAN, PIXEL_STD
from save_jax.data import files
from save_jax.data.records import FBANK_SHAPE
from save_jax.data.tokenizer import Tokenizer, WordPieces, open_words

FORMAT = 1
NAME = "description.json"
TOKENIZER = "tokenizer"  # folder beside it
FUNCTION_FILE = "function.json"  # beside weights of a VLSA: {"model": settings of FUNCTION}
OF_THE_MACHINE = ("attention", "remat", "precision")  # settings of config.model that are no property of weights
DATA = ("max_words", "max_frames")  # settings of config.data that the model's shapes depend on
# What a module computes and its shapes do not show, by module; "" is the whole of a VLSA.
FUNCTION = {
    "vision": ("activation", "head_dim"),
    "text": ("activation", "head_dim"),
    "ast": ("ast_heads", "ast_stride", "ast_epsilon"),
    "": ("activation", "heads", "decoder_heads", "standardize"),
}
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

    def open_tokenizer(self, given: str | None = None) -> Tokenizer:
        """The tokenizer that the weights were trained with: the one given, the copy beside them, or the one named.

        Raises WeightsError where it has another vocabulary, or where nothing says which one it is.
        """
        copy = os.path.join(self.folder, TOKENIZER)
        source = given or (copy if os.path.isdir(copy) else self.tokenizer["source"])
        if not source:
            raise WeightsError(f"{self.folder} has no {TOKENIZER}/ and names none; pass tokenizer=FOLDER")
        tokenizer = Tokenizer(source)
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
        tokenizer: it is copied. None: the one of the hub that config.data.tokenizer names is noted.
        licence, source: in words, for people.
    """
    if tokenizer is not None:
        tokenizer.save(os.path.join(folder, TOKENIZER))
    path = os.path.join(folder, NAME)
    settings = config.to_dict()
    model = {name: value for name, value in settings["model"].items() if name not in OF_THE_MACHINE}
    named = tokenizer.source if tokenizer is not None else config.data.tokenizer
    named = None if named == "data" or os.path.isdir(named) else named  # a path of one machine says nothing elsewhere
    files.write_json(
        path,
        {
            "format": FORMAT,
            "method": method(config),
            "modules": sorted(modules),
            "config": {"model": model, "data": {name: settings["data"][name] for name in DATA}},
            "tokenizer": {
                "source": named,
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
    try:
        stored = files.read_json(path)
        if stored["format"] != FORMAT:
            raise WeightsError(
                f"{path} has format {stored['format']}, this version reads {FORMAT}; write it again with "
                "python -m save_jax.convert --describe, or use the version of save_jax that wrote it"
            )
        config = base().lock()  # a setting that is unknown here is an error
        config.model.update(stored["config"]["model"])
        config.data.update(stored["config"]["data"])
        names = ("method", "modules", "tokenizer", "licence", "source", "params_sha256")
        told = {name: stored[name] for name in names}
    except WeightsError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # half a file, or one of another program
        raise WeightsError(
            f"{path} cannot be used ({type(error).__name__}: {error}); write it again with save_jax.convert --describe"
        ) from error
    return Description(folder=folder, config=resolve(config), **told)


def stored_digest(path: str) -> str | None:
    """Digest of the vocabulary that weights want; None where they have no words, or nothing there says it.

    `path`: a run's workdir or something in it, such as one checkpoint's parameters, or a folder of weights.
    """
    path = os.path.abspath(path)
    for folder in (path, *(os.path.join(path, *[os.pardir] * up) for up in (1, 2, 3))):
        if os.path.exists(os.path.join(folder, NAME)):
            stored = files.read_json(os.path.join(folder, NAME))
            return stored["tokenizer"]["digest"] if "text" in stored["modules"] else None
        copy = os.path.join(folder, TOKENIZER)
        if os.path.isdir(copy) and os.path.exists(os.path.join(folder, "config.json")):
            return open_words(copy).digest
    return None


def check_function(config: ConfigDict, paths: str) -> None:
    """Raises WeightsError where weights to start from were made for another function than the config's model has.

    Args:
        paths: as of config.init_from, workdirs and folders of weights. What says nothing is taken as it is.
    """
    for path in start_paths(paths):
        modules, theirs, where = _stored_model(path)
        ours = config.model.to_dict()
        names = [name for module in FUNCTION if module in modules for name in FUNCTION[module]]
        for name in dict.fromkeys(names):
            if name in theirs and name in ours and files.plain(theirs[name]) != files.plain(ours[name]):
                raise WeightsError(
                    f"the weights in {path} are for {name}={theirs[name]} ({where}), and config.model.{name} is "
                    f"{ours[name]}: they would compute something else; set --config.model.{name}={theirs[name]}"
                )


def write_function(folder: str, model: Mapping) -> None:
    """Keeps what parts of a VLSA compute beside their weights, for `check_function`."""
    known = {name: files.plain(model[name]) for name in FUNCTION[""] if name in model}
    files.write_json(os.path.join(folder, FUNCTION_FILE), {"model": known})


def _stored_model(path: str) -> tuple[list[str], dict, str]:
    """(modules, the settings of `config.model`, the file that says so) of weights; ([], {}, "") where nothing does."""
    path = os.path.abspath(path)
    for folder in (path, *(os.path.normpath(os.path.join(path, *[os.pardir] * up)) for up in (1, 2, 3))):
        about, run = os.path.join(folder, NAME), os.path.join(folder, "config.json")
        of_vlsa = os.path.join(folder, FUNCTION_FILE)
        if os.path.exists(of_vlsa):
            model = {"standardize": False} | files.read_json(of_vlsa)["model"]  # MAE and CLIP do not, nor say so
            return [""], model, of_vlsa
        if os.path.exists(about):
            stored = files.read_json(about)
            return stored["modules"], stored["config"]["model"], about
        if os.path.exists(run) and os.path.isdir(os.path.join(folder, "checkpoints")):
            stored = files.read_json(run)
            config = defaults(stored.get("task", "retrieval"))  # settings that are newer than the run
            model = config.model.to_dict() | stored["model"]
            read = {"vision", "text"} | ({"ast"} if "audio" in model.get("branches", "") else set())
            return sorted(read) if "branches" in model else [""], model, run
    return [], {}, ""


def check_tokenizer(tokenizer: Tokenizer | WordPieces, digest: str | None, where: str) -> None:
    """Raises WeightsError where weights were trained with another vocabulary: every word would mean something else."""
    if digest and tokenizer.digest != digest:
        raise WeightsError(
            f"the weights in {where} were trained with another vocabulary (digest {digest[:12]}) than the tokenizer "
            f"{tokenizer.source!r} has ({tokenizer.digest[:12]}, {tokenizer.vocab_size} tokens); set "
            "config.data.tokenizer, or tokenizer= in Python, to the one they were trained with (a copy lies in "
            f"{os.path.join(where, TOKENIZER)}, if they brought one)"
        )


def copy_tokenizer(tokenizer: Tokenizer | WordPieces, folder: str) -> None:
    """Keeps a run's tokenizer in its workdir; a half-written copy is never left."""
    target = os.path.join(folder, TOKENIZER)
    if not os.path.isdir(target):
        shutil.rmtree(f"{target}.tmp", ignore_errors=True)
        tokenizer.save(f"{target}.tmp")
        os.replace(f"{target}.tmp", target)
