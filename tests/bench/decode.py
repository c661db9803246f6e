"""How fast is a clip prepared, against the decoder alone and against the reference's way? A command.

    pip install opencv-python-headless
    python tests/bench/decode.py [--repeats 9] [--json FILE]

Makes one clip (320×240, 15 s, 30 fps, H.264 + AAC, the encoders' defaults, keyint 250) and prints clips per second, on
one core and with one thread, of

- ours: frame choice, decoding, 224 × 224 squares as JPEG, log-mel;
- the decoder alone: PyAV reads and decodes both streams, and nothing is done with them;
- the reference's way (the loaders of CLIP4Clip and AVIGATE): OpenCV seeks to a frame of every second, Pillow resizes
  and crops it, NumPy normalises it; the sound comes from a 16 kHz wave file made beforehand, and its log-mel from the
  NumPy code that transformers' AST uses where torchaudio is missing. It stores no JPEG, and picks 12 frames at the end.

Time is the processor's, of all threads of the process: on one core that is what passes if nothing else runs. The ways
take turns, so that a busy machine slows all of them.
"""

import argparse
import gc
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from typing import Any

import av
import cv2
import numpy as np
import simplejpeg
from PIL import Image
from transformers import audio_utils

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent.parent))
from data_prep.media import audio, decode, video

SIDE, FRAMES = 224, 12
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)[:, None, None]  # CLIP's
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)[:, None, None]
WIDTH, HEIGHT, FPS, SECONDS, RATE = 320, 240, 30, 15, 44100


def make_clip(folder: pathlib.Path) -> tuple[str, str]:
    """The paths of the clip and of its sound as the reference wants it: a 16 kHz mono wave file."""
    rng = np.random.default_rng(0)

    def texture(height: int, width: int, grain: int) -> np.ndarray:
        small = rng.integers(0, 255, (height // grain + 2, width // grain + 2, 3), np.uint8)
        return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC), np.float32)

    view = 0.6 * texture(2 * HEIGHT, 3 * WIDTH, 12) + 0.4 * texture(2 * HEIGHT, 3 * WIDTH, 40)
    thing = texture(80, 80, 8)
    clip, sound = str(folder / "clip.mp4"), str(folder / "clip.wav")
    with av.open(clip, "w") as container:
        picture = container.add_stream("libx264", rate=FPS)
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        track = container.add_stream("aac", rate=RATE, layout="stereo")
        for n in range(FPS * SECONDS):  # the camera pans and tilts, a thing crosses, the sensor is noisy
            left, top = int(1.3 * n) % WIDTH, int(40 + 30 * np.sin(n / 40))
            image = view[top : top + HEIGHT, left : left + WIDTH].copy()
            x, y = int(120 + 100 * np.sin(n / 17)), int(80 + 60 * np.cos(n / 23))
            image[y : y + 80, x : x + 80] = thing
            image += rng.normal(0, 3, image.shape)
            frame = av.VideoFrame.from_ndarray(image.clip(0, 255).astype(np.uint8), "rgb24")
            frame.pts = n
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        at = np.arange(RATE * SECONDS) / RATE
        mono = 0.3 * np.sin(2 * np.pi * (300 + 200 * np.sin(at)) * at) + 0.05 * rng.normal(size=at.shape)
        frame = av.AudioFrame.from_ndarray(np.stack([mono, 0.8 * mono]).astype(np.float32), "fltp", "stereo")
        frame.sample_rate, frame.pts = RATE, 0
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    with wave.open(sound, "wb") as file:
        samples = audio.waveform(clip)
        assert samples is not None  # the track that was just written
        file.setparams((1, 2, audio.SAMPLE_RATE, len(samples), "NONE", ""))
        file.writeframes((samples * 32767).astype(np.int16).tobytes())
    return clip, sound


def ours(clip: str) -> tuple[list[bytes], np.ndarray | None]:
    pictures, _ = video.read_frames(clip, SIDE, FRAMES)
    return pictures, audio.read_fbank(clip)


def decoder_alone(clip: str) -> None:
    with av.open(clip) as container:
        streams = [container.streams.video[0], container.streams.audio[0]]
        for stream in streams:
            stream.codec_context.thread_count = 1
        for packet in container.demux(streams):
            packet.decode()


def reference(clip: str, sound: str) -> tuple[np.ndarray, np.ndarray]:
    return reference_pictures(clip), reference_sound(sound)


