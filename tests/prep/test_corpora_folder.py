"""Any folder of videos: which files are clips, and the texts that may lie beside them."""

import json
import os
import unicodedata

import pytest
from helpers import media
from helpers import official_corpora as made

from data_prep.clip import prepare
from data_prep.corpora import CORPORA
from data_prep.corpora.folder import share_of

FOLDER = CORPORA["folder"]


@pytest.fixture
def root(tmp_path):
    """Two videos and much that is none."""
    root = tmp_path / "videos"
    for name in ("b.mp4", "a/clip.MKV", "a/notes.txt", ".hidden/c.mp4", "a/.d.mp4", "a/clip.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def read(root, **options):
    """id → sample, over all splits."""
    return {sample.id: sample for samples in FOLDER.read(str(root), **options).values() for sample in samples}


def problem(root, *matches):
    with pytest.raises(ValueError) as caught:
        FOLDER.read(str(root))
    for match in matches:
        assert match in str(caught.value)


# ---------------------------------------------------------------- files


def test_a_gallery_without_any_text(root, caplog):
    splits = FOLDER.read(str(root))
    assert [sample.id for sample in splits["test"]] == ["a/clip.MKV", "b.mp4"]
    assert splits["train"] == splits["val"] == [] and not FOLDER.needs_captions
    first = splits["test"][0]
    assert first.video == str(root / "a" / "clip.MKV") == first.subtitles
    assert first.captions == [] and first.transcript == "" and first.teacher_video is None
    assert not caplog.records


def test_videos_are_divided_by_their_names_alone(tmp_path):
    root = tmp_path / "videos"
    root.mkdir()
    for number in range(400):
        (root / f"{number}.mp4").touch()
    (root / "captions.csv").write_text("video,caption,split\n0.mp4,a dog,val\n1.mp4,a cat,val\n")
    of = {name: sample.split for name, sample in read(root, shares=(0.8, 0.1, 0.1)).items()}
    counts = {split: list(of.values()).count(split) for split in ("train", "val", "test")}
    assert abs(counts["train"] - 320) < 30 and abs(counts["val"] - 40) < 25 and sum(counts.values()) == 400
    assert of["0.mp4"] == of["1.mp4"] == "val"  # as the rows say
    for number in range(200):
        (root / f"{number}.mp4").unlink()
    (root / "captions.csv").unlink()
    assert all(sample.split == of[name] for name, sample in read(root, shares=(0.8, 0.1, 0.1)).items())


def test_both_forms_of_a_name_come_into_one_split():
    for number in range(40):
        one, other = (unicodedata.normalize(form, f"café {number}.mp4") for form in ("NFC", "NFD"))
        assert one != other and share_of(one, (0.4, 0.3, 0.3)) == share_of(other, (0.4, 0.3, 0.3))


@pytest.mark.parametrize(
    ("shares", "problem"),
    [
        ((0.5, 0.5), "shares 0.5, 0.5: give three for train, val and test, with a sum of 1"),
        ((0.9, 0.2, -0.1), "with a sum of 1"),
        ((float("nan"), 0.5, 0.5), "with a sum of 1"),
        ((0.998, 0.001, 0.001), r"no video of 2 came into val, test; give it more \(--shares\), or 0"),
    ],
)
def test_shares_that_cannot_be(root, shares, problem):
    with pytest.raises(ValueError, match=problem):
        read(root, shares=shares)


def test_a_folder_without_videos(tmp_path):
    problem(tmp_path, "no video below this folder; known are .mp4")


def test_names_that_are_not_utf_8(tmp_path):
    good = made.video(tmp_path / "good.mp4")
    odd = os.path.join(os.fsencode(tmp_path), b"caf\xe9.mp4")
    os.rename(good, odd)
    sample = read(tmp_path)["caf\\xe9.mp4"]
    assert os.fsencode(sample.video) == odd
    clip = prepare(made_captioned(sample), {"image_size": 32, "max_frames": 4, "frames": "jpeg"})
    assert clip.id == "caf\\xe9.mp4" and len(clip.frames) == 1 and clip.fbank is not None
    (tmp_path / "caf\\xe9.mp4").touch()
    problem(tmp_path, "two videos have the same name once it is written as UTF-8; rename one: 'caf\\\\xe9.mp4'")


def made_captioned(sample):
    return type(sample)(**{**vars(sample), "captions": ["a caption"], "groups": [""]})


def test_links_out_of_the_tree_are_left_out_and_named(root, tmp_path, caplog):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.mp4").touch()
    (root / "link.mp4").symlink_to(outside / "secret.mp4")
    (root / "linked").symlink_to(outside)
    (root / "nowhere.mp4").symlink_to(root / "gone.mp4")
    (root / "readme").symlink_to(outside / "anything")  # no video, no folder: of no interest
    assert read(root).keys() == {"a/clip.MKV", "b.mp4"}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message.startswith(f"{root}: left out 3 links") and "link.mp4, " in record.message
    assert all(name in record.message for name in ("linked", "nowhere.mp4")) and "readme" not in record.message


def test_a_name_that_begins_like_the_root_is_outside(root, tmp_path, caplog):
    (tmp_path / "videos2").mkdir()
    (tmp_path / "videos2" / "c.mp4").touch()
    (root / "c.mp4").symlink_to(tmp_path / "videos2" / "c.mp4")
    assert "c.mp4" not in read(root) and len(caplog.records) == 1


def test_links_within_the_tree(root, caplog):
    (root / "store.mp4").symlink_to(root / ".hidden" / "c.mp4")  # as git-annex keeps files
    (root / "a" / "again").symlink_to(root / "a")  # its videos are found where they are
    assert read(root).keys() == {"a/clip.MKV", "b.mp4", "store.mp4"} and not caplog.records


def test_loops_of_links_end(root, caplog):
    (root / "a" / "up").symlink_to(root)
    (root / "self.mp4").symlink_to(root / "self.mp4")
    (root / "one.mp4").symlink_to(root / "two.mp4")
    (root / "two.mp4").symlink_to(root / "one.mp4")
    assert read(root).keys() == {"a/clip.MKV", "b.mp4"}
    assert "left out 3 links" in caplog.records[0].message


def test_a_root_that_is_a_link(root, tmp_path, caplog):
    (root / "c.mp4").symlink_to(root / ".hidden" / "c.mp4")
    (tmp_path / "link").symlink_to(root)
    assert read(tmp_path / "link").keys() == {"a/clip.MKV", "b.mp4", "c.mp4"} and not caplog.records


def test_subtitle_files_beside_a_video(root):
    for name in ("a/clip.de.srt", "b.srt", "b.en.srt", "a/clip.en.forced.srt", "bb.srt", "a/clip.en-GB.vtt"):
        (root / name).touch()
    samples = read(root)
    assert samples["b.mp4"].subtitles == str(root / "b.srt")
    assert samples["a/clip.MKV"].subtitles == str(root / "a" / "clip.en-GB.vtt")  # English before other languages
    (root / "a" / "clip.en-GB.vtt").unlink()
    assert read(root)["a/clip.MKV"].subtitles == str(root / "a" / "clip.de.srt")


def test_a_subtitle_file_belongs_to_the_longest_name_that_fits(root):
    for name in ("clip.mp4", "clip.2.mp4", "clip.2.srt"):
        (root / name).touch()
    samples = read(root)
    assert samples["clip.2.mp4"].subtitles == str(root / "clip.2.srt")
    assert samples["clip.mp4"].subtitles == str(root / "clip.mp4")  # none of its own: perhaps a track
    for name in ("clip.en.srt", "clip.2.de.forced.vtt", "clip.2.extra.mp4"):
        (root / name).touch()
    samples = read(root)
    assert samples["clip.mp4"].subtitles == str(root / "clip.en.srt")
    assert samples["clip.2.mp4"].subtitles == str(root / "clip.2.srt")
    assert samples["clip.2.extra.mp4"].subtitles == str(root / "clip.2.extra.mp4")


def test_teacher_vectors_by_path(root):
    folder = root / "FeatureData" / "ImageBind" / "VideoFeature" / "a"
    folder.mkdir(parents=True)
    (folder / "clip.MKV.npy").touch()
    assert read(root)["a/clip.MKV"].teacher_video == str(folder / "clip.MKV.npy")
    assert read(root, teacher="PE-AV")["a/clip.MKV"].teacher_video is None


# ---------------------------------------------------------------- texts


def test_captions_as_a_table(root):
    rows = [
        ["b.mp4", "a dog, running", "vision", "train"],
        ["b.mp4", "a bark", "sound", ""],
        ["b.mp4", " ", "", ""],
        ["a/clip.MKV", "a cat", "", "val"],
    ]
    media.write_csv(root / "captions.csv", ["video", "caption", "group", "split"], rows)
    (root / "c.mp4").touch()
    splits = FOLDER.read(str(root))
    (dog,) = splits["train"]
    assert dog.captions == ["a dog, running", "a bark"] and dog.groups == ["vision", "sound"]
    assert dog.empty_captions == 1
    assert [s.id for s in splits["val"]] == ["a/clip.MKV"]
    assert [s.id for s in splits["test"]] == ["c.mp4"] and splits["test"][0].captions == []


def test_rows_may_name_a_video_in_another_form(root):
    """Two files whose names differ in the form of é alone stay apart, and only their exact names mean them."""
    composed, apart = "caf\u00e9.mp4", "cafe\u0301.mp4"
    (root / apart).touch()
    rows = [["./b.mp4", "a dog"], [composed, "a cup"]]
    media.write_csv(root / "captions.csv", ["Video", " CAPTION"], rows)
    media.write_csv(root / "transcripts.csv", ["VIDEO", "text"], [["./" + composed, "Good morning."]])
    samples = read(root)
    assert samples["b.mp4"].captions == ["a dog"] and samples[apart].captions == ["a cup"]
    assert samples[apart].transcript == "Good morning."
    (root / composed).touch()
    samples = read(root)
    assert samples[composed].captions == ["a cup"] and samples[apart].captions == []
    (root / "u\u0308\u00fc.mp4").touch()
    (root / "\u00fcu\u0308.mp4").touch()
    media.write_csv(root / "captions.csv", ["video", "caption"], [["\u00fc\u00fc.mp4", "which?"]])
    problem(root, "captions: 1 rows name no video below this folder")


def test_a_comma_without_quotation_marks(root):
    text = 'video,caption\nb.mp4,"a dog, running"\na/clip.MKV,a cat, asleep, grey\nb.mp4,a bark,,\n'
    (root / "captions.csv").write_text(text)
    (root / "transcripts.csv").write_text("video,text\nb.mp4,Good morning, you.\n")
    problem(
        root,
        "captions.csv: 1 rows have more fields than the 2 columns; a text with a comma in it needs quotation marks",
        "'line 3, at asleep, grey'",
        "transcripts.csv: 1 rows have more fields",
        "2 problem(s); correct them",
    )
    (root / "transcripts.csv").unlink()
    (root / "captions.csv").write_text(text.replace("cat, asleep, grey", "cat"))
    assert read(root)["b.mp4"].captions == ["a dog, running", "a bark"]  # a spreadsheet's empty columns


@pytest.mark.parametrize(
    "content",
    [
        {"b.mp4": ["a dog", "a bark"]},
        [{"video": "b.mp4", "caption": "a dog"}, {"video": "b.mp4", "caption": "a bark", "split": "test"}],
    ],
)
def test_captions_as_json(root, content):
    (root / "captions.json").write_text(json.dumps(content))
    assert read(root)["b.mp4"].captions == ["a dog", "a bark"]


def test_caption_problems_in_one_message(root):
    rows = [["B.mp4", "x", "dev"], ["clip.MKV", "x", ""], ["b.mp4", "x", "train"], ["b.mp4", "y", "test"]]
    media.write_csv(root / "captions.csv", ["video", "caption", "split"], rows)
    (root / "captions.json").write_text("{}")
    problem(
        root,
        "4 problem(s)",
        "captions.json; keep one",
        "captions: 2 rows name no video below this folder: 'B.mp4 (like b.mp4)', 'clip.MKV (like a/clip.MKV)'",
        "splits that are not train, val or test: 'dev'",
        "videos in more than one split: 'b.mp4'",
    )


@pytest.mark.parametrize(
    "content",
    [
        *('{"b.mp4": "text"}', "[1]", "3", "null", '[{"video": 3}]', '[{"video": "b.mp4", "text": "a dog"}]'),
        '[{"video": "b.mp4", "caption": ["a dog"]}]',
    ],
)
def test_captions_of_another_form(root, content):
    (root / "captions.json").write_text(content)
    problem(root, "captions.json holds null" if content == "null" else "captions.json has neither the form")


def test_transcripts_written_by_hand(root):
    media.write_csv(root / "transcripts.csv", ["video", "text"], [["b.mp4", "Good morning."]])
    assert read(root)["b.mp4"].transcript == "Good morning."
    (root / "transcripts.csv").unlink()
    (root / "transcripts.json").write_text('{"b.mp4": "Good evening.", "a/clip.MKV": null}')
    assert read(root)["b.mp4"].transcript == "Good evening." and read(root)["a/clip.MKV"].transcript == ""
    (root / "transcripts.json").write_text('{"c.mp4": "Good evening."}')
    problem(root, "transcripts.json: 1 rows name no video below this folder: 'c.mp4 (like b.mp4)'")


def test_names_that_stand_twice_in_json(root):
    (root / "captions.json").write_text('{"b.mp4": ["a dog"], "b.mp4": ["a cat"]}')
    problem(root, "captions.json has names more than once in one object, where only the last would count: 'b.mp4'")


def test_transcripts_as_whisper_writes_them(root):
    segments = [
        {"id": k, "start": 1.5 * k, "end": 1.5 * (k + 1), "text": text, "tokens": [1], "no_speech_prob": 0.1}
        for k, text in enumerate((" Good morning.", " How are you?"))
    ]
    whisper = {"text": " Good morning. How are you? ", "segments": segments, "language": "en"}
    for content in (whisper, {"segments": segments, "word_segments": []}, segments):  # the second by WhisperX
        (root / "transcripts.json").write_text(json.dumps({"b.mp4": content}))
        sample = read(root)["b.mp4"]
        assert sample.transcript == "Good morning. How are you?"
        assert sample.speech["segments"][1] == {"start": 1.5, "end": 3.0, "text": "How are you?"}
    (root / "transcripts.json").write_text(json.dumps({"b.mp4": []}))
    assert read(root)["b.mp4"].transcript == ""
    (root / "transcripts.json").write_text(json.dumps(whisper))
    problem(root, 'transcripts.json is what Whisper writes of one video; write {"clip.mp4": {"text"')
    (root / "transcripts.json").write_text('{"b.mp4": {"words": 3}, "a/clip.MKV": 7}')
    problem(root, "2 videos have neither a text, nor {text, segments}, nor segments: \"b.mp4 (KeyError: 'text')\"")


def test_transcripts_with_a_row_for_each_segment(root, tmp_path):
    rows = [
        ["b.mp4", "00:02.5", "3", "How are you?"],
        ["b.mp4", "0,5", "", "Good morning."],
        ["a/clip.MKV", "1", "2", "x"],
    ]
    media.write_csv(root / "transcripts.csv", ["video", "start", "end", "text"], rows)
    samples = read(root)
    assert samples["b.mp4"].transcript == "Good morning. How are you?" and samples["a/clip.MKV"].transcript == ""
    assert samples["b.mp4"].speech["segments"] == [
        {"start": 0.5, "end": 0.5, "text": "Good morning."},
        {"start": 2.5, "end": 3.0, "text": "How are you?"},
    ]
    media.write_csv(
        root / "transcripts.csv", ["video", "text"], [["b.mp4", "Good morning."], ["b.mp4", "How are you?"]]
    )
    problem(root, "several rows for 1 videos, which need columns start and end", "'b.mp4, line 2', 'b.mp4, line 3'")
    rows = [{"key": "b.mp4", "start": k, "end": k + 1, "text": text} for k, text in enumerate(("Good", "morning."))]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    assert read(root, transcripts=str(tmp_path / "rows.json"))["b.mp4"].transcript == "Good morning."


def test_transcripts_of_a_recogniser(root, tmp_path):
    segments = [{"start": 0.0, "end": 1.0, "text": "Good morning."}]
    rows = [{"key": "b.mp4", "text": "Good morning.", "segments": segments}, {"key": "gone.mp4", "text": "Once here."}]
    path = tmp_path / "own.json"
    path.write_text(json.dumps(rows))
    sample = read(root, transcripts=str(path))["b.mp4"]
    assert sample.transcript == "Good morning." and sample.speech == {"segments": segments}
    (root / "transcripts.json").write_text("[")
    problem(root, "transcripts.json cannot be read as JSON")


def test_what_may_have_been_meant_as_a_clip_is_named(root, caplog):
    for name in ("talk.mp3", "a/song.WAV", "film.mp4.part", "README"):
        (root / name).touch()
    (root / "a" / "GOPRO0001").write_bytes(bytes(100_000))
    assert set(read(root)) == {"b.mp4", "a/clip.MKV"}
    said = [record.getMessage().split("passed over ")[1] for record in caplog.records]
    assert said == [
        "2 sound files (this corpus is of videos): talk.mp3, a/song.WAV",
        "1 unfinished downloads: film.mp4.part",
        "1 files without a suffix: a/GOPRO0001",
    ]
