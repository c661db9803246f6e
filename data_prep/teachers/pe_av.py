"""PE-AV (Perception Encoder Audio-Visual, arXiv 2512.19687), through transformers: a teacher free for any use.

A checkpoint is a folder or a hub id such as facebook/pe-av-base. The published weights were not available when this was
written. It was tried on checkpoints with random weights: with small towers, and with the widths of the real ones.
"""

import dataclasses
import functools
import importlib.util
import json
import os
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from data_prep.media import audio
from data_prep.teachers.teacher import Vectors
from save_jax.data.records import TEACHER_DIM

_MOST_SECONDS = 60  # a longer sound is cut to its middle: attention over all of it grows with the square


@dataclasses.dataclass(frozen=True)
class PeAv:
    """The vectors of picture and sound, each from the tower that sees or hears nothing else."""

    weights: str  # a folder as `save_pretrained` and the hub have it, or a hub id

    name: ClassVar[str] = "PE-AV"
    licence: ClassVar[str] = "PE-AV's weights are under Apache-2.0: commercial use is allowed, of the vectors as well."
    sample_rate: ClassVar[int] = 48000

    @functools.cached_property
    def path(self) -> str:
        """Where the checkpoint is on this machine; fetched from the hub if --weights is not a folder."""
        if os.path.isdir(self.weights):
            return self.weights
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError

        try:
            return snapshot_download(self.weights, allow_patterns=["*.json", "*.safetensors"])
        except (OSError, HFValidationError) as error:  # what the hub's client raises is an OSError as well
            raise ValueError(
                f"--weights {self.weights}: neither a folder here nor to be had from the hub ({error}); give the "
                "folder of a downloaded checkpoint"
            ) from error

    def _read(self, *names: str) -> dict:
        for name in names:
            if os.path.exists(path := os.path.join(self.path, name)):
                with open(path, encoding="utf-8") as file:
                    return json.load(file)
        raise ValueError(f"{self.path} holds no {' or '.join(names)}; it should be a checkpoint of PE-AV")

    @functools.cached_property
    def _pictures(self) -> dict:
        """How the checkpoint wants its pictures: size, mean, deviation and, in some, their number."""
        config = self._read("processor_config.json", "video_preprocessor_config.json")
        return config.get("video_processor", config)

    @property
    def frames(self) -> int:
        """As many as the checkpoint was trained with, 32 for those that take any number."""
        return self._pictures.get("num_frames") or 32

    @property
    def settings(self) -> dict:
        """What shapes the vectors besides the weights."""
        return {"frames": self.frames, "size": self._pictures["size"], "most_seconds": _MOST_SECONDS}

    def check(self) -> None:
        """For start-up. Raises ValueError where a package or the weights are missing, or the vectors' width differs."""
        for package in ("torch", "timm"):
            if importlib.util.find_spec(package) is None:  # one command: timm alone would bring another torch
                raise ValueError(
                    f"the teacher PE-AV needs the package {package}: pip install torch==2.13.0 'timm>=1.0.22,<=1.0.24'"
                )
        config = self._read("config.json")
        if config.get("model_type") != "pe_audio_video":
            raise ValueError(
                f"--weights {self.weights}: a checkpoint of type {config.get('model_type')!r}, not 'pe_audio_video'"
            )
        # Both heads end in the text tower's width, for which the library's default is 1024.
        width = (config.get("text_config") or {}).get("hidden_size", TEACHER_DIM)
        if width != TEACHER_DIM:
            raise ValueError(
                f"--weights {self.weights}: its vectors have {width} values, shards hold {TEACHER_DIM}; "
                "take a checkpoint of that width"
            )

    def fit(self, picture: np.ndarray) -> np.ndarray:
        """uint8 [height, width, 3] → uint8 squares: squashed, not cropped, as the checkpoint's own processor does."""
        size = self._pictures["size"]
        return np.asarray(Image.fromarray(picture).resize((size["width"], size["height"]), Image.Resampling.BILINEAR))

    def picture_input(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 [side, side, 3] each → float32 [n, 3, side, side], normalised."""
        mean, std = (np.array(self._pictures[name], np.float32) for name in ("image_mean", "image_std"))
        return np.ascontiguousarray(((np.stack(pictures).astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2))

    def hears(self, samples: int) -> list[tuple[int, int]]:
        """(first, end) of the middle minute of a sound of so many samples, or all of a shorter one."""
        heard = min(samples, _MOST_SECONDS * audio.SAMPLE_RATE)
        return [((samples - heard) // 2, (samples + heard) // 2)]

    @functools.cached_property
    def _model(self) -> Any:
        import torch
        from transformers import PeAudioVideoModel

        model = PeAudioVideoModel.from_pretrained(self.path).eval()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return model.to(device)  # pyright: ignore[reportArgumentType]  # the types of a wrapper without its self

    @functools.cached_property
    def _hear(self):
        from transformers import PeAudioFeatureExtractor

        return PeAudioFeatureExtractor.from_pretrained(self.path)

    def __getstate__(self) -> dict:
        return {"weights": self.weights}

    def embed(self, pictures: Sequence[np.ndarray], sounds: Sequence[np.ndarray] | None) -> Vectors:
        """Fitted pictures, and the one part of the sound, float32 [samples] at 48 kHz, or None → their vectors."""
        import torch

        model = self._model
        with torch.inference_mode():
            seen = torch.from_numpy(self.picture_input(pictures))[None].to(model.device)
            # The library's get_video_embeds calls what does not exist (transformers 5.23); these are its two steps.
            encoded = model.video_model.video_encoder(pixel_values_videos=seen).pooler_output
            picture = model.video_model.video_head(encoded)[0].float().cpu().numpy()
            if sounds is None:
                return Vectors(picture, None)
            heard = self._hear(sounds[0], sampling_rate=self.sample_rate, return_tensors="pt")
            vector = model.get_audio_embeds(heard["input_values"].to(model.device))[0]
            return Vectors(picture, vector.float().cpu().numpy())
