"""MSR-VTT 7k, VATEX, Charades and LSMDC: the official files to samples, and what is refused."""

import json

import pytest
from helpers import media
from helpers import official_corpora as made

from data_prep.clip import prepare
from data_prep.corpora import CORPORA, differing_counts, transcript_files

SETTINGS = {"image_size": 32, "max_frames": 4, "frames": "jpeg"}


def ids(splits):
    return {split: [sample.id for sample in samples] for split, samples in splits.items()}


def problem(corpus, root, *matches, **options):
    with pytest.raises(ValueError) as caught:
        CORPORA[corpus].read(str(root), **options)
    for match in matches:
        assert match in str(caught.value)


def write(path, text):
    path.write_text(text, encoding="utf-8")


# ---------------------------------------------------------------- MSR-VTT 7k


def test_7k_takes_split_and_all_captions_from_the_json(tmp_path):
    root = made.msrvtt_7k(tmp_path / "c")
    splits = CORPORA["msrvtt-7k"].read(str(root))
    assert ids(splits) == made.SPLITS
    assert splits["test"][0].captions == [f"{k} of video3" for k in range(20)]


@pytest.mark.parametrize("listed", [["video1", "video0"], ["video0", "video1", "video2"]])
def test_a_7k_list_that_agrees(tmp_path, listed):
    root = made.msrvtt_7k(tmp_path / "c")
    media.write_csv(root / "Annotations" / "MSRVTT_train.7k.csv", ["video_id"], [[i] for i in listed])
    assert ids(CORPORA["msrvtt-7k"].read(str(root))) == made.SPLITS


@pytest.mark.parametrize(
    ("listed", "one"),
    [(["a"], "b"), (["a", "b", "t"], "t"), (["a", "b", "v"], "w"), (["a", "v", "w"], "b")],
)
def test_a_7k_list_that_differs(tmp_path, listed, one):
    root = made.msrvtt_7k(tmp_path / "c", {"train": ["a", "b"], "val": ["v", "w"], "test": ["t"]})
    media.write_csv(root / "Annotations" / "MSRVTT_train.7k.csv", ["video_id"], [[i] for i in listed])
    problem("msrvtt-7k", root, f"MSRVTT_train.7k.csv lists {len(listed)} videos", f"in one only: {one!r}")


def test_7k_json_with_an_unknown_split_and_a_video_twice(tmp_path):
    root = made.msrvtt_7k(tmp_path / "c", {"train": ["video0", "video0"], "val": ["v2"], "test": ["v3"]})
    path = root / "Annotations" / "MSRVTT_data.json"
    write(path, path.read_text().replace('"validate"', '"dev"'))
    problem("msrvtt-7k", root, "not train, validate or test: 'v2: dev'", "has ids more than once: 'video0'")


# ---------------------------------------------------------------- VATEX


def test_vatex_with_a_video_of_each_kind(tmp_path):
    root = made.vatex(tmp_path / "c")
    first, second = made.VATEX["train"]
    made.video(root / "VideoData" / f"{first}.webm")
    made.pictures(root / "VideoData" / second)
    made.write_transcripts(root / "vatex_asr_text.json", {first: "Good morning.", "of no clip": "Good evening."})
    splits = CORPORA["vatex"].read(str(root))
    assert ids(splits) == made.VATEX
    one, two = splits["train"]
    assert one.captions == [f"{k} of {first}" for k in range(10)] and one.transcript == "Good morning."
    assert two.video == str(root / "VideoData" / second) and two.transcript == ""
    clip = prepare(one, SETTINGS)
    assert len(clip.frames) == 1 and clip.fbank is not None and clip.transcript == "Good morning."


def test_vatex_lists_with_windows_line_ends_byte_order_mark_and_blank_lines(tmp_path):
    root = made.vatex(tmp_path / "c", newline="\r\n")
    path = root / "Annotations" / "train_list.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\r\n")
    assert ids(CORPORA["vatex"].read(str(root))) == made.VATEX


def test_vatex_problems_in_one_message(tmp_path):
    root = made.vatex(tmp_path / "c")
    notes = root / "Annotations"
    write(notes / "val_list.txt", "unknown\nunknown\n" + made.VATEX["train"][0] + "\n")
    (notes / "test_list.txt").write_bytes(b"\xff\xfe\n")
    problem(
        "vatex",
        root,
        "4 problem(s)",
        "test_list.txt: begins as utf-16 and is damaged",
        "the val list has ids more than once: 'unknown'",
        "the val list has 2 clips without any caption in the annotations: 'unknown'",
        "train and val share 1 clips",
    )


@pytest.mark.parametrize("content", ["[]", '{"a": "text"}', '{"a": [1]}'])
def test_vatex_captions_of_another_form(tmp_path, content):
    root = made.vatex(tmp_path / "c")
    write(root / "Annotations" / "ref_captions.json", content)
    problem("vatex", root, "ref_captions.json does not have the form {id: [caption, …]}")


def test_vatex_captions_that_are_no_json(tmp_path):
    root = made.vatex(tmp_path / "c")
    write(root / "Annotations" / "ref_captions.json", "{")
    problem("vatex", root, "ref_captions.json cannot be read as JSON")


