"""Building shards: failures cost one clip, and running again does only what is missing."""

import dataclasses
import hashlib
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys

import media
import numpy as np
import pytest

from data_prep import build, corpora, prepare
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


def run(root, out, function=prepare.prepare, **options) -> dict:
    settings = SETTINGS | options.pop("settings", {})
    return build.build(
        corpora.CORPORA["msrvtt-9k"], str(root), str(out), settings, 2, jobs=1, function=function, **options
    )


def copy(built: pathlib.Path, to: pathlib.Path) -> pathlib.Path:
    to.mkdir()
    for path in built.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def state(folder: pathlib.Path) -> dict[str, tuple[str, int]]:
    """Name → content and time of writing."""
    return {
        path.name: (hashlib.md5(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.iterdir())
        if path.is_file()
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
    assert manifest["written"]["val"] == ["video6", "video7"] and len(manifest["shards"]) == 6
    assert manifest["counts"]["train"] == {
        "clips": 5,
        "captions": 9,
        "with_sound": 5,
        "with_transcript": 1,
        "with_teacher": 1,
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

    def must_not_run(sample, settings):
        os.kill(os.getpid(), signal.SIGKILL)

    assert run(root, out, must_not_run) == json.loads((built / "manifest.json").read_text())


def test_shards_of_something_else_are_refused(root, built, tmp_path):
    with pytest.raises(records.ShardError, match=r"'image_size': 32.*this run has .*'image_size': 64.*another --out"):
        run(root, built, settings={"image_size": 64})
    with pytest.raises(records.ShardError, match=r"holds .*-of-0000\d .*give the --corpus and --clips-per-shard"):
        build.build(corpora.CORPORA["msrvtt-9k"], str(root), str(built), SETTINGS, 3, jobs=1)
    changed = SPLITS | {"train": [*SPLITS["train"][1:], "videoX"]}
    other = media.write_corpus(tmp_path / "c", changed, missing=[i for ids in changed.values() for i in ids])
    with pytest.raises(records.ShardError, match="is in one only; the corpus has changed"):
        run(other, built)
    # The same ids, but other files: no sound and no teacher beside these videos.
    other = media.write_corpus(tmp_path / "d", SPLITS, missing=[i for ids in SPLITS.values() for i in ids])
    with pytest.raises(records.ShardError, match="was built from other captions, transcripts, tags or files"):
        run(other, built)


def kill_some(sample, settings):
    """Dies on two clips, with others under way around them."""
    if sample.id in ("video2", "video8"):
        os.kill(os.getpid(), signal.SIGKILL)
    return prepare.failed(sample, "") if sample.split != "val" else prepare.prepare(sample, settings)


def test_killed_worker_costs_its_clip_alone(root, tmp_path):
    result = run(root, tmp_path / "out", kill_some)
    assert result["failed"].keys() == {"video2", "video8", "video7"}
    assert "the worker process died on this clip" in result["failed"]["video2"]
    assert result["written"]["train"] == [i for i in SPLITS["train"] if i != "video2"]
    assert result["written"]["test"] == SPLITS["test"] and result["counts"]["val"]["clips"] == 2


def test_odd_errors_and_no_captions_fail_one_clip(root, tmp_path):
    sample = corpora.CORPORA["demo"].read(str(root))["train"][0]
    empty = prepare._attempt(prepare.prepare, SETTINGS, dataclasses.replace(sample, captions=[], groups=[]))
    assert empty.failed == "no caption is left (1 empty ones were dropped)"
    odd = prepare._attempt(lambda *_: 1 / 0, SETTINGS, sample)
    assert odd.failed == "ZeroDivisionError: division by zero" and odd.captions == sample.captions


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
