"""What is said in a clip, from subtitles: a .srt or .vtt file, or a text track inside a video.

Subtitles also describe sounds, "[music]", "(door slams)", "♪ la la ♪": that is not speech, and is kept apart.
"""

import html
import os
import re
from collections.abc import Iterable, Mapping

import av.container
import av.error
import pysubs2
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle

from data_prep.encoding import decode
from data_prep.media import clock, tracks
from data_prep.media.opening import MediaError, open_media
from data_prep.media.tracks import Tell, TrackError
from data_prep.names import as_text
from data_prep.speech import timed_data, transcripts
from data_prep.speech.cues import Cue, CueFile, parse, plain

FORMATS = (".srt", ".vtt")
_LANGUAGE = re.compile(r"\.([a-z]{2,3})(?:-\w+)?(?:\.(?:forced|sdh|cc|hi))*\.\w+$", re.IGNORECASE)  # clip.en-GB.sdh.srt
_MARKUP = re.compile(r"</?[a-z\d][^<>]*>", re.IGNORECASE)  # fonts, voices, times inside a line
_NOT_SPEECH = re.compile(r"\[[^\[\]]*\]|\([^()]*\)|[♪♫][^♪♫]*[♪♫]*")
_ROLLING_SECONDS = 1.0  # the same line again after a longer pause was said again
_SOUND = "not speech"  # reason of a part of a cue, "[music]"
_EXAMPLE = 200  # letters of the first cue of a file that is left out


def read(path: str, media: str | None = None, tell: Tell = tracks.silent) -> tuple[str, dict]:
    """The transcript, and what is known of it in the form of `records.Clip.speech`; ("", {}) without subtitles.

    `path`: a subtitle file, or a media file that may hold a text track. `media`: the file that a subtitle file belongs
    to. Times are on the clock of its pictures. `tell` hears of what was guessed. Raises ValueError, naming the file,
    for subtitles that are damaged or not of their format.
    """
    known = os.path.splitext(path)[1].lower() in FORMATS
    source, language, file = _from_file(path) if known else _from_track(path, tell)
    segments, dropped, cues = [], [], file.cues
    if reason := timed_data.reason(file, path):  # one line for all: a drone writes thirty a second
        start, end, text = cues[0].start, max(cue.end for cue in cues), cues[0].text[:_EXAMPLE]
        dropped.append(_part(start, end, text, f"{reason}, not speech; the first of {len(cues)}"))
        cues = []
    dropped += [_part(*block, "no time: a block of WebVTT that is no cue") for block in file.lost]
    if known and cues and media is not None and os.path.isfile(media):
        cues = _on_the_clock_of(media, cues)
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
    """The subtitle track to read, as `tracks.best` chooses it. Those of discs and broadcasts hold pictures, no text."""
    track = tracks.best(container, "", "subtitle")
    assert track is None or isinstance(track, SubtitleStream)
    return track


def _on_the_clock_of(media: str, cues: list[Cue]) -> list[Cue]:
    """Cues of a subtitle file, which count from the begin of the media file, as players do, or by its own clock."""
    try:
        shift = clock.beside(media, min(start for start, _, _ in cues), max(start for start, _, _ in cues))
    except MediaError:  # told where its pictures or its sound are read
        return cues
    return [Cue(start + shift, end + shift, text) for start, end, text in cues] if shift else cues


def _from_file(path: str) -> tuple[str, str, CueFile]:
    """Source, language (as the name says) and cues of a subtitle file."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ValueError(f"{as_text(path)}: subtitles cannot be read ({error.strerror})") from error
    text, note = decode(data, as_text(path))
    kind = os.path.splitext(path)[1].lower()
    try:
        file = parse(text)
    except (pysubs2.exceptions.Pysubs2Error, ValueError) as error:
        raise ValueError(f"{as_text(path)}: damaged subtitles ({error})") from error
    # A file of another kind, or a time line that is cut.
    if text.strip() and not file.cues and "WEBVTT" not in text[:10]:
        raise ValueError(f"{as_text(path)}: no subtitle in {len(data)} bytes; is it a {kind} file?")
    if damaged := next((cue for cue in file.cues if "-->" in cue.text or "\0" in cue.text), None):
        raise ValueError(f"{as_text(path)}: damaged subtitles at {damaged.start:.1f} s: {damaged.text[:60]!r}")
    named = _LANGUAGE.search(os.path.basename(path))
    source = f"subtitles ({kind} file{f', read as {note}' if note else ''})"
    return source, named[1].lower() if named else "", file


def _from_track(path: str, tell: Tell) -> tuple[str, str, CueFile]:
    """Source, language and cues of a text track, of the next one where one is damaged or empty; nothing where a file
    has none (pictures are no text)."""
    passed: dict[int, str] = {}
    while True:
        with open_media(path) as container:
            track = tracks.best(container, as_text(path), "subtitle", passed)
            if track is None:
                return "", "", CueFile([])
            assert isinstance(track, SubtitleStream)
            try:
                cues = _cues(container, track, path)
                if not cues and tracks.others(container, track, passed):
                    raise TrackError(path, track.index, "empty")
            except TrackError as error:
                passed[error.track] = error.problem
                continue
            if choice := tracks.remark(container, track, passed):
                tell(choice)
            language = "" if track.language in (None, "und") else track.language
            return f"subtitles ({track.codec_context.name} track)", language, CueFile(cues)


def _cues(container: av.container.InputContainer, track: SubtitleStream, path: str) -> list[Cue]:
    """Those of a track, on the clock of the pictures. Raises TrackError where it is damaged."""
    cues, count = [], 0
    zero = clock.settled(clock.picture_start(container, path))
    try:
        for packet in clock.packets(container):
            if packet.stream.index != track.index or not packet.size or packet.pts is None:
                continue
            count += 1
            start = float(packet.pts * packet.time_base) - zero
            end = start + float((packet.duration or 0) * packet.time_base)
            # FFmpeg gives every format as ASS: eight fields before the text.
            rects = [rect for rect in track.decode(packet) if isinstance(rect, AssSubtitle)]
            texts = [rect.ass.decode("utf-8", "replace").split(",", 8)[-1] for rect in rects]
            cues += [Cue(start, end, plain(text)) for text in texts]
    except (av.error.FFmpegError, OSError) as error:
        problem = f"the subtitle track is damaged after {count} packets ({error.strerror})"
        raise TrackError(as_text(path), track.index, problem) from error
    return cues


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
