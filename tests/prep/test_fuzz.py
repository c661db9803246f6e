"""Hundreds of damaged files through the whole build: none stops it, none hangs it, none is lost.

For thousands: `python tests/bench/fuzz.py --files 5000 --seed 1`.
"""

import collections
import time

import numpy as np
import pytest
import simplejpeg
from helpers import fuzzing

from data_prep import runners
from data_prep.commands import build
from save_jax.data import records

FILES = 320
SETTINGS = {"corpus": "fuzz", "image_size": 32, "max_frames": 4, "frames": "jpeg"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    corpus, start = fuzzing.make_corpus(folder, FILES, seed=0), time.monotonic()
    result = build.build(corpus, str(folder), str(folder / "out"), SETTINGS, 40, runners.Local(2, 10.0))
    return corpus.read(str(folder)), folder / "out", result, time.monotonic() - start


def test_every_file_is_accounted_for_once(made):
    splits, out, result, seconds = made
    assert seconds < 60
    for split, samples in splits.items():
        paths = records.split_shards(str(out), split)
        for path in paths:
            records.verify_shard(path)
        source = records.ShardSource(paths)
        clips = [source[number] for number in range(len(source))]
        assert [clip.id for clip in clips] == result["written"][split]
        wanted = collections.Counter(sample.id for sample in samples)
        failed = {sample.id for sample in samples} & set(result["failed"])
        if split == "train":
            assert collections.Counter([*result["written"][split], *failed]) == wanted
        else:
            assert collections.Counter(result["written"][split]) == wanted
        assert {clip.id: clip.failed for clip in clips if clip.failed} == {
            clip_id: result["failed"][clip_id] for clip_id in failed if split != "train"
        }
        for clip in clips:
            assert bool(clip.frames) != bool(clip.failed) and clip.notes == result["notes"].get(clip.id, [])


def test_damage_is_found_and_told(made):
    """What the mutations reach: pictures, and the parts that are left out with a note. Pictures: clocks that jump."""
    _, _, result, _ = made
    failed, notes = result["failed"], [note for notes in result["notes"].values() for note in notes]
    assert FILES * 0.1 < len(failed) < FILES * 0.8
    assert {note.split(":")[0] for note in notes} == {"pictures", "sound", "teacher", "subtitles"}
    assert all(reason.strip() for reason in [*failed.values(), *notes])
    assert any("where 1 is full scale: damaged" in note for note in notes)


def test_what_is_kept_can_be_trained_on(made):
    splits, out, _, _ = made
    sounds = 0
    for split in splits:
        source = records.ShardSource(records.split_shards(str(out), split))
        for clip in (source[number] for number in range(len(source))):
            for jpeg in clip.frames:
                assert simplejpeg.decode_jpeg(jpeg).shape == (32, 32, 3)
            if clip.fbank is not None:
                sounds += 1
                assert clip.fbank.shape == (1024, 128) and np.isfinite(clip.fbank).all(), clip.id
    assert sounds > FILES * 0.1
