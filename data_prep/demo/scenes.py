"""What the clips of the demo corpus are: a seed and a number of clips become a list of scenes, before any pixel exists.

A scene describes one clip: its split, what is seen, heard and said, its captions, its transcript, and two vectors in
place of ImageBind's. The vector of a sound is near that of a picture when the sound belongs to what the picture shows.
Only NumPy's random numbers are used, and what a recogniser has heard: no encoding.
"""

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib import resources
from typing import TypeVar

import numpy as np

from data_prep.demo.captions import EVENT_WORDS, KINDS, MOTIONS, PLACES, SOUND, SOUND_SPEECH, SPEECH, VISION, caption
from data_prep.demo.topics import TOPICS

# Every event belongs to two objects or more: the picture alone does not tell the sound.
BELONGING = {
    "car": ("engine", "siren", "rain", "applause"),
    "bird": ("birdsong", "rain", "whistle"),
    "bell": ("bell", "applause", "birdsong", "ring"),
    "drum": ("drumbeat", "applause", "whistle"),
    "boat": ("engine", "thunder", "siren", "bell"),
    "dog": ("bark", "whistle", "thunder", "birdsong"),
    "clock": ("ticking", "bell", "ring"),
    "train": ("engine", "whistle", "bell"),
    "house": ("rain", "thunder", "bark", "ring"),
    "phone": ("ring", "ticking", "siren", "drumbeat"),
}
OBJECTS, EVENTS = tuple(BELONGING), tuple(EVENT_WORDS)
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "turquoise")
SIZES = ((320, 240), (240, 320), (256, 144), (144, 256), (176, 176), (200, 150))
FRAME_RATES = (Fraction(12), Fraction(24), Fraction(30000, 1001), Fraction(30))
AUDIO_FORMATS = ((44100, "stereo"), (48000, "stereo"), (22050, "mono"), (16000, "mono"))


@dataclass(frozen=True)
class Speaking:
    """How a sentence is spoken, and how far the bed is below it."""

    voices: tuple[str, ...]  # of espeak-ng
    speeds: tuple[int, int]  # its setting; these sentences, with their short words, come out 1.2 times as fast
    bed_below: tuple[float, float]  # decibels, of RMS


# What a speech recogniser can be fair to: its two clearest voices, at most 170 words a minute. And what it cannot.
CLEAR = Speaking(("en-us", "en-gb-x-rp"), (110, 135), (10, 16))
HARD = Speaking(
    ("en-us+f3", "en-us+m3", "en-gb-scotland", "en-us+f2", "en-gb-x-rp+m7", "en-us+Annie"), (150, 190), (3, 6)
)
HARD_SHARE = 0.15  # of the clips with speech

SPLITS = {"train": 640 / 900, "validate": 60 / 900, "test": 200 / 900}  # names as MSRVTT_data.json spells them
RELATED, MUSIC, SILENT, NO_TRACK = BEDS = ("related", "music", "silent", "no-track")
BED_SHARES = (RELATED_SHARE := 0.50, 0.34, 0.04, 0.12)
SPEECH_SHARE = 0.60  # of all clips, though only clips with an audible bed can have it
TEST_KIND_SHARES = (0.50, 0.23, 0.17, 0.10)  # in the order of KINDS; the paper's query groups
CAPTIONS_PER_CLIP = 8
# What Whisper base made of the sentences of the corpus of 900 clips and seed 0, in its voices over its beds
# (tests/bench/word_errors.py --readings). A corpus of another seed may say some of 13 more, which come as spoken.
_HEARD = (resources.files("data_prep.demo") / "heard.json").read_text("utf-8")
HEARD: dict[str, list[str]] = json.loads(_HEARD)["readings"]
MIN_CLIPS = 20  # below this a split runs empty or a test caption kind finds no clip
TEACHER_SIZE = 1024
_VECTOR_NAMES = tuple(("object", thing) for thing in OBJECTS) + tuple(
    ("sound", sound) for sound in (*EVENTS, MUSIC, SILENT, "speech")
)
Option = TypeVar("Option")
_STREAMS = ("plan", "clip", "vectors", "test captions", "media", "transcript")


