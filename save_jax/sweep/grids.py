"""What a sweep varies: grid → variant → what it changes in the config, and which variants are compared."""

import itertools

SAVE = {"model.branches": "vision,audio,speech"}
AVIGATE = {"model.branches": "vision,audio"}
VISION = {"model.branches": "vision"}
# Grid → variant → what it changes in the config. Orders are the tables'; the first of an ablation is what it ablates.
GRIDS = {
    "methods": {"vision": VISION, "avigate": AVIGATE, "save": SAVE},
    "branches": {
        "save": SAVE,
        "no-speech": AVIGATE | {"model.weights.avigate": (1.0, 0.5), "loss.albef.avigate": "pearson"},
        "no-audio": {"model.branches": "vision,speech"},
        "vision": VISION,
    },
    "albef": {"save": SAVE}
    | {f"albef-{kind}": SAVE | {"loss.albef.save": kind} for kind in ("none", "hard", "mse", "huber")},
    "weights": {"save": SAVE} | {f"weight-{w}": SAVE | {"model.weights.save": (1.0, w, w)} for w in (0.05, 0.25, 1.0)},
    "score": {
        "save": SAVE,
        "save-global": SAVE | {"model.score": "global"},
        "avigate": AVIGATE,
        "avigate-global": AVIGATE | {"model.score": "global"},
    },
}


def pairs(grid: str) -> list[tuple[str, str]]:
    """The variants of a grid that are compared: (what it is compared with, variant)."""
    names = list(GRIDS[grid])
    if grid == "methods":
        return list(itertools.pairwise(names))
    if grid == "score":
        return [("save", "save-global"), ("avigate", "avigate-global")]
    return [(names[0], name) for name in names[1:]]
