"""One clip's record → the arrays that a model reads. NumPy only: this runs in loader threads."""

import dataclasses
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import simplejpeg

from save_jax.data.records import FBANK_SHAPE, SPECTROGRAM_SHAPE, TEACHER_DIM, Clip
from save_jax.data.tokenizer import Tokenizer, WordPieces, says_something

Example = dict[str, np.ndarray | np.generic]


def decode_frames(clip: Clip, positions: Iterable[int], frames: np.ndarray, raw: bool) -> None:
    """Writes the chosen pictures into rows of `frames`, uint8 [T, S, S, 3]."""
    for slot, position in zip(frames, positions, strict=False):
        if raw:
            slot[:] = np.frombuffer(clip.frames[position], np.uint8).reshape(slot.shape)
        else:
            simplejpeg.decode_jpeg(clip.frames[position], "RGB", buffer=slot)


def evenly(count: int, most: int) -> Sequence[int] | np.ndarray:
    """All of `count` positions, or `most` evenly spaced ones, truncated as the reference chooses them."""
    return range(count) if count <= most else np.linspace(0, count - 1, most).astype(int)


@dataclasses.dataclass(frozen=True)
class ClipToArrays:
    """Decodes frames and tokenises the transcript, as far as the branches read them.

    Gives `frames` uint8 [T, S, S, 3] and `frame_mask` bool [T]; with the audio branch `fbank` float16 [1024, 128]
    (zeros without sound), `has_audio` and `has_teacher` bool, `teacher_video` and `teacher_audio` float32 [1024];
    with the speech branch `speech_ids` int32 [W]. `stored` names outputs of towers that are read
    instead: with "visual" no `frames` are made, with "ast" no `fbank`, with "speech" no `speech_ids`.
    """

    tokenizer: Tokenizer
    branches: tuple[str, ...]
    max_words: int
    max_frames: int
    image_size: int
    raw: bool = False  # frames are stored as RGB values instead of JPEG
    fbank_shape: tuple[int, ...] = FBANK_SHAPE  # of what stands for missing sound

    items = "captions"  # what an epoch goes through
    draws = False  # nothing is random
    reads_frames = True

    def __call__(self, clip: Clip, frames: np.ndarray | None = None, stored: Collection[str] = ()) -> Example:
        """`frames`: zeros to decode into and to return, such as a row of a batch; None makes new ones."""
        positions = evenly(len(clip.frames), self.max_frames)
        example: Example = {"frame_mask": np.arange(self.max_frames) < len(positions)}
        if "visual" not in stored:
            if frames is None:
                frames = np.zeros((self.max_frames, self.image_size, self.image_size, 3), np.uint8)
            decode_frames(clip, positions, frames, self.raw)
            example["frames"] = frames
        if "audio" in self.branches:
            teacher_video, teacher_audio = clip.teacher_video, clip.teacher_audio
            has_teacher = teacher_video is not None and teacher_audio is not None
            if teacher_video is None or teacher_audio is None:
                teacher_video = teacher_audio = np.zeros(TEACHER_DIM, np.float32)
            if "ast" not in stored:
                example["fbank"] = np.zeros(self.fbank_shape, np.float16) if clip.fbank is None else clip.fbank
            example |= {
                "has_audio": np.bool_(clip.fbank is not None),
                "has_teacher": np.bool_(has_teacher),
                "teacher_video": teacher_video,
                "teacher_audio": teacher_audio,
            }
        if "speech" in self.branches and "speech" not in stored:
            example["speech_ids"] = self.tokenizer.transcript(clip.transcript, self.max_words)
        return example

    def text(self, caption: str) -> np.ndarray:
        """A query's tokens, int32 [W]."""
        return self.tokenizer(caption, self.max_words)


@dataclasses.dataclass(frozen=True)
class ClipToVlsa:
    """What VLSA reads: some frames, the words of the transcript, the spectrogram; of `modalities` alone.

    Gives `frames` uint8 [T, S, S, 3] and `frame_mask` bool [T]; `words` int32 [W], zeros without a transcript;
    `spectrogram` float16 [256, 256] (zeros without sound) and `has_audio` bool. In training there is `draw` int32 as
    well: the seed of all that is random of a sample. It draws the frames; without it they are evenly spaced.
    """

    tokenizer: Tokenizer | WordPieces
    items: str  # "clips" or "captions": what an epoch goes through
    max_words: int
    max_frames: int
    image_size: int
    raw: bool = False
    modalities: tuple[str, ...] = ("video", "text", "audio")
    draws = True

    @property
    def reads_frames(self) -> bool:
        return "video" in self.modalities

    def __call__(
        self, clip: Clip, frames: np.ndarray | None = None, stored: Collection[str] = (), draw: int | None = None
    ) -> Example:
        """`frames`: as in `ClipToArrays`. `stored` must be empty."""
        example: Example = {} if draw is None else {"draw": np.int32(draw)}
        if self.reads_frames:
            positions = evenly(len(clip.frames), self.max_frames)
            if draw is not None and len(clip.frames) > self.max_frames:
                chosen = np.random.default_rng(draw).choice(len(clip.frames), self.max_frames, replace=False)
                positions = np.sort(chosen)
            if frames is None:
                frames = np.zeros((self.max_frames, self.image_size, self.image_size, 3), np.uint8)
            decode_frames(clip, positions, frames, self.raw)
            example |= {"frames": frames, "frame_mask": np.arange(self.max_frames) < len(positions)}
        if "audio" in self.modalities:
            silence = np.zeros(SPECTROGRAM_SHAPE, np.float16)
            example["spectrogram"] = silence if clip.spectrogram is None else clip.spectrogram
            example["has_audio"] = np.bool_(clip.spectrogram is not None)
        if self.items == "clips":  # in fine-tuning the text is the caption
            example["words"] = self.text(clip.transcript if says_something(clip.transcript) else "")
        return example

    def text(self, caption: str) -> np.ndarray:
        """Ids of a text without start and end tokens, cut and padded with 0. int32 [W].

        0 means padding, so the id 0 is left out of texts that have it.
        """
        ids = [id for id in self.tokenizer.pieces(caption) if id][: self.max_words]
        return np.pad(np.array(ids, np.int32), (0, self.max_words - len(ids)))