@pytest.mark.parametrize(
    "corpus", ["msrvtt-7k", "msrvtt-9k", "vatex", "charades", "lsmdc", "audiocaps", "sounddescs", "folder"]
)
def test_a_folder_that_is_not_there(tmp_path, corpus):
    problem(corpus, tmp_path / "nowhere", str(tmp_path / "nowhere"), "--root should")


# ---------------------------------------------------------------- Charades


def test_charades_holds_out_by_id_and_reads_scripts_with_line_breaks(tmp_path):
    train, val = made.charades_ids(3, held_out=False), made.charades_ids(2, held_out=True)
    scripts = {i: f"A person in {i}." for i in [train[0], val[0], *train[1:], val[1]]}
    scripts[train[1]] = 'They say "hello",\n  then leave.'
    root = made.charades(tmp_path / "c", scripts, {"TEST1": "A test."})
    splits = CORPORA["charades"].read(str(root))
    assert ids(splits) == {"train": train, "val": val, "test": ["TEST1"]}
    assert splits["train"][1].captions == ['They say "hello", then leave.']
    assert CORPORA["charades"].max_frames == 32


def test_the_part_of_charades_held_out_is_fixed():
    # Another list means that validation results of before no longer compare.
    assert made.charades_ids(5, held_out=True) == ["00003", "00009", "0001F", "00025", "0003A"]
    assert 0.055 < len(made.charades_ids(10_000, held_out=True)) / 10_000 < 0.07


def test_charades_without_its_columns_and_with_an_id_twice(tmp_path):
    root = made.charades(tmp_path / "c", {"AAAAA": "one"}, {"AAAAA": "one"})
    problem("charades", root, "and test share 1 clips: 'AAAAA'")
    path = root / "Annotations" / "Charades_v1_test.csv"
    write(path, path.read_text().replace("script", "story"))
    problem("charades", root, "Charades_v1_test.csv has the columns ['id',", "it lacks: 'script'")


# ---------------------------------------------------------------- LSMDC


def test_lsmdc_ids_with_dots_films_in_folders_and_sentences_as_they_are(tmp_path):
    first, second = made.LSMDC["train"]
    quoted = '"Look," says SOMEONE, and "waits'
    rows = [made.lsmdc_row(first, quoted), made.lsmdc_row(second, "One."), made.lsmdc_row(first, "Another.")]
    root = made.lsmdc(tmp_path / "c", {"train": rows})
    made.video(root / "VideoData" / "0001_American_Beauty" / f"{first}.mp4")
    made.video(root / "VideoData" / f"{second}.avi")
    made.write_transcripts(root / "lsmdc_asr_text.json", {first: "Good morning."})
    splits = CORPORA["lsmdc"].read(str(root))
    assert ids(splits) == made.LSMDC
    one, two = splits["train"]
    assert one.captions == [quoted, "Another."] and one.transcript == "Good morning."
    assert one.video.endswith(f"VideoData/0001_American_Beauty/{first}.mp4") and two.video.endswith(f"{second}.avi")
    for sample in splits["train"]:
        assert len(prepare(sample, SETTINGS).frames) == 1


def test_lsmdc_rows_of_other_lengths(tmp_path):
    clip = made.LSMDC["val"][0]
    good = made.lsmdc_row(clip, "A sentence.")
    rows = [good, good.replace("\tA", " A"), good.replace("A ", "A\t"), "", good.replace("\t", ",")]
    root = made.lsmdc(tmp_path / "c", {"val": rows})
    problem(
        "lsmdc", root, "3 rows do not have the 6 columns", "'line 2 with 5: ", "'line 3 with 7: ", "'line 5 with 1: "
    )


def test_lsmdc_validation_under_another_name(tmp_path):
    root = made.lsmdc(tmp_path / "c")
    notes = root / "Annotations"
    (notes / "LSMDC16_annos_val.csv").rename(notes / "lsmdc_val.csv")
    assert ids(CORPORA["lsmdc"].read(str(root))) == made.LSMDC
    (notes / "lsmdc_val.csv").unlink()
    problem("lsmdc", root, "LSMDC layout; it lacks", "LSMDC16_annos_val.csv")


def test_lsmdc_that_is_not_utf_8(tmp_path, caplog):
    root = made.lsmdc(tmp_path / "c")
    path = root / "Annotations" / "LSMDC16_annos_val.csv"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"Someone", b"Ren\xe9"))
    (sample, *_) = CORPORA["lsmdc"].read(str(root))["val"]
    assert "René" in sample.captions[0]
    assert f"{path}: read as cp1252, which was guessed from its letters" in caplog.records[0].message
    path.write_bytes(data.replace(b"Someone", "Привет, друзья".encode()[:-1]))
    problem("lsmdc", root, "LSMDC16_annos_val.csv cannot be read: UTF-8 with 1 damaged characters, the first in line 1")


# ---------------------------------------------------------------- what all share


