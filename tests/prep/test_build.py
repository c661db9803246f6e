"""Building shards: failures cost one clip, and running again does only what is missing."""

import hashlib
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time
import wave

import numpy as np
import pytest
from helpers import media
from helpers.work import kill_some

from data_prep import contents, corpora, manifest, runners
from data_prep.clip import prepare
from data_prep.commands import build
from data_prep.commands.shards import alone_in
from save_jax.data import records

SPLITS = {
    "train": [f"video{k}" for k in range(6)],
    "val": ["video6", "video7"],
    "test": ["video8", "video9", "video10"],
}
BROKEN = ["video1", "video7", "video9"]  # one in each split
SETTINGS = {"corpus": "msrvtt-9k", "image_size": 32, "max_frames": 12, "frames": "jpeg"}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> pathlib.Path:
    """Eleven clips; one video of each split is missing, one caption is empty, one clip has a transcript."""
    folder = tmp_path_factory.mktemp("corpus") / "root"
    captions = {"video0": ["a caption 🐕", ""]}
    media.write_corpus(folder, SPLITS, captions, missing=BROKEN)
    (folder / "msrvtt10k_asr_text.json").write_text(json.dumps([{"key": "video2.wav", "text": "Good morning."}]))
    for kind in ("VideoFeature", "AudioFeature"):
        (folder / "FeatureData" / "ImageBind" / kind).mkdir(parents=True)
        np.save(folder / "FeatureData" / "ImageBind" / kind / "video3.npy", np.ones(1024, np.float32))
    return folder


@pytest.fixture(scope="module")
def built(root) -> pathlib.Path:
    """The shards of it, two clips each. Tests that change files take a copy."""
    run(root, root / "shards")
    return root / "shards"


def run(root, out, function=prepare, runner=None, per_shard=2, **options) -> dict:
    settings = SETTINGS | options.pop("settings", {})
    corpus = options.pop("corpus", corpora.CORPORA["msrvtt-9k"])
    options = {"partial": True} | options
    return build.build(corpus, str(root), str(out), settings, per_shard, runner, function, **options)


