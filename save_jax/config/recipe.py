"""From the words after a config's name to settings: `configs/vatex.py:model=avigate,backbone=L/14,seed=2`."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from save_jax.config.retrieval import METHODS, RANDOM

MODELS = {name: branches for branches, name in METHODS.items() if name in ("save", "avigate", "vision")}

# The towers of OpenAI's CLIP models, which all have heads of 64, 12 layers of text and one tokenizer. Resampler and
# fusion are as wide as the joint space (embed_dim), and can start from the text tower since that is as wide, too.
BACKBONES = {
    "B/32": {"patch_size": 32, "vision_width": 768, "vision_layers": 12, "text_width": 512, "embed_dim": 512},
    "B/16": {"patch_size": 16, "vision_width": 768, "vision_layers": 12, "text_width": 512, "embed_dim": 512},
    "L/14": {"patch_size": 14, "vision_width": 1024, "vision_layers": 24, "text_width": 768, "embed_dim": 768},
}


def apply(config: ConfigDict, arg: str, backbones: Mapping[str, Mapping[str, int]] = BACKBONES) -> ConfigDict:
    """The config, changed by the words of `arg`; every get_config ends with it.

    Args:
        config: an experiment; config.name is that of its file.
        arg: words separated by commas, each at most once, in any order: model=NAME, backbone=NAME, seed=NUMBER, smoke.
            With smoke the towers are tiny whatever the backbone.
        backbones: name → sizes in config.model; empty for an experiment that has sizes of its own.
    Raises:
        ValueError for a word that is unknown or there twice; it lists what is allowed.
    """
    choices = {"model": MODELS, "backbone": backbones}
    chosen = _words(config, arg, {key: tuple(names) for key, names in choices.items() if names}, ("smoke",))
    if "model" in chosen:
        config.model.branches = MODELS[chosen["model"]]
    if "backbone" in chosen:
        config.model.update(backbones[chosen["backbone"]])
    if "seed" in chosen:
        config.seed = int(chosen["seed"])
    return smoke(config) if "smoke" in chosen else config


def apply_vlsa(config: ConfigDict, arg: str) -> ConfigDict:
    """As `apply`, for VLSA.

    Args:
        arg: words separated by commas: seed=NUMBER, smoke, or demo for the demo corpus (data_prep.demo) with a small
            model trained from scratch.
    """
    chosen = _words(config, arg, {}, ("smoke", "demo"))
    if "demo" in chosen:
        _demo(config)
    if "seed" in chosen:
        config.seed = int(chosen["seed"])
    return smoke(config) if "smoke" in chosen else config


def _demo(config: ConfigDict) -> None:
    """Sizes and rates for some minutes on two CPU cores."""
    config.name += "_demo"
    config.data_dir = "data/demo/vlsa"
    config.data.tokenizer = "data"
    config.data.max_frames, config.data.max_words = 4, 24
    config.model.update(
        {
            "width": 64,
            "layers": 2,
            "heads": 2,
            "decoder_width": 64,
            "decoder_layers": 1,
            "decoder_heads": 2,
            "image_size": 64,
            "vocab_size": 2048,
            "audio_patch": (32, 32),
        }
    )
    config.optim.learning_rate = 2e-3
    config.log_every = 50
    config.checkpoint_every = 0
    if config.task == "vlsa-pretrain":
        config.batch_size, config.epochs, config.steps, config.eval_every = 32, 60, 0, 400
    else:
        config.batch_size, config.epochs, config.eval_every = 32, 4, 160
        config.loss.pairs = ("text-video", "text-audio")


def smoke(config: ConfigDict) -> ConfigDict:
    """The same experiment, tiny: a minute on a CPU, to see that everything runs. Data and schedule shrink too."""
    config.name += "-smoke"
    config.init_from = RANDOM  # no weights fit towers as small as these
    config.batch_size, config.steps, config.log_every, config.eval_every = 8, 6, 2, 3
    config.data.max_frames, config.data.max_words = 2, 12
    half = config.model.image_size // 2
    config.model.update(
        {
            "embed_dim": 32,
            "head_dim": 16,
            "patch_size": half,
            "vision_width": 32,
            "vision_layers": 1,
            "text_width": 32,
            "text_layers": 1,
            "ast_width": 32,
            "ast_layers": 1,
            "ast_heads": 2,
            "ast_patch": (128, 128),
            "ast_stride": (128, 128),
            "resampler_layers": 1,
            "fusion_layers": 1,
        }
        if config.task == "retrieval"
        else {
            "patch_size": half // 2,
            "width": 32,
            "layers": 1,
            "heads": 2,
            "decoder_width": 32,
            "decoder_layers": 1,
            "decoder_heads": 2,
            "audio_patch": (64, 64),
        }
    )
    return config


def _words(config: ConfigDict, arg: str, choices: Mapping[str, tuple[str, ...]], alone: tuple[str, ...]) -> dict:
    """{word: value} of `arg`; `choices`: values of each key=value, besides seed=NUMBER; `alone`: words without one."""
    allowed = [f"{key}={'|'.join(names)}" for key, names in choices.items()] + ["seed=NUMBER", *alone]
    chosen = {}
    for word in arg.split(",") if arg else []:
        key, _, value = word.partition("=")
        known = value in choices[key] if key in choices else value.isdecimal() if key == "seed" else word in alone
        if not known or key in chosen:
            raise ValueError(
                f"configs/{config.name}.py:{arg}: {word!r} is {f'one {key} too many' if known else 'unknown'}; "
                f"allowed are {', '.join(allowed)}, separated by commas"
            )
        chosen[key] = value
    return chosen