def test_files_of_a_clip_and_which_is_taken(tmp_path):
    root = made.vatex(tmp_path / "c")
    clip = made.VATEX["train"][0]
    vectors = root / "FeatureData" / "PE-AV"
    for path in (
        *(root / "VideoData" / (clip + suffix) for suffix in (".webm", ".MP4", ".txt")),
        root / "AudioData" / f"{clip}.wav",
        vectors / "VideoFeature" / f"{clip}.npy",
        vectors / "AudioFeature" / f"{clip}.pt",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    first, second = CORPORA["vatex"].read(str(root), teacher="PE-AV")["train"]
    assert first.video.endswith(f"{clip}.MP4") and first.audio == str(root / "AudioData" / f"{clip}.wav")
    assert first.teacher_video == str(vectors / "VideoFeature" / f"{clip}.npy")
    assert first.teacher_audio == str(vectors / "AudioFeature" / f"{clip}.pt")
    assert second.video.endswith(f"{second.id}.mp4") and second.audio is None and second.teacher_video is None
    assert CORPORA["vatex"].read(str(root))["train"][0].teacher_video is None  # ImageBind's folder is not there


def test_a_clip_in_two_folders_is_a_problem(tmp_path):
    root, (clip, film) = made.lsmdc(tmp_path / "c"), (made.LSMDC["train"][0], "0001_American_Beauty")
    for folder in ("old", film):
        (root / "VideoData" / folder).mkdir()
        (root / "VideoData" / folder / f"{clip}.avi").write_bytes(b"video")
        (root / "VideoData" / folder / "of_no_list.avi").touch()
    problem(
        "lsmdc", root, f"VideoData holds 1 clips more than once; keep one file of each: '{film}/{clip}.avi and old/"
    )
    (root / "VideoData" / "old" / f"{clip}.avi").unlink()
    (root / "VideoData" / "old" / f"{clip}.avi").symlink_to(root / "VideoData" / film / f"{clip}.avi")
    assert CORPORA["lsmdc"].read(str(root))["train"][0].video.endswith(f"{film}/{clip}.avi")  # one file, two names
    (root / "VideoData" / f"{clip}.mp4").touch()
    assert CORPORA["lsmdc"].read(str(root))["train"][0].video.endswith(f"VideoData/{clip}.mp4")


def test_which_transcript_file_is_read(tmp_path):
    root = made.vatex(tmp_path / "c")
    clip, other, silent = (*made.VATEX["train"], *made.VATEX["val"])[:3]

    def transcripts(**options):
        splits = CORPORA["vatex"].read(str(root), **options)
        return [sample.transcript for sample in (*splits["train"], *splits["val"])[:3]]

    assert transcript_files(str(root), "vatex_asr_text.json") == [] and transcripts() == [""] * 3
    made.write_transcripts(root / "transcripts.json", {clip: "our own text", other: "our own, too", silent: "invented"})
    assert transcripts() == ["our own text", "our own, too", "invented"]
    # Of each clip the published row counts, one without words, too; of a clip that it lacks, ours.
    made.write_transcripts(root / "Annotations" / "vatex_asr_text.json", {clip: "published text", silent: ""})
    assert transcripts() == ["published text", "our own, too", ""]
    named = made.write_transcripts(tmp_path / "named.json", {clip: "named text"})
    assert transcripts(transcripts=str(named)) == ["named text", "", ""]
    problem("vatex", root, "no.json is not a transcript file", transcripts=str(tmp_path / "no.json"))


def test_time_stamps_of_our_own_transcripts_reach_the_sample(tmp_path):
    root, clip = made.vatex(tmp_path / "c"), made.VATEX["train"][0]
    row = {"key": f"{clip}.wav", "text": "Good morning.", "language": "en", "source": "whisper", "segments": []}
    row["dropped"] = [{"start": 0, "end": 1.5, "text": "Thanks for watching!", "reason": "no speech"}]
    write(root / "transcripts.json", json.dumps([row]))
    speech = CORPORA["vatex"].read(str(root))["train"][0].speech
    assert speech == {"language": "en", "source": "whisper", "dropped": row["dropped"]}


def test_counts_against_the_published_ones():
    def counts(corpus, **sizes):
        return differing_counts(CORPORA[corpus], {split: [None] * size for split, size in sizes.items()})

    # The published 9,000 hold the 497 validation videos that are held out here.
    assert counts("msrvtt-9k", train=8503, val=497, test=1000) == []
    assert counts("msrvtt-9k", train=9000, val=497, test=1000) == [
        "msrvtt-9k: the annotations list 9,497 clips in train+val (train 9,000, val 497), published are 9,000"
    ]
    assert counts("charades", train=7485, val=500, test=1863) == []
    assert counts("msrvtt-7k", train=6513, val=497, test=2990) == []
    assert counts("vatex", train=25991, val=1500, test=1499) == [
        "vatex: the annotations list 1,499 clips in test, published are 1,500"
    ]
    assert counts("vatex", train=25991, test=1500)[0].startswith("vatex: the annotations list 0 clips in val")
    assert counts("lsmdc", train=1, val=7408, test=1000) == counts("demo", train=1) == counts("folder", test=3) == []
