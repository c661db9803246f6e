"""What verify says of a corpus: counts, gaps, costs, and its exit codes."""

import json

import av
import numpy as np
import pytest
from av.stream import Disposition
from helpers import media
from helpers import official_corpora as made

from data_prep.commands import verify
from data_prep.corpora import CORPORA
from data_prep.corpora.survey import survey
from save_jax.data.records import TEACHER_DIM


@pytest.fixture
def root(tmp_path):
    """VATEX with one clip of every trouble. Two clips are sound: one has everything, one has a sound file beside it."""
    root = tmp_path / "vatex"
    ids = {"train": ["good", "gone", "cut", "dumb", "apart"], "val": ["pictures"], "test": ["heard", "empty"]}
    made.vatex(root, ids)
    videos, vectors = root / "VideoData", root / "FeatureData" / "ImageBind"
    made.video(videos / "good.mp4")
    made.video(videos / "dumb.mp4", sound=False)
    made.video(videos / "apart.mp4", sound=False)
    made.pictures(videos / "pictures")
    (videos / "cut.mp4").write_bytes((videos / "good.mp4").read_bytes()[:600])
    media.write_media(videos / "heard.mkv", sound=media.tone(16000, 1))
    (videos / "empty").mkdir()
    (root / "AudioData").mkdir()
    media.write_media(root / "AudioData" / "apart.wav", sound=media.tone(16000, 1))
    for kind, names in (("VideoFeature", ["good", "dumb", "apart"]), ("AudioFeature", ["good"])):
        (vectors / kind).mkdir(parents=True)
        for name in names:
            np.save(vectors / kind / f"{name}.npy", np.ones(TEACHER_DIM, np.float32))
    made.write_transcripts(root / "transcripts.json", {"good": "Good morning.", "dumb": "", "old": "A clip of before."})
    return root


def run(capsys, *arguments):
    code = verify.main([str(argument) for argument in arguments])
    return code, capsys.readouterr()


def test_every_gap_is_found_and_listed(root, tmp_path, capsys):
    path = tmp_path / "gaps.json"
    code, said = run(capsys, "--corpus", "vatex", "--root", root, "--sample", 3, "--list", path)
    listed = json.loads(path.read_text())
    gaps = {
        kind: {clip_id: detail for clips in by_split.values() for clip_id, detail in clips.items()}
        for kind, by_split in listed["gaps"].items()
    }
    assert {kind: sorted(clips) for kind, clips in gaps.items()} == {
        "no caption": [],
        "no media file": ["gone"],
        "unreadable": ["cut", "empty", "heard"],
        "no sound": ["dumb", "empty", "pictures"],
        "no transcript": ["apart", "cut", "empty", "gone", "heard", "pictures"],
        "nothing is said": ["dumb"],
        "no teacher vectors": ["apart", "cut", "gone"],
    }
    assert "cut short" in gaps["unreadable"]["cut"] and "no video stream" in gaps["unreadable"]["heard"]
    assert gaps["no teacher vectors"]["apart"] == "no vector of the sound"
    assert gaps["no teacher vectors"]["gone"] == "no vector of the picture and the sound"
    assert listed["rows_of_no_clip"] == {str(root / "transcripts.json"): ["old"]} and len(listed["differing"]) == 3
    assert listed["estimate"]["clips"] == 4 and len(listed["estimate"]["seconds"]) == 3

    assert code == 1  # the counts are not VATEX's
    for line in (
        "clips                        5         1         2",
        "published               25,991     1,500     1,500",
        "captions                    50        10        20",
        "unreadable                   1         0         2",
        f"transcripts: {root / 'transcripts.json'}; 1 of its rows name no clip, e.g. old",
        "no media file: 1 clips → get the files; ",
        f"save-jax prep transcribe --corpus vatex --root {root} --missing-only",
        f"save-jax prep teach --corpus vatex --root {root}",
        "  … and 1 more",
        "the build of 4 clips: about ",
        "from 3 of 3 clips tried, which took ",
        "vatex: the annotations list 5 clips in train, published are 25,991; complete the annotations, or build",
    ):
        assert line in said.out


