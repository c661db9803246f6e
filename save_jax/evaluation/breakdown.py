"""Where the numbers come from: by kind of query, by what the right video has, and with inputs removed."""

import dataclasses
import re
from collections.abc import Callable, Sequence

import numpy as np

from save_jax.config import branches
from save_jax.data.records import Clip, ShardSource
from save_jax.data.split_info import SplitInfo
from save_jax.evaluation import metrics
from save_jax.evaluation.retrieval import RetrievalEvaluator

# Words of captions about what is heard or said. Matched as whole words, with simple endings.
_SOUND = (
    "sing sang sung music musical musician song guitar guitarist piano pianist drum violin band orchestra rap beat "
    "melody tune bark meow roar chirp engine siren alarm bell ring noise sound loud clap applaud laugh scream cry "
    "cries whistle crash bang knock thunder hum buzz click"
)
_SPEECH = (
    "talk speak spoke spoken say said tell told explain discuss describe interview narrate comment report lecture "
    "announce ask answer conversation dialogue speech interviewer reporter anchor narrator voice voiceover debate news"
)
LENGTHS = ((0, 0), (1, 5), (6, 20), (21, None))  # words of a transcript


def _pattern(words: str) -> re.Pattern:
    forms = [
        rf"{w[:-1]}(?:e|es|ed|er|ers|ing)" if w.endswith("e") else rf"{w}(?:{w[-1]}?(?:s|es|ed|ing|er|ers))?"
        for w in words.split()
    ]
    return re.compile(rf"\b(?:{'|'.join(forms)})\b", re.IGNORECASE)


_IS_SOUND, _IS_SPEECH = _pattern(_SOUND), _pattern(_SPEECH)


def automatic_groups(captions: Sequence[str]) -> list[str]:
    """vision, sound, speech or sound+speech, by the words of each caption. Rough, and reported as automatic."""
    names = {(False, False): "vision", (True, False): "sound", (False, True): "speech", (True, True): "sound+speech"}
    return [names[bool(_IS_SOUND.search(text)), bool(_IS_SPEECH.search(text))] for text in captions]


def by_video(ranks: np.ndarray, info: SplitInfo) -> dict[str, dict]:
    """Text→video summaries by what the right video has: sound, speech, and the length of its transcript.

    `ranks`: int [captions], each within the complete gallery. Kinds without a query are left out.
    """
    sound, words = (
        info.sound[info.caption_to_video],
        np.array([len(t.split()) for t in info.transcripts])[info.caption_to_video],
    )
    kinds = {
        "sound and speech": sound & (words > 0),
        "sound, no speech": sound & (words == 0),
        "speech, no sound": ~sound & (words > 0),
        "neither": ~sound & (words == 0),
    }
    for low, high in LENGTHS:
        name = f"transcript of {low} words" if high == low else f"transcript of {low}–{high or '…'} words"
        kinds[name] = (words >= low) & (words <= (high if high is not None else np.inf))
    return {name: metrics.summary(ranks[member]) for name, member in kinds.items() if member.any()}


def _donors(has: Sequence[bool] | np.ndarray) -> dict[int, int]:
    """Number of each clip that has something → another clip that has it, half the list away."""
    having = np.flatnonzero(has)
    if len(having) < 2:  # a clip cannot be exchanged with itself
        return {}
    return dict(zip(having.tolist(), np.roll(having, len(having) // 2).tolist(), strict=True))


def changes(source: ShardSource, info: SplitInfo, reads: Sequence[str]) -> dict[str, Callable[[Clip, int], Clip]]:
    """Changes that remove or exchange an input, by name; of the branches in `reads` alone."""
    sounds, speeches = _donors(info.sound), _donors([bool(text) for text in info.transcripts])

    def wrong_sound(clip: Clip, number: int) -> Clip:
        return dataclasses.replace(clip, fbank=source[sounds[number]].fbank) if number in sounds else clip

    def wrong_speech(clip: Clip, number: int) -> Clip:
        other = speeches.get(number)
        return clip if other is None else dataclasses.replace(clip, transcript=info.transcripts[other])

    changes = {}
    if "audio" in reads:
        changes["no sound"] = lambda clip, _: dataclasses.replace(clip, fbank=None)
        changes["wrong sound"] = wrong_sound
    if "speech" in reads:
        changes["no speech"] = lambda clip, _: dataclasses.replace(clip, transcript="")
        changes["wrong speech"] = wrong_speech
    if "audio" in reads and "speech" in reads:
        changes["vision only"] = lambda clip, _: dataclasses.replace(clip, fbank=None, transcript="")
    return changes


def without_modalities(
    evaluator: RetrievalEvaluator, params: dict, split: str, texts: np.ndarray, groups: Sequence[str]
) -> dict[str, dict]:
    """Results of the same model and queries with the videos' sound or speech removed, or exchanged between clips.

    Args:
        texts: embedded queries, float32 [captions, d].
        groups: of the queries.
    Returns:
        {name of the change: metrics.retrieval}; empty for a model that reads frames alone.
    """
    source, info = evaluator.data.sources[split], evaluator.data.info(split)
    results = {}
    for name, change in changes(source, info, branches(evaluator.config)).items():
        videos = evaluator.embed_videos(params, split, change=change)
        results[name] = metrics.retrieval(evaluator.score(params, texts, videos), info.caption_to_video, groups)
    return results
