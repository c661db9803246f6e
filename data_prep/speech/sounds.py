"""How much a stretch of sound is speech and how much music, by the Audio Spectrogram Transformer's AudioSet classes.

In: float32 waveforms at 16 kHz and weights in transformers' form (such as MIT/ast-finetuned-audioset-10-10-0.4593,
BSD-3-Clause); out: the probabilities of the two classes, with which `filters` drops lines that Whisper heard in music.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_prep.media.audio import SAMPLE_RATE

CLASSES = {"speech": "Speech", "music": "Music"}  # ours → AudioSet's
WINDOW_SECONDS = 10.24  # what AST was trained on; of a longer stretch, the beginning is heard
_LEAST_SECONDS = 1.0
_BATCH = 8
_NAMED = 3  # tensors in a message


class SoundClasses:
    """AST with its AudioSet classes, on a GPU if there is one. Raises ValueError for other weights."""

    def __init__(self, weights: str):
        import torch
        from transformers import ASTFeatureExtractor, ASTForAudioClassification

        self._torch, self._device = torch, "cuda" if torch.cuda.is_available() else "cpu"
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "At least one mel filter has all zero values")  # as AST was trained
                self._features = ASTFeatureExtractor.from_pretrained(weights)
            self._model = ready(ASTForAudioClassification, weights, self._device)
        except (OSError, RuntimeError, ValueError) as error:
            raise ValueError(f"--ast {weights} cannot be loaded ({str(error).strip().splitlines()[0]})") from error
        places = {label: number for number, label in self._model.config.id2label.items()}
        if missing := [label for label in CLASSES.values() if label not in places]:
            raise ValueError(
                f"--ast {weights} has {len(places)} classes without {missing}; give weights finetuned on AudioSet"
            )
        self._places = {name: places[label] for name, label in CLASSES.items()}

    def __call__(self, waveforms: Sequence[np.ndarray]) -> list[dict[str, float]]:
        """{"speech": probability, "music": probability} of each."""
        results, least, most = [], int(_LEAST_SECONDS * SAMPLE_RATE), int(WINDOW_SECONDS * SAMPLE_RATE)
        for first in range(0, len(waveforms), _BATCH):
            sounds = [np.pad(x[:most], (0, max(0, least - len(x)))) for x in waveforms[first : first + _BATCH]]
            values = self._features(sounds, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_values
            with self._torch.inference_mode():
                chances = self._model(values.to(self._device)).logits.float().sigmoid().cpu().numpy()
            results += [{name: float(row[place]) for name, place in self._places.items()} for row in chances]
        return results


def ready(kind: Any, weights: str, device: str, **how: Any) -> Any:
    """A model of transformers' class `kind` on a device, for inference; `how`: more for its `from_pretrained`.

    Raises ValueError that names tensors which are missing or have another shape: transformers takes random numbers in
    their place, and says so in a warning alone. Any: its types are wrong where torch is not installed.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()  # it warns of its own calls at every batch, and prints a table of what is missing
    logging.disable_progress_bar()
    model, found = kind.from_pretrained(weights, output_loading_info=True, ignore_mismatched_sizes=True, **how)
    problems = []
    if missing := sorted(found["missing_keys"]):  # without those that are tied to another, such as proj_out
        problems.append(f"{len(missing)} of its tensors are missing: {_first(missing)}")
    if shapes := sorted(found["mismatched_keys"]):
        named = [f"{name} of {list(here)}, not {list(wanted)}" for name, here, wanted in shapes]
        problems.append(f"{len(shapes)} of its tensors have another shape than its config.json says: {_first(named)}")
    if problems:
        raise ValueError(f"{'; '.join(problems)}; copy or save it again, whole")
    return model.to(device).eval()


def _first(names: Sequence[str]) -> str:
    return ", ".join([*names[:_NAMED], *(["…"] if len(names) > _NAMED else [])])
