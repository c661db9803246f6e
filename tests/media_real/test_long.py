"""Sounds of unusual length: minutes of speech, music and silence, hours of nothing, one word, none.

Needs the registries of pip and Debian; see tests/helpers/real_media.py. `tests/bench/long_file.py` does an hour.
"""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import media, programme
from helpers import real_media as packages

from data_prep.speech import filters
from data_prep.speech.cache import Cache, model_identity
from data_prep.speech.recognise import Recognise
from data_prep.speech.rows import make_row

HOURS = 10
LISTEN = """
import resource, sys
from data_prep.media import audio
from data_prep.speech import vad
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
blocks = sum(1 for _ in vad.cut(audio.blocks(sys.argv[1], vad.BLOCK_SECONDS), "none"))
print(blocks, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.fixture(scope="module")
def hear(tmp_path_factory):
    """hear(path) → its row, by tiny.en."""
    model = str(packages.whisper_tiny_en())
    cache = Cache(str(tmp_path_factory.mktemp("cache")))
    task = Recognise("faster-whisper", model, model_identity(model), cache)

    def hear(path: Path) -> dict:
        found = task([str(path)])
        assert isinstance(found, list), found
        return make_row(path.name, "tiny.en", found[0], filters.Thresholds())

    return hear


def test_times_of_a_long_file(hear, tmp_path):
    """Three minutes: each sentence has a segment that begins where it was put, within half a second."""
    sound, turns = programme.make(180)
    media.write_media(tmp_path / "long.mp4", [media.numbered(k) for k in range(180)], fps=1, sound=sound)
    row = hear(tmp_path / "long.mp4")
    errors = programme.start_errors(turns, row["segments"])
    assert len(turns) > 12
    assert all(error is not None and abs(error) <= 0.5 for error in errors), errors
    inside = [any(t.start - 0.5 <= s["start"] < t.end for t in turns) for s in row["segments"]]
    assert all(inside), row["segments"]  # nothing is heard in music and silence


def test_errors_of_starts_by_hand():
    turns = [packages.Turn(0, 5), packages.Turn(10, 15), packages.Turn(20, 25)]
    assert programme.start_errors(turns, [{"start": 0.2}, {"start": 3}, {"start": 24}]) == [0.2, None, 4]


def test_memory_does_not_grow_with_hours(tmp_path):
    """Ten hours of silence, which a header and a hole in the file make: a block at a time is in memory."""
    path, size = tmp_path / "hours.wav", HOURS * 3600 * 1000 * 2
    with open(path, "wb") as file:
        head = struct.pack("<IHHIIHH", 16, 1, 1, 1000, 2000, 2, 16)  # PCM, mono, 1 kHz, 16 bit
        file.write(b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt " + head + b"data" + struct.pack("<I", size))
        file.truncate(44 + size)
    answer = subprocess.run([sys.executable, "-c", LISTEN, path], capture_output=True, text=True, check=True)
    blocks, megabytes = map(int, answer.stdout.split())
    assert blocks == HOURS * 6
    assert megabytes < 300  # the whole sound would be 2,300


def test_a_clip_of_one_word(hear):
    row = hear(packages.prompts("en") / "vm-goodbye.wav")
    assert row["text"].lower().strip(".!") == "goodbye"


def test_a_sound_without_samples(hear, tmp_path):
    media.write_media(tmp_path / "empty.wav", sound=np.zeros(0, np.float32))
    assert hear(tmp_path / "empty.wav")["text"] == ""
    (tmp_path / "nothing.wav").write_bytes(b"")
    row = hear(tmp_path / "nothing.wav")
    assert row["text"] == "" and "nothing.wav" in row["problem"]
