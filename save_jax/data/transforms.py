"""One clip's record → the arrays that a model reads. NumPy only: this runs in loader threads."""

import dataclasses
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import simplejpeg

from save_jax.data.records import FBANK_SHAPE, SPECTROGRAM_SHAPE, TEACHER_DIM, Clip
from save_jax.data.tokenizer import Tokenizer, WordPieces, says_something

Example = dict[str, np.ndarray]


def decode_frames(clip: Clip, positions: Iterable[int], frames: np.ndarray, raw: bool) -> None:
    """Writes the chosen pictures into rows of `frames`, uint8 [T, S, S, 3]."""
    for slot, position in zip(frames, positions, strict=False):
        if raw:
            slot[:] = np.frombuffer(clip.frames[position], np.uint8).reshape(slot.shape)
        else:
            simplejpeg.decode_jpeg(clip.frames[position], "RGB", buffer=slot)


def evenly(count: int, most: int) -> Sequence[int]:
    """All of `count` positions, or `most` evenly spaced ones, truncated as the reference chooses them."""
    return range(count) if count <= most else np.linspace(0, count - 1, most).astype(int)


@dataclasses.dataclass(frozen=True)
class ClipToArrays:
    """Decodes frames and tokenises the transcript; only what the branches read is made.

    Gives `frames` uint8 [T, S, S, 3] and `frame_mask` bool [T]; with the audio branch `fbank` float16 [1024, 128]
    (zeros without sound), `has_audio` and `has_teacher` bool, `teacher_video` and `teacher_audio` float32 [1024];
    with the speech branch `speech_ids` int32 [W]. `stored` names outputs of towers that are read instead of computed:
    with "visual" no `frames` are made, with "ast" no `fbank`, with "speech" no `speech_ids`.
    """

    tokenizer: Tokenizer
    branches: tuple[str, ...]
    max_words: int
    max_frames: int
    image_size: int
    raw: bool = False  # frames are stored as RGB values instead of JPEG

    items = "captions"  # what an epoch goes through
    draws = False  # nothing is random

    def __call__(self, clip: Clip, frames: np.ndarray | None = None, stored: Collection[str] = ()) -> Example:
        """`frames`: zeros to decode into and to give back, such as a row of a batch; new ones if None."""
        positions = evenly(len(clip.frames), self.max_frames)
        example = {"frame_mask": np.arange(self.max_frames) < len(positions)}
        if "visual" not in stored:
            if frames is None:
                frames = np.zeros((self.max_frames, self.image_size, self.image_size, 3), np.uint8)
            decode_frames(clip, positions, frames, self.raw)
            example["frames"] = frames
        if "audio" in self.branches:
            teacher = clip.teacher_video is not None and clip.teacher_audio is not None
            if "ast" not in stored:
                example["fbank"] = np.zeros(FBANK_SHAPE, np.float16) if clip.fbank is None else clip.fbank
            example |= {
                "has_audio": np.bool_(clip.fbank is not None),
                "has_teacher": np.bool_(teacher),
                "teacher_video": clip.teacher_video if teacher else np.zeros(TEACHER_DIM, np.float32),
                "teacher_audio": clip.teacher_audio if teacher else np.zeros(TEACHER_DIM, np.float32),
            }
        if "speech" in self.branches and "speech" not in stored:
            example["speech_ids"] = self.tokenizer.transcript(clip.transcript, self.max_words)
        return example

    def text(self, caption: str) -> np.ndarray:
        """A query's tokens, int32 [W]."""
        return self.tokenizer(caption, self.max_words)


@dataclasses.dataclass(frozen=True)
class ClipToVlsa:
    """What VLSA reads: some frames, the words of the transcript, the spectrogram.

    Gives `frames` uint8 [T, S, S, 3] and `frame_mask` bool [T]; `words` int32 [W], zeros without a transcript;
    `spectrogram` float16 [256, 256] (zeros without sound) and `has_audio` bool. In training frames are drawn at random,
    and `draw` int32, on which all that is random of a sample depends, comes with them; else they are evenly spaced.
    """

    tokenizer: Tokenizer | WordPieces
    items: str  # "clips" or "captions": what an epoch goes through
    max_words: int
    max_frames: int
    image_size: int
    raw: bool = False
    draws = True

    def __call__(
        self, clip: Clip, frames: np.ndarray, stored: Collection[str] = (), draw: int | None = None
    ) -> Example:
        """`frames`: zeros to decode into; `stored` must be empty."""
        positions = evenly(len(clip.frames), self.max_frames)
        example = {}
        if draw is not None:
            example["draw"] = np.int32(draw)
            if len(clip.frames) > self.max_frames:
                chosen = np.random.default_rng(draw).choice(len(clip.frames), self.max_frames, replace=False)
                positions = np.sort(chosen)
        decode_frames(clip, positions, frames, self.raw)
        return example | {
            "frames": frames,
            "frame_mask": np.arange(self.max_frames) < len(positions),
            "words": self.text(clip.transcript if says_something(clip.transcript) else ""),
            "spectrogram": np.zeros(SPECTROGRAM_SHAPE, np.float16) if clip.spectrogram is None else clip.spectrogram,
            "has_audio": np.bool_(clip.spectrogram is not None),
        }

    def text(self, caption: str) -> np.ndarray:
        """Ids of a text without start and end, which no embedding is read from, cut and padded with 0. int32 [W].

        The id 0, which stands for no word, is left out where the text holds it.
        """
        ids = [id for id in self.tokenizer.pieces(caption) if id][: self.max_words]
        return np.pad(np.array(ids, np.int32), (0, self.max_words - len(ids)))
