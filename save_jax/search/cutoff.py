"""From which score on an answer counts: what sentences reach about things that are not in the index.

Everything has a nearest neighbour, so a score alone says little. Here sentences are asked whose own file is known, and
that file is taken out: what is left is an answer to something absent. The cut-off lets a promised share of these
through.
"""

from collections.abc import Sequence

import numpy as np

from save_jax.search import ranking
from save_jax.search.library import CANDIDATES, Library

SHARE = 0.1  # of absent things that are taken for found
MOST = 400  # sentences
LEAST = 20


def calibrate(library: Library, sentences: Sequence[tuple[str, str]] | None = None, share: float = SHARE) -> dict:
    """{"score", "share", "sentences"} for `About.cutoff`; {} where the index has too few sentences.

    Args:
        sentences: (sentence, content that it belongs to, or "" for that of its best window); by default what is said in
            the files.
    """
    view = library.view
    chosen = list(sentences) if sentences is not None else _said(library)
    if len(chosen) < LEAST or len(view.names) < 2:
        return {}
    chosen = [chosen[k] for k in np.linspace(0, len(chosen) - 1, min(len(chosen), MOST)).astype(int)]
    vectors = library.embedder.texts([sentence for sentence, _ in chosen])
    scores = [absent_score(library, vector, own) for vector, (_, own) in zip(vectors, chosen, strict=True)]
    return {"score": float(np.quantile(scores, 1 - share)), "share": share, "sentences": float(len(scores))}


def absent_score(library: Library, vector: np.ndarray, own: str) -> float:
    """The best score over all files but its own."""
    view = library.view
    if not own:
        own = view.names[view.contents[int((view.means @ vector).argmax())]]
    others = view.contents != (view.names.index(own) if own in view.names else -1)
    nearest = ranking.best(view.means, vector, CANDIDATES, others & view.of_files(lambda row: True))
    terms, mask, _ = library.store.terms(nearest)
    return float(library.embedder.score(vector, terms, mask)[0].max())


def _said(library: Library) -> list[tuple[str, str]]:
    rows = library.store.segments.search().select(["content", "text"]).limit(None).to_arrow().to_pylist()
    return [(row["text"], row["content"]) for row in rows if len(row["text"].split()) > 2]
