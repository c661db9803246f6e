"""What is said in each clip, from a transcript file.

The file is the interface: `[{"key": "video0.wav", "text": "…"}, …]`, as published with SAVE. `data_prep.transcribe`
writes the same form, and adds to a row what it knows: "source", "language", "segments" (text with start and end in
seconds) and "dropped" (the same with a reason).
"""

import json
import math
from typing import Any

MIN_CHARACTERS = 5  # the reference treats anything shorter as silence
# Only these are taken off a key: the ids of some corpora hold dots, and a time such as ".941" is no suffix.
SUFFIXES = (".wav", ".mp3", ".flac", ".m4a", ".aac", ".ogg", ".opus", ".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v")
_EXTRAS = {"segments": ("text",), "dropped": ("text", "reason")}


def clean(text: str) -> str:
    """The transcript as it is stored: "" where there is too little to be speech."""
    text = text.strip()
    return text if len(text) >= MIN_CHARACTERS else ""


def strip_suffix(key: str) -> str:
    """A row's key without the suffix of a sound or video file."""
    suffix = next((suffix for suffix in SUFFIXES if key.lower().endswith(suffix)), "")
    return key[: len(key) - len(suffix)]


def read(path: str, keys_are_ids: bool = False) -> dict[str, tuple[str, dict]]:
    """Clip id → (transcript, what else the row knows of it, as `records.Clip.speech`); the last where a key repeats.

    `keys_are_ids`: keys keep their suffix, as the ids of plain folders do. Raises ValueError if the file has another
    form.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            rows = json.load(file)
        # JSON may carry half an emoji, which no file can store.
        rows = json.loads(json.dumps(rows, ensure_ascii=False).encode("utf-8", "replace"))
        by_id = {}
        for row in rows:
            key = row["key"] if keys_are_ids else strip_suffix(row["key"])
            by_id[key] = clean(row["text"] or ""), _speech(row)
        return by_id
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a transcript file ({type(error).__name__}: {error}); it should hold "
            '[{"key": "video0.wav", "text": "…"}, …]'
        ) from error


def _speech(row: dict) -> dict:
    """The optional parts of a row, checked; those without a value are left out."""
    speech: dict[str, Any] = {name: str(row[name]) for name in ("source", "language") if row.get(name)}
    for name, texts in _EXTRAS.items():
        parts = []
        for part in row.get(name) or ():
            start, end = float(part["start"]), float(part["end"])
            if not (math.isfinite(start) and math.isfinite(end)):
                raise ValueError(f"{row['key']}: {name} hold a time that is not a number of seconds")
            parts.append({"start": start, "end": end} | {text: str(part[text]) for text in texts})
        if parts:
            speech[name] = parts
    return speech
