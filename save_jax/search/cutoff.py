"""From which score on an answer counts: what sentences reach that are about other videos.

Everything has a nearest neighbour, so a score alone says little. Sentences about other videos are asked of the index,
and the cut-off lets a promised share of their best answers through. They are the user's own (--queries), else captions
that the model was trained with, else `RARE`. Where the library holds what they are about, the cut-off is too high.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from save_jax.search import ranking
from save_jax.search.library import CANDIDATES, Library
from save_jax.search.models import sentences_of
from save_jax.search.ranking import View

SHARE = 0.1  # of absent things that are taken for found
MOST = 400  # sentences
LEAST = 20
QUERIES = "queries.txt"  # in the index: the user's own sentences
# Asked where there are no others: what few people film.
RARE = (
    "a rocket lifts off from its launch pad", "a surgeon operates on a patient", "a volcano erupts at night",
    "a judge speaks in a courtroom", "an astronaut floats in a space station", "a blacksmith hammers red hot iron",
    "a submarine dives below the ice", "two sumo wrestlers face each other", "a locomotive is built in a factory",
    "a beekeeper opens a hive", "a lighthouse stands in a storm", "a matador waves a red cloth",
    "a glassblower shapes a vase", "an orchestra plays in a large hall", "soldiers march in a parade",
    "a polar bear walks over the ice", "a tailor sews a suit", "a crane lifts a container off a ship",
    "a chess grandmaster moves a rook", "a diver feeds a shark", "a ballet dancer turns on her toes",
    "a potter throws a bowl on a wheel", "a helicopter puts out a forest fire", "a falcon catches its prey in flight",
    "a newsreader reads the headlines", "a carriage is drawn by white horses", "a scientist looks into a microscope",
    "a wind turbine is put up at sea", "a printing press prints newspapers", "a camel caravan crosses the desert",
    "a fencer attacks with a foil", "a tram turns round in an old town", "a whale leaps out of the water",
    "an auctioneer sells a painting", "a dentist drills a tooth", "a gondola passes below a bridge",
    "a tightrope walker crosses a canyon", "a church organ is played", "a goldsmith sets a stone in a ring",
    "a robot welds the frame of a car",
)  # fmt: skip


def sentences(folder: str, model: str) -> tuple[list[str], str]:
    """(sentences to ask, what they are in words) for an index and its model."""
    path = os.path.join(folder, QUERIES)
    if os.path.exists(path):
        return read(path), "your queries"
    captions = sentences_of(model)
    return (captions, "captions of its training") if len(captions) >= LEAST else ([*RARE], "rare things")


def read(path: str) -> list[str]:
    """A sentence a line. Raises ValueError for fewer than 20, of which no tenth can be told."""
    with open(path, encoding="utf-8-sig") as file:
        found = [line.strip() for line in file if line.strip()]
    if len(found) < LEAST:
        raise ValueError(f"{path} has {len(found)} sentences; a cut-off needs {LEAST}, each about what is not there")
    return found


def calibrate(library: Library, asked: Sequence[str], about: str, share: float = SHARE) -> dict[str, Any]:
    """{"score", "share", "sentences", "about", "version" of the windows} for `About.cutoff`; {} for an empty index.

    `asked`: sentences about what is not there; `about` says in words what they are.
    """
    view = library.view
    if not view.files:
        return {}
    chosen = [asked[int(k)] for k in np.linspace(0, len(asked) - 1, min(len(asked), MOST))]
    scores = [_best_score(library, view, vector) for vector in library.embedder.texts(chosen)]
    score = float(np.quantile(scores, 1 - share))
    return {"score": score, "share": share, "sentences": len(scores), "about": about, "version": view.version[1]}


def _best_score(library: Library, view: View, vector: np.ndarray) -> float:
    """That of the best window."""
    nearest = ranking.best(view.means, vector, CANDIDATES, view.named)
    frames, mask = library.store.frames(view.table, nearest)
    return float(library.embedder.score(vector, frames, mask).max())
