"""An index opened for questions: `open_library("library").search("a dog barks")` → moments, with reasons."""

import dataclasses
import math
import os
import threading
from collections.abc import Collection, Sequence

import numpy as np

from save_jax.search import ranking, roots, words
from save_jax.search.embedder import Embedder
from save_jax.search.ranking import View
from save_jax.search.store import Store

CANDIDATES = 512  # windows whose frames are scored


@dataclasses.dataclass(frozen=True)
class Moment:
    """One hit: a stretch of a file."""

    file: str  # as it is opened here
    name: str  # in the index: root and path
    start: float  # seconds
    end: float
    best: float  # second of the frame that matches most
    score: float
    why: dict[str, float]  # score lost without picture, sound or speech
    words: str  # said in that stretch
    quoted: str = ""  # the line that holds the words asked for

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Answer:
    """Moments, best first."""

    hits: list[Moment]
    nothing_relevant: bool  # all score below what absent things reach
    cutoff: float | None
    offline: list[str]  # roots whose files cannot be played now
    senses: tuple[str, ...]

    def as_json(self) -> object:
        rows = [hit.as_dict() for hit in self.hits]
        return {"hits": rows, "nothing_relevant": True} if self.nothing_relevant else rows


@dataclasses.dataclass(frozen=True)
class Filters:
    """Which files are asked; all of it holds before anything is ranked."""

    folder: str = ""  # path below a root, or that of a root
    after: float = 0.0  # seconds since 1970
    longer: float = 0.0  # seconds
    shorter: float = float("inf")
    language: str = ""

    def __call__(self, row: dict) -> bool:
        inside = self.folder.strip("/")
        return (
            (not inside or f"{row['file']}/".startswith(f"{inside}/") or f"{row['path']}/".startswith(f"{inside}/"))
            and row["modified"] / 1e9 >= self.after
            and self.longer <= row["duration"] <= self.shorter
            and (not self.language or row["language"] == self.language)
        )


NOTHING = Filters()


