"""From which score on an answer counts: what sentences reach that are about other videos.

Everything has a nearest neighbour, so a score alone says little. Captions of other videos are asked of the index, and
the cut-off lets a promised share of their best answers through. Where the very videos that a model was trained on are
indexed, its captions are about them, and the cut-off is too high.
"""

from collections.abc import Sequence

import numpy as np

from save_jax.search import ranking
from save_jax.search.library import CANDIDATES, Library

SHARE = 0.1  # of absent things that are taken for found
MOST = 400  # sentences
LEAST = 20
# Asked where the model brings no sentences of its own: what people film, and what nobody does.
_WHO = ("a man", "a woman", "two children", "a dog", "a cat", "a group of people")
_WHAT = (
    "rides a bicycle down a street", "plays the guitar", "cooks in a kitchen", "swims in a pool", "runs on a beach",
    "talks to the camera", "dances on a stage", "drives a car at night", "opens a present", "climbs a mountain",
    "kicks a ball", "reads a book", "washes a window", "feeds birds in a park", "jumps over a fence",
    "paints a wall", "rows a boat", "eats ice cream", "builds a snowman", "walks through a market",
)  # fmt: skip
EVERYDAY = tuple(f"{who} {what}" for who in _WHO for what in _WHAT)


def calibrate(library: Library, sentences: Sequence[str] = (), share: float = SHARE) -> dict[str, float]:
    """{"score", "share", "sentences"} for `About.cutoff`; {} for an empty index.

    `sentences`: as users would ask; by default `EVERYDAY`.
    """
    view = library.view
    if not view.files:
        return {}
    asked = sentences if len(sentences) >= LEAST else EVERYDAY
    chosen = [asked[int(k)] for k in np.linspace(0, len(asked) - 1, min(len(asked), MOST))]
    scores = [best_score(library, vector) for vector in library.embedder.texts(chosen)]
    return {"score": float(np.quantile(scores, 1 - share)), "share": share, "sentences": float(len(scores))}


def best_score(library: Library, vector: np.ndarray) -> float:
    """That of the best window."""
    view = library.view
    nearest = ranking.best(view.means, vector, CANDIDATES, view.of_files(lambda row: True))
    frames, mask, _ = library.store.frames(view.table, nearest)
    return float(library.embedder.score(vector, frames, mask).max())
