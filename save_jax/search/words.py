"""What was said, found by its words: quoted phrases that must occur, and plain words that may."""

import re
import unicodedata
from typing import NamedTuple

from save_jax.search.store import Store

MOST = 1000  # segments that one query looks at
LONGEST = 10_000  # characters of a query
_PHRASE = re.compile(r'["“„«]([^"“”„«»]+)["”“»]')
INDEX = {
    "with_position": False, "base_tokenizer": "icu", "stem": True, "remove_stop_words": False, "ascii_folding": True,
    "lower_case": True, "replace": True,
}  # fmt: skip


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
    score: float


def parse(typed: str) -> Query:
    """Raises ValueError for a query that is empty or too long."""
    text = " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", typed).split())
    if not re.search(r"\w", text):
        raise ValueError("the query has no word; type what is seen, heard or said")
    if len(text) > LONGEST:
        raise ValueError(f"the query has {len(text)} characters; at most {LONGEST} are read")
    phrases = [phrase.strip() for phrase in _PHRASE.findall(text) if re.search(r"\w", phrase)]
    return Query(re.sub(r'["“”„«»]', " ", text).strip(), phrases)


def plain(text: str) -> str:
    """Lower case, without accents, one space between words, no punctuation."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    return " ".join(re.findall(r"\w+", "".join(c for c in folded if not unicodedata.combining(c))))


def index(store: Store) -> None:
    """Makes the words of all segments findable."""
    if store.segments.count_rows():
        store.segments.create_fts_index("text", **INDEX)


def find(store: Store, text: str, most: int = MOST) -> list[Line]:
    """Segments that hold any of the words, best first (BM25)."""
    words = plain(text)
    if not words or not store.segments.list_indices():
        return []
    rows = store.segments.search(words, query_type="fts").limit(most).to_list()
    return [Line(row["content"], row["start"], row["end"], row["text"], row["_score"]) for row in rows]


def holds_all(line: str, text: str) -> bool:
    """Whether every word of a text occurs in a line, but for case and accents."""
    return set(plain(text).split()) <= set(plain(line).split())


def holding_all(lines: list[Line], text: str) -> list[Line]:
    """Those that hold every word of a text."""
    return [line for line in lines if holds_all(line.text, text)]


def holding(lines: list[Line], phrase: str) -> list[Line]:
    """Those in which a phrase occurs as it was typed, but for case, accents and punctuation."""
    wanted = f" {plain(phrase)} "
    return [line for line in lines if wanted in f" {plain(line.text)} "]
