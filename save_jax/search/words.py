"""What was said, found by its words: quoted phrases that must occur, and plain words that may.

Lines are found by their plain words (`plain`), which the segments' table keeps beside the text. A phrase may go on in
the next line: subtitles break sentences.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from lancedb.index import FTS
from lancedb.query import FullTextOperator, MatchQuery

from save_jax.search.plain import plain
from save_jax.search.ranking import View
from save_jax.search.store import Store

MOST = 1000  # segments that one query looks at
LONGEST = 10_000  # characters of a query
PHRASES = 20  # of a query
COLUMNS = ("plain", "joined")  # a line's own words, and those with the next line's
_PHRASE = re.compile(r'["“„«]([^"“”„«»]+)["”“»]')
# Scripts without a space between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_LONGEST_WORD = 200  # characters; what is longer is no word


class Query(NamedTuple):
    """What was typed."""

    text: str  # without quotation marks, for the model
    phrases: list[str]  # each must occur


class Line(NamedTuple):
    """A stretch of speech that holds the words."""

    content: str
    start: float
    end: float
    text: str
    plain: str  # its own words
    joined: str  # and those of the next line
    score: float


def parse(typed: str) -> Query:
    """Raises ValueError for a query that is empty, too long, or of too many phrases."""
    text = " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", typed).split())
    if not re.search(r"\w", text):
        raise ValueError("the query has no word; type what is seen, heard or said")
    if len(text) > LONGEST:
        raise ValueError(f"the query has {len(text)} characters; at most {LONGEST} are read")
    phrases = [*dict.fromkeys(phrase.strip() for phrase in _PHRASE.findall(text) if re.search(r"\w", phrase))]
    if len(phrases) > PHRASES:
        raise ValueError(f"the query has {len(phrases)} quoted phrases; at most {PHRASES} are looked for")
    return Query(re.sub(r'["“”„«»]', " ", text).strip(), phrases)


def index(store: Store) -> None:
    """Makes the words of all segments findable, those that come later as well; `Store.tidy` takes these in."""
    if not store.segments.count_rows():
        return
    there = {column for index in store.segments.list_indices() for column in index.columns}
    for column in COLUMNS:
        if column not in there:
            config = FTS(base_tokenizer="icu", max_token_length=_LONGEST_WORD, stem=True, remove_stop_words=False)
            store.segments.create_index(column, config=config)


def find(store: Store, text: str, most: int = MOST) -> list[Line]:
    """Segments that hold any of the words, best first (BM25)."""
    return _match(store, plain(text), "plain", FullTextOperator.OR, most)


def find_all(store: Store, text: str) -> list[Line]:
    """Segments that hold every word, best first."""
    return holding_all(_match(store, plain(text), "plain", FullTextOperator.AND, MOST), text)


def find_phrases(store: Store, phrases: list[str]) -> list[Line]:
    """Segments in which each phrase begins, best first: all of them, however many hold its words."""
    count = max(1, store.segments.count_rows())
    lines = _match(store, plain(" ".join(phrases)), "joined", FullTextOperator.AND, count)
    for phrase in phrases:
        lines = holding(lines, phrase)
    return lines


def _match(store: Store, text: str, column: str, operator: FullTextOperator, most: int) -> list[Line]:
    there = {name for index in store.segments.list_indices() for name in index.columns}
    if column not in there:
        return []
    # Its defaults are pydantic's, which a type checker does not follow.
    query = MatchQuery(text, column, operator=operator)  # pyright: ignore[reportCallIssue]
    rows = store.segments.search(query, query_type="fts").limit(most).to_arrow()
    columns = [rows[name].to_pylist() for name in ("content", "start", "end", "text", "plain", "joined", "_score")]
    return [Line(*values) for values in zip(*columns, strict=True)]


def holding_all(lines: list[Line], text: str) -> list[Line]:
    """Those that hold every word of a text."""
    wanted = set(plain(text).split())
    return [line for line in lines if wanted <= set(line.plain.split())]


def holding(lines: list[Line], phrase: str) -> list[Line]:
    """Those in which a phrase begins as it was typed, but for case, accents and punctuation."""
    wanted = plain(phrase)
    if _UNSPACED.search(wanted):
        return [line for line in lines if 0 <= line.joined.find(wanted) < max(1, len(line.plain))]
    return [line for line in lines if 0 <= f" {line.joined} ".find(f" {wanted} ") < max(1, len(line.plain))]


def windows_of(view: View, lines: Sequence[Line]) -> tuple[np.ndarray, np.ndarray]:
    """(numbers of windows, positions of the lines said in them): a pair for each line and window that meet in time."""
    by_content: dict[str, list[int]] = {}
    for number, line in enumerate(lines):
        if line.content in view.files:
            by_content.setdefault(line.content, []).append(number)
    windows, said = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for content, numbers in by_content.items():
        same = view.windows_of(content)
        starts = np.array([lines[number].start for number in numbers])[:, None]
        ends = np.array([lines[number].end for number in numbers])[:, None]
        begins = np.minimum(starts, view.ends[same].max(initial=0))  # after the pictures: the last window
        meets = (view.starts[same] < np.maximum(ends, 0) + 1e-3) & (view.ends[same] > begins - 1e-3)
        of_line, of_window = np.nonzero(meets)
        windows.append(same[of_window])
        said.append(np.array(numbers)[of_line])
    return np.concatenate(windows), np.concatenate(said)
