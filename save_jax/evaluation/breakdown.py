"""Where the numbers come from: by kind of query, by what the right video has, and with inputs removed."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np

from save_jax.config import branches
from save_jax.data.split_info import SplitInfo
from save_jax.data.tokenizer import says_something
from save_jax.evaluation.contract import Evaluation
from save_jax.evaluation.retrieval import RetrievalEvaluator, VideoTokens
from save_jax.judge import metrics

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
NOTHING = -1  # in place of a clip's number
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


def exchanges(info: SplitInfo, reads: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """What takes sound or speech away, or exchanges it between clips; of the branches in `reads` alone.

    Returns:
        {name: {branch: int [clips]}}: the clip whose sound or speech each clip gets; `NOTHING` for none. A clip that
        has none keeps what it has.
    """
    speaks = np.array([says_something(text) for text in info.transcripts], bool)
    own, exchanged = np.arange(len(info.ids)), {}
    for branch, kind, has in (("audio", "sound", info.sound), ("speech", "speech", speaks)):
        if branch in reads:
            wrong = own.copy()
            for clip, donor in _donors(has).items():
                wrong[clip] = donor
            exchanged[f"no {kind}"] = {branch: np.where(has, NOTHING, own)}
            exchanged[f"wrong {kind}"] = {branch: wrong}
    if "audio" in reads and "speech" in reads:
        exchanged["vision only"] = exchanged["no sound"] | exchanged["no speech"]
    return exchanged


def exchange(tokens: VideoTokens, nothing: VideoTokens, rows: Mapping[str, np.ndarray]) -> VideoTokens:
    """Tokens with sound or speech taken away or exchanged.

    Args:
        tokens, nothing: from `RetrievalEvaluator.tokens` and `.nothing`.
        rows: of `exchanges`, numbers being rows of `tokens`.
    """
    fields = {}
    for branch, taken in rows.items():
        mine, none = getattr(tokens, branch), getattr(nothing, branch)
        fields[branch] = np.where((taken == NOTHING)[:, None, None], none, mine[taken])
    return dataclasses.replace(tokens, **fields)


def without_modalities(
    evaluator: RetrievalEvaluator, params: dict, evaluation: Evaluation, groups: Sequence[str]
) -> dict[str, dict]:
    """Results of the same model and queries with the videos' sound or speech removed, or exchanged between clips.

    Pictures, sounds and transcripts are not read again: what each came to is fused anew.

    Args:
        evaluation: of `RetrievalEvaluator.run`.
        groups: of the queries.
    Returns:
        {name of the exchange: metrics.retrieval}; empty for a model that reads frames alone.
    """
    info, results = evaluation.info, {}
    exchanged = exchanges(info, branches(evaluator.config))
    if not exchanged:
        return {}
    nothing = evaluator.nothing(params)
    for name, rows in exchanged.items():
        videos, _ = evaluator.fuse(params, exchange(evaluation.tokens, nothing, rows))
        scores = evaluator.score(params, evaluation.texts, videos)
        results[name] = metrics.retrieval(scores, info.caption_to_video, groups)
    return results
