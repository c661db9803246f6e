"""What a corpus is made of: samples, which know the texts of one clip and the paths of its media."""

import dataclasses
from collections.abc import Callable, Mapping


@dataclasses.dataclass(frozen=True)
class Sample:
    """One clip before preparation: its texts, and the paths of its media."""

    id: str
    split: str
    video: str  # a media file or a folder of pictures; the path it should have, where there is none
    captions: list[str]
    groups: list[str]  # query group of each caption, "" where unknown
    transcript: str  # "" where nothing is said, or nothing is known yet
    tags: list[str]
    audio: str | None  # a sound file to use instead of the video's own track
    teacher_video: str | None
    teacher_audio: str | None
    speech: dict = dataclasses.field(default_factory=dict)  # the transcript with time stamps, as records.Clip has it
    subtitles: str | None = None  # where to look if `transcript` is empty: a subtitle file, or the video itself
    empty_captions: int = 0  # dropped; counted for the manifest


@dataclasses.dataclass(frozen=True)
class Corpus:
    """How a corpus is read. `read(root)` gives the samples of each split, in the files' order."""

    name: str
    image_size: int
    max_frames: int
    read: Callable[[str], dict[str, list[Sample]]]
    learn_tokenizer: bool = False  # a made corpus gets a small vocabulary of its own
    needs_captions: bool = True  # without: a gallery to search, where a clip need not have a text
    published: Mapping[str, int] = dataclasses.field(default_factory=dict)  # clips per split, where the papers say so
