"""Two configurations side by side: what differs."""

import json

from ml_collections import ConfigDict

from save_jax.config.resolving import defaults
from save_jax.config.retrieval import FROZEN_BY_CACHE, branches, start_paths


def differences(ours: dict, theirs: dict, prefix: str = "") -> list[str]:
    """Lines `name: ours, there theirs` for every value in which two nested configurations differ."""
    lines = []
    for key in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(key, "(not set)"), theirs.get(key, "(not set)")
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{prefix}{key}.")
        elif json.dumps(a) != json.dumps(b):
            lines.append(f"{prefix}{key}: {json.dumps(a)} here, {json.dumps(b)} there")
    return lines


def changes_since(config: ConfigDict, stored: dict, free: tuple[str, ...] = ()) -> list[str]:
    """`differences` of a config and a stored one but for the settings `free`; ones it does not know have defaults."""
    then = defaults(stored.get("task", "retrieval"))
    then.update(stored)
    # Runs of version 0.1 stored what their cache froze among optim.frozen.
    implied = FROZEN_BY_CACHE.get(then.cache, ())
    then.optim.frozen = tuple(pattern for pattern in then.optim.frozen if pattern not in implied)
    ours = config.to_dict()
    ours["init_from"], then.init_from = (",".join(start_paths(x)) for x in (ours["init_from"], then.init_from))
    if "branches" in ours["model"]:  # version 0.1 stored them without spaces
        ours["model"]["branches"] = ",".join(branches(config))
        then.model.branches = ",".join(branches(then))
    ours["optim"] |= {"frozen": tuple(pattern for pattern in ours["optim"]["frozen"] if pattern not in implied)}
    return [line for line in differences(ours, then.to_dict()) if line.split(":")[0] not in free]
