"""Weights of the PyTorch code ↔ our parameter tree, by the tables of `rules.py`.

Every source name must match exactly one rule, and each of our parameters must be filled, or be one that this kind of
file never holds. All problems come in one message.
"""

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from flax.traverse_util import unflatten_dict

from save_jax.models.trees import flatten
from save_jax.weights import vlsa as weights_vlsa
from save_jax.weights.rules import OPTIONAL, RULES, Rule
from save_jax.weights.sizes import AST_STRIDE, MEL_BINS, Flat, fit_positions, grid, model_shapes, sizes

WRAPPERS = ("module.", "model.", "_orig_mod.")  # what training puts before names


@dataclasses.dataclass(frozen=True)
class Converted:
    """What came out of a source.

    `model` are the sizes found, named as in `config.model`; `ignored` says why a source name was left out; `new` lists
    parameters of the model that this source does not hold. They are not in `params`, but for those of an audio tower
    made of a VLSA, which are as AST begins.
    """

    params: dict
    model: dict
    ignored: dict[str, str]
    new: list[str]


def _pattern(template: str) -> str:
    return re.escape(template).replace(r"\{i\}", r"(\d+)")


def apply_rules(source: Mapping[str, np.ndarray], rules: list[Rule]) -> tuple[Flat, dict[str, str], list[str]]:
    """(our flat parameters in float32, ignored name → reason, problems). Knows no sizes: shapes are checked later."""
    patterns = [(re.compile(_pattern(rule.source)), rule) for rule in rules]
    filled, ignored, problems = {}, {}, []
    for name, array in source.items():
        matches = [(match, rule) for pattern, rule in patterns if (match := pattern.fullmatch(name))]
        if len(matches) != 1:
            problems.append(f"{name}: " + (f"matches {len(matches)} rules" if matches else "unknown, no rule takes it"))
            continue
        match, rule = matches[0]
        if not rule.targets:
            ignored[name] = rule.reason
            continue
        array = np.asarray(array, np.float32)
        if not np.isfinite(array).all():
            problems.append(f"{name}: holds NaN or infinity")
        try:
            parts = rule.layout.forward(array)
        except (ValueError, IndexError):  # too few axes, or three parts that are not alike
            problems.append(f"{name}: shape {list(array.shape)} cannot be what {', '.join(rule.targets)} comes from")
            continue
        for target, part in zip(rule.targets, parts, strict=True):
            path = target.replace("{i}", match[1]) if match.groups() else target
            if path in filled:
                problems.append(f"{name}: {path} is filled already")
            filled[path] = np.array(part, order="C")
    return filled, ignored, problems


def own_names(source: Mapping[str, np.ndarray], rules: list[Rule]) -> tuple[dict[str, np.ndarray], str]:
    """(the source with its names as the rules have them, a line that says what was taken off them; "" for nothing).

    Training wraps a model (in DataParallel, in a compiled or a Lightning module), which puts a word before every name.
    It is taken off where no name is known with it.
    """
    patterns = re.compile("|".join(_pattern(rule.source) for rule in rules))
    tried = [""]
    for prefix in tried:
        names = {name[len(prefix) :] if name.startswith(prefix) else name: name for name in source}
        if len(names) == len(source) and any(map(patterns.fullmatch, names)):
            renamed = {name: source[there] for name, there in names.items()}
            return renamed, f"{prefix} was taken off the names" if prefix else ""
        if prefix.count(".") < 3:  # never more than three around each other
            tried += [prefix + word for word in WRAPPERS if any(name.startswith(prefix + word) for name in source)]
    bare = {f"module.{name}": x for name, x in source.items()}
    if any(map(patterns.fullmatch, bare)):  # AST's own files have one, which others take off
        return bare, "module. was put before the names"
    return dict(source), ""


def to_official(params: Mapping, rules: list[Rule]) -> dict[str, np.ndarray]:
    """The inverse: our tree (of parameters, or of gradients) → arrays under the source's names.

    Raises ValueError for rules that go one way, or that lists parameters which no rule, or only a part of a rule,
    accounts for.
    """
    if any(rule.layout.backward is None for rule in rules):
        raise ValueError("weights into or out of VLSA go one way; write them to a folder of parameters (--to DIR)")
    flat = {name: np.asarray(array) for name, array in flatten(params).items()}
    official, used = {}, set()
    for rule in rules:
        if not rule.targets:
            continue
        first = re.compile(_pattern(rule.targets[0]))
        for match in filter(None, map(first.fullmatch, flat)):
            layer = match[1] if match.groups() else "{i}"
            names = [target.replace("{i}", layer) for target in rule.targets]
            if all(name in flat for name in names):
                assert rule.layout.backward is not None  # as above
                official[rule.source.replace("{i}", layer)] = np.array(
                    rule.layout.backward([flat[name] for name in names]), order="C"
                )
                used.update(names)
    if len(used) != len(flat):
        left = sorted(flat.keys() - used)
        raise ValueError(f"{len(left)} parameters have no name there:\n  " + "\n  ".join(left))
    return official


