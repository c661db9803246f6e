"""What is said in each clip, from a transcript file.

The file is the interface: `[{"key": "video0.wav", "text": "…"}, …]`, as published with SAVE. `data_prep.transcribe`
writes the same form, and adds to a row what it knows: "source", "language", "segments" (text with start and end in
seconds, and "language" where it is not the file's) and "dropped" (the same with a reason).
"""

import collections
import json
import logging
import math
from collections.abc import Sequence
from typing import Any

from data_prep.encoding import read_text

MIN_CHARACTERS = 5  # the reference treats anything shorter as silence
# Only these are taken off a key: the ids of some corpora hold dots, and a time such as ".941" is no suffix.
SUFFIXES = (".wav", ".mp3", ".flac", ".m4a", ".aac", ".ogg", ".opus", ".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v")
_SHOWN = 5  # keys in a warning
_log = logging.getLogger(__name__)
_EXTRAS = {"segments": ("text",), "dropped": ("text", "reason")}


def clean(text: str) -> str:
    """The transcript as it is stored: "" where there is too little to be speech."""
    text = text.strip()
    return text if len(text) >= MIN_CHARACTERS else ""


def strip_suffix(key: str) -> str:
    """A row's key without the suffix of a sound or video file."""
    suffix = next((suffix for suffix in SUFFIXES if key.lower().endswith(suffix)), "")
    return key[: len(key) - len(suffix)]


def listed(path: str) -> list[dict]:
    """Rows of a transcript file, not looked at yet. Raises ValueError or RecursionError where it is no JSON."""
    # JSON may carry half an emoji, which no file can store.
    return json.loads(json.dumps(json.loads(read_text(path)), ensure_ascii=False).encode("utf-8", "replace"))


def read(path: str, keys_are_ids: bool = False) -> dict[str, tuple[str, dict]]:
    """Clip id → (transcript, what else the row knows of it, as `records.Clip.speech`).

    A row with a "problem" is passed over. Several rows of a key that all have a start and an end are its segments, else
    the last counts, with a warning.
    `keys_are_ids`: keys keep their suffix, as the ids of plain folders do. Raises ValueError if the file has another
    form.
    """
    where = ""
    try:
        rows, known = collections.defaultdict(list), {}
        for number, row in enumerate(listed(path), 1):
            where = f"row {number}: "
            key = row["key"] if keys_are_ids else strip_suffix(row["key"])
            said = _of_row(row)
            if "problem" not in row:  # such a clip could not be heard: nothing is known of it
                known[key] = said
                rows[key].append(row)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a transcript file ({where}{type(error).__name__}: {error}); it should hold "
            '[{"key": "video0.wav", "text": "…"}, …]'
        ) from error
    several = {key: of_key for key, of_key in rows.items() if len(of_key) > 1}
    known |= {key: joined(of_key) for key, of_key in several.items() if _are_segments(of_key)}
    if twice := [key for key, of_key in several.items() if not _are_segments(of_key)]:
        shown = ", ".join(map(repr, twice[:_SHOWN])) + f" and {len(twice) - _SHOWN} more" * (len(twice) > _SHOWN)
        _log.warning("%s has several rows for %d clips; the last of each is taken: %s", path, len(twice), shown)
    return known


def of_value(value: Any) -> tuple[str, dict]:
    """(transcript, speech) of what a JSON file has for one clip: a text, None, a row without its key, or segments.

    Rows may be what Whisper writes. Raises ValueError, TypeError, KeyError or AttributeError for another form.
    """
    if value is None or isinstance(value, str):
        return clean(value or ""), {}
    row: dict[str, Any] = {"segments": value} if isinstance(value, list) else dict(value)
    if "segments" in row:  # Whisper's begin with a space
        row["segments"] = [part | {"text": part["text"].strip()} for part in row["segments"] or ()]
        row.setdefault("text", " ".join(part["text"] for part in row["segments"]))
    return _of_row(row)


def joined(segments: Sequence[dict]) -> tuple[str, dict]:
    """(transcript, speech) of segments with start and end in seconds and a text, in the order of their starts."""
    return of_value(sorted(segments, key=lambda segment: segment["start"]))


def _are_segments(rows: Sequence[dict]) -> bool:
    times = [row.get(name) for row in rows for name in ("start", "end")]
    timed = all(isinstance(time, int | float) and math.isfinite(time) for time in times)
    return timed and all(isinstance(row["text"], str) for row in rows)


def _of_row(row: dict) -> tuple[str, dict]:
    if not isinstance(row["text"], str | None):
        raise TypeError(f"the text of {row.get('key', 'a clip')!r} is {type(row['text']).__name__}, not a text")
    return clean(row["text"] or ""), _speech(row)


def _speech(row: dict) -> dict:
    """The optional parts of a row, checked; those without a value are left out."""
    speech: dict[str, Any] = {name: str(row[name]) for name in ("source", "language") if row.get(name)}
    for name, texts in _EXTRAS.items():
        parts = []
        for part in row.get(name) or ():
            start, end = float(part["start"]), float(part["end"])
            if not (math.isfinite(start) and math.isfinite(end)):
                raise ValueError(f"{row.get('key', 'a clip')}: {name} hold a time that is not a number of seconds")
            texts_here = (*texts, "language") if part.get("language") else texts
            parts.append({"start": start, "end": end} | {text: str(part[text]) for text in texts_here})
        if parts:
            speech[name] = parts
    return speech