def test_the_estimate_is_of_the_same_clips_for_the_same_seed(root):
    samples = [s for s in CORPORA["vatex"].read(str(root))["train"] if s.id in ("good", "dumb", "apart")]
    settings = {"image_size": 32, "max_frames": 4, "frames": "jpeg"}
    one, same, other = (verify.estimate(samples, settings, 1, seed) for seed in (0, 0, 1))
    assert one["bytes"] == same["bytes"] and one["tried"] == 1 and one["clips"] == 3
    assert verify.estimate(samples, settings, 9, 0)["tried"] == 3
    assert other["bytes"] != one["bytes"]


def test_a_clip_that_fails_in_the_trial_is_told(root):
    samples = [s for s in CORPORA["vatex"].read(str(root))["train"] if s.id == "cut"]
    result = verify.estimate(samples, {"image_size": 32, "max_frames": 4, "frames": "jpeg"}, 8, 0)
    assert result["failed"].keys() == {"cut"} and "cut short" in verify.cost(result)
    assert verify.cost(result).startswith("no estimate of the build: none of 1 clips tried")


def test_missing_media_is_information_unless_strict(tmp_path, capsys):
    folder = tmp_path / "folder"
    made.video(folder / "good.mp4")
    arguments = ("--corpus", "folder", "--root", folder, "--sample", 0)
    assert run(capsys, *arguments, "--strict")[0] == 0
    (folder / "bad.mp4").write_bytes(b"none")
    code, said = run(capsys, *arguments)
    assert code == 0 and "unreadable: 1 clips" in said.out and "\ntranscripts: no file\n" in said.out
    assert "no caption                   0         0         2" in said.out
    assert "no caption: 2 clips → nothing, for a gallery to search" in said.out
    assert "the build of 1 clips" in run(capsys, *arguments[:-1], 1)[1].out  # which takes those without a caption
    assert run(capsys, *arguments, "--strict")[0] == 1


def test_a_cover_image_is_no_video_and_a_folder_needs_pictures(tmp_path):
    """What decoding would take is asked, not whether there is a stream or a file."""
    root = tmp_path / "c"
    made.vatex(root, {"train": ["cover", "notes", "damaged"], "val": ["pictures"], "test": ["good"]})
    videos = root / "VideoData"
    made.video(videos / "good.mp4")
    made.pictures(videos / "pictures")
    for name in ("notes", "damaged"):
        (videos / name).mkdir()
    (videos / "notes" / "readme.txt").write_text("none here")
    (videos / "damaged" / "1.jpg").write_bytes(b"no picture")
    with av.open(str(videos / "cover.mp4"), "w") as container:  # a song
        sound, cover = container.add_stream("aac", rate=16000), container.add_stream("mjpeg", rate=1)
        cover.width = cover.height = media.SIDE
        cover.pix_fmt, cover.disposition = "yuvj420p", Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(media.tone(16000, 1)[None], "fltp", "mono")
        frame.sample_rate = 16000
        picture = av.VideoFrame.from_ndarray(media.numbered(1), "rgb24")
        for stream, content in ((cover, picture), (sound, frame)):
            container.mux([*stream.encode(content), *stream.encode(None)])
    found = survey(CORPORA["vatex"].read(str(root)))["unreadable"]
    assert found["train"].keys() == {"cover", "notes", "damaged"} and not found["val"] and not found["test"]
    assert found["train"]["cover"].endswith("no video stream") and "no picture in this" in found["train"]["notes"]


def test_ctrl_c_is_one_line(tmp_path, capsys, monkeypatch):
    made.video(tmp_path / "a.mp4")

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(verify.survey, "survey", stopped)
    code, said = run(capsys, "--corpus", "folder", "--root", tmp_path)
    assert code == 130 and said.err == "data_prep.verify: stopped\n"


