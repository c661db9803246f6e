"""An index opened for questions: `open_library("library").search("a dog barks")` → moments, with reasons."""

import math
import os
import threading
import time
from collections.abc import Collection, Sequence

import numpy as np

from save_jax.search import ranking, roots, words
from save_jax.search.embedder import Embedder
from save_jax.search.moments import NOTHING, Answer, Filters, Moment
from save_jax.search.ranking import View
from save_jax.search.store import Store, read_about

# Windows whose frames are scored. Of 20 questions to 100,000 windows of the demo's model, 128 held all of the ten best
# (tests/bench/RESULTS.md); the nearest by the mean of all senses are a worse guess where one is muted: four
# times as many then, which is not measured.
CANDIDATES, _MUTED = 128, 4
_FOR_A_MOMENT = 4  # times as many as overlap: windows that overlap a better one are no moments
_AT_ONCE = 4096  # windows whose frames are in memory, where all are scored
_LOOK_AGAIN = 2.0  # seconds between looks at the roots


class Library:
    """An index and the model it was made with."""

    def __init__(self, store: Store, embedder: Embedder):
        """Raises LibraryError for another model than that of the rows."""
        store.about.check(embedder, store.folder)
        self.store, self.embedder = store, embedder
        self._view: View | None = None
        self._names: dict[str, str] = {}  # name and path of a file → its content; of the view, made when asked
        self._offline: tuple[float, list[str]] = (-math.inf, [])
        self._renewing = threading.Lock()

    @property
    def view(self) -> View:
        """The index as it is now; made anew where it was written. Any number of threads may ask.

        Raises LibraryError for an index that is damaged.
        """
        return self.store.reading(self._current)

    def _current(self) -> View:
        with self._renewing:
            if self._view is None or self._view.version != self.store.refresh():
                self.store.about = read_about(self.store.folder)  # roots and cut-off may be others, too
                self._view = ranking.view(self.store)
                self._names = {}
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
            exact: score every window's frames, not only those whose mean is nearest.
            filters: which files are asked.
            evidence: "fused" for the model alone; "lexical" for the words alone; "joined": moments whose line holds
                every word of the query come first, and the model ranks them and the others.
            mute: of vision, audio and speech, what is left out. Without speech, quoted words alone are looked for.
        Raises:
            ValueError for an empty query, a query beside `like`, a filter or file that the index does not know, and
            where no sense is left.
        """
        if top < 1:
            raise ValueError(f"top is {top}; ask for one moment at least")
        kept = self._kept(mute)
        deaf = "speech" in mute
        return self.store.reading(lambda: self._search(query, top, like, exact, filters, evidence, kept, deaf))

    def along(self, file: str, query: str = "", like: str = "", mute: Collection[str] = ()) -> list[dict[str, float]]:
        """How well every window of a file matches, in time order: {"start", "end", "score"}.

        `file`: its name in the index. Raises ValueError as `search` does.
        """
        kept = self._kept(mute)

        def read() -> list[dict[str, float]]:
            view = self.view
            _, vector = self._asked(view, query, like)
            if (content := self._content(view, file)) is None:
                raise ValueError(f"{file} is no file of this index")
            numbers = view.windows_of(content)
            numbers = numbers[np.argsort(view.starts[numbers], kind="stable")]
            scores = self._scores(view, vector, numbers, kept)
            return [
                {"start": float(view.starts[k]), "end": float(view.ends[k]), "score": round(float(score), 4)}
                for k, score in zip(numbers, scores, strict=True)
            ]

        return self.store.reading(read)

    def picture(self, content: str, second: float) -> bytes:
        """The JPEG that an index keeps of the window in whose middle a second lies nearest; b"" for no window."""

        def read() -> bytes:
            view = self.view
            numbers = view.windows_of(content)
            if not len(numbers):
                return b""
            middle = np.abs((view.starts[numbers] + view.ends[numbers]) / 2 - second)
            taken = view.table.take_offsets([int(numbers[middle.argmin()])]).select(["picture"]).to_arrow()
            return taken["picture"][0].as_py()

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

    def _frames(self, view: View, numbers: np.ndarray, kept: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """As `Store.frames`, of the senses that are left."""
        frames, mask = self.store.frames(view.table, numbers)
        if len(kept) < len(self.embedder.senses):
            frames = self.store.terms(view.table, numbers)[:, kept].astype(np.float32).sum(axis=1)
        return frames, mask

    def _search(
        self, query: str, top: int, like: str, exact: bool, filters: Filters, evidence: str, kept: list[int], deaf: bool
    ) -> Answer:
        view = self.view
        parsed, vector = self._asked(view, query, like)
        allowed = self._allowed(view, filters)
        if parsed is None:
            allowed = allowed & ~self._itself(view, like)
        lines, quotes = self._lines(parsed, evidence, deaf)
        if parsed and parsed.phrases:
            said = np.zeros(len(view), bool)
            said[words.windows_of(view, quotes)[0]] = True
            allowed = allowed & said
        count = self._candidates(top, kept)
        nearest = (
            self._nearest(view, vector, allowed, kept)[:count]
            if exact
            else ranking.best(view.means, vector, count, allowed)
        )
        ranks_of_words = self._ranks(view, lines, allowed)
        already = set(nearest.tolist())
        extra = [number for number in list(ranks_of_words)[:count] if number not in already]
        numbers = np.array([*nearest.tolist(), *extra], np.int64)
        covers = filters == NOTHING and parsed is not None and not deaf and len(kept) == len(self.embedder.senses)
        cutoff = self.cutoff if covers else None  # it was measured with all files, all senses and sentences
        if not len(numbers):
            return Answer([], True, cutoff, self.offline(), self.embedder.senses)
        scores = self._scores(view, vector, numbers, kept)
        order = self._order(scores, numbers, ranks_of_words, evidence if lines else "fused")
        chosen = _best_apart(order, numbers, view, top)
        rows, mask, terms = self.store.explained(view.table, numbers[chosen])
        terms = terms[:, kept].astype(np.float32)
        lost = scores[chosen] - self.embedder.without(vector, terms, mask)
        matching = np.where(mask, self.embedder.matching(vector, terms.sum(axis=1)), -2)
        senses = [self.embedder.senses[k] for k in kept]
        quoted = _first_line(view, quotes, numbers[chosen])
        hits = [
            self._moment(view, rows[k], matching[k], float(scores[place]), why, quoted[k], filters)
            for k, (place, why) in enumerate(
                zip(chosen, (dict(zip(senses, values, strict=True)) for values in lost.T.tolist()), strict=True)
            )
        ]
        nothing = not hits
        if hits and cutoff is not None and parsed and not parsed.phrases and not any(quoted):
            nothing = max(hit.score for hit in hits) < cutoff
        return Answer(hits, nothing, cutoff, self.offline(), self.embedder.senses)

    # ---------------------------------------------------------------- parts

    @property
    def cutoff(self) -> float | None:
        """The score that nine of ten answers to what is not there stay below."""
        return self.store.about.cutoff.get("score")

    def offline(self) -> list[str]:
        """Roots whose files cannot be played now; looked at every few seconds, since a share may be slow to answer."""
        looked, names = self._offline
        if time.monotonic() - looked > _LOOK_AGAIN:
            names = [name for name, folder in self.store.about.roots.items() if not roots.is_there(folder)]
            self._offline = time.monotonic(), names
        return names

    def _lines(
        self, parsed: words.Query | None, evidence: str, deaf: bool
    ) -> tuple[list[words.Line], list[words.Line]]:
        """(lines that rank, lines that hold all that was asked for)."""
        if parsed is None:
            return [], []
        if parsed.phrases:  # every window that is left holds them: the score ranks
            found = words.find_phrases(self.store, parsed.phrases)
            return (found if evidence == "lexical" else []), found
        if deaf:
            return [], []
        if evidence == "lexical":
            found = words.find(self.store, parsed.text)
            return found, words.holding_all(found, parsed.text)
        whole = words.find_all(self.store, parsed.text)
        return (whole if evidence == "joined" else []), whole

    def _candidates(self, top: int, kept: list[int]) -> int:
        """How many windows are scored where `top` moments are asked for."""
        cut = self.store.about.cut
        overlapping = 2 * math.ceil(cut.seconds / cut.hop) - 1
        count = max(CANDIDATES, _FOR_A_MOMENT * overlapping * top)
        return count if len(kept) == len(self.embedder.senses) else _MUTED * count

    def _nearest(self, view: View, vector: np.ndarray, allowed: np.ndarray, kept: list[int]) -> np.ndarray:
        """Numbers of the windows that are allowed, best first by the score of their frames."""
        numbers = np.flatnonzero(allowed)
        return numbers[np.argsort(-self._scores(view, vector, numbers, kept), kind="stable")]

    def _scores(self, view: View, vector: np.ndarray, numbers: np.ndarray, kept: list[int]) -> np.ndarray:
        """float32 [n]: of windows, however many: some thousands are in memory at a time."""
        scores = np.empty(len(numbers), np.float32)
        for first in range(0, len(numbers), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            frames, mask = self._frames(view, numbers[part], kept)
            scores[part] = self.embedder.score(vector, frames, mask)
        return scores

    def _allowed(self, view: View, filters: Filters) -> np.ndarray:
        allowed = view.named if filters == NOTHING else view.of_files(filters)
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
        """float32 [d]: the mean vector of a file's windows, or of the one around a second."""
        mean = view.means[self._meant(view, like)].mean(axis=0)
        return mean / max(float(np.linalg.norm(mean)), 1e-12)

    def _itself(self, view: View, like: str) -> np.ndarray:
        """bool [n]: windows that overlap what is asked for; it is like itself, which nobody asks."""
        meant = self._meant(view, like)
        same = np.zeros(len(view), bool)
        same[view.windows_of(view.names[view.contents[meant[0]]])] = True
        return same & (view.starts < view.ends[meant].max()) & (view.ends > view.starts[meant].min())

    def _meant(self, view: View, like: str) -> np.ndarray:
        """Numbers of the windows of FILE, or of the one around a second of it."""
        path, at, second = like.rpartition("@")
        content, whole = self._content(view, like), True
        if content is None and at:
            content, whole = self._content(view, path), False
        if content is None:
            raise ValueError(
                f"{like} is no file of this index; give one as `save-jax search stats LIBRARY --files` lists them, or "
                "its path, and @SECOND for a moment of it"
            )
        chosen = view.windows_of(content)
        if not whole:
            try:
                wanted = float(second)
            except ValueError:
                wanted = math.nan
            if not math.isfinite(wanted):
                raise ValueError(f"{second!r} after @ is no number of seconds")
            middle = np.abs((view.starts[chosen] + view.ends[chosen]) / 2 - wanted)
            chosen = chosen[[int(middle.argmin())]]
        return chosen

    def _content(self, view: View, name: str) -> str | None:
        """Of a file, by its name in the index or by its path."""
        if not self._names:
            self._names = {row["file"]: content for content, rows in view.files.items() for row in rows}
            self._names |= {self.path_of(row): c for c, rows in view.files.items() for row in rows}
        if name in self._names or os.path.abspath(name) in self._names:
            return self._names.get(name) or self._names[os.path.abspath(name)]
        ends = {content for file, content in self._names.items() if file.endswith(f"/{name}")}
        return ends.pop() if len(ends) == 1 else None  # its bare name, where no other file has it

    def path_of(self, row: dict) -> str:
        """Where a file lies here."""
        return roots.locate(self.store.about.roots[row["root"]], row["path"])

    def _shown(self, rows: Sequence[dict]) -> dict:
        """Of files of one content, the one that can be played now."""
        return next((row for row in rows if os.path.exists(self.path_of(row))), rows[0])

    def _ranks(self, view: View, lines: Sequence[words.Line], allowed: np.ndarray) -> dict[int, int]:
        """Window → rank of the best line said in it, from 0."""
        ranks: dict[int, int] = {}
        for number, rank in zip(*words.windows_of(view, lines), strict=True):
            if allowed[number]:
                ranks[int(number)] = min(int(rank), ranks.get(int(number), len(lines)))
        return dict(sorted(ranks.items(), key=lambda item: item[1]))

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
        row: dict,
        matching: np.ndarray,
        score: float,
        lost: dict[str, float],
        quoted: str,
        filters: Filters,
    ) -> Moment:
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
            quoted=quoted,
        )


def _first_line(view: View, lines: list[words.Line], numbers: np.ndarray) -> list[str]:
    """The best line that is said in each window, "" for none."""
    first: dict[int, int] = {}
    for number, rank in zip(*words.windows_of(view, lines), strict=True):
        first[int(number)] = min(int(rank), first.get(int(number), len(lines)))
    return [lines[first[number]].text if number in first else "" for number in numbers.tolist()]


def _best_apart(order: np.ndarray, numbers: np.ndarray, view: View, top: int) -> np.ndarray:
    """Positions of the best windows, none of which overlaps a better one: that one is the moment."""
    taken: dict[int, list[tuple[float, float]]] = {}
    chosen = []
    for place in order.tolist():
        number = numbers[place]
        content, start, end = int(view.contents[number]), float(view.starts[number]), float(view.ends[number])
        spans = taken.setdefault(content, [])
        if view.names[content] in view.files and not any(start < high and end > low for low, high in spans):
            spans.append((start, end))
            chosen.append(place)
        if len(chosen) == top:
            break
    return np.array(chosen, np.int64)
