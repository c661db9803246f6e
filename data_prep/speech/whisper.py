"""Whisper behind one small interface: pieces of sound in, segments with times and measures out; none is dropped here.

Two engines: PyTorch through transformers, in batches (float16 on a GPU), and CTranslate2 through faster-whisper,
without torch, a piece at a time (int8 on a CPU). Both decode with Whisper's own fallback: greedily, then once at each
of rising temperatures while the text repeats itself or its words are improbable. Whisper's rule for silence is left
to `filters`, so that nothing it said is lost.
"""

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from data_prep.media.audio import SAMPLE_RATE
from data_prep.speech import model_folder, model_names
from data_prep.speech.filters import Segment, compression_ratio
from data_prep.speech.sounds import ready
from data_prep.speech.vad import PIECE_SECONDS

ENGINES = ("transformers", "faster-whisper")
_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_REPETITION, _IMPROBABLE = 2.4, -1.0  # doubts with which Whisper's authors decode again, whatever the filters' are
_HOP = 160  # samples from one frame of Whisper's log-mel to the next
_FRAMES = int(PIECE_SECONDS * SAMPLE_RATE) // _HOP  # that its encoder takes
# Fast English has 5 to 7 tokens a second, and scripts of which each letter takes several have three times that; each
# segment has two time stamps. A loop goes on to the limit. Whisper's authors end at 224 tokens, with the prompt.
_TOKENS_A_SECOND, _SPARE_TOKENS, _MOST_TOKENS = 25, 60, 220
_PROMPT_TOKENS = 4  # at most: start, language and task; a decoder has no more places than its config says
_EVIDENCE_SECONDS = 0.05  # a segment that begins this close to the sound's end was read from the padding


@dataclass(frozen=True)
class Recognised:
    """One piece: its language, such as "en", and its segments, times within the piece."""

    language: str
    segments: list[Segment]
    sure: float = 1.0  # probability of the language; 1 where it was given


class Engine(Protocol):
    batch: int  # pieces that it takes at once

    def transcribe(self, waveforms: Sequence[np.ndarray], languages: Sequence[str]) -> list[Recognised]:
        """float32 [samples] at 16 kHz, at most 30 s each; languages as codes, "" to detect."""
        ...


def require(engine: str, language: str = "") -> None:
    """Raises ValueError if an engine is not known or not installed, or a language is not one of Whisper's codes."""
    if language:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it says that PyTorch is absent
        from transformers.models.whisper.tokenization_whisper import LANGUAGES

        if language not in LANGUAGES:
            raise ValueError(f"Whisper knows no language {language!r}; it takes codes: {', '.join(sorted(LANGUAGES))}")
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; there are {', '.join(ENGINES)}")
    package, extra = {"transformers": ("torch", "torch"), "faster-whisper": ("faster_whisper", "speech")}[engine]
    if importlib.util.find_spec(package) is None:
        other = ENGINES[1 - ENGINES.index(engine)]
        raise ValueError(
            f"the engine {engine} needs the package {package}: pip install -c constraints.txt -e '.[prep,{extra}]', or "
            f"take --engine {other}"
        )


def check(engine: str, model: str, language: str = "") -> None:
    """Raises ValueError where a folder cannot be the engine's, or a model knows English alone and is to hear another
    language. A name of the hub is judged by itself; `load` looks at what lies there."""
    if os.path.isdir(model):
        try:
            model_folder.check_form(engine, model)
            if engine == "faster-whisper":
                model_folder.check(model)
        except (OSError, ValueError) as error:
            raise _foreign(engine, model, error) from error
        english = not model_folder.multilingual(engine, model)
    else:
        english = model.partition("@")[0].endswith(".en")
    if english and language not in ("", "en"):
        raise ValueError(
            f"the model {model} knows English alone, and --language is {language}; take a model of many languages, "
            "such as --model base, or leave --language out"
        )


def load(engine: str, model: str, batch_size: int, language: str = "") -> Engine:
    """The engine with its weights, on a GPU if there is one. Raises ValueError for a model that cannot be loaded, or
    cannot hear the language."""
    model = model_names.local_folder(engine, model)
    check(engine, model, language)
    try:
        return Transformers(model, batch_size) if engine == "transformers" else FasterWhisper(model)
    except (OSError, RuntimeError, KeyError, ValueError) as error:  # the two libraries' for foreign or missing files
        raise _foreign(engine, model, error) from error


def _foreign(engine: str, model: str, error: Exception) -> ValueError:
    return ValueError(
        f"the model {model} cannot be loaded with {engine} ({str(error).strip().splitlines()[0]}); give a folder in "
        f"that engine's format, OWNER/NAME of the Hugging Face hub, or a size: {', '.join(model_names.SIZES)}"
    )


