"""Transcripts in the official form, and in ours, which adds time stamps."""

import json

import pytest

from data_prep.speech import rows as transcribed
from data_prep.speech import transcripts


def write(path, rows):
    path.write_text(json.dumps(rows))
    return str(path)


def texts(path, **options):
    return {key: text for key, (text, _) in transcripts.read(path, **options).items()}


def test_keys_and_short_texts(tmp_path):
    rows = [("video0.wav", " Hello there. "), ("video1.wav", "Yes."), ("a.b.wav", None), ("video2", "no suffix")]
    rows += [("1012_x_00.05.16.065-00.05.21.941", "no suffix either"), ("video3.MP4", "a video"), ("video2", "again")]
    path = write(tmp_path / "asr.json", [{"key": key, "text": text} for key, text in rows])
    assert texts(path) == {
        "video0": "Hello there.",
        "video1": "",
        "a.b": "",
        "video2": "again",
        "1012_x_00.05.16.065-00.05.21.941": "no suffix either",
        "video3": "a video",
    }
    assert texts(path, keys_are_ids=True)["video3.MP4"] == "a video"


def test_several_rows_of_a_key_are_told_or_are_its_segments(tmp_path, caplog):
    path = write(tmp_path / "asr.json", [{"key": "a.wav", "text": text} for text in ("Good morning.", "Good evening.")])
    assert texts(path) == {"a": "Good evening."}
    assert caplog.messages == [f"{path} has several rows for 1 clips; the last of each is taken: 'a'"]
    rows = [{"key": "a.wav", "text": text, "start": k, "end": k + 1} for k, text in ((1, "evening."), (0, "Good"))]
    text, speech = transcripts.read(write(tmp_path / "asr.json", rows))["a"]
    assert text == "Good evening." and [part["start"] for part in speech["segments"]] == [0, 1]
    with pytest.raises(ValueError, match=r"row 2: KeyError: 'text'"):
        transcripts.read(write(tmp_path / "asr.json", [{"key": "a", "text": "word"}, {"key": "b"}]))


def test_what_else_a_row_knows(tmp_path):
    segments = [{"start": 0.5, "end": 2, "text": "Good morning.", "score": 0.9}]
    row = {"key": "a.wav", "text": "Good morning.", "segments": segments, "language": "en", "dropped": [], "source": ""}
    path = write(tmp_path / "asr.json", [row, {"key": "b.wav", "text": "half \ud83d emoji"}])
    assert transcripts.read(path) == {
        "a": ("Good morning.", {"language": "en", "segments": [{"start": 0.5, "end": 2.0, "text": "Good morning."}]}),
        "b": ("half ? emoji", {}),
    }


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        '{"video0": "text"}',
        '[{"key": "video0.wav"}]',
        "[1]",
        '[{"key": "a", "text": ["list"]}]',
        '[{"key": "a", "text": "word", "segments": [{"start": 0, "text": "word"}]}]',
        '[{"key": "a", "text": "word", "segments": [{"start": 0, "end": NaN, "text": "word"}]}]',
        '[{"key": "a", "text": "word", "dropped": [{"start": 0, "end": 1, "text": "word"}]}]',
    ],
)
def test_other_forms_are_refused(tmp_path, content):
    path = tmp_path / "asr.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"asr\.json is not a transcript file .* should hold"):
        transcripts.read(str(path))


def test_both_commands_read_the_same_files(tmp_path, caplog):
    """What the build reads, `transcribe` adds to: rows of another encoding, and several of a key."""
    path = tmp_path / "asr.json"
    text = json.dumps([{"key": "a.wav", "text": "Добрый день, друзья."}, {"key": "a.wav", "text": "?"}], indent=0)
    for encoding in ("utf-8", "cp1251"):
        rows = json.loads(text)
        path.write_bytes(json.dumps(rows, ensure_ascii=False).encode(encoding))
        assert transcribed.read_rows(str(path)) == {"a.wav": rows}
        assert texts(str(path)) == {"a": ""}
    assert sum("read as cp1251, which was guessed" in message for message in caplog.messages) == 2


@pytest.mark.parametrize("reader", [transcripts.read, transcribed.read_rows])
@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"[]\0", "line 1 holds a NUL byte: damaged"),
        ("Добрый день".encode()[:-1], "UTF-8 with 1 damaged characters, the first in line 1"),
    ],
)
def test_damage_is_refused_the_same_way(tmp_path, reader, data, what):
    (tmp_path / "asr.json").write_bytes(data)
    with pytest.raises(ValueError, match=rf"asr\.json .*not a transcript file .*{what}"):
        reader(str(tmp_path / "asr.json"))