def _fit_sounds(
    flat: Flat, model: Mapping, fbank: tuple[int, int] | None, mel_bins: int
) -> tuple[tuple[int, int] | None, list[str]]:
    """Makes AST's positions in `flat` those for `fbank`: (it, or what they are made for where it is None; problems)."""
    if "ast_patch" not in model or "ast/position_embedding" not in flat:
        return fbank, []
    patch, stride, table = model["ast_patch"], model["ast_stride"], flat["ast/position_embedding"]
    mel = grid((0, mel_bins), patch, stride)[0]
    time, rest = divmod(len(table) - 2 if table.ndim == 2 else 0, mel)
    if rest or time < 1:
        return fbank, [f"ast/position_embedding: {list(table.shape)} is not [2 + a multiple of {mel}, width]"]
    if fbank:
        flat["ast/position_embedding"] = fit_positions(table, (mel, time), grid(fbank, patch, stride))
    return fbank or ((time - 1) * stride[1] + patch[1], mel_bins), []


def convert(
    source: Mapping[str, np.ndarray],
    kind: str,
    fbank: tuple[int, int] | None = None,
    ast_stride: tuple[int, int] = AST_STRIDE,
    mel_bins: int = MEL_BINS,
    ast_patch: tuple[int, int] = (16, 16),
    vlsa: Mapping | None = None,
    told: Mapping = MappingProxyType({}),
) -> Converted:
    """A state dict → our parameters, checked against the model that its sizes make.

    Args:
        source: names → arrays.
        kind: the table to go by, a key of `RULES`.
        fbank: time steps and mel bins that the audio tower shall read; by default as many as the source's positions
            are made for.
        ast_stride: distance of AST's patches along (mel, time).
        mel_bins: how many mel bins the source's positions are made for.
        ast_patch: AST's patch, for `vlsa-ast` alone; elsewhere weights tell it.
        vlsa: `config.model` of the VLSA that `vlsa-ast` is given, where it is known: it says heads and audio patch.
        told: "heads", "activation" and "epsilon", see function.py; by default those of the official code.
    Raises:
        ValueError: names without a rule or with several, missing parameters, other shapes, NaNs; all at once.
    """
    source, _ = own_names(source, RULES[kind])
    flat, ignored, problems = apply_rules(source, RULES[kind])
    positions = None
    if kind in weights_vlsa.INTO:
        weights_vlsa.read_clip_pixels(flat, kind)
        model, unknown = weights_vlsa.sizes(flat, kind, told)
    elif kind == "vlsa-ast":
        fbank, vlsa = fbank or (1024, mel_bins), vlsa or {}
        positions = weights_vlsa.hear(flat, ast_patch, grid(fbank, ast_patch, ast_stride), vlsa)
        model, unknown = sizes(flat, kind, ast_stride, told)
        model |= {"ast_patch": ast_patch, "ast_heads": vlsa.get("heads", model["ast_heads"])}
    else:
        model, unknown = sizes(flat, kind, ast_stride, told)
        fbank, misfits = _fit_sounds(flat, model, fbank, mel_bins)
        problems += misfits
    problems += unknown
    try:
        into_vlsa = kind in weights_vlsa.INTO
        tree = weights_vlsa.model_shapes(model) if into_vlsa else model_shapes(model, fbank or (1024, mel_bins))
        shapes = flatten(tree)
    except ValueError as error:  # sizes that no model can have
        problems.append(str(error))
        shapes = flat
    held = [re.compile(_pattern(target)) for rule in RULES[kind] for target in rule.targets]
    optional = OPTIONAL.get(kind, ())
    absent = () if any(name.startswith(optional) for name in flat) else optional
    new = [name for name in shapes if name.startswith(absent) or not any(p.fullmatch(name) for p in held)]
    for name, leaf in shapes.items():
        if name not in flat and name not in new:
            problems.append(f"{name}: nothing in the source fills it")
        elif name in flat and not unknown and flat[name].shape != leaf.shape:
            problems.append(f"{name}: shape {list(flat[name].shape)} in the source, {list(leaf.shape)} in the model")
    problems += [f"{name}: this model has no such parameter" for name in flat if name not in shapes]
    if problems:
        raise ValueError(f"{len(problems)} problems with weights of kind {kind!r}:\n  " + "\n  ".join(problems))
    if kind == "vlsa-ast":
        assert fbank is not None  # as above
        new = weights_vlsa.complete(flat, model, fbank, positions)
    return Converted(unflatten_dict(flat, sep="/"), model, ignored, new)
