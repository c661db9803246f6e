"""One record of a shard as files to look at and listen to: pictures, sound, spectrograms and texts."""

import json
import os
import urllib.parse
import wave

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from data_prep.media import audio
from data_prep.media.griffin_lim import approximate
from data_prep.names import short
from save_jax.data import records


def texts(clip: records.Clip) -> dict:
    """What a record says in words and numbers, for JSON."""
    return {
        "id": clip.id,
        "captions": [{"text": t, "group": g} for t, g in zip(clip.captions, clip.groups, strict=True)],
        "transcript": clip.transcript,
        "speech": clip.speech,
        "tags": clip.tags,
        "frame_times": [round(float(time), 3) for time in clip.frame_times],
        "sound": clip.fbank is not None,
        "spectrogram": clip.spectrogram is not None,
        "teacher": {"video": clip.teacher_video is not None, "audio": clip.teacher_audio is not None},
        "notes": clip.notes,
        "failed": clip.failed,
    }


def write(clip: records.Clip, settings: dict, out: str, media: str | None = None) -> list[str]:
    """Writes a record's parts under `out`/ID (cut where it is too long) and returns the paths.

    Raises MediaError for a `media` without sound.
    """
    name = urllib.parse.quote(clip.id, safe=" ").replace(".", "%2E", clip.id.startswith("."))
    folder = os.path.join(out, short(name))
    os.makedirs(folder, exist_ok=True)
    paths = []

    def path(name: str) -> str:
        paths.append(os.path.join(folder, name))
        return paths[-1]

    with open(path("record.json"), "w", encoding="utf-8") as file:
        json.dump(texts(clip), file, indent=1, ensure_ascii=False)
    size = settings["image_size"]
    for number, (data, time) in enumerate(zip(clip.frames, clip.frame_times, strict=True)):
        name = f"frame-{number:02d}-{time:.2f}s"
        if settings["frames"] == "raw":
            Image.fromarray(np.frombuffer(data, np.uint8).reshape(size, size, 3)).save(path(name + ".png"))
        else:
            with open(path(name + ".jpg"), "wb") as file:
                file.write(data)
    if clip.fbank is not None:
        np.save(path("fbank.npy"), clip.fbank)
        labels = {"xlabel": "time step (the whole track)", "ylabel": "mel bin"}
        _draw(clip.fbank.T, path("fbank.png"), "normalised log-mel", title=clip.id, **labels)
    if clip.spectrogram is not None:
        np.save(path("spectrogram.npy"), clip.spectrogram)
        labels = {"xlabel": "time step of 23 ms (5.94 s from the middle)", "ylabel": "row, by log frequency"}
        _draw(clip.spectrogram, path("spectrogram.png"), "-1: -80 dB, 1: full scale", title=clip.id, **labels)
    if media:
        samples = audio.waveform(media)
        if samples is None:
            raise ValueError(f"{media} has no sound track")
        _write_wave(path("sound.wav"), samples)
    elif clip.fbank is not None:
        _write_wave(path("sound-approximate.wav"), approximate(clip.fbank, _seconds(clip)))
    return paths


def _draw(image: np.ndarray, path: str, unit: str, **labels: str) -> None:
    """`image`: [frequencies, times]."""
    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(image.astype(np.float32), origin="lower", aspect="auto", interpolation="nearest")
    axes.set(**labels)
    figure.colorbar(picture, label=unit)
    figure.savefig(path, dpi=100)


def _write_wave(path: str, samples: np.ndarray) -> None:
    """16-bit mono at 16 kHz; what is too loud is scaled down."""
    samples = samples / max(1.0, np.abs(samples).max(initial=0))
    with wave.open(path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(audio.SAMPLE_RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def _seconds(clip: records.Clip) -> float:
    """About how long the clip is: its last picture is at most a second from the end, if it has any."""
    return float(clip.frame_times[-1]) + 1 if len(clip.frames) else 10.0
