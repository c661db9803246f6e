"""Official annotations to samples, and the messages for annotations that cannot be used."""

import json

import pytest
from helpers import media

from data_prep.corpora import CORPORA

SPLITS = {"train": ["video0", "video1"], "val": ["video2"], "test": ["video3", "video4"]}


def read(root):
    return CORPORA["msrvtt-9k"].read(str(root))


def write(root, splits=None, **options):
    """A corpus without videos: reading needs none."""
    splits = splits or SPLITS
    return media.write_corpus(root, splits, missing=[i for ids in splits.values() for i in ids], **options)


def problem(root, *matches):
    with pytest.raises(ValueError) as caught:
        read(root)
    for match in matches:
        assert match in str(caught.value)


def test_all_fields(tmp_path):
    root = media.write_corpus(tmp_path / "c", SPLITS, missing=["video1"])
    notes = root / "Annotations"
    media.write_csv(
        notes / "query_groups.csv", ["video_id", "sentence", "group"], [["video3", "first of video3", "sound"]]
    )
    media.write_csv(notes / "clip_tags.csv", ["video_id", "tags"], [["video0", "music speech"]])
    (root / "msrvtt10k_asr_text.json").write_text(json.dumps([{"key": "video0.wav", "text": "Good morning."}]))
    wav, vectors = root / "AudioData" / "video0.wav", root / "FeatureData" / "ImageBind" / "VideoFeature"
    for path in (wav, vectors / "video0.pt", vectors / "video0.npy", vectors / "video3.pt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    corpus = read(root)
    assert {split: [sample.id for sample in samples] for split, samples in corpus.items()} == SPLITS
    first = corpus["train"][0]
    assert first.video == str(root / "VideoData" / "video0.mp4") and first.audio == str(wav)
    assert first.captions == ["first of video0", "second of video0"] and first.groups == ["", ""]
    assert first.transcript == "Good morning." and first.tags == ["music", "speech"]
    assert first.teacher_video == str(vectors / "video0.npy") and first.teacher_audio is None
    assert corpus["train"][1].video == str(root / "VideoData" / "video1.mp4")  # not there: found when it is prepared
    test = corpus["test"][0]
    assert test.captions == ["first of video3"] and test.groups == ["sound"]
    assert test.teacher_video == str(vectors / "video3.pt") and test.transcript == "" and test.audio is None


def test_without_val_file_validation_leaves_the_training_list(tmp_path):
    root = write(tmp_path / "c", val_file=False)
    media.write_csv(root / "Annotations" / "MSRVTT_train.9k.csv", ["video_id"], [["video0"], ["video2"], ["video1"]])
    corpus = read(root)
    assert [s.id for s in corpus["train"]] == ["video0", "video1"] and [s.id for s in corpus["val"]] == ["video2"]
    assert corpus["val"][0].captions == ["first of video2", "second of video2"]


def test_captions_with_emoji_500_words_half_an_emoji_or_nothing(tmp_path):
    long = " ".join(["word"] * 500)
    captions = {"video0": ["a dog 🐕 runs", long, "half \ud83d of one"], "video1": ["", "  "]}
    first, second = read(write(tmp_path / "c", captions=captions))["train"]
    assert first.captions == ["a dog 🐕 runs", long, "half ? of one"] and first.empty_captions == 0
    assert second.captions == [] and second.empty_captions == 2


def test_missing_files_are_named_together(tmp_path):
    root = write(tmp_path / "c")
    (root / "Annotations" / "MSRVTT_train.9k.csv").unlink()
    (root / "Annotations" / "MSRVTT_data.json").unlink()
    problem(root, "MSRVTT_train.9k.csv", "MSRVTT_data.json", "--root should hold the official MSR-VTT layout")


def test_duplicate_and_dangerous_ids_and_overlap_in_one_message(tmp_path):
    root = write(tmp_path / "c")
    bad = ["../up", "a/b", "a\\b", "a..b", ""]
    rows = [[clip_id, "text"] for clip_id in ["video0", "video0", *bad]]
    media.write_csv(root / "Annotations" / "MSRVTT_JSFUSION_test.csv", ["video_id", "sentence"], rows)
    problem(
        root,
        "3 problem(s)",
        "the test list has ids more than once: 'video0'",
        "the test list has ids that are empty or hold '/', '\\', NUL or '..': '../up', 'a/b', 'a\\\\b', 'a..b', ''",
        "train and test share 1 clips: 'video0'",
    )


def test_nul_in_an_id(tmp_path):
    problem(write(tmp_path / "c", SPLITS | {"val": ["a\0b"]}), "MSRVTT_val.csv: line 2 holds a NUL byte: damaged")


def test_wrong_columns_and_json(tmp_path):
    root = write(tmp_path / "c")
    media.write_csv(root / "Annotations" / "MSRVTT_val.csv", ["id"], [["video2"]])
    (root / "Annotations" / "MSRVTT_data.json").write_text('{"videos": []}')
    (root / "msrvtt10k_asr_text.json").write_text("{}x")
    problem(
        root,
        "MSRVTT_val.csv has the columns ['id'], it lacks: 'video_id'",
        "MSRVTT_data.json does not have the form",
        "is not a transcript file",
    )


def test_groups_that_match_no_caption(tmp_path):
    root = write(tmp_path / "c")
    rows = [["video3", "first of video3", "sound"], ["video3", "other", "sound"]]
    media.write_csv(root / "Annotations" / "query_groups.csv", ["video_id", "sentence", "group"], rows)
    problem(root, "1 of 2 rows match no caption: 'video3: other'")