@dataclass(frozen=True)
class Scene:
    video_id: str
    split: str
    thing: str
    colour: str
    place: str
    motion: str
    bed: str  # one of BEDS
    event: str | None  # only for a related bed
    topic: int | None  # index into TOPICS, only if there is speech
    sentence: str | None
    speaking: Speaking
    voice: str
    speed: int  # of the voice, as espeak-ng counts
    size: tuple[int, int]  # width, height
    frame_rate: Fraction
    frames: int
    audio_rate: int
    audio_layout: str
    captions: tuple[tuple[str, str], ...]  # (kind, text)
    transcript: str | None
    teacher_video: np.ndarray
    teacher_audio: np.ndarray | None  # None without a sound track

    @property
    def tags(self) -> str:
        return self.bed if self.topic is None else f"{self.bed} speech"

    def caption(self, kind: str, rng: np.random.Generator) -> str:
        topic_words = None if self.topic is None else TOPICS[self.topic][:2]
        attributes = {name: getattr(self, name) for name in ("thing", "colour", "place", "motion", "event")}
        return caption(kind, rng, **attributes, topic_words=topic_words)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The caption kinds that this clip's sound permits."""
        heard, said = self.event is not None, self.topic is not None
        return tuple(k for k, ok in zip(KINDS, (True, heard, said, heard and said), strict=True) if ok)


def generator(seed: int, stream: str, clip: int = 0) -> np.random.Generator:
    """Random numbers of one purpose and clip: independent of every other, so clips can be made in any order."""
    return np.random.default_rng(np.random.SeedSequence([seed, clip], spawn_key=(_STREAMS.index(stream),)))


def shares_to_counts(total: int, shares: tuple[float, ...]) -> list[int]:
    """Whole numbers that sum to total and are nearest to the shares (largest remainders are rounded up)."""
    exact = np.round(total * np.array(shares), 9)
    counts = np.floor(exact).astype(int)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts.tolist()


def bed_shares(related: float) -> tuple[float, ...]:
    """As BED_SHARES, but `related` of the clips have a sound that belongs to the picture."""
    rest = (1 - related) / (1 - BED_SHARES[0])
    return (related, *(share * rest for share in BED_SHARES[1:]))


def sample_scenes(clips: int, seed: int, related: float = RELATED_SHARE) -> list[Scene]:
    """The clips of a corpus; `related`: the share of those whose sound belongs to the picture."""
    if clips < MIN_CLIPS:
        raise ValueError(f"{clips} clips are too few for train, val and test; ask for at least {MIN_CLIPS} (--clips)")
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; choose 0 or more (--seed)")
    if not 0 <= related <= 1:
        raise ValueError(f"{related} is no share; choose one from 0 to 1 (--related)")
    plan = generator(seed, "plan")
    vectors = _unit(generator(seed, "vectors").normal(size=(len(_VECTOR_NAMES), TEACHER_SIZE)))
    vector_of = dict(zip(_VECTOR_NAMES, vectors, strict=True))
    scenes: list[Scene] = []
    for split, size in zip(SPLITS, shares_to_counts(clips, tuple(SPLITS.values())), strict=True):
        beds = np.repeat(BEDS, shares_to_counts(size, bed_shares(related)))
        audible = np.flatnonzero(np.isin(beds, (RELATED, MUSIC)))
        spoken = np.zeros(size, bool)
        spoken[plan.choice(audible, min(round(SPEECH_SHARE * size), len(audible)), replace=False)] = True
        order = plan.permutation(size)
        sampled = [
            _sample_scene(len(scenes) + k, seed, split, str(beds[j]), bool(spoken[j]), vector_of)
            for k, j in enumerate(order)
        ]
        scenes += _with_test_captions(sampled, generator(seed, "test captions")) if split == "test" else sampled
    return scenes