class Library:
    """An index and the model it was made with."""

    def __init__(self, store: Store, embedder: Embedder):
        """Raises LibraryError for another model than that of the rows."""
        store.about.check(embedder, store.folder)
        self.store, self.embedder = store, embedder
        self._view: View | None = None
        self._renewing = threading.Lock()

    @property
    def view(self) -> View:
        """The index as it is now; made anew where it was written. Any number of threads may ask."""
        with self._renewing:
            if self._view is None or self._view.version != self.store.refresh():
                self._view = ranking.view(self.store)
            return self._view

    def search(
        self,
        query: str = "",
        top: int = 10,
        *,
        like: str = "",
        exact: bool = False,
        filters: Filters = NOTHING,
        evidence: str = "joined",
        mute: Collection[str] = (),
    ) -> Answer:
        """Moments for a sentence, or moments like one of a file.

        Args:
            query: what is seen, heard or said; "words in quotation marks" must have been said.
            top: how many moments.
            like: FILE or FILE@SECOND, in place of a query.
            exact: score every window's frames, not only those of the nearest 512.
            filters: which files are asked.
            evidence: "fused" for the model alone; "lexical" for the words alone; "joined": moments whose line holds
                every word of the query come first, and the model ranks them and the others.
            mute: of vision, audio and speech, what is left out. Without speech, quoted words alone are looked for.
        Raises:
            ValueError for an empty query, a query beside `like`, a filter or file that the index does not know, and
            where no sense is left.
        """
        kept = self._kept(mute)
        if "speech" in mute:
            evidence = "fused"
        return self.store.reading(lambda: self._search(query, top, like, exact, filters, evidence, kept))

    def along(self, file: str, query: str = "", like: str = "", mute: Collection[str] = ()) -> list[dict[str, float]]:
        """How well every window of a file matches, in time order: {"start", "end", "score"}.

        `file`: its name in the index. Raises ValueError as `search` does.
        """
        kept = self._kept(mute)

        def read() -> list[dict[str, float]]:
            view = self.view
            _, vector = self._asked(view, query, like)
            content = next((c for c, rows in view.files.items() if any(row["file"] == file for row in rows)), None)
            if content is None:
                raise ValueError(f"{file} is no file of this index")
            numbers = view.windows_of(content)
            numbers = numbers[np.argsort(view.starts[numbers], kind="stable")]
            frames, mask, rows = self._frames(view, numbers, kept)
            scores = self.embedder.score(vector, frames, mask)
            return [
                {"start": row["start"], "end": row["end"], "score": round(float(score), 4)}
                for row, score in zip(rows, scores, strict=True)
            ]

        return self.store.reading(read)

    def _kept(self, mute: Collection[str]) -> list[int]:
        """Which of the senses are left."""
        senses = self.embedder.senses
        if unknown := sorted(set(mute) - {"vision", "audio", "speech"}):
            raise ValueError(f"{', '.join(unknown)}: of vision, audio and speech can be muted")
        kept = [number for number, name in enumerate(senses) if name not in mute]
        if not kept:
            raise ValueError(f"nothing is left: this model ranks by {', '.join(senses)}")
        return kept

    def _asked(self, view: View, query: str, like: str) -> tuple[words.Query | None, np.ndarray]:
        """(what was typed, float32 [d])."""
        if query and like:
            raise ValueError("give a sentence or `like`, not both")
        if like and not query:
            return None, self._like(view, like)
        parsed = words.parse(query)
        return parsed, self.embedder.texts([parsed.text])[0]

    def _frames(self, view: View, numbers: np.ndarray, kept: list[int]) -> tuple[np.ndarray, np.ndarray, list[dict]]:
        """As `Store.frames`, of the senses that are left."""
        frames, mask, rows = self.store.frames(view.table, numbers)
        if len(kept) < len(self.embedder.senses):
            frames = self.store.terms(view.table, numbers)[:, kept].astype(np.float32).sum(axis=1)
        return frames, mask, rows

    def _search(
        self, query: str, top: int, like: str, exact: bool, filters: Filters, evidence: str, kept: list[int]
    ) -> Answer:
        view = self.view
        parsed, vector = self._asked(view, query, like)
        allowed = self._allowed(view, filters)
        lines = words.find(self.store, parsed.text) if parsed and not parsed.phrases else []
        if parsed and parsed.phrases:
            lines = words.find_phrases(self.store, parsed.phrases)
            allowed &= self._windows_of(view, lines)
        count = len(view) if exact else CANDIDATES
        nearest = ranking.best(view.means, vector, count, allowed)
        if evidence == "joined" and parsed and not parsed.phrases:
            lines = words.holding_all(lines, parsed.text)
        ranks_of_words = self._ranks(view, lines, allowed)
        extra = [number for number in list(ranks_of_words)[:CANDIDATES] if number not in set(nearest.tolist())]
        numbers = np.array([*nearest.tolist(), *extra], np.int64)
        if not len(numbers):
            return Answer([], True, self.cutoff, self.offline(), self.embedder.senses)
        frames, mask, rows = self._frames(view, numbers, kept)
        scores = self.embedder.score(vector, frames, mask)
        order = self._order(scores, numbers, ranks_of_words, evidence if lines else "fused")
        chosen = _best_apart(order, rows, view, top)
        terms = self.store.terms(view.table, numbers[chosen])[:, kept]
        lost = scores[chosen] - self.embedder.without(vector, terms, mask[chosen])
        senses = [self.embedder.senses[k] for k in kept]
        matching = np.where(mask, self.embedder.matching(vector, frames), -2)
        hits = [
            self._moment(
                view, int(numbers[place]), rows[place], matching[place], float(scores[place]), less, lines, filters
            )
            for place, less in zip(
                chosen, (dict(zip(senses, values, strict=True)) for values in lost.T.tolist()), strict=True
            )
        ]
        nothing = not hits
        if hits and parsed and not parsed.phrases and self.cutoff is not None and not _says(hits, parsed.text):
            nothing = max(hit.score for hit in hits) < self.cutoff
        return Answer(hits, nothing, self.cutoff, self.offline(), self.embedder.senses)

    # ---------------------------------------------------------------- parts

    @property
    def cutoff(self) -> float | None:
        """The score that nine of ten answers to what is not there stay below."""
        return self.store.about.cutoff.get("score")

    def offline(self) -> list[str]:
        """Roots whose files cannot be played now."""
        return [name for name, folder in self.store.about.roots.items() if not roots.is_there(folder)]

    def _allowed(self, view: View, filters: Filters) -> np.ndarray:
        allowed = view.of_files(filters)
        if filters != NOTHING and not allowed.any():
            every = [row for rows in view.files.values() for row in rows]
            languages = sorted({row["language"] for row in every if row["language"]})
            if filters.language and filters.language not in languages:
                raise ValueError(
                    f"no file is in the language {filters.language!r}; known are {', '.join(languages) or 'none'}"
                )
            folders = sorted({row["file"].rpartition("/")[0] for row in every})
            inside = filters.folder.strip("/")
            if inside and not any(Filters(folder=inside)(row) for row in every):
                shown = ", ".join(folders[:10]) + (f" and {len(folders) - 10} more" if len(folders) > 10 else "")
                raise ValueError(f"no file lies in {filters.folder!r}; known are {shown}")
        return allowed

    def _like(self, view: View, like: str) -> np.ndarray:
        """The mean vector of a file's windows, or of the one around a second."""
        path, at, second = like.rpartition("@")
        known = {full: content for content, rows in view.files.items() for row in rows for full in self._spellings(row)}
        name = path if at and path in known else like
        if name not in known:
            name = os.path.abspath(name)
        if name not in known:
            raise ValueError(f"{like} is no file of this index; give one of its files, or FILE@SECOND")
        chosen = view.windows_of(known[name])
        if at and name != like:
            try:
                wanted = float(second)
            except ValueError:
                wanted = math.nan
            if not math.isfinite(wanted):
                raise ValueError(f"{second!r} after @ is no number of seconds")
            middle = np.abs((view.starts[chosen] + view.ends[chosen]) / 2 - wanted)
            chosen = chosen[[int(middle.argmin())]]
        mean = view.means[chosen].mean(axis=0)
        return mean / max(float(np.linalg.norm(mean)), 1e-12)

    def _spellings(self, row: dict) -> tuple[str, str]:
        return row["file"], self.path_of(row)

    def path_of(self, row: dict) -> str:
        """Where a file lies here."""
        return roots.locate(self.store.about.roots[row["root"]], row["path"])

    def _shown(self, rows: Sequence[dict]) -> dict:
        """Of files of one content, the one that can be played now."""
        return next((row for row in rows if os.path.exists(self.path_of(row))), rows[0])

    def _windows_of(self, view: View, lines: Sequence[words.Line]) -> np.ndarray:
        """bool [n]: windows in which one of the lines is said."""
        said = np.zeros(len(view), bool)
        for line in lines:
            said[_around(view, line)] = True
        return said

    def _ranks(self, view: View, lines: Sequence[words.Line], allowed: np.ndarray) -> dict[int, int]:
        """Window → rank of the best line said in it, from 0."""
        ranks: dict[int, int] = {}
        for rank, line in enumerate(lines[:CANDIDATES]):
            for number in _around(view, line):
                if allowed[number]:
                    ranks.setdefault(int(number), rank)
        return ranks

    def _order(
        self, scores: np.ndarray, numbers: np.ndarray, ranks_of_words: dict[int, int], evidence: str
    ) -> np.ndarray:
        """Positions of the candidates, best first."""
        by_score = np.argsort(-scores, kind="stable")
        if evidence == "fused":
            return by_score
        rank = np.empty(len(scores))
        rank[by_score] = np.arange(len(scores))
        of_words = np.array([ranks_of_words.get(int(number), np.inf) for number in numbers])
        if evidence == "lexical":
            return np.lexsort((rank, of_words))
        return np.lexsort((rank, np.isinf(of_words)))

    def _moment(
        self,
        view: View,
        number: int,
        row: dict,
        matching: np.ndarray,
        score: float,
        lost: dict[str, float],
        lines: Sequence[words.Line],
        filters: Filters,
    ) -> Moment:
        within = [x for x in lines if x.content == row["content"] and number in _around(view, x)]
        shown = self._shown([*filter(filters, view.files[row["content"]])])
        return Moment(
            file=self.path_of(shown),
            name=shown["file"],
            start=round(float(row["start"]), 2),
            end=round(float(row["end"]), 2),
            best=round(float(row["times"][int(matching[: len(row["times"])].argmax())]), 2),
            score=round(score, 4),
            why={name: round(x, 3) for name, x in lost.items()},
            words=row["words"],
            quoted=within[0].text if within else "",
        )


def _around(view: View, line: words.Line) -> np.ndarray:
    """Numbers of the windows in which a line is said."""
    same = view.windows_of(line.content if line.content in view.files else "")
    begin = min(line.start, float(view.ends[same].max(initial=0)))  # after the pictures: the last window
    return same[(view.starts[same] < max(line.end, 0) + 1e-3) & (view.ends[same] > begin - 1e-3)]


def _best_apart(order: np.ndarray, rows: Sequence[dict], view: View, top: int) -> np.ndarray:
    """Positions of the best windows, none of which overlaps a better one: that one is the moment."""
    taken: dict[str, list[tuple[float, float]]] = {}
    chosen = []
    for place in order:
        row = rows[place]
        spans = taken.setdefault(row["content"], [])
        if row["content"] in view.files and not any(row["start"] < high and row["end"] > low for low, high in spans):
            spans.append((row["start"], row["end"]))
            chosen.append(int(place))
        if len(chosen) == top:
            break
    return np.array(chosen, np.int64)


def _says(hits: Sequence[Moment], text: str) -> bool:
    """Whether a line that was said holds every word of the query."""
    return any(words.holds_all(hit.quoted, text) for hit in hits)
