"""Names that mean one file in either Unicode form, everywhere; and names that are longer than a file's may be."""

import json
import os
import unicodedata

import numpy as np
import pytest
from helpers import media
from helpers import official_corpora as made
from helpers.corpus import SETTINGS, make_clip

from data_prep import names
from data_prep.commands import inspect, transcribe
from data_prep.corpora import CORPORA, survey
from data_prep.files import replacing
from data_prep.teachers import folder as teachers
from save_jax.data import records

APART, COMPOSED = (unicodedata.normalize(form, "Café") for form in ("NFD", "NFC"))
LONG = "海辺の町を歩きながら話す長い一日の記録です、" * 3 + "終.mp4"


def read(root, **options):
    return {
        sample.id: sample for samples in CORPORA["folder"].read(str(root), **options).values() for sample in samples
    }


def test_the_only_one_of_a_form_is_meant():
    match = names.matcher([APART, "b", "\u00fcu\u0308", "u\u0308\u00fc"])
    assert [match(name) for name in (COMPOSED, APART, "b", "B")] == [APART, APART, "b", "B"]
    assert match("\u00fc\u00fc") == "\u00fc\u00fc"  # two could be meant
    assert names.told_apart(["a", "b"]) == ["a", "b"]
    assert names.told_apart([APART, COMPOSED]) == ["'Cafe\\u0301'", "'Caf\\xe9'"]


@pytest.mark.parametrize(("on_disk", "in_texts"), [(APART, COMPOSED), (COMPOSED, APART)])
def test_all_that_belongs_to_a_video_is_found_in_the_other_form(tmp_path, on_disk, in_texts, caplog):
    root = tmp_path / "videos"
    (root / "FeatureData" / "ImageBind" / "VideoFeature").mkdir(parents=True)
    for name in (f"{on_disk}.mp4", f"{in_texts}.en.srt", f"FeatureData/ImageBind/VideoFeature/{in_texts}.mp4.npy"):
        (root / name).touch()
    media.write_csv(root / "captions.csv", ["video", "caption"], [[f"{in_texts}.mp4", "a cup"]])
    own = tmp_path / "own.json"
    own.write_text(json.dumps([{"key": f"{in_texts}.mp4", "text": "Good morning."}]))
    sample = read(root, transcripts=str(own))[f"{on_disk}.mp4"]
    assert sample.captions == ["a cup"] and sample.transcript == "Good morning."
    assert sample.subtitles == str(root / f"{in_texts}.en.srt") and sample.teacher_video.endswith(f"{in_texts}.mp4.npy")
    assert not caplog.records
    silent = read(root)[f"{on_disk}.mp4"]
    assert transcribe.missing([silent], str(own), keys_are_ids=True) == []
    known = survey.transcribed_ids(CORPORA["folder"], str(own))
    assert known is not None and names.form(silent.id) in known


def test_official_files_in_the_other_form(tmp_path):
    root = made.vatex(tmp_path / "c", {"train": ["a"], "val": ["b"], "test": [COMPOSED]})
    made.write_transcripts(root / "vatex_asr_text.json", {APART: "Good morning."})
    for suffix in (".mp4", ".webm"):
        (root / "VideoData" / (APART + suffix)).touch()
    (sample,) = CORPORA["vatex"].read(str(root))["test"]
    assert sample.video == str(root / "VideoData" / f"{APART}.mp4") and sample.transcript == "Good morning."
    (root / "VideoData" / f"{COMPOSED}.mp4").touch()
    with pytest.raises(ValueError, match=r"VideoData holds 1 clips more than once.*Cafe.*u0301.*Caf.*xe9"):
        CORPORA["vatex"].read(str(root))


def test_two_files_of_one_form_are_told(tmp_path, caplog):
    for name in (APART, COMPOSED):
        (tmp_path / f"{name}.mp4").touch()
    media.write_csv(tmp_path / "captions.csv", ["video", "caption"], [[f"{APART}.mp4", "a cup"]])
    assert read(tmp_path)[f"{APART}.mp4"].captions == ["a cup"]
    assert "'Cafe\\u0301.mp4' and 'Caf\\xe9.mp4' have names that look the same" in caplog.records[0].message
    rows = [{"key": f"{name}.mp4", "text": "Good morning."} for name in (APART, COMPOSED)]
    (tmp_path / f"{COMPOSED}.mp4").unlink()
    (tmp_path / "transcripts.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match="several rows for one video"):
        read(tmp_path)


def test_subtitles_in_another_case_are_found_and_those_of_no_video_told(tmp_path, caplog):
    for name in ("clip.mp4", "Clip.EN.srt", "a.mp4", "A.mp4", "film.srt"):
        (tmp_path / name).touch()
    samples = read(tmp_path)
    assert samples["clip.mp4"].subtitles == str(tmp_path / "Clip.EN.srt")
    assert samples["a.mp4"].subtitles == str(tmp_path / "a.mp4")
    assert caplog.messages == [f"{tmp_path}: 1 subtitle files are named after no video beside them: film.srt"]


def test_names_that_are_too_long_are_cut_and_stay_apart(tmp_path):
    assert names.short("a.mp4", ".npy") == "a.mp4.npy"
    first, second = (names.short(letter * 200, ".npy") for letter in ("é", "è"))
    assert len(os.fsencode(first)) <= 255 and first.endswith(".npy") and first[:50] == "é" * 50 and first != second
    assert names.short("é" * 200 + "a") != names.short("é" * 200 + "b")
    path = tmp_path / ("x" * 250)
    with replacing(str(path)) as temporary:
        open(temporary, "w").close()
    assert path.exists()


def test_long_names_everywhere(tmp_path, capsys):
    """The video's name fits. Percent signs would triple it, and ".npy" is four bytes more."""
    name = LONG[: len(LONG) - 4]
    name = name.encode()[: 255 - 4 - len(name.encode()) % 3].decode("utf-8", "ignore")[:83] + ".mp4"
    (tmp_path / name).touch()
    vector = teachers.vector_path(str(tmp_path / "FeatureData" / "ImageBind"), teachers.PICTURES, name)
    teachers.save_vector(vector, np.zeros(1024, np.float32))
    assert read(tmp_path)[name].teacher_video == vector
    records.write_shard(
        str(tmp_path / records.shard_name("test", 0, 1)), iter([make_clip(0, "test", id=name)]), SETTINGS
    )
    assert inspect.main([str(tmp_path), unicodedata.normalize("NFD", name), "--out", str(tmp_path / "look")]) == 0
    (shown,) = (tmp_path / "look").iterdir()
    assert (shown / "record.json").exists() and str(shown) in capsys.readouterr().out
