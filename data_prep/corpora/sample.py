"""What a corpus is made of: samples, which know the texts of one clip and the paths of its media."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

TEACHER = "ImageBind"  # the folder of teacher vectors that is read unless another is named


@dataclasses.dataclass(frozen=True)
class Sample:
    """One clip before preparation: its texts, and the paths of its media."""

    id: str
    split: str
    # A media file or a folder of pictures; the path it should have, where there is none. None: the clip is a sound.
    video: str | None
    captions: list[str]
    groups: list[str]  # query group of each caption, "" where unknown
    transcript: str  # "" where nothing is said, or nothing is known yet: see `transcribed`
    tags: list[str]
    audio: str | None  # a sound file to use instead of the video's own track
    teacher_video: str | None
    teacher_audio: str | None
    speech: dict = dataclasses.field(default_factory=dict)  # the transcript with time stamps, as records.Clip has it
    transcribed: bool = False  # a transcript file has a row of it, perhaps without words
    subtitles: str | None = None  # where to look if `transcript` is empty: a subtitle file, or the video itself
    empty_captions: int = 0  # dropped; counted for the manifest
    is_sound: bool = False  # a clip of a text–audio corpus: it fails without sound, and not without pictures


@dataclasses.dataclass(frozen=True)
class Corpus:
    """How a corpus is read.

    `read(root, transcripts=None, teacher=TEACHER)` gives the samples of each split, in the files' order. `transcripts`
    is a file to read instead of the corpus's own, `teacher` the folder of vectors in FeatureData. It raises one
    ValueError that lists every problem of the annotations.
    """

    name: str
    image_size: int
    max_frames: int
    read: Callable[..., dict[str, list[Sample]]]
    learn_tokenizer: bool = False  # a made corpus gets a small vocabulary of its own
    needs_captions: bool = True  # without: a gallery to search, where a clip need not have a text
    # Clips of a split, or of several in one sum ("train+val": validation is held out of what the papers trained on).
    published: Mapping[str, int] = dataclasses.field(default_factory=dict)
    transcripts: str = ""  # name of the published transcript file, read before our own transcripts.json


def differing_counts(corpus: Corpus, splits: Mapping[str, Sequence[Sample]]) -> list[str]:
    """A line for each split that lists another number of clips than published; [] where all agree or none is known."""
    lines = []
    for names, published in corpus.published.items():
        parts = {name: len(splits.get(name, ())) for name in names.split("+")}
        if sum(parts.values()) != published:
            detail = f" ({', '.join(f'{name} {count:,}' for name, count in parts.items())})" if len(parts) > 1 else ""
            lines.append(
                f"{corpus.name}: the annotations list {sum(parts.values()):,} clips in {names}{detail}, "
                f"published are {published:,}"
            )
    return lines