def reference_pictures(clip: str) -> np.ndarray:
    """float32 [12, 3, 224, 224], as CLIP4Clip's RawVideoExtractorCV2.video_to_tensor, with its look beyond the end."""
    capture = cv2.VideoCapture(clip, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    count, fps = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), int(capture.get(cv2.CAP_PROP_FPS))
    images = []
    for second in range((count + fps - 1) // fps + 1):
        capture.set(cv2.CAP_PROP_POS_FRAMES, second * fps)
        there, image = capture.read()
        if not there:
            break
        square = video.crop_square(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), SIDE)
        images.append(((square.transpose(2, 0, 1) / np.float32(255) - MEAN) / STD).astype(np.float32))
    capture.release()
    stacked = np.stack(images)
    return stacked[video.choose(len(stacked), FRAMES)]


def reference_sound(sound: str) -> np.ndarray:
    """As ASTFeatureExtractor without torchaudio, with the shift that AVIGATE stretches."""
    with wave.open(sound, "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    samples = samples - samples.mean()
    filters = audio_utils.mel_filter_bank(
        257, 128, 20, 8000, 16000, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True
    )
    window = audio_utils.window_function(400, "hann", periodic=False)
    mel = audio_utils.spectrogram(
        samples, window, frame_length=400, hop_length=len(samples) // 1024, fft_length=512, power=2.0, center=False,
        preemphasis=0.97, mel_filters=filters, log_mel="log", mel_floor=1.192092955078125e-07, remove_dc_offset=True,
    )  # fmt: skip
    return (mel.T[:1024] + 5.118) / (2 * 3.2527153)


def parts(clip: str, sound: str) -> dict[str, Callable[[], Any]]:
    """Steps, each alone."""
    samples = audio.waveform(clip)
    assert samples is not None  # the clip has sound
    return {
        "open, read the packets": lambda: decode_chosen(clip, 0),
        "the same, decode the chosen frames": lambda: decode_chosen(clip, FRAMES),
        "the same, squares, JPEG (read_frames)": lambda: video.read_frames(clip, SIDE, FRAMES),
        "open, decode and resample the sound": lambda: audio.waveform(clip),
        "log-mel": lambda: audio.fbank(samples),
        "the reference's pictures": lambda: reference_pictures(clip),
        "the reference's sound": lambda: reference_sound(sound),
    }


def decode_chosen(clip: str, most: int) -> None:
    with decode.open_video(clip) as file:
        ranks, _ = video.each_second(file)
        chosen = [ranks[k] for k in video.choose(len(ranks), most)] if most else []
        for _ in file.frames(chosen) if chosen else ():
            pass


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of preparing one clip.")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures here")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        clip, sound = make_clip(pathlib.Path(folder))
        kinds = {
            "ours": lambda: ours(clip),
            "decoder alone": lambda: decoder_alone(clip),
            "reference's way": lambda: reference(clip, sound),
        }
        steps = parts(clip, sound)
        seconds: dict[str, list[float]] = {name: [] for name in [*kinds, *steps]}
        check(ours(clip), reference(clip, sound))
        gc.freeze()  # what this script alone imports is not for the garbage collector to walk through again and again
        for _ in range(options.repeats):
            for name, function in (kinds | steps).items():
                function()  # a worker does one thing again and again: its caches and its memory are warm
                start = time.process_time()
                function()
                seconds[name].append(time.process_time() - start)
    print(f"{'':38} clips per second of one core, median (smallest–largest) of {options.repeats}")
    for name in kinds:
        rates = sorted(1 / s for s in seconds[name])
        print(f"{name:38} {statistics.median(rates):7.2f} ({rates[0]:.2f}–{rates[-1]:.2f})")
    ratios = {}
    for name, over, under, target in (
        ("ours / reference's way", "reference's way", "ours", "≥ 5"),
        ("decoder alone / ours", "ours", "decoder alone", "≤ 1.5"),
    ):
        each = sorted(a / b for a, b in zip(seconds[over], seconds[under], strict=True))
        ratios[name] = statistics.median(each)
        print(f"{name:38} {ratios[name]:7.2f} ({each[0]:.2f}–{each[-1]:.2f}), target {target}")
    print("where the time goes, ms")
    for name in steps:
        print(f"  {name:36} {1000 * statistics.median(seconds[name]):7.1f}")
    if options.json:
        options.json.write_text(json.dumps({"seconds": seconds, "ratios": ratios}, indent=1) + "\n")


def check(mine: tuple[list[bytes], np.ndarray | None], theirs: tuple[np.ndarray, np.ndarray]) -> None:
    """Both ways must have done the same work."""
    pictures = np.array([simplejpeg.decode_jpeg(data) for data in mine[0]])
    expected = 255 * (theirs[0] * STD + MEAN).transpose(0, 2, 3, 1)
    assert np.abs(pictures - expected).mean() < 3, "other pictures than the reference's"
    assert mine[1] is not None and np.abs(mine[1] - theirs[1]).mean() < 0.02, "another spectrogram than the reference's"


if __name__ == "__main__":
    main()
