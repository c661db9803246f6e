"""Real Whisper on recorded speech, telephone prompts, music and silence: what it hears, and what the filters keep.

Needs the registries of pip and Debian, so it has a step of its own in .ci/run; see tests/helpers/real_media.py.
"""

import csv
import json
import re
from pathlib import Path

import pytest
from helpers import hub as hubs
from helpers import media
from helpers import real_media as packages
from helpers.words import edit_distance, spoken_words

from data_prep.commands import build as builder
from data_prep.commands import transcribe
from data_prep.demo import __main__ as demo
from data_prep.speech import filters
from data_prep.speech.cache import Cache, model_identity
from data_prep.speech.recognise import Recognise
from data_prep.speech.rows import make_row


@pytest.fixture(scope="session")
def hear(tmp_path_factory):
    """hear(paths) → one transcript row for each, by tiny.en, as `data_prep.transcribe` writes it."""
    model = str(packages.whisper_tiny_en())
    cache = Cache(str(tmp_path_factory.mktemp("cache")))
    task = Recognise("faster-whisper", model, model_identity(model), cache, language="en")

    def hear(paths: list[Path]) -> list[dict]:
        found = task([str(path) for path in paths])
        assert isinstance(found, list), found
        return [
            make_row(path.name, "tiny.en", one, filters.Thresholds()) for path, one in zip(paths, found, strict=True)
        ]

    return hear


def test_errors_by_hand():
    assert (
        edit_distance(spoken_words("a b c d"), spoken_words("a x c")) == 2
        and edit_distance([], spoken_words("a b")) == 2
    )


def test_read_sentences_are_heard(hear):
    """Five sentences of Sense and Sensibility: at most 5 % of their words are wrong."""
    said = packages.read_sentences()
    rows = hear([*said])
    wrong = sum(
        edit_distance(spoken_words(text), spoken_words(row["text"]))
        for text, row in zip(said.values(), rows, strict=True)
    )
    total = sum(len(spoken_words(text)) for text in said.values())
    assert len(said) == 5 and total > 60
    assert wrong <= 0.05 * total, (wrong, total, [row["text"] for row in rows])


def test_nothing_is_kept_of_music_and_silence(hear):
    music = packages.music()
    silence = sorted((packages.prompts("en") / "silence").glob("*"))
    assert len(music) == 5 and len(silence) >= 10
    rows = hear([*music, *silence[:10]])
    assert {row["key"]: row["text"] for row in rows if row["text"]} == {}


def test_prompts_are_not_lost(hear):
    """Every eighth of the prompts that last two seconds or more: none comes out empty."""
    two_seconds = 2 * 16_000  # bytes; 8 kHz, 16 bit
    long = [path for path in sorted(packages.prompts("en").glob("*.wav")) if path.stat().st_size > two_seconds]
    chosen = [path for path in long[::8] if "beep" not in path.name and "tone" not in path.name]
    rows = hear(chosen)
    assert len(rows) >= 20
    assert [row["key"] for row in rows if not row["text"]] == []


def test_a_telephone_call_is_heard(hear):
    """Two people who fall into each other's words: a quarter of the words at most are wrong (15 of 81)."""
    path, turns = packages.telephone_call()
    said = [word for turn in turns for word in spoken_words(turn.text)]
    [row] = hear([path])
    assert len(said) == 81
    assert edit_distance(said, spoken_words(row["text"])) <= 0.25 * len(said), row["text"]


def test_whisper_hears_the_demo(tmp_path, capsys):
    """`--transcripts whisper`: the corpus has what Whisper heard of the clips, with times, and is then built as any."""
    model = str(packages.whisper_tiny_en())
    demo.main(["--out", str(tmp_path / "demo"), "--clips", "24", "--transcripts", "whisper", "--model", model])
    with (tmp_path / "demo" / "Annotations" / "spoken.csv").open(newline="", encoding="utf-8") as file:
        spoken = {f"{row['video_id']}.wav": spoken_words(row["sentence"]) for row in csv.DictReader(file)}
    rows = {row["key"]: row for row in json.loads((tmp_path / "demo" / "transcripts.json").read_text())}
    assert len(rows) == 24 and spoken
    assert all("segments" in row for key, row in rows.items() if row["text"])
    wrong = sum(edit_distance(words, spoken_words(rows[key]["text"])) for key, words in spoken.items())
    assert 0 < wrong < 0.6 * sum(map(len, spoken.values()))  # of synthetic voices: 0.36 over 900 clips
    build = ["--corpus", "demo", "--root", str(tmp_path / "demo"), "--out", str(tmp_path / "shards")]
    assert builder.main([*build, "--image-size", "64"]) == 0
    built = sum(map(int, re.findall(r"(\d+) with transcript", capsys.readouterr().out)))
    assert built == sum(bool(row["text"]) for row in rows.values())


def test_the_command_takes_a_recogniser_by_name(tmp_path, monkeypatch):
    """video → Whisper → transcripts.json: the real weights out of a hub of this machine, the sentences in a film."""
    weights = packages.whisper_tiny_en()
    [sound] = [path for path in packages.read_sentences() if path.stem.endswith("-0930")]
    (tmp_path / "videos").mkdir()
    frames = [media.numbered(k) for k in range(12)]
    media.write_media(tmp_path / "videos" / "a.mp4", frames, sound=packages.heard(sound))
    with hubs.serve() as served:
        hubs.ask(monkeypatch, served.address, tmp_path / "hub")
        commit = served.push("Systran/faster-whisper-tiny.en", weights)
        command = ["--corpus", "folder", "--root", str(tmp_path / "videos"), "--engine", "faster-whisper"]
        assert transcribe.main([*command, "--model", "tiny.en"]) == 0
    [row] = json.loads((tmp_path / "videos" / "transcripts.json").read_text())
    assert row["text"] == "He might even have been made amiable himself."
    assert row["source"] == f"faster-whisper-tiny.en@{commit[:12]}/faster-whisper"
