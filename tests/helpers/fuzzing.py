"""Damaged media files by the hundred, and a corpus of them, for the tests and the bench of preparation."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from data_prep import corpora
from helpers import media

SUBTITLES = (
    "1\n00:00:00,100 --> 00:00:01,000\nHello there, <i>all</i> of you.\n\n2\n00:00:01,000 --> 00:00:02,000\nBye.\n"
)


def write_seeds(folder: pathlib.Path) -> dict[str, list[bytes]]:
    """Whole files by kind, 1 to 60 KB each: two seconds of noisy pictures and a tone."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(-40, 40, (20, media.SIDE, media.SIDE, 3))
    frames = [np.clip(media.numbered(k) + noise[k], 0, 255).astype(np.uint8) for k in range(20)]
    video = []
    for suffix, options in (
        (".mp4", {}),
        (".mp4", {"movflags": "frag_keyframe+empty_moov"}),
        (".webm", {}),
        (".mkv", {}),
    ):
        path = folder / f"seed{len(video)}{suffix}"
        media.write_media(path, frames, fps=10, sound=media.tone(16000, 2), options=options)
        video.append(path.read_bytes())
    media.write_media(folder / "seed.wav", sound=media.tone(16000, 1))
    np.save(folder / "seed.npy", np.ones(1024, np.float32))
    media.write_media(folder / "float.wav", sound=media.tone(16000, 1), sound_codec="pcm_f32le")
    wav = [(folder / name).read_bytes() for name in ("seed.wav", "float.wav")]  # a damaged float may be NaN or 1e30
    return {"video": video, "wav": wav, "npy": [(folder / "seed.npy").read_bytes()], "srt": [SUBTITLES.encode()]}


def damaged(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """`data` after one to three kinds of damage: bytes flipped, cut, zeroed, repeated, moved, spliced with `other`."""
    for _ in range(rng.integers(1, 4)):
        start, end = sorted(rng.integers(0, len(data) + 1, 2))
        changed = bytearray(data)
        match rng.integers(7):
            case 0:  # anywhere
                for place in rng.integers(0, max(1, len(data)), rng.integers(1, 60)):
                    changed[place : place + 1] = rng.bytes(1)
            case 1:  # in the header, where sizes and counts are
                for place in rng.integers(0, min(600, max(1, len(data))), rng.integers(1, 12)):
                    changed[place : place + 1] = rng.bytes(1)
            case 2:
                del changed[start:]
            case 3:
                changed[start:end] = bytes(end - start)
            case 4:
                changed[end:end] = changed[start:end]
            case 5:
                del changed[start:end]
            case 6:
                changed[start:] = other[min(start, len(other)) :]
        data = bytes(changed)
    return data


def make_corpus(folder: pathlib.Path, count: int, seed: int) -> corpora.Corpus:
    """`count` clips with damaged videos, over three splits; some have damaged sound, subtitles and teacher vectors."""
    seeds = write_seeds(folder / "seeds")
    samples: Mapping[str, list] = {"train": [], "val": [], "test": []}

    def write(name: str, kind: str, rng: np.random.Generator) -> str:
        data, other = (seeds[kind][k] for k in rng.integers(len(seeds[kind]), size=2))
        (folder / name).write_bytes(damaged(data, other, rng))
        return str(folder / name)

    for number in range(count):
        rng = np.random.default_rng([seed, number])
        split = ("train", "val", "test")[number % 3]
        if whole := number % 4 == 3:  # pictures stay whole, so that what goes with them is reached
            (folder / f"{number}.media").write_bytes(seeds["video"][number % 3])
        sample = corpora.Sample(
            id=f"clip{number}", split=split, captions=["a caption"], groups=[""], transcript="", tags=[],
            video=str(folder / f"{number}.media") if whole else write(f"{number}.media", "video", rng),
            audio=write(f"{number}.wav", "wav", rng) if whole or number % 5 == 0 else None,
            teacher_video=write(f"{number}v.npy", "npy", rng) if whole else None,
            teacher_audio=write(f"{number}a.npy", "npy", rng) if whole else None,
        )  # fmt: skip
        if whole or number % 7 == 0:
            sample = dataclasses.replace(sample, subtitles=write(f"{number}.srt", "srt", rng))
        samples[split].append(sample)
    return corpora.Corpus("fuzz", 32, 4, lambda root, **_: dict(samples))
