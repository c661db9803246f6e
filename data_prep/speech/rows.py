"""Rows of the transcript file that `data_prep.transcribe` writes; `transcripts` reads them."""

import collections
import os
from collections.abc import Mapping

from data_prep.speech import filters, transcripts

_UNSPACED = {"zh", "yue", "ja", "th", "lo", "my", "km", "bo"}  # languages whose words are not set apart


def make_row(key: str, source: str, result: Mapping, limits: filters.Thresholds) -> dict:
    """A row of the transcript file from a raw result of `Recognise`; parts without a value are left out."""
    if "problem" in result:
        problem = result["problem"].encode("utf-8", "backslashreplace").decode()  # odd file names
        return {"key": key, "text": "", "source": source, "problem": problem}
    segments = [filters.Segment(**segment) for segment in result["segments"]]
    kept, dropped = filters.keep(segments, result["voices"], result.get("sounds"), limits)
    language = result["language"]
    row = {
        "key": key,
        "text": "".join(_apart(segment, language) + segment.text.strip() for segment in kept).strip(),
        "source": source,
        "language": language,
        "segments": [_times(segment) for segment in kept],
        "dropped": [_times(segment) | {"reason": reason} for segment, reason in dropped],
    }
    return {name: value for name, value in row.items() if value or name == "text"}


def _apart(segment: filters.Segment, language: str) -> str:
    """What stands before a segment's text in the file's."""
    return "" if (segment.language or language) in _UNSPACED else " "


def _times(segment: filters.Segment) -> dict:
    times = {"start": segment.start, "end": segment.end, "text": segment.text.strip()}
    return times | ({"language": segment.language} if segment.language else {})


def read_rows(path: str) -> dict[str, list[dict]]:
    """Key → rows of a transcript file, several where they are its segments; {} if there is no file."""
    if not os.path.exists(path):
        return {}
    try:
        by_key = collections.defaultdict(list)
        for row in transcripts.listed(path):
            by_key[row["key"]].append(row)
        return dict(by_key)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} is there and is not a transcript file ({type(error).__name__}: {error}); it would be overwritten: "
            "move it away, or give another --out"
        ) from error
