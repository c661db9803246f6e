"""Real media files and a small corpus in the official MSR-VTT layout, for the tests of preparation."""

import csv
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from av.subtitles.subtitle import SubtitleSet

SIDE = 64
_BITS = 8
ASS_HEADER = (
    b"[Script Info]\r\nScriptType: v4.00+\r\n\r\n[V4+ Styles]\r\nFormat: Name, Fontname, Fontsize\r\n"
    b"Style: Default,Arial,16\r\n\r\n[Events]\r\n"
    b"Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r\n"
)
_NO_FLAGS = Disposition(0)
_RATES = {list: 10, np.ndarray: 16000}  # of pictures and sound in `Track`
CODECS = {  # picture and sound by suffix
    ".mp4": ("libx264", "aac"),
    ".mkv": ("libx265", "libopus"),
    ".mov": ("prores_ks", "pcm_s16le"),
    ".ts": ("mpeg2video", "mp2"),
    ".mpg": ("mpeg2video", "mp2"),
    ".avi": ("mpeg4", "libmp3lame"),
    ".webm": ("libvpx-vp9", "libopus"),
    ".flv": ("flv1", "libmp3lame"),
    ".wmv": ("wmv2", "libmp3lame"),
    ".wav": ("", "pcm_s16le"),
    ".flac": ("", "flac"),
    ".mp3": ("", "libmp3lame"),
    ".m4a": ("", "aac"),
}


