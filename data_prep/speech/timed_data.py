"""Timed text that nobody says: readings of drones and cameras, addresses of thumbnails, chapters, data for programs.

Such files have the form of subtitles, and often the name of the video.
"""

import collections
import itertools
import json
import os
import re
from collections.abc import Sequence

from data_prep.speech.cues import Cue, CueFile

NAMES = {"chapters", "chapter", "metadata", "thumbnails", "thumbs", "sprite", "sprites", "storyboard", "telemetry"}
_KINDS = {"chapters", "metadata"}  # what a WebVTT header may say
_MOST, _LONG, _SLOW = 0.8, 30.0, 1.0  # share of alike cues; seconds, and letters a second, of a chapter's title
_MANY, _FEWEST, _PACE = 20, 5, 1.0  # cues of a device; fewer are if they are five, at most these seconds apart
_PICTURE = re.compile(
    r".+#xywh=(?:percent:|pixel:)?[\d.,]+|data:image/\S+|\S+\.(?:jpe?g|png|webp|gif|avif|bmp)(?:\?\S*)?(?:#\S*)?"
)
_DATA = re.compile(r"[A-Za-z\d+/=_-]{40,}|(?:[0-9a-fA-F]{2}[ :]){8,}[0-9a-fA-F]{0,2}")  # base64, hexadecimal
_NUMBER = r"\s*[:=(/]?\s*[-+]?\d"
_READING = re.compile(
    rf"\b(srtcnt|difftime|framecnt|iso|shutter|fnum|aperture|ev|ct|color_md|focal_len|dzoom\w*|latitude|longi?tude|lat|"
    rf"lon|lng|altitude|rel_alt|abs_alt|alt|barometer|gps|home|ss|speed|heading|yaw|pitch|roll|gb_\w+|satellites?|hdop|"
    rf"temp|voltage|accel\w*|gyro\w*|bitrate|distance|d|h|h\.s|v\.s|f){_NUMBER}|\bf/\d|\b\d{{4}}[-/.]\d\d[-/.]\d\d\b|"
    r"\b\d+(?:\.\d+)?\s?(?:km/h|kmh|mph|knots|m/s)\b",
    re.IGNORECASE,
)


def reason(file: CueFile, path: str) -> str:
    """Why the cues of a file are no speech, in words; "" where they may be."""
    cues = [cue for cue in file.cues if cue.text.strip()]
    if not cues:
        return ""
    named = NAMES & {part.lower() for part in os.path.basename(path).split(".")[1:-1]}
    if file.kind in _KINDS or named:
        return f"a track of {file.kind if file.kind in _KINDS else min(named)}"
    for what, found in (
        ("addresses of pictures", _is_picture),
        ("data for programs", _is_data),
        ("readings of a camera or a drone", _is_reading),
    ):
        if sum(found(cue.text) for cue in cues) > _MOST * len(cues):
            return what
    if _are_counters(cues):
        return "readings of a device: the same words with other numbers"
    return "titles of chapters, by their length" if _are_chapters(cues) else ""


def _is_picture(text: str) -> bool:
    return all(_PICTURE.fullmatch(line.strip()) for line in text.strip().splitlines())


def _is_data(text: str) -> bool:
    text = text.strip()
    if text.startswith(("{", "[{")):
        try:
            json.loads(text)
            return True
        except ValueError:
            return text.startswith('{"')  # cut, or with a comma too many
    return bool(_DATA.fullmatch(text))


def _is_reading(text: str) -> bool:
    """Two different quantities with their values, and few other words."""
    found = {match[0].lower().rstrip("+-0123456789 :=(/") for match in _READING.finditer(text)}
    words = re.findall(r"[^\W\d_]{3,}", re.sub(r"<[^<>]*>", " ", _READING.sub(" ", text)))
    return len(found) >= 2 and len(words) <= 3 * len(found) + 2


def _are_counters(cues: Sequence[Cue]) -> bool:
    """Whether nearly all cues have the same words, and each several numbers, which change.

    People count and tell scores so, too. A device does it in many cues, or in a few at a pace that no speaker keeps.
    """
    starts = [cue.start for cue in cues]
    fast = len(cues) >= _FEWEST and (len(cues) - 1) * _PACE >= max(starts) - min(starts) - 0.01
    if not (fast or len(cues) >= _MANY) or len({cue.text for cue in cues}) < 3:
        return False
    shapes = collections.Counter(
        tuple(re.findall(r"[^\W\d_]+", cue.text)) for cue in cues if len(re.findall(r"\d+", cue.text)) > 1
    )
    return bool(shapes) and shapes.most_common(1)[0][1] > _MOST * len(cues)


def _are_chapters(cues: Sequence[Cue]) -> bool:
    """Whether three short texts or more stand for half a minute or more each, one right after the other."""
    joined = all(abs(second.start - first.end) < 1.0 for first, second in itertools.pairwise(cues))
    slow = all(cue.end - cue.start >= _LONG and len(cue.text) < _SLOW * (cue.end - cue.start) for cue in cues[:-1])
    return len(cues) > 2 and joined and slow
