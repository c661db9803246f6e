"""Makes the media files of one demo scene: an H.264 + AAC mp4, written with PyAV, and the two feature vectors.

Same scene and seed, same bytes: one encoder thread, bit-exact flags (no time stamps or library versions in the headers)
and random numbers that depend on seed and clip only. Files appear under their final name when they are complete.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import av
import av.codec.context
import numpy as np

from data_prep.demo.pictures import frames
from data_prep.demo.scenes import MUSIC, NO_TRACK, RELATED, Scene, generator
from data_prep.demo.sounds import SOUND_RATE, make_event, make_music
from data_prep.demo.speech import SPEECH_RATE, speak

SPEECH_LEVEL = 0.12  # RMS of the spoken part
BED_ALONE_LEVEL = (0.06, 0.15)
PEAK = 0.9
_FADE = round(0.1 * SOUND_RATE)
_BITEXACT = av.codec.context.Flags.bitexact


def media_paths(out: Path, scene: Scene, captions: bool = True) -> dict[str, Path]:
    """What a scene's files are and where they go; a clip without a sound track has no audio feature.

    Without captions the corpus is a plain folder of videos.
    """
    if not captions:
        return {"video": out / f"{scene.video_id}.mp4"}
    features = out / "FeatureData" / "ImageBind"
    paths = {
        "video": out / "VideoData" / f"{scene.video_id}.mp4",
        "teacher_video": features / "VideoFeature" / f"{scene.video_id}.npy",
    }
    if scene.bed != NO_TRACK:
        paths["teacher_audio"] = features / "AudioFeature" / f"{scene.video_id}.npy"
    return paths


def write_clip(paths: Mapping[str, Path], scene: Scene, seed: int) -> None:
    """Makes those of the scene's files that are missing; `paths` as `media_paths` has them."""
    for kind, path in paths.items():
        if path.exists():
            continue
        temporary = path.with_name(path.name + ".tmp")
        try:
            if kind == "video":
                _encode(temporary, scene, generator(seed, "media", int(scene.video_id.removeprefix("video"))))
            else:
                with temporary.open("wb") as file:
                    np.save(file, getattr(scene, kind))
            os.replace(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


def _encode(path: Path, scene: Scene, rng: np.random.Generator) -> None:
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        # No slower preset: from "veryfast" on (PyAV 18.1) the same pictures gave other bytes in one of two runs.
        video = container.add_stream("libx264", rate=scene.frame_rate, options={"preset": "superfast", "crf": "23"})
        video.width, video.height = scene.size
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        video.codec_context.flags |= _BITEXACT
        if scene.bed != NO_TRACK:  # streams must be there before the first packet
            audio = container.add_stream("aac", rate=scene.audio_rate, layout=scene.audio_layout)
            audio.codec_context.thread_count = 1
            audio.codec_context.flags |= _BITEXACT
        for picture in frames(rng, scene.thing, scene.colour, scene.place, scene.motion, scene.size, scene.frames):
            container.mux(video.encode(av.VideoFrame.from_image(picture)))
        container.mux(video.encode())
        if scene.bed != NO_TRACK:
            for frame in _audio_frames(mix(scene, rng), scene, audio.codec_context.frame_size, rng):
                container.mux(audio.encode(frame))
            container.mux(audio.encode())


def mix(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """The sound of the clip: mono float samples at SOUND_RATE, no louder than PEAK."""
    samples = round(scene.frames / scene.frame_rate * SOUND_RATE)
    if scene.bed == RELATED:
        assert scene.event is not None
        bed = make_event(scene.event, rng, samples)
    elif scene.bed == MUSIC:
        bed = make_music(rng, samples)
    else:
        return np.zeros(samples)
    if scene.sentence is None:
        level = rng.uniform(*BED_ALONE_LEVEL)
    else:
        level = SPEECH_LEVEL * 10 ** (-rng.uniform(*scene.speaking.bed_below) / 20)
    sound = bed * min(level, PEAK / np.abs(bed).max())
    if scene.sentence is not None:
        sound += _speech_track(scene, scene.sentence, rng, samples)
    sound[-_FADE:] *= np.linspace(1, 0, _FADE)
    return sound * min(1, PEAK / np.abs(sound).max())


def _speech_track(scene: Scene, sentence: str, rng: np.random.Generator, samples: int) -> np.ndarray:
    assert SPEECH_RATE == SOUND_RATE  # or the voice would need resampling
    spoken = speak(sentence, scene.voice, scene.speed)
    assert len(spoken) <= samples  # scenes leave room, so that no word is cut
    start = rng.integers(samples - len(spoken) + 1)
    track = np.zeros(samples)
    track[start : start + len(spoken)] = spoken * SPEECH_LEVEL / np.sqrt(np.mean(spoken**2))
    return track


def _audio_frames(
    sound: np.ndarray, scene: Scene, frame_size: int, rng: np.random.Generator
) -> Iterator[av.AudioFrame]:
    """The sound at the scene's rate and channels, in the frame size that the encoder wants."""
    balance = rng.uniform(0.7, 1, 2) if scene.audio_layout == "stereo" else np.ones(1)
    planes = (sound * balance[:, None]).astype(np.float32)
    whole = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), format="fltp", layout=scene.audio_layout)
    whole.sample_rate = SOUND_RATE
    resampler = av.AudioResampler("fltp", scene.audio_layout, scene.audio_rate, frame_size)
    position = 0
    for frame in (*resampler.resample(whole), *resampler.resample(None)):
        frame.pts = position  # the resampler counts only its last frame, and the encoder then runs backwards
        position += frame.samples
        yield frame