def numbered(number: int, side: int = SIDE) -> np.ndarray:
    """uint8 [side, side, 3]: `number` as eight black or white bars, which survive any codec."""
    bars = [(number >> bit) & 1 for bit in range(_BITS)]
    row = np.repeat(np.array(bars, np.uint8) * 255, side // _BITS)
    return np.broadcast_to(row[None, :, None], (side, side, 3)).copy()


def number_of(image: np.ndarray) -> int:
    """The inverse of `numbered`, from an image of any size."""
    middles = (np.arange(_BITS) + 0.5) * image.shape[1] / _BITS
    row = image[image.shape[0] // 2, middles.astype(int)].mean(axis=-1)
    return sum(int(value > 127) << bit for bit, value in enumerate(row))


def moving(count: int, width: int, height: int) -> list[np.ndarray]:
    """uint8 [height, width, 3] each: a patterned view that pans over noise, with a square that crosses it."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 215, (height // 4 + 2, (width + 4 * count) // 4 + 2, 3), np.uint8)
    scene = coarse.repeat(4, axis=0).repeat(4, axis=1)
    side, pictures = max(2, min(width, height) // 4), []
    for k in range(count):
        picture = scene[k % 5 : k % 5 + height, 2 * k : 2 * k + width].astype(int)
        picture += rng.integers(-6, 7, picture.shape)
        top, left = k % max(1, height - side), 3 * k % max(1, width - side)
        picture[top : top + side, left : left + side] = (250, 20, k % 256)
        pictures.append(picture.clip(0, 255).astype(np.uint8))
    return pictures


def tone(rate: int, seconds: float, hertz: float = 440.0) -> np.ndarray:
    """float32 [samples] at half amplitude."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def write_media(
    path: pathlib.Path,
    frames: Sequence[np.ndarray] = (),
    fps: Fraction | int = 25,
    times: Sequence[float] | None = None,
    rotation: int = 0,
    sound: np.ndarray | None = None,
    rate: int = 16000,
    channels: int = 1,
    options: Mapping[str, str] | None = None,
    codec: str | None = None,
    sound_codec: str | None = None,
    codec_options: Mapping[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    begins: float = 0,
    sound_begins: float = 0,
) -> str:
    """Writes what the suffix says (`CODECS`), or `codec` and `sound_codec` in that container. `times`: seconds of each
    frame, for a variable rate.

    `rotation` is counter-clockwise degrees in the container; `sound` is float32 [samples], the same on every channel;
    `options` are the container's. `begins` and `sound_begins`: seconds of the file's clock at the first picture and at
    the first sample.
    """
    video_codec, audio_codec = CODECS[path.suffix]
    with av.open(str(path), "w", container_options=dict(options or {})) as container:
        if len(frames):
            video = container.add_stream(codec or video_codec, rate=fps, options=dict(codec_options or {}))
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt = pix_fmt
            video.codec_context.time_base = Fraction(1, 1000) if times else 1 / Fraction(fps)
            if rotation:
                video.set_display_rotation(rotation)
        if sound is not None:
            layout = {1: "mono", 2: "stereo"}[channels]
            audio = container.add_stream(sound_codec or audio_codec, rate=rate, layout=layout)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.time_base = video.codec_context.time_base
            frame.pts = round(times[number] * 1000) if times else number + round(begins * fps)
            container.mux(video.encode(frame))
        if len(frames):
            container.mux(video.encode(None))
        if sound is not None:
            if len(sound):
                planes = np.ascontiguousarray(np.broadcast_to(sound, (channels, len(sound))))
                frame = av.AudioFrame.from_ndarray(planes, "fltp", layout)
                frame.sample_rate, frame.pts = rate, round(sound_begins * rate)
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return str(path)


@dataclasses.dataclass
class Track:
    """One of several tracks: pictures at ten a second (a list of them), sound at 16 kHz, or lines of text, a second
    each."""

    codec: str
    content: Sequence[np.ndarray] | np.ndarray | Sequence[str]
    flags: Disposition = _NO_FLAGS
    language: str = ""
    title: str = ""


def write_tracks(path: pathlib.Path, *tracks: Track, text_begins: float = 0) -> str:
    """A file of these tracks, in their order. `text_begins`: seconds of the file's clock at the first line."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(track.codec, rate=_RATES.get(type(track.content), 0)) for track in tracks]
        for stream, track in zip(streams, tracks, strict=True):
            stream.disposition = track.flags
            names = {"language": track.language, "title": track.title}
            stream.metadata.update({name: value for name, value in names.items() if value})
            codec = stream.codec_context
            if stream.type == "video":
                codec.max_b_frames = 0
                stream.height, stream.width = track.content[0].shape[:2]
                stream.pix_fmt = "yuvj420p" if track.codec == "mjpeg" else "yuv420p"
            elif stream.type == "audio":
                codec.layout = "mono"
            else:
                codec.time_base, codec.subtitle_header = Fraction(1, 1000), ASS_HEADER
        container.start_encoding()
        for stream, track in zip(streams, tracks, strict=True):
            for packet in _encoded(stream, track.content, text_begins):
                container.mux(packet)
    return str(path)


def _encoded(stream: Any, content: Any, text_begins: float) -> Iterator[av.Packet]:
    if stream.type == "audio":
        if len(content):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(content[None]), "fltp", "mono")
            frame.sample_rate, frame.pts = _RATES[np.ndarray], 0
            yield from stream.encode(frame)
        yield from stream.encode(None)
        return
    for number, one in enumerate(content):
        if stream.type == "video":
            frame = av.VideoFrame.from_ndarray(one, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, _RATES[list])
            yield from stream.encode(frame)
            continue
        line, pts = f"{number},0,Default,,0,0,0,,{one}".encode(), round(1000 * (text_begins + number))
        packet = stream.codec_context.encode_subtitle(SubtitleSet.create(line, 0, 900, pts=pts))
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts, packet.dts, packet.duration = pts, pts, 900
        yield packet
    if stream.type == "video":
        yield from stream.encode(None)


def write_corpus(
    root: pathlib.Path,
    splits: Mapping[str, Sequence[str]],
    captions: Mapping[str, list[str]] | None = None,
    missing: Sequence[str] = (),
    val_file: bool = True,
) -> pathlib.Path:
    """Annotations of {split: ids} and a one-second video with sound for each id that is not `missing`."""
    notes, videos = root / "Annotations", root / "VideoData"
    notes.mkdir(parents=True)
    videos.mkdir()
    ids = [clip_id for members in splits.values() for clip_id in members]
    captions = {clip_id: [f"first of {clip_id}", f"second of {clip_id}"] for clip_id in ids} | dict(captions or {})
    official = {"train": "train", "val": "validate", "test": "test"}
    data = {
        "videos": [{"video_id": i, "split": official[split]} for split, members in splits.items() for i in members],
        "sentences": [
            {"video_id": i, "caption": text, "sen_id": number}
            for number, (i, text) in enumerate((i, text) for i in ids for text in captions[i])
        ],
    }
    (notes / "MSRVTT_data.json").write_text(json.dumps(data))
    write_csv(notes / "MSRVTT_train.9k.csv", ["video_id"], [[i] for i in splits["train"]])
    if val_file:
        write_csv(notes / "MSRVTT_val.csv", ["video_id"], [[i] for i in splits["val"]])
    test = [[f"ret{k}", f"msr{i}", i, captions[i][0]] for k, i in enumerate(splits["test"])]
    write_csv(notes / "MSRVTT_JSFUSION_test.csv", ["key", "vid_key", "video_id", "sentence"], test)
    for number, clip_id in enumerate(dict.fromkeys(ids)):
        if clip_id not in missing:
            frames = [numbered(number + k) for k in range(10)]
            write_media(videos / f"{clip_id}.mp4", frames, fps=10, sound=tone(16000, 1, 300 + 10 * number))
    return root


def write_csv(path: pathlib.Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
