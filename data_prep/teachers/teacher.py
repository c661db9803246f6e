"""What a teacher is: a model that puts the pictures and the sound of a clip into one space, as one vector each."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class Vectors(NamedTuple):
    """What a teacher says of one clip. Lengths mean nothing: training compares directions."""

    picture: np.ndarray  # float32 [1024]
    sound: np.ndarray | None  # float32 [1024]; None without a sound track


class Teacher(Protocol):
    """Made from a path to weights. Making and pickling one is cheap: the first `embed` of a process loads the model."""

    name: str  # the folder of its vectors, below FeatureData
    licence: str  # of the weights and of what is made with them, in plain words for whoever runs it
    settings: dict  # what shapes the vectors besides the weights; vectors of different settings are not mixed
    path: str  # where the weights are on this machine: a file, or a folder
    frames: int  # pictures that it looks at, evenly spaced over the whole video
    sample_rate: int  # of the sound that it hears, in Hz

    def check(self) -> None:
        """For start-up. Raises ValueError where a package or the weights are missing, or vectors would not fit."""

    def fit(self, picture: np.ndarray) -> np.ndarray:
        """uint8 [height, width, 3] → uint8 [side, side, 3], as the model looks at it."""
        ...

    def hears(self, samples: int) -> list[tuple[int, int]]:
        """(first, end) of the parts that it hears of a sound of so many samples at 16 kHz; never all of a film's.

        An end may lie beyond the sound.
        """
        ...

    def embed(self, pictures: Sequence[np.ndarray], sounds: Sequence[np.ndarray] | None) -> Vectors:
        """Fitted pictures, and the parts, float32 [samples] at `sample_rate`, or None → their vectors."""
        ...
