"""The text of a subtitle file → its cues: SubRip as people write it, and WebVTT as its standard has it.

WebVTT is not SubRip: it has a header, names of cues, notes, styles and regions, none of which is said.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import pysubs2

_STAMP = r"(?:(\d+)\s*:\s*)?(\d{1,2})\s*:\s*(\d{1,2})(?:\s*[.,:]\s*(\d{1,3}))?"
_TIMES = re.compile(rf"\s*{_STAMP}\s*-{{1,3}}>\s*{_STAMP}(?![\d:]).*")
_KIND = re.compile(r"^Kind:\s*(\w+)\s*$", re.IGNORECASE | re.MULTILINE)
_BLOCKS = re.compile(r"(?:WEBVTT|NOTE|STYLE|REGION)(?:[ \t].*)?")
_READING = re.compile(
    r"<rt\b[^<>]*>(.*?)(?:</rt>|(?=</ruby>)|$)", re.IGNORECASE | re.DOTALL
)  # small letters above others
_OVERRIDES = re.compile(r"\{[^{}]*\\[^{}]*\}|\{/?[bius]\}|\{[a-z]:[^{}]*\}", re.IGNORECASE)  # {\an8}, {b}, {y:i}
_DRAWING = re.compile(r"\{[^{}]*\\p[1-9][^{}]*\}.*?(?=\{[^{}]*\\p0|$)", re.DOTALL)  # shapes between {\p1} and {\p0}


class Cue(NamedTuple):
    """Start and end in seconds, text of one or more lines."""

    start: float
    end: float
    text: str


class CueFile(NamedTuple):
    """Cues in the file's order, and what the file says it is ("captions", "chapters", …; "" where it does not)."""

    cues: list[Cue]
    kind: str = ""
    lost: tuple[Cue, ...] = ()  # blocks of WebVTT without a time, which players pass over; with that of the cue before


def parse(text: str) -> CueFile:
    """The cues of a file's text, told apart by content: a .srt file may hold WebVTT.

    Lines of time that cannot be read stay in the text of the cue before, for the caller to refuse. Raises
    pysubs2.exceptions.Pysubs2Error for a damaged file of Advanced SubStation.
    """
    lines = re.split(r"\r\n|\r|\n", text.lstrip("\ufeff"))
    if "[Script Info]" in text[:200]:
        events = pysubs2.SSAFile.from_string(text, format_="ass")
        return CueFile([Cue(e.start / 1000, e.end / 1000, plain(e.text)) for e in events if not e.is_comment])
    if not lines[0].startswith("WEBVTT"):
        return CueFile(list(_subrip(lines)))
    kind = _KIND.search("\n".join(lines[: lines.index("")] if "" in lines else lines))
    return _webvtt(lines, kind[1].lower() if kind else "")


def plain(text: str) -> str:
    """The text of an event of Advanced SubStation, without its overrides and drawings."""
    return pysubs2.SSAEvent(text=_DRAWING.sub("", text)).plaintext


def _subrip(lines: list[str]) -> Iterator[Cue]:
    """What stands between two lines of time is text, blank lines too, but for the number of the next cue."""
    times = [(number, match) for number, line in enumerate(lines) if (match := _TIMES.fullmatch(line))]
    if not times:
        return
    numbered = any(line.strip().isdecimal() for line in lines[: times[0][0]])
    ends = [number for number, _ in times[1:]] + [len(lines)]
    for (number, match), end in zip(times, ends, strict=True):
        said = [line.strip() for line in lines[number + 1 : end]]
        if numbered and end < len(lines):
            while said and not said[-1]:
                said.pop()
            if said and said[-1].isdecimal():
                said.pop()
        text = _DRAWING.sub("", "\n".join(said).strip())
        yield _cue(match, re.sub(r"\\[Nnh]", lambda mark: " " if mark[0] == r"\h" else "\n", _OVERRIDES.sub("", text)))


def _webvtt(lines: list[str], kind: str) -> CueFile:
    """A cue ends at a blank line, and what stands before its line of time is its name. Other blocks are no cues."""
    cues, lost, match, block, until = [], [], None, [], 0.0
    for line in [*lines, ""]:
        found = _TIMES.fullmatch(line)
        if not found and line:  # only a line without even a space is blank
            block.append(line.strip())
            continue
        if match:
            cues.append(_cue(match, _READING.sub(r"(\1)", "\n".join(block))))
            until = cues[-1].end
        elif block and not found and not _BLOCKS.fullmatch(block[0]):
            text = "\n".join(block)
            (cues if "-->" in text else lost).append(Cue(until, until, text))
        match, block = found, []
    return CueFile(cues, kind, tuple(lost))


def _cue(match: re.Match, text: str) -> Cue:
    return Cue(_seconds(match.groups()[:4]), _seconds(match.groups()[4:]), text)


def _seconds(stamp: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = stamp
    milliseconds = round(float(f"0.{fraction or 0}") * 1000)
    return (int(hours or 0) * 3_600_000 + int(minutes or 0) * 60_000 + int(seconds or 0) * 1000 + milliseconds) / 1000
