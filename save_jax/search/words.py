"""What was said, found by its words: quoted phrases that must occur, and plain words that may."""

import re
import unicodedata
from typing import NamedTuple

from lancedb.index import FTS
from lancedb.query import FullTextOperator, MatchQuery

from save_jax.search.store import Store

MOST = 1000  # segments that one query looks at
LONGEST = 10_000  # characters of a query
_PHRASE = re.compile(r'["“„«]([^"“”„«»]+)["”“»]')
# Scripts without a space between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


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
    """Makes the words of all segments findable, those that come later as well; `Store.tidy` takes these in."""
    if store.segments.count_rows() and not store.segments.list_indices():
        config = FTS(base_tokenizer="icu", with_position=False, stem=True, remove_stop_words=False)
        store.segments.create_index("text", config=config)


def find(store: Store, text: str, most: int = MOST) -> list[Line]:
    """Segments that hold any of the words, best first (BM25)."""
    return _match(store, " ".join(_spellings(text)), FullTextOperator.OR, most)


def find_phrases(store: Store, phrases: list[str]) -> list[Line]:
    """Segments in which each phrase occurs, best first: all of them, however many hold its words."""
    count = max(1, store.segments.count_rows())
    spelled = [_match(store, text, FullTextOperator.AND, count) for text in _spellings(" ".join(phrases))]
    lines = [*dict.fromkeys(line for lines in spelled for line in lines)]
    for phrase in phrases:
        lines = holding(lines, phrase)
    return lines


def _spellings(text: str) -> list[str]:
    """With each apostrophe: the index takes "don't" and "don’t" for two words."""
    return [*dict.fromkeys((text.replace("’", "'"), text.replace("'", "’")))]


def _match(store: Store, text: str, operator: FullTextOperator, most: int) -> list[Line]:
    if not store.segments.list_indices():
        return []
    # Its defaults are pydantic's, which a type checker does not follow.
    query = MatchQuery(text, "text", operator=operator)  # pyright: ignore[reportCallIssue]
    rows = store.segments.search(query, query_type="fts").limit(most).to_list()
    return [Line(row["content"], row["start"], row["end"], row["text"], row["_score"]) for row in rows]


def holds_all(line: str, text: str) -> bool:
    """Whether every word of a text occurs in a line, but for case and accents."""
    return set(plain(text).split()) <= set(plain(line).split())


def holding_all(lines: list[Line], text: str) -> list[Line]:
    """Those that hold every word of a text."""
    return [line for line in lines if holds_all(line.text, text)]


def holding(lines: list[Line], phrase: str) -> list[Line]:
    """Those in which a phrase occurs as it was typed, but for case, accents and punctuation."""
    wanted = plain(phrase)
    if _UNSPACED.search(wanted):
        return [line for line in lines if wanted in plain(line.text)]
    return [line for line in lines if f" {wanted} " in f" {plain(line.text)} "]