def copy(built: pathlib.Path, to: pathlib.Path) -> pathlib.Path:
    to.mkdir()
    for path in built.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def state(folder: pathlib.Path) -> dict[str, tuple[str, int]]:
    """Name → content and time of writing, of all but hidden files: those differ from build to build."""
    return {
        path.name: (hashlib.md5(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".")
    }


def test_failed_clips_leave_train_and_stay_in_the_gallery(built):
    train = records.ShardSource(records.split_shards(str(built), "train"))
    test = records.ShardSource(records.split_shards(str(built), "test"))
    assert train.ids == ["video0", "video2", "video3", "video4", "video5"] and not train.failed
    assert test.ids == SPLITS["test"] and list(test.failed) == ["video9"]
    failed = test[1]
    assert failed.frames == [] and failed.fbank is None and failed.captions == ["first of video9"]
    assert "video9.mp4: no such file" in failed.failed
    good = train[1]
    assert len(good.frames) == 1 and good.fbank.dtype == np.float16 and good.transcript == "Good morning."
    assert train[0].captions == ["a caption 🐕"]
    np.testing.assert_array_equal(train[2].teacher_audio, np.ones(1024))


def test_manifest(built):
    manifest = json.loads((built / "manifest.json").read_text())
    assert manifest["schema"] == records.SCHEMA_VERSION and manifest["settings"] == SETTINGS
    assert set(manifest["versions"]) >= {"python", "save_jax", "av", "numpy", "simplejpeg", "kaldi-native-fbank"}
    assert list(manifest["failed"]) == BROKEN and "no such file" in manifest["failed"]["video1"]
    assert manifest["published"] == {"train+val": 9000, "test": 1000} and manifest["teacher"] == "ImageBind"
    assert manifest["transcripts"] == {"not stated": 1} and manifest["notes"] == {}
    assert manifest["written"]["val"] == ["video6", "video7"] and len(manifest["shards"]) == 6
    assert manifest["counts"]["train"] == {
        "clips": 5,
        "captions": 9,
        "with_sound": 5,
        "with_transcript": 1,
        "with_teacher": 1,
        "with_notes": 0,
        "failed": 1,
        "empty_captions": 1,
    }
    for name, shard in manifest["shards"].items():
        index = records.read_index(str(built / name))
        assert (index["bytes"], index["crc32c"]) == (shard["bytes"], shard["crc32c"])
        records.verify_shard(str(built / name))


def test_tensorflow_datasets_opens_the_shards_without_tensorflow(built):
    tfds = pytest.importorskip("tensorflow_datasets")
    info = tfds.builder_from_directory(str(built)).info
    assert {name: split.num_examples for name, split in info.splits.items()} == {"train": 5, "val": 2, "test": 3}
    assert [os.path.basename(path) for path in info.splits["train"].filenames] == [
        records.shard_name("train", number, 3) for number in range(3)
    ]
    source = records.ShardSource(records.split_shards(str(built), "test"))
    for number in (0, 1):
        clip, example = source[number], info.features.deserialize_example_np(source.read(number))
        assert example["id"].decode() == clip.id and example["failed"].decode() == clip.failed
        assert [text.decode() for text in example["captions"]] == clip.captions
        assert len(example["frames"]) == len(clip.frames) and example["has_fbank"] == (clip.fbank is not None)
    first = info.features.deserialize_example_np(source.read(0))
    assert first["frames"][0].shape == (32, 32, 3)
    np.testing.assert_array_equal(first["fbank"], source[0].fbank)
    assert "tensorflow" not in sys.modules


def test_running_again_writes_only_what_is_missing(root, built, tmp_path):
    out = copy(built, tmp_path / "out")
    before = state(out)
    shard = out / records.shard_name("train", 0, 3)  # the one whose failed clip is only in its report
    shard.unlink()
    (out / (shard.name + records.INDEX_SUFFIX)).unlink()
    (out / (records.shard_name("val", 0, 1) + ".tmp-1")).write_text("of a build that was killed")
    run(root, out)
    after = state(out)
    assert {name: digest for name, (digest, _) in after.items()} == {
        name: digest for name, (digest, _) in before.items()
    }
    rewritten = {name for name in before if after[name] != before[name] and name.startswith("clips-")}
    assert rewritten == {shard.name + suffix for suffix in ("", records.INDEX_SUFFIX, ".report.json")}

    assert run(root, out, runner=MustNotRun()) == json.loads((built / "manifest.json").read_text())


def test_a_shard_unlike_its_index_is_made_again(root, built, tmp_path):
    """As a kill leaves it between the two renames of a shard that is made again; or half of it was deleted."""
    out = copy(built, tmp_path / "out")
    longer, gone, cut, unreported = (
        out / records.shard_name(split, number, count)
        for split, number, count in (("train", 0, 3), ("train", 1, 3), ("val", 0, 1), ("test", 0, 2))
    )
    longer.write_bytes(longer.read_bytes() * 2)
    gone.unlink()
    (out / (cut.name + records.INDEX_SUFFIX)).write_text('{"schema": ')
    (out / (unreported.name + manifest.REPORT_SUFFIX)).write_text("")
    whole = state(out)
    for options in ({"settings": {"image_size": 64}}, {"settings": {"corpus": "folder"}}):
        with pytest.raises(records.ShardError, match=r"was built with .*, this run has .*another --out"):
            run(root, out, **options)
    assert state(out) == whole
    assert run(root, out) == json.loads((built / "manifest.json").read_text())
    fresh, again = state(built), state(out)
    assert {name: digest for name, (digest, _) in again.items()} == {n: digest for n, (digest, _) in fresh.items()}
    rewritten = {name for name in again if name.endswith(records.INDEX_SUFFIX) and again[name] != whole[name]}
    assert rewritten == {path.name + records.INDEX_SUFFIX for path in (longer, gone, cut, unreported)}
    (out / (gone.name + records.INDEX_SUFFIX)).write_text('{"schema": 0}')
    with pytest.raises(records.ShardError, match="has schema version 0"):
        run(root, out)


def test_spectrograms_are_stored_where_asked_for(root, tmp_path, capsys):
    """A folder of a clip with sound, a mute one and one whose sound is broken; without the flag nothing changes."""
    tfds = pytest.importorskip("tensorflow_datasets")
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    frames = [media.numbered(number) for number in range(8)]
    media.write_media(videos / "heard.mp4", frames, fps=8, sound=media.tone(16000, 1))
    media.write_media(videos / "mute.mp4", frames, fps=8)
    loud = np.full(16000, 1e30, np.float32)
    media.write_media(videos / "wrong.mkv", frames, fps=8, sound=loud, sound_codec="pcm_f32le")
    command = ["--corpus", "folder", "--root", str(videos), "--image-size", "32", "--jobs", "1", "--out"]
    assert build.main([*command, str(out), "--spectrogram"]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["settings"]["spectrogram"] is True and list(manifest["notes"]) == ["wrong.mkv"]
    assert len(manifest["notes"]["wrong.mkv"]) == 1 and manifest["counts"]["test"]["with_sound"] == 1
    source = records.ShardSource(records.split_shards(str(out), "test"))
    assert [source[number].spectrogram is not None for number in range(3)] == [True, False, False]
    features = tfds.builder_from_directory(str(out)).info.features
    for number in range(3):
        example, stored = features.deserialize_example_np(source.read(number)), source[number].spectrogram
        assert example["has_spectrogram"] == (stored is not None) and example["spectrogram"].dtype == np.float16
        np.testing.assert_array_equal(example["spectrogram"], 0 if stored is None else stored)
    assert build.main([*command, str(out)]) == 1
    assert "'spectrogram': True}, this run has" in capsys.readouterr().err
    assert build.main([*command, str(tmp_path / "plain")]) == 0
    assert "spectrogram" not in json.loads((tmp_path / "plain" / "manifest.json").read_text())["settings"]
    features = tfds.builder_from_directory(str(tmp_path / "plain")).info.features
    assert "spectrogram" not in features and "fbank" in features


def test_shards_of_something_else_are_refused(root, built, tmp_path):
    with pytest.raises(records.ShardError, match=r"'image_size': 32.*this run has .*'image_size': 64.*another --out"):
        run(root, built, settings={"image_size": 64})
    with pytest.raises(records.ShardError, match=r"holds .*-of-0000\d .*--corpus, --shares and --clips-per-shard"):
        run(root, built, per_shard=3)
    changed = SPLITS | {"train": [*SPLITS["train"][1:], "videoX"]}
    other = media.write_corpus(tmp_path / "c", changed, missing=[i for ids in changed.values() for i in ids])
    with pytest.raises(
        records.ShardError, match=r"6 of 6 shards, .* were built from other clips.*--update makes them again"
    ):
        run(other, built)
    # The same ids, but other files: no sound and no teacher beside these videos.
    other = media.write_corpus(tmp_path / "d", SPLITS, missing=[i for ids in SPLITS.values() for i in ids])
    with pytest.raises(records.ShardError, match="were built from other clips, captions, transcripts"):
        run(other, built)


def touched(out: pathlib.Path, before: dict) -> set[str]:
    return {name for name, known in state(out).items() if name.endswith(".index.json") and known != before.get(name)}


def test_every_changed_file_makes_its_shard_stale_and_update_mends_it(tmp_path):
    """Subtitles that are added or edited, another video or vector under the same name, a clip more."""
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    for number in range(4):
        media.write_media(videos / f"{number}.mp4", [media.numbered(number)] * 8, fps=8)
    folder = {"corpus": corpora.CORPORA["folder"], "settings": {"corpus": "folder"}}
    run(videos, out, **folder)

    def changed(shard: int, count: int = 2) -> records.ShardSource:
        """Refused, then mended by writing the one shard."""
        before = state(out)
        with pytest.raises(records.ShardError, match=rf"1 of {count} shards, .*-0000{shard}-of"):
            run(videos, out, **folder)
        assert state(out) == before
        run(videos, out, update=True, **folder)
        assert touched(out, before) == {records.shard_name("test", shard, count) + records.INDEX_SUFFIX}
        assert run(videos, out, runner=MustNotRun(), **folder)
        return records.ShardSource(records.split_shards(str(out), "test"))

    subtitles = "1\n00:00:00,000 --> 00:00:01,000\n{}\n"
    (videos / "3.srt").write_text(subtitles.format("Good morning."))
    assert changed(1)[3].transcript == "Good morning."
    (videos / "3.srt").write_text(subtitles.format("Good evening."))
    assert changed(1)[3].transcript == "Good evening."
    media.write_media(videos / "0.mp4", [media.numbered(200)] * 16, fps=8)
    assert len(changed(0)[0].frames) == 2

    before = state(out)
    media.write_media(videos / "4.mp4", [media.numbered(4)] * 8, fps=8)
    with pytest.raises(records.ShardError, match="where the corpus has grown or shrunk, --update makes"):
        run(videos, out, **folder)
    result = run(videos, out, update=True, **folder)
    assert result["written"]["test"] == [f"{k}.mp4" for k in range(5)]
    assert not [name for name in state(out) if name in before and "-of-00002" in name]


def test_another_vector_under_the_same_name_is_noticed(root, built, tmp_path):
    other = tmp_path / "c"
    shutil.copytree(root, other, ignore=shutil.ignore_patterns("shards"))
    assert run(other, copy(built, tmp_path / "out"), runner=MustNotRun())  # the corpus may lie elsewhere
    np.save(other / "FeatureData" / "ImageBind" / "AudioFeature" / "video3.npy", np.full(1024, 2, np.float32))
    with pytest.raises(records.ShardError, match=r"1 of 6 shards, .*train\.tfrecord-00001-of"):
        run(other, tmp_path / "out")


class Reading:
    """Names of the files that are opened for their content while it is told to look."""

    def __init__(self):
        self.names, self.looks = [], False
        sys.addaudithook(self)  # there is no way to remove one

    def __call__(self, event, arguments):
        if self.looks and event == "open" and str(arguments[0]).endswith((".mp4", ".srt", ".png")):
            self.names.append(os.path.basename(arguments[0]))

    def of(self, function) -> list[str]:
        self.names, self.looks = [], True
        try:
            function()
        finally:
            self.looks = False
        return sorted(self.names)


def test_files_are_read_again_only_where_they_may_have_changed(tmp_path):
    """Files, and a folder of pictures. The same content under new times is the same; the same times prove nothing."""
    videos, out, reading = tmp_path / "videos", tmp_path / "out", Reading()
    videos.mkdir()
    subtitles = "1\n00:00:00,000 --> 00:00:01,000\n{}\n"
    for number in range(4):
        media.write_media(videos / f"{number}.mp4", [media.numbered(number)] * 8, fps=8)
        (videos / f"{number}.srt").write_text(subtitles.format("Good morning."))
    folder = {"corpus": corpora.CORPORA["folder"], "settings": {"corpus": "folder"}}
    run(videos, out, **folder)
    time.sleep(2.1)  # younger files are always read: they may change within one tick of the clock

    def start():
        return run(videos, out, runner=MustNotRun(), **folder)

    names = sorted(path.name for path in videos.iterdir())
    assert set(reading.of(start)) == set(names)
    assert reading.of(start) == []
    os.utime(videos / "0.srt")
    before = state(out)
    assert reading.of(start) == ["0.srt"] and touched(out, before) == set()  # and its content is what it was
    first = videos / "1.srt"
    times = first.stat()
    first.write_text(subtitles.format("Good evening."))  # in place, of the same size, with the times of before
    os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (first.stat().st_size, first.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    with pytest.raises(records.ShardError, match=r"1 of 2 shards, .*-00000-of"):
        start()
    run(videos, out, update=True, **folder)
    (videos / "3.srt").rename(videos / "x")
    first.rename(videos / "3.srt")
    (videos / "x").rename(first)
    with pytest.raises(records.ShardError, match="2 of 2 shards"):
        start()
    (out / contents.NOTES).write_text('{"1.srt": 1')  # lost notes cost time alone
    run(videos, out, update=True, **folder)
    assert records.ShardSource(records.split_shards(str(out), "test"))[3].transcript == "Good evening."


def test_a_folder_of_pictures_is_known_by_the_pictures_in_it(tmp_path):
    pictures, reading = tmp_path / "clip", Reading()
    pictures.mkdir()
    for number in range(3):
        (pictures / f"{number}.png").write_bytes(bytes([number]) * 100)
    time.sleep(2.1)

    def known() -> list:
        seen = contents.Contents(str(tmp_path), str(tmp_path))
        seen.read([str(pictures)])
        seen.keep()
        return seen.describe(str(pictures)) or []

    first = known()
    assert first == contents.Contents(str(tmp_path)).describe(str(pictures)) and len(first[1]) == 3
    assert reading.of(known) == []
    (pictures / "1.png").write_bytes(bytes([9]) * 100)
    assert reading.of(known) == ["1.png"] and known()[1][1] != first[1][1]
    (pictures / "2.png").unlink()
    assert known()[1] == [first[1][0], known()[1][1]]


def test_sounds_of_equal_length_that_changed_places_are_noticed(root, tmp_path):
    """Also where their files are large, and where they were written at the same time."""
    other, out = tmp_path / "c", tmp_path / "out"
    shutil.copytree(root, other, ignore=shutil.ignore_patterns("shards"))
    sounds = [other / "AudioData" / f"{name}.wav" for name in ("video0", "video2")]
    sounds[0].parent.mkdir(exist_ok=True)
    for number, path in enumerate(sounds):
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(np.random.default_rng(number).integers(-(2**13), 2**13, 16000 * 40, np.int16).tobytes())
        os.utime(path, (1e9, 1e9))

    def heard() -> list[np.ndarray]:
        train = records.ShardSource(records.split_shards(str(out), "train"))
        return [train[train.ids.index(name)].fbank for name in ("video0", "video2")]

    run(other, out)
    before = heard()
    sounds[0].rename(other / "x")
    sounds[1].rename(sounds[0])
    (other / "x").rename(sounds[1])
    with pytest.raises(records.ShardError, match="2 of 6 shards"):
        run(other, out)
    run(other, out, update=True)
    np.testing.assert_array_equal(heard(), before[::-1])
    assert not np.array_equal(*before)


def test_shards_of_an_older_version_are_taken_and_then_known_by_content(root, built, tmp_path, capsys):
    out, other = copy(built, tmp_path / "out"), tmp_path / "c"
    shutil.copytree(root, other, ignore=shutil.ignore_patterns("shards"))
    samples = corpora.CORPORA["msrvtt-9k"].read(str(other), transcripts=None, teacher=corpora.TEACHER)
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for number in range(count):
            path = out / (records.shard_name(split, number, count) + ".report.json")
            report = json.loads(path.read_text())
            del report["crc32c"]
            report["samples"] = manifest.digest(samples[split][2 * number : 2 * number + 2], str(other), by_size=True)
            path.write_text(json.dumps(report))
    before = state(out)
    assert run(other, out, runner=MustNotRun()) == json.loads((built / "manifest.json").read_text())
    assert "6 of 6 shards are of a version that knew large files by their size alone" in capsys.readouterr().out
    assert {name for name, there in state(out).items() if there != before[name] and name.startswith("clips")} == {
        name for name in before if name.endswith(".report.json")
    }
    assert run(other, out, runner=MustNotRun()) and "of a version" not in capsys.readouterr().out


def test_update_replaces_no_other_corpus_and_no_other_settings(root, built, tmp_path):
    out = copy(built, tmp_path / "out")
    before = state(out)
    renamed = {split: [f"other-{name}" for name in ids] for split, ids in SPLITS.items()}
    renamed["test"][0] = SPLITS["test"][0]  # one name that both have
    other = media.write_corpus(tmp_path / "c", renamed, missing=[i for ids in renamed.values() for i in ids])
    for per_shard in (2, 3):  # shards of the same names, and of others
        with pytest.raises(records.ShardError, match=r"holds 10 clips, and 9 of them, such as video9"):
            run(other, out, per_shard=per_shard, update=True, runner=MustNotRun())
        with pytest.raises(records.ShardError, match=r"was built with .*'image_size': 32"):
            run(root, out, per_shard=per_shard, update=True, runner=MustNotRun(), settings={"image_size": 64})
    assert state(out) == before


def test_an_update_that_ends_early_leaves_what_it_would_replace(root, built, tmp_path):
    """Another division, and shards that changed: until the new ones are whole, the old ones are there."""
    out = copy(built, tmp_path / "out")
    before = state(out)

    def killed(sample, settings):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(root, out, killed, per_shard=3, update=True)
    assert state(out) == before
    other = tmp_path / "c"
    shutil.copytree(root, other, ignore=shutil.ignore_patterns("shards"))
    shutil.copy(other / "VideoData" / "video0.mp4", other / "VideoData" / "video2.mp4")
    with pytest.raises(KeyboardInterrupt):
        run(other, out, killed, update=True)
    after = {name: there for name, there in state(out).items() if not name.endswith(".report.json")}
    assert after == {name: there for name, there in before.items() if name in after}
    assert run(root, out, per_shard=3, update=True)["written"]["train"]
    assert not list(out.glob("clips-train*-of-00003*"))


def test_two_builds_do_not_write_to_one_folder(root, tmp_path):
    with alone_in(str(tmp_path)), pytest.raises(ValueError, match="another build is writing to"):
        run(root, tmp_path)
    assert run(root, tmp_path)["failed"]


def test_shards_have_the_same_bytes_however_the_root_is_spelt(root, built, tmp_path, monkeypatch):
    monkeypatch.chdir(root.parent)
    run("root", tmp_path / "out")
    run(pathlib.Path("root/../root"), tmp_path / "again")
    for out in ("out", "again"):
        assert {n: d for n, (d, _) in state(tmp_path / out).items()} == {n: d for n, (d, _) in state(built).items()}


def test_a_split_of_which_nothing_could_be_prepared_ends_with_an_error(root, tmp_path):
    broken = tmp_path / "c"
    shutil.copytree(root, broken, ignore=shutil.ignore_patterns("shards"))
    for name in SPLITS["val"]:
        (broken / "VideoData" / f"{name}.mp4").unlink(missing_ok=True)
    done = command(broken, tmp_path / "out")
    assert done.returncode == 1 and "no clip of val could be prepared" in done.stderr


class MustNotRun(runners.Here):
    def run(self, task, items):
        raise AssertionError("nothing is missing")


def test_killed_and_slow_workers_cost_their_clips_alone(root, tmp_path):
    result = run(root, tmp_path / "out", kill_some, runners.Local(2, 2.0))
    assert result["failed"].keys() == {"video1", "video2", "video5", "video7", "video8", "video9"}
    assert "the worker process died on this clip" in result["failed"]["video2"]
    assert "took longer than the limit of 2 s" in result["failed"]["video5"]
    assert result["written"] == {"train": ["video0", "video3", "video4"]} | {k: SPLITS[k] for k in ("val", "test")}
    assert result["counts"]["val"]["with_sound"] == 1 and result["counts"]["test"]["with_sound"] == 1


def test_shards_have_the_same_bytes_whatever_the_runner(root, built, tmp_path):
    def contents(folder):
        return {name: digest for name, (digest, _) in state(folder).items()}

    run(root, tmp_path / "out", runner=runners.Local(2, 60))
    assert contents(tmp_path / "out") == contents(built)


def test_failed_clips_are_tried_again_on_request(root, built, tmp_path):
    out, mended = copy(built, tmp_path / "out"), tmp_path / "mended"
    shutil.copytree(root, mended, ignore=shutil.ignore_patterns("shards"))
    for broken in ("video1", "video9"):
        shutil.copy(mended / "VideoData" / "video0.mp4", mended / "VideoData" / f"{broken}.mp4")
    before = state(out)
    with pytest.raises(records.ShardError, match=r"2 of 6 shards, .* --update makes them again"):
        run(mended, out, runner=MustNotRun())
    result = run(mended, out, retry_failed=True)
    assert list(result["failed"]) == ["video7"] and result["written"]["train"] == SPLITS["train"]
    assert touched(out, before) == {
        records.shard_name(split, number, count) + ".index.json"
        for split, number, count in (("train", 0, 3), ("val", 0, 1), ("test", 0, 2))
    }
    for split in SPLITS:
        for path in records.split_shards(str(out), split):
            records.verify_shard(path)


def stop_at(sample, settings):
    """The user presses Ctrl-C while a clip of the second shard is under way."""
    if sample.id == "video4":
        raise KeyboardInterrupt
    return prepare(sample, settings)


def test_interrupted_retry_loses_no_clip(root, built, tmp_path):
    out, missing = copy(built, tmp_path / "out"), SPLITS["train"][2:4]
    for name in out.glob("clips-*-0000[12]-of-00003*"):
        name.unlink()
    with pytest.raises(KeyboardInterrupt):
        run(root, out, stop_at, retry_failed=True)
    indexes = sorted(path.name for path in out.glob("*train*.index.json"))
    assert indexes == [records.shard_name("train", number, 3) + ".index.json" for number in (0, 1)]
    assert missing == records.read_index(str(out / indexes[1].removesuffix(".index.json")))["ids"]
    assert not (out / "manifest.json").exists() and not list(out.glob("*.tmp-*"))
    assert run(root, out) == json.loads((built / "manifest.json").read_text())


def test_retry_killed_at_the_last_moment_is_done_again(root, built, tmp_path, monkeypatch):
    """All its clips are prepared, its shard is still the old one, and whole."""
    out, mended = copy(built, tmp_path / "out"), tmp_path / "mended"
    shutil.copytree(root, mended, ignore=shutil.ignore_patterns("shards"))
    shutil.copy(mended / "VideoData" / "video0.mp4", mended / "VideoData" / "video1.mp4")
    before = state(out)

    def killed(path, clips, settings):
        list(clips)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(records, "write_shard", killed)
        run(mended, out, retry_failed=True)
    assert {name: there for name, there in state(out).items() if name in before and there != before[name]}.keys() <= {
        records.shard_name("train", 0, 3) + ".report.json"
    }
    result = run(mended, out, retry_failed=True)
    assert list(result["failed"]) == ["video7", "video9"] and result["written"]["train"] == SPLITS["train"]


def test_less_than_the_published_corpus_must_be_asked_for(root, tmp_path):
    with pytest.raises(ValueError, match=r"list 8 clips in train\+val .* published are 9,000\n(.|\n)*--partial"):
        run(root, tmp_path / "out", partial=False)
    assert not (tmp_path / "out").exists()


def test_transcripts_and_teacher_are_the_ones_named(root, built, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(json.dumps([{"key": "video0.wav", "text": "Quite another text.", "source": "whisper"}]))
    result = run(root, tmp_path / "out", transcripts=str(other), teacher="PE-AV")
    assert result["transcripts"] == {"whisper": 1} and result["teacher"] == "PE-AV"
    assert result["counts"]["train"]["with_teacher"] == 0
    for change in ({"transcripts": str(other)}, {"teacher": "PE-AV"}):
        with pytest.raises(records.ShardError, match="were built from other clips"):
            run(root, built, **change)


def command(root, out, *options, **process) -> subprocess.CompletedProcess:
    arguments = ["--corpus", "demo", "--root", root, "--out", out, "--jobs", "1", "--clips-per-shard", "2", *options]
    return subprocess.run(
        [sys.executable, "-m", "data_prep.build", *map(str, arguments)], capture_output=True, text=True, **process
    )


def test_full_disk_keeps_finished_shards_and_a_rerun_completes(root, tmp_path):
    """A limit on the size of a file stands for the full disk: one clip fits (the first shard of train), two do not."""
    out = tmp_path / "out"
    most = 2 * np.zeros(records.FBANK_SHAPE, np.float16).nbytes

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    done = command(root, out, preexec_fn=limit)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "train.tfrecord-00001-of-00003: File too large. Free some space" in done.stderr
    names = {path.name for path in out.iterdir()}
    assert not [name for name in names if ".tmp-" in name] and "manifest.json" not in names
    shard = out / records.shard_name("train", 0, 3)
    records.verify_shard(str(shard))
    before = shard.stat().st_mtime_ns

    done = command(root, out, "--strict")
    assert done.returncode == 1 and "3 clips failed" in done.stdout  # complete, but --strict minds failures
    assert "video1.mp4: no such file" in done.stdout and "Traceback" not in done.stderr
    assert shard.stat().st_mtime_ns == before
    assert records.ShardSource(records.split_shards(str(out), "train")).settings["image_size"] == 64
    assert (out / "manifest.json").exists() and (out / "tokenizer").is_dir()


def test_command_reports_wrong_input(root, tmp_path, capsys):
    arguments = ["--corpus", "demo", "--root", str(tmp_path), "--out", str(tmp_path / "out")]
    assert build.main(arguments) == 1
    assert "--root should hold the official MSR-VTT layout" in capsys.readouterr().err
    arguments[3] = str(root)
    assert build.main([*arguments, "--max-frames", "0"]) == 1
    assert "must be at least 1" in capsys.readouterr().err
    assert build.main([*arguments, "--shares", "0.8,0.1,0.1"]) == 1
    assert "--shares: the splits of --corpus demo are its authors'; leave it out" in capsys.readouterr().err
    assert build.main(["--corpus", "folder", *arguments[2:], "--shares", "most,some,none"]) == 1
    assert "--shares most,some,none: write three numbers, such as 0.9,0.05,0.05" in capsys.readouterr().err


def test_a_folder_without_captions_is_divided_for_pre_training(root, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--corpus", "folder", "--root", str(root / "VideoData"), "--out", str(out), "--spectrogram"]
    assert build.main([*arguments, "--image-size", "32", "--shares", "0.5,0.25,0.25"]) == 0
    clips = {
        split: len(records.ShardSource(records.split_shards(str(out), split))) for split in records.splits(str(out))
    }
    assert clips.keys() == {"train", "val", "test"} and clips["train"] > clips["val"]
    before = state(out)
    assert build.main([*arguments, "--image-size", "32", "--update"]) == 1  # which would make all of it test
    assert "'shares': [0.5, 0.25, 0.25]" in capsys.readouterr().err and state(out) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_in_one_line_and_goes_on_later(number, root, built, tmp_path):
    """A clip that blocks stands for a long one: the first shards are written, then nothing moves."""
    blocked, out = tmp_path / "blocked", tmp_path / "out"
    shutil.copytree(root, blocked, ignore=shutil.ignore_patterns("shards"))
    (blocked / "VideoData" / "video4.mp4").unlink()
    os.mkfifo(blocked / "VideoData" / "video4.mp4")
    arguments = ["--corpus", "demo", "--root", blocked, "--out", out, "--jobs", "2", "--clips-per-shard", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "data_prep.build", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    first = out / (records.shard_name("train", 1, 3) + records.INDEX_SUFFIX)
    deadline = time.monotonic() + 120
    while not first.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: to the workers too
    else:
        process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and stdout == "" and "Traceback" not in stderr
    assert stderr.rstrip().splitlines()[-1] == (
        "data_prep.build: stopped; finished shards are kept, the same command goes on"
    )
    names = {path.name for path in out.iterdir()}
    assert first.name in names and "manifest.json" not in names and not [name for name in names if ".tmp-" in name]
    with pytest.raises(ProcessLookupError):  # no worker is left in its group
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.05)


def test_an_address_is_no_folder(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert build.main(["--corpus", "msrvtt-9k", "--root", str(root), "--out", "gs://mine/shards", "--partial"]) == 1
    assert "--out gs://mine/shards is an address, and shards are written in a folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
