"""What is said in a clip, from subtitles: a .srt or .vtt file, or the first text track inside a video.

Subtitles also describe sounds, "[music]", "(door slams)", "♪ la la ♪": that is not speech, and is kept apart.
"""

import html
import os
import re
from collections.abc import Iterable, Mapping

import av
import av.container
import av.error
import pysubs2
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle

from data_prep.encoding import decode
from data_prep.media.decode import open_media
from data_prep.speech import timed_data, transcripts
from data_prep.speech.cues import Cue, CueFile, parse, plain

FORMATS = (".srt", ".vtt")
_TEXT_CODECS = ("subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text")
_LANGUAGE = re.compile(r"\.([a-z]{2,3})(?:-\w+)?(?:\.(?:forced|sdh|cc|hi))*\.\w+$", re.IGNORECASE)  # clip.en-GB.sdh.srt
_MARKUP = re.compile(r"</?[a-z\d][^<>]*>", re.IGNORECASE)  # fonts, voices, times inside a line
_NOT_SPEECH = re.compile(r"\[[^\[\]]*\]|\([^()]*\)|[♪♫][^♪♫]*[♪♫]*")
_ROLLING_SECONDS = 1.0  # the same line again after a longer pause was said again
_SOUND = "not speech"  # reason of a part of a cue, "[music]"
_EXAMPLE = 200  # letters of the first cue of a file that is left out


def read(path: str) -> tuple[str, dict]:
    """The transcript, and what is known of it in the form of `records.Clip.speech`; ("", {}) without subtitles.

    `path`: a subtitle file, or a media file that may hold a text track. Raises ValueError, naming the file, for
    subtitles that are damaged or not of their format.
    """
    known = os.path.splitext(path)[1].lower() in FORMATS
    source, language, file = _from_file(path) if known else _from_track(path)
    segments, dropped, cues = [], [], file.cues
    if reason := timed_data.reason(file, path):  # one line for all: a drone writes thirty a second
        start, end, text = cues[0].start, max(cue.end for cue in cues), cues[0].text[:_EXAMPLE]
        dropped.append(_part(start, end, text, f"{reason}, not speech; the first of {len(cues)}"))
        cues = []
    dropped += [_part(*block, "no time: a block of WebVTT that is no cue") for block in file.lost]
    for start, end, text in _without_repeats(cues):
        dropped += [_part(start, end, sound, _SOUND) for sound in _NOT_SPEECH.findall(text)]
        said = " ".join(_NOT_SPEECH.sub(" ", text).split())
        if re.search(r"\w", said):
            segments.append({"start": start, "end": end, "text": said})
    speech = {"source": source, "language": language, "segments": segments, "dropped": dropped}
    said = transcripts.clean(" ".join(segment["text"] for segment in segments))
    return said, {name: value for name, value in speech.items() if value}


def nobody_speaks(speech: Mapping) -> str:
    """Why subtitles as a whole are left out, in words; "" where they are not, or were those of sounds alone."""
    reasons = [part["reason"] for part in speech.get("dropped", ()) if part["reason"] != _SOUND]
    return reasons[0] if reasons and not speech.get("segments") else ""


def _part(start: float, end: float, text: str, reason: str) -> dict:
    return {"start": start, "end": end, "text": text, "reason": reason}


def text_track(container: av.container.InputContainer) -> SubtitleStream | None:
    """The first subtitle track that holds text. Those of discs and broadcasts hold pictures."""
    tracks = container.streams.subtitles
    return next((track for track in tracks if getattr(track.codec_context, "name", "") in _TEXT_CODECS), None)


def _from_file(path: str) -> tuple[str, str, CueFile]:
    """Source, language (as the name says) and cues of a subtitle file."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ValueError(f"{_shown(path)}: subtitles cannot be read ({error.strerror})") from error
    text, note = decode(data, _shown(path))
    kind = os.path.splitext(path)[1].lower()
    try:
        file = parse(text)
    except (pysubs2.exceptions.Pysubs2Error, ValueError) as error:
        raise ValueError(f"{_shown(path)}: damaged subtitles ({error})") from error
    # A file of another kind, or a time line that is cut.
    if text.strip() and not file.cues and "WEBVTT" not in text[:10]:
        raise ValueError(f"{_shown(path)}: no subtitle in {len(data)} bytes; is it a {kind} file?")
    if damaged := next((cue for cue in file.cues if "-->" in cue.text or "\0" in cue.text), None):
        raise ValueError(f"{_shown(path)}: damaged subtitles at {damaged.start:.1f} s: {damaged.text[:60]!r}")
    named = _LANGUAGE.search(os.path.basename(path))
    source = f"subtitles ({kind} file{f', read as {note}' if note else ''})"
    return source, named[1].lower() if named else "", file


def _from_track(path: str) -> tuple[str, str, CueFile]:
    """Source, language and cues of the first text track; nothing where a file has none (pictures are no text)."""
    cues, packets, reason = [], 0, ""
    with open_media(path) as container:
        if (track := text_track(container)) is None:
            return "", "", CueFile([])
        language = "" if track.language in (None, "und") else track.language
        source = f"subtitles ({track.codec_context.name} track)"
        try:
            for packet in container.demux(track):
                if not packet.size or packet.pts is None:
                    continue
                packets += 1
                start = float(packet.pts * packet.time_base)
                end = start + float((packet.duration or 0) * packet.time_base)
                # FFmpeg gives every format as ASS: eight fields before the text.
                rects = [rect for rect in track.decode(packet) if isinstance(rect, AssSubtitle)]
                texts = [rect.ass.decode("utf-8", "replace").split(",", 8)[-1] for rect in rects]
                cues += [Cue(start, end, plain(text)) for text in texts]
        except (av.error.FFmpegError, OSError) as error:
            reason = str(error.strerror)
    if reason:
        raise ValueError(f"{_shown(path)}: the subtitle track is damaged after {packets} packets ({reason})")
    return source, language, CueFile(cues)


def _without_repeats(cues: Iterable[Cue]) -> list[Cue]:
    """Cues in time order, each on one line. Lines that roll up the screen come in several cues and count once."""
    kept, shown, until = [], [], -_ROLLING_SECONDS
    for start, end, text in sorted(cues, key=lambda cue: cue[:2]):
        text = _MARKUP.sub("", html.unescape(text)).encode("utf-8", "replace").decode()
        lines = [line for line in (" ".join(line.split()) for line in text.splitlines()) if line]
        if not lines:
            continue
        again = 0  # how many of the lines stand there already, as the last ones of the cue before
        if start - until < _ROLLING_SECONDS:
            again = next((k for k in range(len(lines), 0, -1) if shown[-k:] == lines[:k]), 0)
        if lines[again:]:
            kept.append((start, max(start, end), " ".join(lines[again:])))
        elif kept:
            kept[-1] = (kept[-1][0], max(kept[-1][1], end), kept[-1][2])
        shown, until = lines, end
    return kept


def _shown(path: str) -> str:
    """The path as a message can carry it: names need not be UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
