"""Checks of what a run reads: FFmpeg for media files, shards and how fast they come, tokenizer and weights.

Libraries are imported within: where one is missing, the other checks still tell.
"""

import importlib.util
import os
import time
from collections.abc import Iterator

import numpy as np

from save_jax.doctor.line import Line

# What videos and sounds of the benchmarks, of cameras and of the web come in. FFmpeg's names.
DECODERS = ("h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg2video", "mjpeg", "prores", "wmv3", "flv")
DECODERS += ("aac", "mp3", "opus", "vorbis", "flac", "ac3", "pcm_s16le", "wmav2", "mov_text", "subrip", "webvtt", "ass")
DEMUXERS = ("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "wav", "mp3", "flac")
SECONDS = 1.0  # how long shards are read
SLOW = 100  # clips a second: fewer, and a step waits for them on any accelerator


def check_ffmpeg() -> Line:
    """Whether media files can be prepared: the FFmpeg inside PyAV, and which of the usual formats it lacks."""
    name = "FFmpeg"
    if importlib.util.find_spec("av") is None:
        text = "PyAV is not installed: shards can be read, video files can not"
        return Line(name, "note", text, "pip install -c constraints.txt -e '.[prep]'")
    import av
    import av.codec
    import av.format

    lacking = [f"decoder {kind}" for kind in DECODERS if not _opens(av.codec.Codec, kind)]
    lacking += [f"format {kind}" for kind in DEMUXERS if not _opens(av.format.ContainerFormat, kind)]
    text = f"{av.ffmpeg_version_info} in PyAV {av.__version__}"
    if not lacking:
        return Line(name, "ok", f"{text}: all of {len(DECODERS)} decoders and {len(DEMUXERS)} formats looked for")
    step = "pip install --force-reinstall --only-binary=av -c constraints.txt av, whose own wheel has them"
    return Line(name, "note", f"{text} lacks {', '.join(lacking)}: such files fail", step)


def check_shards(folder: str) -> Iterator[Line]:
    """Whether the shards of a folder are complete, and how fast their records come, in random order."""
    from save_jax.data import records

    name = "shards"
    if not (splits := records.splits(folder)):
        step = "save-jax prep build makes them; --shards or config.data_dir names their folder"
        yield Line(name, "problem", f"none in {folder}", step)
        return
    if not os.path.exists(os.path.join(folder, records.MANIFEST)):
        yield Line(name, "problem", f"{folder} has no {records.MANIFEST}", "run its save-jax prep build once more")
    sources = {split: records.ShardSource(records.split_shards(folder, split)) for split in splits}
    counts = ", ".join(f"{split} {len(source):,}" for split, source in sources.items())
    yield Line(name, "ok", f"{folder}: clips {counts}")
    source = max(sources.values(), key=len)
    if not len(source):
        return
    order, count, size, begin = np.random.default_rng().permutation(len(source)), 0, 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < SECONDS or not count:
        size += len(source.read(order[count % len(order)]))
        count += 1
    rate = count / passed
    again = ", from the system's memory in part" if count > len(order) else ""
    text = f"{rate:,.0f} clips/s, {size / passed / 1e6:,.0f} MB/s, one after the other in random order{again}"
    step = "copy them to a disk of this machine, or set config.data.threads and config.data.workers higher"
    yield Line(name, "note", text, step) if rate < SLOW else Line(name, "ok", text)


def check_tokenizer(source: str) -> Line:
    """Whether a tokenizer, a folder or a name of the hub, is here. Nothing is downloaded."""
    from save_jax.data.tokenizer import open_words

    name = "tokenizer"
    if not os.path.isdir(source) and not _is_cached(source):
        if os.path.isabs(source) or source.count("/") != 1:  # no name of the hub
            return Line(
                name, "problem", f"{source} is no folder", "set config.data.tokenizer to one, or make the shards"
            )
        step = "the first run downloads it; without a network set config.data.tokenizer to a folder with its files"
        return Line(name, "note", f"{source} is not in the Hugging Face cache", step)
    words = open_words(source)
    return Line(name, "ok", f"{source}: {words.vocab_size:,} tokens, digest {words.digest[:12]}")


def check_weights(paths: str) -> Iterator[Line]:
    """Whether weights, `paths` as of config.init_from, are what a run can start from."""
    from absl import logging

    from save_jax.config.retrieval import start_paths
    from save_jax.weights import description, loading

    logging.set_verbosity(logging.ERROR)  # Orbax warns of what is intended
    for path in start_paths(paths):
        modules = ", ".join(sorted(loading.modules_of(path)))
        described = os.path.exists(os.path.join(path, description.NAME))
        about = f"; licence: {description.read(path).licence}" if described else ""
        yield Line("weights", "ok", f"{path}: {modules}{about}")
        if (copy := os.path.join(path, description.TOKENIZER)) and os.path.isdir(copy):
            yield check_tokenizer(copy)


def check_start(init_from: str) -> Iterator[Line]:
    """The weights that a config names to start from."""
    if init_from in ("", "random"):
        text = "config.init_from is empty: towers would start random" if not init_from else "none: it starts random"
        step = "" if init_from else "docs/weights.md: convert them, and set config.init_from=weights/clip,weights/ast"
        yield Line("weights", "note" if step else "ok", text, step)
    else:
        yield from check_weights(init_from)


def _opens(kind: type, name: str) -> bool:
    """Whether FFmpeg reads a codec or a container format."""
    try:
        kind(name, "r")
    except ValueError:  # PyAV's own errors are
        return False
    return True


def _is_cached(source: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return any(isinstance(try_to_load_from_cache(source, file), str) for file in ("vocab.json", "vocab.txt"))
    except HFValidationError:
        return False
