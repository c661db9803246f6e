"""Which track of a file is seen, heard or read: one rule for pictures, sound and subtitles.

Cover images and thumbnails are no pictures, and bitmaps are no text. Of the others comes first what FFmpeg can decode,
then what is a whole of its own (no commentary, no description for the blind, no forced subtitles), then what the file
marks as default, then what is no single image, then English (as CLIP is), then the first. What turns out to be broken
gives way to the next one.
"""

import re
from collections.abc import Callable, Mapping

import av.container
from av.stream import Disposition, Stream

from data_prep.media.opening import MediaError

Tell = Callable[[str], object]  # takes one line about what was guessed or left out
_NOUNS = {"video": ("video stream", "seen"), "audio": ("sound track", "heard"), "subtitle": ("subtitle track", "read")}
_NO_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails
_STILL = {"mjpeg", "png", "bmp", "gif", "webp", "tiff", "jpeg2000", "libopenjpeg"}
_TEXT = {"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"}
_PARTS = {
    Disposition.comment: "commentary",
    Disposition.visual_impaired: "description for the blind",
    Disposition.descriptions: "description for the blind",
    Disposition.forced: "forced",
    Disposition.clean_effects: "without voices",
    Disposition.karaoke: "karaoke",
    Disposition.lyrics: "lyrics",
    Disposition.metadata: "metadata",
    Disposition.dependent: "part of another track",
    Disposition.still_image: "a still image",
}
_TITLES = {  # for files whose flags say nothing
    "commentary": re.compile(r"\bcomment", re.IGNORECASE),
    "description for the blind": re.compile(r"\b(audio.?)?descri(ption|bed)\b", re.IGNORECASE),
    "forced": re.compile(r"\b(forced|signs)\b", re.IGNORECASE),
}


NONE: Mapping[int, str] = {}


class TrackError(MediaError):
    """One track of a file cannot be used; another one may do."""

    def __init__(self, path: str, track: int, problem: str):
        super().__init__(f"{path}: {problem}")
        self.track, self.problem = track, problem


def silent(_: str) -> None:
    """For those who need no telling."""


def best(
    container: av.container.InputContainer, path: str, kind: str, passed: Mapping[int, str] = NONE
) -> Stream | None:
    """The track to use; None where there is none of that kind.

    Args:
        kind: "video", "audio" or "subtitle".
        passed: index of each track that was tried in vain → reason.
    Raises:
        MediaError: every track was tried in vain, or cannot be decoded; the reason is that of the best one.
    """
    tracks = _candidates(container, kind)
    if left := [track for track in tracks if track.index not in passed and _decodes(track)]:
        return left[0]
    if not tracks:
        return None
    noun, _ = _NOUNS[kind]
    reason = passed.get(tracks[0].index) or f"no decoder for its {noun}"
    others = f"; nor can the other {len(tracks) - 1} be used" if len(tracks) > 1 else ""
    raise MediaError(f"{path}: {reason}{others}")


def others(container: av.container.InputContainer, taken: Stream, passed: Mapping[int, str]) -> list[Stream]:
    """The tracks of the same kind that may still be tried."""
    tracks = _candidates(container, taken.type)
    return [track for track in tracks if track is not taken and track.index not in passed and _decodes(track)]


def remark(container: av.container.InputContainer, taken: Stream, passed: Mapping[int, str] = NONE) -> str:
    """What was chosen and what was passed over; "" where the file itself left no choice."""
    tracks = _candidates(container, taken.type)
    default = [track for track in tracks if track.disposition & Disposition.default]
    if len(tracks) == 1 or (default == [taken] and not passed):
        return ""
    others = sorted((track for track in tracks if track is not taken), key=lambda track: track.index)
    reasons = [passed.get(track.index) or ("" if _decodes(track) else "no decoder") or _part(track) for track in others]
    shown = [_name(track) + (f" ({reason})" if reason else "") for track, reason in zip(others, reasons, strict=True)]
    return f"{_name(taken)} is {_NOUNS[taken.type][1]}, passed over: {', '.join(shown)}"


def _candidates(container: av.container.InputContainer, kind: str) -> list[Stream]:
    """Tracks of a kind, best first."""
    tracks = [track for track in container.streams if track.type == kind and not track.disposition & _NO_PICTURES]
    if kind == "subtitle":
        tracks = [track for track in tracks if _codec(track) in _TEXT]
    return sorted(tracks, key=_preference)


def _preference(track: Stream) -> tuple:
    return (
        not _decodes(track),
        bool(_part(track)),
        not track.disposition & Disposition.default,
        _codec(track) in _STILL,
        not (track.language or "").lower().startswith("en"),
        track.index,
    )


def _decodes(track: Stream) -> bool:
    return track.codec_context is not None


def _codec(track: Stream) -> str:
    return getattr(track.codec_context, "name", "")


def _part(track: Stream) -> str:
    """Why a track is not a whole of its own, "" if it is one."""
    flagged = (reason for flag, reason in _PARTS.items() if track.disposition & flag)
    titled = (reason for reason, title in _TITLES.items() if title.search(track.metadata.get("title", "")))
    return next(flagged, "") or next(titled, "")


def _name(track: Stream) -> str:
    """As ffprobe counts them: "track 1 (aac, eng)"."""
    language = "" if track.language in (None, "und") else track.language
    return f"track {track.index} ({', '.join(filter(None, (_codec(track) or 'unknown codec', language)))})"
