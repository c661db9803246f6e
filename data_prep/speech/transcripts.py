"""What is said in each clip, from a transcript file in the official form.

The file is the interface: `[{"key": "video0.wav", "text": "…"}, …]`, as published with SAVE. A recogniser such as
Whisper runs apart, on its own hardware and resumable by itself, and writes this file; preparation only reads it.
"""

import json
import os

MIN_CHARACTERS = 5  # the reference treats anything shorter as silence


def clean(text: str) -> str:
    """The transcript as it is stored: "" where there is too little to be speech."""
    text = text.strip()
    return text if len(text) >= MIN_CHARACTERS else ""


def read_transcripts(path: str) -> dict[str, str]:
    """Clip id → transcript; the last one where a key repeats. Raises ValueError if the file has another form."""
    try:
        with open(path, encoding="utf-8") as file:
            rows = json.load(file)
        return {os.path.splitext(row["key"])[0]: clean(row["text"] or "") for row in rows}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a transcript file ({type(error).__name__}: {error}); it should hold "
            '[{"key": "video0.wav", "text": "…"}, …]'
        ) from error
