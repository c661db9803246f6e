"""Transcripts in the official form."""

import json

import pytest

from data_prep.speech import transcripts


def test_keys_and_short_texts(tmp_path):
    path = tmp_path / "asr.json"
    rows = [("video0.wav", " Hello there. "), ("video1.wav", "Yes."), ("a.b.wav", None), ("video2", "no suffix")]
    path.write_text(json.dumps([{"key": key, "text": text} for key, text in rows]))
    expected = {"video0": "Hello there.", "video1": "", "a.b": "", "video2": "no suffix"}
    assert transcripts.read_transcripts(str(path)) == expected


@pytest.mark.parametrize("content", ["no json", '{"video0": "text"}', '[{"key": "video0.wav"}]', "[1]"])
def test_other_forms_are_refused(tmp_path, content):
    path = tmp_path / "asr.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"asr\.json is not a transcript file .* should hold"):
        transcripts.read_transcripts(str(path))
