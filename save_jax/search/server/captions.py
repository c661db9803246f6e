"""What is said in a file, as a caption track (WebVTT)."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

# What a page would obey and not show: controls, and marks that turn the direction of all that follows.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")
_LEAST = 0.1  # seconds that a line is shown


def webvtt(lines: Iterable[Mapping[str, Any]], start: float = 0.0, end: float = math.inf) -> str:
    """The lines that are said between two seconds, timed from the first of these."""
    cues = ["WEBVTT"]
    for line in lines:
        text = escaped(line["text"])
        if not text or line["end"] <= start or line["start"] >= end:
            continue
        begin = max(0.0, line["start"] - start)
        cues.append(f"{_clock(begin)} --> {_clock(max(line['end'] - start, begin + _LEAST))}\n{text}")
    return "\n\n".join(cues) + "\n"


def escaped(text: str) -> str:
    """As a cue holds it: one line, in which nothing is a tag, an arrow or a mark of direction."""
    shown = " ".join(_OBEYED.sub(" ", text).split())
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float) -> str:
    """75.5 → 00:01:15.500"""
    minutes, thousandths = divmod(round(1000 * seconds), 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{thousandths // 1000:02d}.{thousandths % 1000:03d}"