def test_a_folder_that_is_not_there_is_no_problem_of_annotations(tmp_path, capsys):
    code, said = run(capsys, "--corpus", "folder", "--root", tmp_path / "lost")
    assert code == 1 and "1 problem(s); correct them and run again" in said.err and "annotations" not in said.err


def test_subtitles_count_as_a_transcript(tmp_path, capsys):
    made.video(tmp_path / "a.mp4")
    made.video(tmp_path / "b.mp4")
    (tmp_path / "b.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nGood morning.\n")
    splits = CORPORA["folder"].read(str(tmp_path))
    assert survey(splits)["no transcript"]["test"].keys() == {"a.mp4"}


def test_transcripts_of_another_file_and_by_hand(tmp_path, capsys):
    made.video(tmp_path / "a.mp4")
    own = tmp_path / "own.json"
    own.write_text(json.dumps([{"key": "a.mp4", "text": "Good morning."}, {"key": "b.mp4", "text": "Not here."}]))
    _, said = run(capsys, "--corpus", "folder", "--root", tmp_path, "--sample", 0, "--transcripts", own)
    assert f"transcripts: {own}; 1 of its rows name no clip, e.g. b.mp4" in said.out
    assert "no transcript: " not in said.out
    (tmp_path / "transcripts.json").write_text('{"a.mp4": "Good morning."}')
    _, said = run(capsys, "--corpus", "folder", "--root", tmp_path, "--sample", 0)
    assert "0 of its rows name no clip" in said.out and "no transcript: " not in said.out
    media.write_csv(tmp_path / "transcripts.csv", ["video", "text"], [["a.mp4", "Good evening."]])
    _, said = run(capsys, "--corpus", "folder", "--root", tmp_path, "--sample", 0)
    assert f"transcripts: {tmp_path / 'transcripts.csv'}; 0 of its rows" in said.out
    assert f"of clips that are not in the former: {tmp_path / 'transcripts.json'}; 0 of its rows" in said.out


def test_problems_of_the_annotations(root, capsys):
    (root / "Annotations" / "val_list.txt").write_text("good\n")
    code, said = run(capsys, "--corpus", "vatex", "--root", root)
    assert code == 1 and "train and val share 1 clips: 'good'" in said.err and said.err.startswith("data_prep.verify: ")


def test_names_that_are_not_utf_8_can_be_printed_and_listed(tmp_path, capsys):
    (tmp_path / "caf\udce9.mp4").write_bytes(b"none")
    code, said = run(capsys, "--corpus", "folder", "--root", tmp_path, "--list", tmp_path / "gaps.json")
    assert code == 0 and "  caf\\xe9.mp4: " in said.out
    assert json.loads((tmp_path / "gaps.json").read_text())["gaps"]["unreadable"]["test"].keys() == {"caf\\xe9.mp4"}


def test_a_sample_below_none(tmp_path, capsys):
    code, said = run(capsys, "--corpus", "folder", "--root", tmp_path, "--sample", -1)
    assert code == 1 and "--sample is -1; give the number of clips to try, 0 for no estimate" in said.err


def test_a_list_that_cannot_be_written(tmp_path, capsys):
    made.video(tmp_path / "a.mp4")
    code, said = run(capsys, "--corpus", "folder", "--root", tmp_path, "--sample", 0, "--list", tmp_path / "no" / "l")
    assert code == 1 and "No such file" in said.err


def test_a_plain_folder_is_not_sent_to_audio_data(tmp_path, capsys):
    made.video(tmp_path / "dumb.mp4", sound=False)
    verify.main(["--corpus", "folder", "--root", str(tmp_path), "--sample", "0"])
    said = capsys.readouterr().out
    assert "AudioData" not in said and "sound that is kept apart is not read: put it into the video" in said
