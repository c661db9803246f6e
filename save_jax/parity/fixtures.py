"""Golden files: numbers computed by the authors' code, and the model of ours that should repeat them.

In: NAME.npz, perhaps in parts (NAME.part2.npz, …); out: its arrays, and a `Twin`: our model with the weights and
inputs that the numbers were made from. Weights or inputs that a file does not hold come from the files beside it (or
one folder up): inputs from the one of the same name but for `_optim`, `_debug` or `_grads_full`, an AVIGATE model's
weights from the SAVE file of the same settings. Sizes come from the weights; a file's settings say only what weights
cannot.
"""

import dataclasses
import json
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.config import resolve
from save_jax.data import golden
from save_jax.models.retrieval import Retrieval, make_model
from save_jax.weights import convert
from save_jax.weights.rules import RULES, Rule
from save_jax.weights.sizes import AST_STRIDE, config_for, grid

_ROLE = re.compile(r"_(train|optim|debug|grads_full|grads)$")
_INPUTS = ("text_ids", "video", "video_mask", "fbank", "audio_mask")
_SPEECH_INPUTS = ("asr_ids", "teacher_video", "teacher_audio")
_SPEECH = ("transformerClip_ASR.", "asr_query_tokens")  # what SAVE has and AVIGATE has not


@dataclasses.dataclass(frozen=True)
class Fixture:
    """One golden file, its parts merged."""

    path: Path  # of the first part
    arrays: dict[str, np.ndarray]

    @property
    def meta(self) -> dict:
        return json.loads(str(self.arrays["meta_json"])) if "meta_json" in self.arrays else {}

    @property
    def settings(self) -> dict:
        return self.meta.get("config", {})

    @property
    def stem(self) -> str:
        return _ROLE.sub("", self.path.stem)

    def under(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays below `prefix`, without it."""
        return {name.removeprefix(prefix): x for name, x in self.arrays.items() if name.startswith(prefix)}


@dataclasses.dataclass(frozen=True)
class Twin:
    """Our model with the weights, the inputs and the settings behind a golden file."""

    kind: str  # "save" or "avigate"
    config: ConfigDict
    model: Retrieval
    params: dict
    batch: dict  # as a training batch
    inputs: dict[str, np.ndarray]  # under the golden file's names
    settings: dict  # of the golden file

    @property
    def rules(self) -> list[Rule]:
        return RULES[self.kind]


def load(path: Path) -> Fixture:
    """A golden file with all its parts. Raises ValueError where a file is missing, damaged or says something twice."""
    return Fixture(golden.whole(path), golden.read(path))


def gather(paths: list[str]) -> list[Path]:
    """The golden files behind paths that may name parts, each once, in the order given."""
    return list(dict.fromkeys(golden.whole(Path(path)) for path in paths))


def _holds(path: Path, prefix: str) -> bool:
    try:
        with np.load(path) as file:
            return any(name.startswith(prefix) for name in file.files)
    except golden.UNREADABLE:  # somebody else's file
        return False


def _beside(fixture: Fixture, prefix: str) -> list[Fixture]:
    """Golden files in the same folder, else one folder up, that hold arrays below `prefix`."""
    for folder in (fixture.path.parent, fixture.path.parent.parent):
        paths = {golden.whole(path) for path in folder.glob("*.npz") if _holds(path, prefix)}
        if fixtures := [load(path) for path in sorted(paths)]:
            return fixtures
    return []


def _same_settings(fixture: Fixture, others: list[Fixture]) -> list[Fixture]:
    return [other for other in others if fixture.settings and other.settings == fixture.settings]


def _kind(fixture: Fixture) -> str:
    meta = fixture.meta
    text = meta.get("model", "") or " ".join(fixture.arrays) + str(meta)
    return "avigate" if "AVIGATE" in text or "transformer_Fusion" in text else "save"


def inputs_of(fixture: Fixture) -> Fixture:
    if any(name.startswith("in/") for name in fixture.arrays):
        return fixture
    others = _beside(fixture, "in/")
    named = [other for other in others if other.stem == fixture.stem]
    alike = [other for other in _same_settings(fixture, others) if _kind(other) == _kind(fixture)]
    for candidates in (named, alike):
        if len(candidates) == 1:
            return candidates[0]
    raise ValueError(f"{fixture.path} holds no inputs, and no file beside it is {fixture.stem}(_train).npz with in/…")


def _weights_of(fixture: Fixture) -> Fixture:
    if any(name.startswith("w/") for name in fixture.arrays):
        return fixture
    others = _beside(fixture, "w/")
    named = [other for other in others if other.stem == fixture.stem.replace("avigate", "save")]
    for candidates in (_same_settings(fixture, others), named, others):
        if len(candidates) == 1:
            return candidates[0]
    raise ValueError(
        f"{fixture.path} holds no weights, and of the files beside it {len(others)} hold some (w/…), none of which "
        "is the one of the same settings"
    )


def _stride(weights: dict, fbank: tuple[int, int], settings: dict) -> tuple[int, int]:
    """AST's stride: said by the settings, else 10 as everywhere, else the one that makes as many patches."""
    if "fstride" in settings or "tstride" in settings:
        return settings.get("fstride", AST_STRIDE[0]), settings.get("tstride", AST_STRIDE[1])
    kernel, table = (weights.get(f"clip.audio.v.{name}") for name in ("patch_embed.proj.weight", "pos_embed"))
    if kernel is None or table is None:
        return AST_STRIDE  # the conversion will say what is missing
    patch = kernel.shape[2:]
    candidates = [AST_STRIDE, *((s, s) for s in range(1, max(patch) + 1))]
    fits = [s for s in candidates if np.prod(grid(fbank, patch, s)) == table.shape[1] - 2]
    return fits[0] if fits else AST_STRIDE


def twin(fixture: Fixture, dtype: str, precision: str = "auto") -> Twin:
    """Our model for a golden file, computing in `dtype`, with products of `precision`, as config.model has them.

    Raises ValueError where weights or inputs are missing, or do not fit each other or our rules.
    """
    base = inputs_of(fixture)
    weights_file, kind, settings = _weights_of(base), _kind(base), base.settings
    weights, inputs = weights_file.under("w/"), base.under("in/")
    needed = _INPUTS + (_SPEECH_INPUTS if kind == "save" else ())
    if missing := [f"in/{name}" for name in needed if name not in inputs]:
        raise ValueError(f"{base.path} lacks {', '.join(missing)}, without which a {kind} model cannot run")
    if kind == "avigate":
        weights = {
            name.replace("Audio_Resampler.", "transformer_Fusion."): x
            for name, x in weights.items()
            if not name.startswith(_SPEECH)
        }
    fbank = inputs["fbank"].shape[1:]
    stride = _stride(weights, fbank, settings)
    done = convert.convert(weights, kind, ast_stride=stride, mel_bins=fbank[1])
    settings_of_model = done.model | {"ast_heads": settings.get("ast_heads", done.model["ast_heads"]), "dtype": dtype}
    settings_of_model["precision"] = precision
    config = config_for(settings_of_model, max_words=inputs["text_ids"].shape[1], max_frames=inputs["video"].shape[1])
    config = apply_settings(config, settings)
    batch = {
        "frames": jnp.asarray(inputs["video"]).transpose(0, 1, 3, 4, 2),
        "frame_mask": jnp.asarray(inputs["video_mask"], bool),
        "fbank": jnp.asarray(inputs["fbank"]),
        "has_audio": jnp.asarray(inputs["audio_mask"], bool),
        "text_ids": jnp.asarray(inputs["text_ids"]),
    }
    if kind == "save":
        batch |= {
            "speech_ids": jnp.asarray(inputs["asr_ids"]),
            "has_teacher": jnp.ones(len(inputs["video"]), bool),
            "teacher_video": jnp.asarray(inputs["teacher_video"]),
            "teacher_audio": jnp.asarray(inputs["teacher_audio"]),
        }
    model = make_model(config, sharding.make_mesh())  # with the kernels of these devices
    return Twin(kind, config, model, done.params, batch, inputs, settings)


def apply_settings(config: ConfigDict, settings: dict) -> ConfigDict:
    """The reference's command line → ours: loss, optimiser, and which of AST's blocks are trained."""
    config = config.copy_and_resolve_references().unlock()
    config.loss.beta = settings.get("beta", config.loss.beta)
    config.loss.delta = settings.get("margin", config.loss.delta)
    config.model.temperature = settings.get("temperature", config.model.temperature)
    optim = config.optim
    optim.learning_rate = settings.get("lr", optim.learning_rate)
    optim.warmup = settings.get("warmup", optim.warmup)
    if "coef_lr" in settings:
        optim.multipliers = tuple(
            (pattern, settings["coef_lr"] if "vision" in pattern else factor) for pattern, factor in optim.multipliers
        )
    first = settings.get("freeze_layer_num", config.model.ast_layers)
    trained = [rf"block_{layer}/" for layer in range(first, config.model.ast_layers)]
    if trained:
        optim.frozen = tuple(
            p if not p.startswith("^ast") else rf"^ast/(?!norm/|{'|'.join(trained)})" for p in optim.frozen
        )
    return resolve(config)
