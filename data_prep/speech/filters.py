"""Which recognised segments are speech: rules against the text that Whisper invents for music, noise and silence.

In: the segments of one clip with the recogniser's measures, and where voices were found; out: the segments kept, and
the dropped ones, each with a reason in words. All of it is cheap: thresholds change without transcribing again.
"""

import dataclasses
import itertools
import math
import re
import zlib
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Segment:
    """A stretch of recognised text; times in seconds from the start of the sound."""

    start: float
    end: float
    text: str
    no_speech: float  # Whisper's probability, in [0, 1], that its 30-second window holds no speech
    logprob: float  # mean natural logarithm of the probability of its window's tokens, time stamps and the end too
    compression: float  # bytes of the text per byte of its zlib compression
    language: str = ""  # code, where it is not the file's


def _limit(default: float, least: float, most: float, meaning: str) -> float:
    return dataclasses.field(default=default, metadata={"range": (least, most), "help": meaning})


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Chosen by tests/bench/filters.py, for both engines: their measures are the same.

    Whisper's authors doubt at 0.6, -1.0 and 2.4. With -1.0, and no voice activity detection, 16 of the 23 lines that
    tiny.en invents for music and silence would pass.
    """

    no_speech: float = _limit(0.4, 0, 1, "silence where its probability is above this, and logprob below the next")
    logprob: float = _limit(-0.7, -math.inf, 0, "mean log-probability of the words; see no-speech")
    compression: float = _limit(2.4, 0, math.inf, "repetition where the text compresses better than this")
    hopeless_logprob: float = _limit(-1.5, -math.inf, 0, "improbable words where the log-probability is below this")
    voiced: float = _limit(0.1, 0, 1, "share of a segment that must lie where a voice was found")
    music_lead: float = _limit(0.4, -1, 1, "music where its probability is this far above that of speech (--ast)")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            least, most = field.metadata["range"]
            if not least <= (value := getattr(self, field.name)) <= most:
                raise ValueError(f"the limit {field.name} is {value:g}; it lies between {least:g} and {most:g}")


_LOOP = 4  # "no, no, no" is said; four times the same and nothing much else is a decoder that hangs
_RUN = 3  # the same segment, or the same two or three by turns, this often in a row
_TURNS = (1, 2, 3)
_PAUSE_SECONDS = 1.0  # a decoder that hangs makes none; an announcement that is read again comes after a longer one
# Lines of video platforms that Whisper learnt from subtitles of silent passages. People say some of them, so they are
# dropped only where the sound leaves doubt whether anybody spoke.
_DOUBTFUL_NO_SPEECH, _DOUBTFUL_VOICED = 0.3, 0.5
_KNOWN_LINES = frozenset(
    """
    you|thank you|thanks|thank you very much|thank you so much|bye|bye bye|thanks for watching|thank you for watching
    thank you for watching this video|thanks for watching and see you next time|see you next time
    see you in the next video|please subscribe|please subscribe to my channel|like and subscribe
    dont forget to subscribe|dont forget to like and subscribe|subscribe to my channel|the end|to be continued
    sous titrage st 501|untertitel im auftrag des zdf|untertitel von stephanie geiges|gracias por ver el video
    obrigado por assistir|продолжение следует|спасибо за просмотр|ご視聴ありがとうございました|请不吝点赞 订阅 转发 打赏
    시청해주셔서 감사합니다
    """.strip().replace("\n", "|").replace("    ", "").split("|")
)  # fmt: skip
_KNOWN_PARTS = re.compile(
    r"amara ?org|(sub)?titles by|captions by|captioned by|subtitled by|transcribed by|transcription by|translated by|"
    r"sous titr(es|age)|untertitel|subtítulos|субтитры|字幕"
)


def compression_ratio(text: str) -> float:
    """Whisper's measure of repetition: about 1 to 2 for speech, above 2.4 for loops."""
    data = text.strip().encode()
    return len(data) / len(zlib.compress(data))