def _sample_scene(
    i: int, seed: int, split: str, bed: str, spoken: bool, vector_of: dict[tuple[str, str], np.ndarray]
) -> Scene:
    rng = generator(seed, "clip", i)

    def one_of(options: tuple[Option, ...]) -> Option:
        return options[rng.integers(len(options))]

    thing = one_of(OBJECTS)
    event = one_of(BELONGING[thing]) if bed == RELATED else None
    topic = int(rng.integers(len(TOPICS))) if spoken else None
    sentence = None if topic is None else one_of(TOPICS[topic].sentences)
    speaking = HARD if rng.random() < HARD_SHARE else CLEAR
    speed = int(rng.integers(*speaking.speeds))
    seconds = max(rng.uniform(3, 5), 0.3 + _longest_seconds(sentence or "", speed))
    frame_rate = one_of(FRAME_RATES)
    audio_rate, audio_layout = one_of(AUDIO_FORMATS)
    transcript = None if sentence is None else _transcript(sentence, generator(seed, "transcript", i))
    scene = Scene(
        video_id=f"video{i}",
        split=split,
        thing=thing,
        colour=one_of(COLOURS),
        place=one_of(tuple(PLACES)),
        motion=one_of(tuple(MOTIONS)),
        bed=bed,
        event=event,
        topic=topic,
        sentence=sentence,
        speaking=speaking,
        voice=one_of(speaking.voices),
        speed=speed,
        size=one_of(SIZES),
        frame_rate=frame_rate,
        frames=round(seconds * frame_rate),
        audio_rate=audio_rate,
        audio_layout=audio_layout,
        captions=(),
        transcript=transcript,
        teacher_video=_teacher_video(thing, vector_of, rng),
        teacher_audio=None if bed == NO_TRACK else _teacher_audio(event or bed, spoken, vector_of, rng),
    )
    if split == "test":
        return scene  # captioned later, when it is known which test clips there are
    return _with_captions(scene, _spread_kinds(scene.kinds, rng), rng, taken=set())


def _spread_kinds(permitted: tuple[str, ...], rng: np.random.Generator) -> list[str]:
    """Two captions of vision; the rest dealt in turn over what is heard and said, if anything is, the rarest first."""
    others = permitted[1:] or permitted
    dealt = [others[-1 - j % len(others)] for j in range(CAPTIONS_PER_CLIP - 2)]
    return [str(kind) for kind in rng.permutation([VISION, VISION, *dealt])]


def _with_captions(scene: Scene, kinds: list[str], rng: np.random.Generator, taken: set[str]) -> Scene:
    """Words one caption per kind, none of them in taken, and adds them to taken."""
    captions = []
    for kind in kinds:
        text = scene.caption(kind, rng)
        for _ in range(100):  # not for ever: a corpus of very many clips needs more captions than there are wordings
            if text not in taken:
                break
            text = scene.caption(kind, rng)
        taken.add(text)
        captions.append((kind, text))
    return replace(scene, captions=tuple(captions))


def _with_test_captions(scenes: list[Scene], rng: np.random.Generator) -> list[Scene]:
    """One caption each, the kinds in their exact shares, on random clips among those that permit them."""
    counts = dict(zip(KINDS, shares_to_counts(len(scenes), TEST_KIND_SHARES), strict=True))
    kind_of: dict[int, str] = {}
    for kind in (SOUND_SPEECH, SPEECH, SOUND):  # the pickiest kind first, or it might find its clips taken
        free = [j for j, scene in enumerate(scenes) if kind in scene.kinds and j not in kind_of]
        chosen = rng.choice(free, min(counts[kind], len(free)), replace=False) if free else []
        kind_of |= dict.fromkeys((int(j) for j in chosen), kind)
    taken: set[str] = set()
    return [_with_captions(scene, [kind_of.get(j, VISION)], rng, taken) for j, scene in enumerate(scenes)]


def _transcript(sentence: str, rng: np.random.Generator) -> str:
    """One of the ways in which Whisper base heard the sentence, as often as it did; itself where it never did."""
    readings = HEARD.get(sentence, [sentence])
    return readings[rng.integers(len(readings))]


def _longest_seconds(sentence: str, speed: int) -> float:
    """That any voice needs for it: found 11 to 12.3 letters to the speed, over all sentences and voices."""
    return 12.5 * len(sentence) / speed


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _noise(rng: np.random.Generator) -> np.ndarray:
    return 0.5 * _unit(rng.normal(size=TEACHER_SIZE))


def _teacher_video(thing: str, vector_of: dict[tuple[str, str], np.ndarray], rng: np.random.Generator) -> np.ndarray:
    sounds = sum(vector_of["sound", event] for event in BELONGING[thing])
    return _unit(sounds + vector_of["object", thing] + _noise(rng)).astype(np.float32)


def _teacher_audio(
    sound: str, spoken: bool, vector_of: dict[tuple[str, str], np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    speech = 0.4 * spoken * vector_of["sound", "speech"]
    return _unit(vector_of["sound", sound] + speech + _noise(rng)).astype(np.float32)
