"""The command `python -m save_jax.convert`: weights of other code → ours and back, and descriptions of folders.

    python -m save_jax.convert --from ViT-B-32.pt --kind clip --to weights/clip --tokenizer FOLDER
    python -m save_jax.convert --from pytorch_model.bin.4 --kind save --to weights/save --tokenizer FOLDER
    python -m save_jax.convert --from mae_pretrain_vit_base.pth --kind mae-vlsa --to weights/mae
    python -m save_jax.convert --from runs/vlsa --kind vlsa-ast --to weights/vlsa-ast
    python -m save_jax.convert --from runs/mine --kind save --to mine.safetensors
    python -m save_jax.convert --describe weights/old --config msrvtt:model=save --tokenizer FOLDER

All but the last two write Orbax checkpoints that `config.init_from` takes (several of them separated by commas), with a
description (`description.json`). The last but one writes the official names, from a run's workdir (its best
checkpoint), from a folder of parameters or from a weight file;
`torch.save(safetensors.torch.load_file("mine.safetensors"), "pytorch_model.bin.0")` makes it what the authors' code
loads. What the tables ignore is not written: that code does not ask for it. The last describes a folder that has none.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from save_jax.config import base, resolve
from save_jax.config.finding import read_config
from save_jax.data import command_line, files
from save_jax.data.tokenizer import Tokenizer
from save_jax.models.trees import digest, flatten
from save_jax.weights import description, function, loading
from save_jax.weights import files as weight_files
from save_jax.weights import vlsa as weights_vlsa
from save_jax.weights.checkpoint import FOLDER
from save_jax.weights.convert import Converted, convert, own_names, to_official
from save_jax.weights.rules import RULES
from save_jax.weights.sizes import AST_STRIDE, MEL_BINS

LICENCES = {
    "clip": "MIT (OpenAI CLIP)",
    "hf-clip": "as the page it was downloaded from says; OpenAI's CLIP is MIT",
    "ast": "BSD-3-Clause (AST)",
    "hf-ast": "as the page it was downloaded from says; AST is BSD-3-Clause",
}
UNKNOWN_LICENCE = "not stated; ask whoever made these weights"


def _pair(text: str) -> tuple[int, int]:
    mel, time = map(int, text.split(","))
    return mel, time


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(map(int, text.split(",")))
    if min(numbers) < 1:
        raise ValueError(text)
    return numbers


def _source(path: str, kind: str) -> tuple[Mapping[str, np.ndarray], Mapping]:
    """(arrays to convert, `config.model` of the run that they are of, where it is one)."""
    if kind != "vlsa-ast":
        return weight_files.read(path), {}
    settings = os.path.join(path, "config.json")
    if not os.path.isdir(path):
        raise ValueError(f"{path} is no folder; kind vlsa-ast is made of a VLSA's workdir or a folder of parameters")
    model = files.read_json(settings)["model"] if os.path.exists(settings) else {}
    return {name: np.asarray(x) for name, x in flatten(loading.read_params(path)).items()}, model


def _tell(done: Converted, kind: str) -> None:
    for reason in dict.fromkeys(done.ignored.values()):
        names = [name for name, why in done.ignored.items() if why == reason]
        few = ", ".join(names) if len(names) < 20 else f"{len(names)} names from {names[0]} to {names[-1]}"
        print(f"ignored {few}: {reason}")
    print("sizes:", " ".join(f"--config.model.{name}={size}" for name, size in done.model.items()))
    # A module that is new as a whole goes by its own name.
    new = [name if (module := name.split("/")[0]) in done.params else module for name in done.new]
    if new:
        print(f"new, not in this kind of file: {', '.join(dict.fromkeys(new))}")
    if kind in weights_vlsa.NOTES:
        print(f"note: {weights_vlsa.NOTES[kind]}")


def _config_of(model: Mapping) -> ConfigDict:
    """The config of a model with these settings, resolved."""
    config = base()
    config.model.update(model)
    config.data.max_words = min(config.data.max_words, config.model.context_length)
    return resolve(config)


@dataclasses.dataclass(frozen=True)
class About:
    """What the description of a folder of weights will say besides its parameters."""

    config: ConfigDict  # resolved
    tokenizer: Tokenizer | None  # None: the one of the hub that the config names
    licence: str
    source: str

    def check(self, params: dict, where: str) -> None:
        """Raises ValueError for parameters that do not fit the config, and for words without a tokenizer."""
        loading.check_fits(params, self.config, where)
        if "text" not in params:
            return
        table = len(params["text"]["token_embedding"])
        if self.tokenizer is None and self.config.data.tokenizer == "data":
            raise ValueError(
                f"the tokenizer of {where} lies with its shards, which are not here; give --tokenizer FOLDER"
            )
        if self.tokenizer is not None and self.tokenizer.vocab_size > table:
            raise ValueError(
                f"tokenizer {self.tokenizer.source!r} has {self.tokenizer.vocab_size} tokens, {where} has {table}"
            )

    def write(self, params: dict, folder: str) -> str:
        """Writes it, after `check`; returns its path."""
        words = self.tokenizer if "text" in params else None
        told = {"licence": self.licence, "source": self.source, "params_sha256": digest(params)}
        return description.write(folder, self.config, list(params), tokenizer=words, **told)


def describe(folder: str, config: ConfigDict, tokenizer: Tokenizer | None, licence: str) -> str:
    """Describes a folder of weights that is there already; returns the path of the description.

    Raises ValueError for a run's workdir, which needs none, and for weights that do not fit.
    """
    if os.path.isdir(os.path.join(folder, FOLDER)):
        raise ValueError(
            f"{folder} is the workdir of a run, which says all of it; convert --from it to a folder of weights"
        )
    copy = os.path.join(folder, description.TOKENIZER)
    if tokenizer is None and os.path.isdir(copy):
        tokenizer = Tokenizer(copy)
    params = loading.read_params(folder)
    about = About(config, tokenizer, licence, os.path.basename(os.path.abspath(folder)))
    about.check(params, folder)
    return about.write(params, folder)


def _convert(options: argparse.Namespace) -> dict:
    """What --from, --kind and --to ask for; returns the parameters. All is checked before anything is written."""
    given = Tokenizer(options.tokenizer) if options.tokenizer else None
    of_folder = os.path.isdir(options.source) and options.kind != "vlsa-ast"
    if of_folder:
        params, about = loading.read_params(options.source), about_folder(options.source, given, options.licence)
        if options.kind and not options.to.endswith(".safetensors"):
            # What goes from folder to folder keeps its names, and has to be of that kind.
            if any(rule.layout.backward is None for rule in RULES[options.kind]):
                raise ValueError(
                    f"{options.source} holds parameters of ours, and kind {options.kind} is made of a weight file of "
                    "other code; give --from FILE, or leave --kind out to copy the folder"
                )
            to_official(params, RULES[options.kind])
    else:
        source, vlsa = _source(options.source, options.kind)
        fbank = (options.frames, MEL_BINS) if options.frames else None
        source, renamed = own_names(source, RULES[options.kind])
        told, notes = _function(options, source, vlsa)
        stride = told.get("stride", options.ast_stride) or AST_STRIDE
        more = {"ast_stride": stride, "ast_patch": options.ast_patch, "vlsa": vlsa, "told": told}
        done = convert(source, options.kind, fbank, **more)
        for note in filter(None, (renamed, *notes)):
            print(note)
        params, about = done.params, _about_file(options, done, given)
        _tell(done, options.kind)
    if options.to.endswith(".safetensors"):
        weight_files.write(options.to, to_official(params, RULES[options.kind]))
        return params
    if about is not None:
        try:
            about.check(params, options.source)
        except ValueError as error:
            if of_folder or given is not None:
                raise
            # Such as sounds of another length than ours (--frames).
            print(f"note: no {description.NAME} was written: {error}; --describe {options.to} makes one later")
            about = None
    loading.save_params(options.to, params)
    if about is not None:
        about.write(params, options.to)
    if options.kind in weights_vlsa.INTO:
        description.write_function(options.to, done.model)
    return params


def _function(options: argparse.Namespace, source: Mapping, vlsa: Mapping) -> tuple[dict, list[str]]:
    """(what the weights compute, lines that say how that is known); see function.py."""
    if options.kind == "vlsa-ast":
        if not (heads := vlsa.get("heads") or (options.heads or (0,))[0]):
            raise ValueError(
                f"{options.source} has no config.json, which says how many heads its VLSA has; give --heads"
            )
        read = "its sounds were read with mean 0 and deviation 1 (model.standardize), and SAVE's are not so"
        return {"heads": (heads,)}, [read] if vlsa.get("standardize") else []
    shapes = {name: np.shape(array) for name, array in source.items()}
    given = {name: getattr(options, name) for name in ("activation", "heads", "epsilon")} | {
        "stride": options.ast_stride
    }
    return function.settle(options.source, options.kind, shapes, given)


def _about_file(options: argparse.Namespace, done: Converted, tokenizer: Tokenizer | None) -> About | None:
    if "vlsa" in options.kind:
        return None
    licence = options.licence or LICENCES.get(options.kind, UNKNOWN_LICENCE)
    return About(_config_of(done.model), tokenizer, licence, f"{os.path.basename(options.source)} ({options.kind})")


def about_folder(folder: str, tokenizer: Tokenizer | None = None, licence: str | None = None) -> About | None:
    """What is known of a run's workdir, or of a described folder of weights; None where nothing is.

    Args:
        tokenizer: where another one is to be noted than the folder's own.
        licence: in words; None: the folder's own, or that none is stated.
    """
    own = os.path.join(folder, description.TOKENIZER)
    if os.path.isdir(os.path.join(folder, FOLDER)):
        stored = files.read_json(os.path.join(folder, "config.json"))
        if stored.get("task", "retrieval") != "retrieval":
            return None
        config = base()
        config.update(stored)
        # A run of version 0.1 has no copy of its own; the demo's vocabulary then lies with its shards.
        places = [own, *([os.path.join(config.data_dir, description.TOKENIZER)] * (config.data.tokenizer == "data"))]
        if tokenizer is None and (place := next(filter(os.path.isdir, places), None)):
            tokenizer = Tokenizer(place)
        name = os.path.basename(os.path.abspath(folder))
        return About(resolve(config), tokenizer, licence or UNKNOWN_LICENCE, f"run {name}")
    if os.path.exists(os.path.join(folder, description.NAME)):
        about = description.read(folder)
        if tokenizer is None and "text" in about.modules and os.path.isdir(own):
            tokenizer = about.open_tokenizer()
        return About(about.config, tokenizer, licence or about.licence, about.source)
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Prints what was filled, ignored and is new; 1 with all problems where something does not fit."""
    parser = argparse.ArgumentParser(
        prog="save-jax convert", description="Convert weights between PyTorch and here, or describe them."
    )
    parser.add_argument("--from", dest="source", help="weight file, workdir or folder of parameters")
    parser.add_argument("--kind", choices=sorted(RULES), help="whose names the file has or shall have")
    parser.add_argument("--to", help="folder for an Orbax checkpoint, or FILE.safetensors")
    parser.add_argument("--frames", type=int, default=0, help="time steps the audio tower reads; default: as in FILE")
    pair = {"type": _pair, "metavar": "MEL,TIME"}
    parser.add_argument(
        "--ast-patch", default=(16, 16), help="of kind vlsa-ast: the tower's patch; default: 16,16", **pair
    )
    parser.add_argument("--ast-stride", help="distance of AST's patches, where nothing else says it", **pair)
    parser.add_argument("--activation", choices=("quick_gelu", "gelu"), help="of CLIP's towers, in the same case")
    parser.add_argument("--heads", type=_numbers, metavar="N[,N]", help="of each tower (CLIP: pictures, text)")
    parser.add_argument("--epsilon", type=float, help="of the norms")
    parser.add_argument("--describe", metavar="FOLDER", help="write description.json for a folder that has none")
    parser.add_argument(
        "--config", help="with --describe: the config that the weights are for, such as msrvtt:model=save"
    )
    parser.add_argument("--tokenizer", help="folder or hub name of the tokenizer they want; it is copied beside them")
    parser.add_argument("--licence", help="of the weights, in words")
    options = parser.parse_args(command_line.arguments(arguments))
    wanted = ("describe", "config") if options.describe else ("source", "kind", "to")
    if not options.describe and os.path.isdir(options.source or "") and not (options.to or "").endswith(".safetensors"):
        wanted = ("source", "to")  # from folder to folder there are no other names
    if missing := [name for name in wanted if not getattr(options, name)]:
        parser.error(f"missing {', '.join('--from' if name == 'source' else f'--{name}' for name in missing)}")
    try:
        if options.describe:
            config, licence = resolve(read_config(options.config)), options.licence or UNKNOWN_LICENCE
            tokenizer = Tokenizer(options.tokenizer) if options.tokenizer else None
            print(describe(options.describe, config, tokenizer, licence))
            return 0
        params = _convert(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    count = sum(np.size(x) for x in jax.tree.leaves(params))
    print(f"{len(flatten(params))} parameters, {count:,} numbers → {options.to}")
    return 0