def keep(
    segments: Sequence[Segment],
    voices: Sequence[tuple[float, float]] | None,
    sounds: Sequence[Mapping[str, float]] | None = None,
    limits: Thresholds = Thresholds(),
) -> tuple[list[Segment], list[tuple[Segment, str]]]:
    """Splits a clip's segments into (kept, [(dropped, reason)]), both in order.

    `voices`: (start, end) in seconds where voice activity was found, None where it was not looked for.
    `sounds`: per segment the probabilities of "speech" and "music", None where they were not looked for.
    """
    if sounds is not None and len(sounds) != len(segments):
        raise ValueError(f"{len(segments)} segments have {len(sounds)} sound scores; there should be one for each")
    kept, dropped = [], []
    loops = _loops(segments)
    for number, segment in enumerate(segments):
        reason = _doubt(segment, voices, sounds[number] if sounds else None, limits) or loops.get(number, "")
        if reason:
            dropped.append((segment, reason))
        else:
            kept.append(segment)
    return kept, dropped


def _loops(segments: Sequence[Segment]) -> dict[int, str]:
    """Segments that only go on with a loop of one, two or three, by number; the first time round is not among them."""
    said, found = [_words(segment.text) for segment in segments], {}
    follows = [False] + [after.start - before.end <= _PAUSE_SECONDS for before, after in itertools.pairwise(segments)]
    for turn in _TURNS:
        same = [
            number >= turn and said[number] == said[number - turn] and all(follows[number - turn + 1 : number + 1])
            for number in range(len(said))
        ]
        for _, run in itertools.groupby(range(len(said)), key=same.__getitem__):
            numbers = list(run)
            times = 1 + len(numbers) // turn
            if same[numbers[0]] and times >= _RUN:
                what = "segment" if turn == 1 else f"{turn} segments"
                reason = f"the same as the {what} before, {times} times in a row"
                found |= {number: reason for number in numbers if number not in found}
    return found


def _doubt(
    segment: Segment,
    voices: Sequence[tuple[float, float]] | None,
    sound: Mapping[str, float] | None,
    limits: Thresholds,
) -> str:
    """Why the segment is not believed, "" if it is."""
    words = _words(segment.text)
    voiced = 1.0 if voices is None else voiced_share(segment, voices)
    if not words:
        return "no words"
    if voiced < limits.voiced:
        return f"no voice activity ({voiced:.0%} of its time)"
    if segment.no_speech > limits.no_speech and segment.logprob < limits.logprob:
        return f"no speech (probability {segment.no_speech:.2f}, log-probability of the words {segment.logprob:.2f})"
    if segment.logprob < limits.hopeless_logprob:
        return f"improbable words (log-probability {segment.logprob:.2f})"
    if segment.compression > limits.compression:
        return f"repetition (compression ratio {segment.compression:.1f})"
    if loop := repeated(words):
        return loop
    doubtful = segment.no_speech > _DOUBTFUL_NO_SPEECH or voiced < _DOUBTFUL_VOICED
    if doubtful and is_known_line(segment.text):
        return f"a line that Whisper often invents (no-speech {segment.no_speech:.2f}, voiced {voiced:.0%})"
    if sound and sound["music"] - sound["speech"] > limits.music_lead:
        return f"music (probability {sound['music']:.2f}, speech {sound['speech']:.2f})"
    return ""


def voiced_share(segment: Segment, voices: Sequence[tuple[float, float]]) -> float:
    """Share, in [0, 1], of the segment's time that lies in `voices`, which do not overlap."""
    length = segment.end - segment.start
    if length <= 0:  # Whisper gives some segments no length: inside or not
        return float(any(start <= segment.start <= end for start, end in voices))
    return sum(max(0.0, min(segment.end, end) - max(segment.start, start)) for start, end in voices) / length


def repeated(words: Sequence[str]) -> str:
    """ "'no way' 5 times" if some words repeat so often, one time after the other, that they are over half; else ""."""
    for size in range(1, len(words) // _LOOP + 1):
        run = 0  # words in a row equal to the one `size` before
        for position in range(size, len(words)):
            run = run + 1 if words[position] == words[position - size] else 0
            times = run // size + 1
            if times >= _LOOP and 2 * (run + size) > len(words):
                first = position + 1 - run - size
                return f"a loop ({' '.join(words[first : first + size])!r} {times} times or more)"
    return ""


def is_known_line(text: str) -> bool:
    line = " ".join(re.findall(r"\w+", text.casefold().replace("'", "").replace("’", "")))
    return line in _KNOWN_LINES or bool(_KNOWN_PARTS.search(line))


def _words(text: str) -> list[str]:
    """Lower-case words; single characters for a text without spaces, as Chinese and Japanese are."""
    words = re.findall(r"\w+", text.casefold())
    return list(words[0]) if len(words) == 1 and not words[0].isascii() else words
