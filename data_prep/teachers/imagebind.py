"""ImageBind-huge, the teacher of the SAVE paper: pictures and sounds as its own loader samples and normalises them.

The model comes from the authors' package (https://github.com/facebookresearch/ImageBind), the weights from its
`imagebind_huge.pth`. Neither was available when this was written. The model's inputs are tested number by number, and
the rest with a stand-in that is called in the same way. The real model has never run here.
"""

import dataclasses
import functools
import importlib.util
import os
from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar

import kaldi_native_fbank as knf
import numpy as np

from data_prep.media import audio
from data_prep.media.video import crop_square
from data_prep.teachers.teacher import Vectors

SIDE = 224
_PIXEL_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)  # CLIP's
_PIXEL_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
CLIP_SECONDS, CLIPS = 2, 3
MEL_ROWS = 204
_SHIFT = audio.SAMPLE_RATE // 100  # 10 ms
_MEL_MEAN, _MEL_STD = -4.268, 9.138


def picture_input(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 squares [224, 224, 3] → float32 [n, 3, 224, 224], with CLIP's mean and deviation."""
    values = np.stack(pictures).astype(np.float32) / 255
    return np.ascontiguousarray(((values - _PIXEL_MEAN) / _PIXEL_STD).transpose(0, 3, 1, 2))


def clip_bounds(samples: int) -> list[tuple[int, int]]:
    """(first, end) sample of the three two-second clips: a third of the spare time apart, so the last ends before the
    sound does. A sound of two seconds or less gives the same clip three times (pytorchvideo's
    ConstantClipsPerVideoSampler)."""
    spare = Fraction(max(samples / audio.SAMPLE_RATE - CLIP_SECONDS, 0))
    starts = [spare / CLIPS * number for number in range(CLIPS)]
    return [(int(start * audio.SAMPLE_RATE), int((start + CLIP_SECONDS) * audio.SAMPLE_RATE)) for start in starts]


def sound_input(clips: Sequence[np.ndarray]) -> np.ndarray:
    """float32 [samples] at 16 kHz each → float32 [clips, 1, 128 bins, 204 windows], normalised log-mel."""
    mel = np.stack([_log_mel(clip) for clip in clips])
    return np.ascontiguousarray(((mel - _MEL_MEAN) / _MEL_STD).transpose(0, 2, 1))[:, None].astype(np.float32)


def _log_mel(samples: np.ndarray) -> np.ndarray:
    """float32 [204, 128]. Windows beyond the end are 0 in log-mel."""
    kaldi = knf.OnlineFbank(audio.kaldi_options(_SHIFT))
    kaldi.accept_waveform(audio.SAMPLE_RATE, samples - samples.mean())
    kaldi.input_finished()
    mel = np.zeros((MEL_ROWS, kaldi.dim), np.float32)
    for row in range(min(MEL_ROWS, kaldi.num_frames_ready)):
        mel[row] = kaldi.get_frame(row)
    return mel


@dataclasses.dataclass(frozen=True)
class ImageBind:
    """The mean vector of 32 evenly spaced frames, and that of three clips of the sound."""

    weights: str  # imagebind_huge.pth

    name: ClassVar[str] = "ImageBind"
    licence: ClassVar[str] = (
        "ImageBind's weights are under CC BY-NC-SA 4.0: no commercial use. The vectors made with them are under it too."
    )
    frames: ClassVar[int] = 32
    sample_rate: ClassVar[int] = audio.SAMPLE_RATE

    @property
    def settings(self) -> dict:
        """What shapes the vectors besides the weights."""
        return {"frames": self.frames, "side": SIDE, "sound": f"{CLIPS} clips of {CLIP_SECONDS} s at 16 kHz"}

    @property
    def path(self) -> str:
        """Where the weights are on this machine."""
        return self.weights

    def check(self) -> None:
        """For start-up. Raises ValueError where the weights or a package are missing."""
        if not os.path.isfile(self.weights):
            raise ValueError(
                f"--weights {self.weights}: no such file; it should be imagebind_huge.pth "
                "(https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth)"
            )
        for package, source in (
            ("torch", "pip install -c constraints.txt -e '.[prep,torch]'"),
            ("imagebind", "pip install git+https://github.com/facebookresearch/ImageBind"),
        ):
            if importlib.util.find_spec(package) is None:
                raise ValueError(f"the teacher ImageBind needs the package {package}: {source}")

    def fit(self, picture: np.ndarray) -> np.ndarray:
        """uint8 [height, width, 3] → uint8 [224, 224, 3]: shorter side to 224, centre crop."""
        return crop_square(picture, SIDE)

    def hears(self, samples: int) -> list[tuple[int, int]]:
        """(first, end) of the three clips of a sound of so many samples."""
        return clip_bounds(samples)

    @functools.cached_property
    def _model(self):
        import torch
        from imagebind.models import imagebind_model

        model = imagebind_model.imagebind_huge(pretrained=False)
        model.load_state_dict(torch.load(self.weights, map_location="cpu", weights_only=True))
        return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    def __getstate__(self) -> dict:
        return {"weights": self.weights}

    def embed(self, pictures: Sequence[np.ndarray], sounds: Sequence[np.ndarray] | None) -> Vectors:
        """Fitted pictures, and clips of the sound, float32 [samples] at 16 kHz, or None → their vectors."""
        import torch

        inputs = {"vision": picture_input(pictures)}
        if sounds is not None:
            inputs["audio"] = sound_input(sounds)[
                None
            ]  # with the batch of one, five axes: the model averages the clips
        device = next(self._model.parameters()).device
        with torch.inference_mode():
            outputs = self._model({kind: torch.from_numpy(values).to(device) for kind, values in inputs.items()})
        vectors = {kind: values.float().mean(dim=0).cpu().numpy() for kind, values in outputs.items()}
        return Vectors(vectors["vision"], vectors.get("audio"))