def short_name(model: str, identity: str) -> str:
    """ "/models/mine/" → "mine@1a2b3c4d5e6f", its content's digest: a folder may be named "model" and hold any.

    "openai/whisper-large-v3@COMMIT" → "whisper-large-v3@" and its first twelve digits, where it is known.
    `identity`: of `cache.model_identity`.
    """
    name, _, commit = os.path.basename(os.path.normpath(model)).partition("@")
    digest = identity.removeprefix("folder ")
    mark = commit if digest == identity else digest
    return f"{name}@{mark[:12]}" if mark else name


def _most_tokens(samples: int) -> int:
    return min(_MOST_TOKENS, _SPARE_TOKENS + int(_TOKENS_A_SECOND * samples / SAMPLE_RATE))


class Transformers:
    """Whisper in PyTorch, `batch_size` pieces at a time."""

    def __init__(self, model: str, batch_size: int):
        import torch
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        self._torch, self.batch = torch, batch_size
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._dtype = torch.float16 if self._device == "cuda" else torch.float32
        self._model = ready(WhisperForConditionalGeneration, model, self._device, dtype=self._dtype)
        self._processor = WhisperProcessor.from_pretrained(model)
        settings = self._model.generation_config
        if getattr(settings, "no_timestamps_token_id", None) is None:
            raise ValueError(f"{model}: its generation_config.json has no no_timestamps_token_id; Whisper's own has")
        self._first_time = settings.no_timestamps_token_id + 1
        self._no_speech = settings.no_timestamps_token_id - 1
        self._codes = {number: token.strip("<|>") for token, number in getattr(settings, "lang_to_id", {}).items()}

    def transcribe(self, waveforms: Sequence[np.ndarray], languages: Sequence[str]) -> list[Recognised]:
        results = []
        for first in range(0, len(waveforms), self.batch):
            batch = slice(first, first + self.batch)
            with self._torch.inference_mode():
                results += self._transcribe(waveforms[batch], list(languages[batch]))
        return results

    def _transcribe(self, waveforms: Sequence[np.ndarray], languages: list[str]) -> list[Recognised]:
        lengths = [max(1, len(waveform) // _HOP) for waveform in waveforms]
        features = self._features(waveforms, lengths)
        inputs = {"input_features": features[:, :, : lengths[0]]}
        if len(lengths) > 1:
            # `generate` knows where the sounds of a batch end only in what it takes for long form, over 30 seconds;
            # otherwise it goes on and transcribes the padding.
            mask = self._torch.arange(_FRAMES + 1)[None] < self._torch.tensor(lengths)[:, None]
            inputs = {"input_features": self._pad(features, _FRAMES + 1), "attention_mask": mask.to(self._device)}
        prompt, sure = {}, [1.0] * len(lengths)
        if self._codes:  # an English-only model takes neither
            if not all(languages):
                detected, chances = self._detect(features)
                sure = [1.0 if given else chance for given, chance in zip(languages, chances, strict=True)]
                languages = [given or code for given, code in zip(languages, detected, strict=True)]
            prompt = {"language": languages, "task": "transcribe"}
        self._torch.manual_seed(0)  # temperatures above 0 draw tokens
        places = self._model.config.max_target_positions - _PROMPT_TOKENS
        decoded = self._model.generate(
            **inputs,
            max_new_tokens=min(places, _most_tokens(max(map(len, waveforms)))),
            return_timestamps=True,
            return_segments=True,
            condition_on_prev_tokens=False,
            temperature=_TEMPERATURES,
            top_k=0,  # draws are from all tokens, as the authors' and the other engine's
            compression_ratio_threshold=_REPETITION,
            logprob_threshold=_IMPROBABLE,
            **prompt,
        )["segments"]
        languages = languages if self._codes else ["en"] * len(lengths)
        return [
            Recognised(language, self._measured(window, segments, len(waveform) / SAMPLE_RATE), chance)
            for language, window, segments, waveform, chance in zip(
                languages, features, decoded, waveforms, sure, strict=True
            )
        ]

    def _detect(self, features) -> tuple[list[str], list[float]]:
        """The most probable language of each piece, and its probability among all."""
        start = self._model.generation_config.decoder_start_token_id
        tokens = self._torch.full((len(features), 1), start, device=self._device)
        logits = self._model(features, decoder_input_ids=tokens).logits[:, 0, list(self._codes)]
        chances, best = logits.float().softmax(-1).max(-1)
        codes = list(self._codes.values())
        return [codes[number] for number in best.tolist()], chances.tolist()

    def _features(self, waveforms: Sequence[np.ndarray], lengths: Sequence[int]):
        """Log-mel [pieces, mels, 3000], zero after each sound's end, as Whisper's authors pad."""
        extract = self._processor.feature_extractor
        features = extract(list(waveforms), sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
        for row, length in zip(features, lengths, strict=True):
            row[:, length:] = 0
        return features.to(self._device, self._dtype)

    def _pad(self, features, frames: int):
        return self._torch.nn.functional.pad(features, (0, frames - features.shape[-1]))

    def _measured(self, features, segments: Sequence[dict], end: float) -> list[Segment]:
        """Segments of one piece with the measures that `generate` does not return, one for all segments of a window."""
        measured, scored, no_speech, logprob = [], None, 0.0, 0.0
        for segment in segments:
            tokens, result = segment["tokens"], segment["result"]
            start, stop = float(segment["start"]), min(float(segment["end"]), end)
            if start > end - _EVIDENCE_SECONDS:
                continue
            if result is not scored:  # segments of one window share what was decoded
                begins, scored = start - 0.02 * max(0, int(tokens[0]) - self._first_time), result
                no_speech, logprob = self._score(features, begins, result, segment["idxs"][0])
            text = self._processor.tokenizer.decode(tokens, skip_special_tokens=True)
            measured.append(Segment(start, max(start, stop), text, no_speech, logprob, compression_ratio(text)))
        return measured

    def _score(self, features, begins: float, result: dict, prompt: int) -> tuple[float, float]:
        """(probability of <|nospeech|>, mean log-probability) of the window at `begins` seconds.

        As Whisper's authors and CTranslate2 measure them: the first before any token is suppressed; the second at
        temperature 1 over all tokens that were written after the `prompt` tokens, time stamps and the end among them,
        each beside those that Whisper's rules allowed in its place. One more pass of the decoder gives both.
        """
        torch, end = self._torch, self._model.generation_config.eos_token_id
        window = self._pad(features[:, round(begins * SAMPLE_RATE / _HOP) :], _FRAMES)
        sequence = result["sequences"].to(self._device)
        logits = self._model(window[None], decoder_input_ids=sequence[None, :-1]).logits[0].float()
        length = int((sequence[prompt:] != end).sum())
        tokens = sequence[prompt : prompt + length + 1]  # without the padding of a batch
        allowed = torch.stack(list(result["scores"][: len(tokens)])).to(self._device).isfinite()
        logprobs = logits[prompt - 1 :][: len(tokens)].masked_fill(~allowed, -torch.inf).log_softmax(-1)
        total = float(logprobs.gather(-1, tokens[:, None]).sum())
        return float(logits[0].softmax(-1)[self._no_speech]), total / (length + 1)


def cores() -> int:
    """That this process may use; a cluster says by OMP_NUM_THREADS how many it gave."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(given) if given.isdecimal() and int(given) else here


class FasterWhisper:
    """Whisper in CTranslate2, one piece at a time; `model` is a folder converted for it.

    It may be called from as many threads as there are cores. On a CPU each piece has one of them, so that no piece
    waits for the threads of another.
    """

    batch = 1

    def __init__(self, model: str, on_cpu: str = "int8"):
        """`on_cpu`: CTranslate2's type of the computation there."""
        import ctranslate2
        from faster_whisper import WhisperModel

        # Before the model, whose threads each begin their own series of draws. One thread draws the same for the same
        # pieces in the same order. Of several, chance says which takes a piece, and so what it draws: the words at
        # temperatures above 0 may differ from run to run, and those alone.
        ctranslate2.set_random_seed(0)
        gpu = ctranslate2.get_cuda_device_count() > 0
        how = {} if gpu else {"device": "cpu", "compute_type": on_cpu, "cpu_threads": 1, "num_workers": cores()}
        self._model = WhisperModel(model, **how)
        self._multilingual = self._model.model.is_multilingual

    def transcribe(self, waveforms: Sequence[np.ndarray], languages: Sequence[str]) -> list[Recognised]:
        return [self._transcribe(*pair) for pair in zip(waveforms, languages, strict=True)]

    def _transcribe(self, waveform: np.ndarray, language: str) -> Recognised:
        segments, info = self._model.transcribe(
            waveform,
            language=(language or None) if self._multilingual else "en",
            beam_size=1,  # as the other engine decodes
            best_of=1,  # of five draws at a temperature none is better: what is doubtful the filters see
            max_new_tokens=2 * _most_tokens(len(waveform)),  # CTranslate2 ends at half of the length that it is given
            temperature=list(_TEMPERATURES),
            compression_ratio_threshold=_REPETITION,
            log_prob_threshold=_IMPROBABLE,
            no_speech_threshold=None,  # left to the filters
            condition_on_previous_text=False,
            vad_filter=False,
        )
        end = len(waveform) / SAMPLE_RATE
        return Recognised(
            info.language if self._multilingual else "en",
            [
                Segment(
                    segment.start,
                    max(segment.start, min(segment.end, end)),
                    segment.text,
                    segment.no_speech_prob,
                    segment.avg_logprob,
                    compression_ratio(segment.text),
                )
                for segment in segments
                if segment.start <= end - _EVIDENCE_SECONDS
            ],
            info.language_probability,
        )
