"""Teachers: what goes into them, what comes out, and vectors in files with what is wrong with them."""

import dataclasses
import importlib.util
import json
import os
from typing import ClassVar

import numpy as np
import pytest
from helpers import media
from helpers.corpus import write_corpus
from PIL import Image
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from data_prep.commands import teach
from data_prep.corpora import CORPORA
from data_prep.media.decode import MediaError
from data_prep.runners import Here
from data_prep.teachers import ImageBind, PeAv, Vectors, imagebind, sampling, vectors
from data_prep.teachers.folder import vector_path
from save_jax.config import resolve
from save_jax.methods import run as method_run
from save_jax.training import loop

# ---------------------------------------------------------------- files


def test_npy(tmp_path):
    vector = np.arange(1024, dtype=np.float64)
    np.save(tmp_path / "a.npy", vector[None])  # one row of a matrix, as some exports are
    loaded = vectors.read_vector(str(tmp_path / "a.npy"))
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, vector)


def test_bad_vectors(tmp_path):
    path = tmp_path / "a.npy"
    for values, match in (
        (np.zeros(512), "a.npy: the vector has 512 values, shards hold 1024"),
        (np.full(1024, np.nan), "a.npy: 1024 of 1024 values are not finite"),
        (np.array([None] * 1024), "a.npy: not a .npy array"),
    ):
        np.save(path, values, allow_pickle=True)
        with pytest.raises(ValueError, match=match):
            vectors.read_vector(str(path))
    path.write_bytes(b"text")
    with pytest.raises(ValueError, match=r"not a \.npy array"):
        vectors.read_vector(str(path))


def test_pt(tmp_path):
    path = tmp_path / "a.pt"
    if importlib.util.find_spec("torch") is None:
        with pytest.raises(
            ValueError, match=r"1 teacher files are \.pt .*pip install -c constraints\.txt -e '\.\[prep,torch\]'"
        ):
            vectors.read_vector(str(path))
        return
    import torch

    torch.save(torch.arange(1024).half(), path)
    np.testing.assert_array_equal(vectors.read_vector(str(path)), np.arange(1024))
    path.write_bytes(b"text")
    with pytest.raises(ValueError, match="not a saved tensor"):
        vectors.read_vector(str(path))


# ---------------------------------------------------------------- what a teacher sees and hears


@pytest.mark.parametrize(("frames", "wanted"), [(50, np.linspace(0, 49, 32).astype(int)), (10, range(10))])
def test_frames_are_evenly_spaced_over_the_video(tmp_path, frames, wanted):
    """Two seconds hold 32 frames too, where one a second would be two."""
    path = media.write_media(tmp_path / "a.mp4", [media.numbered(k) for k in range(frames)])
    assert [media.number_of(picture) for picture in sampling.evenly_spaced(path, 32, lambda x: x)] == [*wanted]


def test_frames_stand_upright(tmp_path):
    bars = media.numbered(5)
    path = media.write_media(tmp_path / "a.mp4", [np.rot90(bars, k=-1)] * 3, rotation=90)
    assert media.number_of(sampling.evenly_spaced(path, 2, lambda x: x)[0]) == 5


def test_a_video_without_pictures_is_refused(tmp_path):
    path = media.write_media(tmp_path / "a.wav", sound=media.tone(16000, 1))
    with pytest.raises(MediaError, match="no video stream"):
        sampling.evenly_spaced(path, 32, lambda x: x)


def test_sound_at_another_rate(tmp_path):
    path = media.write_media(tmp_path / "a.wav", sound=media.tone(16000, 2, 440))
    [samples] = sampling.sounds(path, 48000, lambda count: [(0, count)])
    assert samples.shape == (96000,) and samples.dtype == np.float32
    middle = slice(4800, -4800)
    np.testing.assert_allclose(samples[middle], media.tone(48000, 2, 440)[middle], atol=2e-3)
    assert sampling.sounds(media.write_media(tmp_path / "b.mp4", [media.numbered(1)] * 3), 48000, None) is None
    assert sampling.sounds(str(tmp_path), 48000, None) is None  # a folder of pictures


def test_of_a_long_sound_only_the_parts_are_held(tmp_path, monkeypatch):
    samples = (0.3 * np.random.default_rng(0).normal(size=5 * 16000)).astype(np.float32)
    path = media.write_media(tmp_path / "a.wav", sound=samples)
    bounds = [(0, 100), (15990, 16010), (70000, 90000), (3, 60000)]  # across blocks, and beyond the end
    [whole] = sampling.sounds(path, 16000, lambda count: [(0, count)])
    monkeypatch.setattr(sampling, "_BLOCK_SECONDS", 1)
    parts = sampling.sounds(path, 16000, lambda count: bounds if count == len(samples) else [])
    for part, (first, end) in zip(parts, bounds, strict=True):
        np.testing.assert_array_equal(part, whole[first:end])


def test_pe_av_hears_the_middle_minute():
    assert PeAv("").hears(16000 * 36000) == [(16000 * (18000 - 30), 16000 * (18000 + 30))]
    assert PeAv("").hears(12345) == [(0, 12345)]


# ---------------------------------------------------------------- ImageBind's inputs


def imagebind_hears(samples: np.ndarray) -> np.ndarray:
    return imagebind.sound_input([samples[first:end] for first, end in ImageBind("").hears(len(samples))])


def test_imagebind_cuts_three_clips():
    """Ten seconds: the spare eight in three, so the clips begin at 0, 8/3 and 16/3 s. Two or less: one, three times."""
    starts = [0, 42666, 85333]
    assert imagebind.clip_bounds(160000) == [(start, start + 32000) for start in starts]
    assert imagebind.clip_bounds(16000) == [(0, 32000)] * 3


def test_imagebind_hears_what_kaldi_would(tmp_path):
    """Against the NumPy path that transformers has for AST: another implementation of Kaldi's fbank."""
    samples = (0.1 * np.random.default_rng(0).normal(size=50000)).astype(np.float32) + 0.2
    values = imagebind_hears(samples)
    assert values.shape == (3, 1, 128, 204) and values.dtype == np.float32
    for clip, (first, end) in zip(values[:, 0], imagebind.clip_bounds(len(samples)), strict=True):
        part = samples[first:end]
        mel = spectrogram(
            part - part.mean(), window_function(400, "hann", periodic=False), frame_length=400, hop_length=160,
            fft_length=512, power=2.0, center=False, preemphasis=0.97, log_mel="log", mel_floor=1.192092955078125e-07,
            remove_dc_offset=True,
            mel_filters=mel_filter_bank(
                257, 128, 20, 8000, 16000, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True
            ),
        )  # fmt: skip
        assert mel.shape == (128, 198)  # two seconds
        np.testing.assert_allclose(clip[:, :198], (mel + 4.268) / 9.138, atol=1e-3)
        np.testing.assert_allclose(clip[:, 198:], 4.268 / 9.138, rtol=1e-6)


@pytest.mark.parametrize("count", [1, 300, 16000])
def test_imagebind_hears_very_short_sounds(count):
    assert np.isfinite(imagebind_hears(np.ones(count, np.float32))).all()


def test_imagebind_sees_what_clip_would():
    picture = np.zeros((300, 500, 3), np.uint8)
    picture[..., 1] = 255
    values = imagebind.picture_input([ImageBind("").fit(picture)] * 2)
    assert values.shape == (2, 3, 224, 224) and values.dtype == np.float32
    wanted = [(0 - 0.48145466) / 0.26862954, (1 - 0.4578275) / 0.26130258, (0 - 0.40821073) / 0.27577711]
    np.testing.assert_allclose(values[1], np.broadcast_to(np.array(wanted)[:, None, None], (3, 224, 224)), rtol=1e-5)


# ---------------------------------------------------------------- the command


@dataclasses.dataclass
class Fake:
    """A teacher without a model: the first picture's number, and the number of samples."""

    path: str
    name: ClassVar[str] = "Fake"
    licence: ClassVar[str] = "anything goes"
    frames: int = 3
    sample_rate: int = 16000
    calls: int = 0

    @property
    def settings(self) -> dict:
        return {"frames": self.frames}

    def check(self) -> None:
        pass

    def fit(self, picture: np.ndarray) -> np.ndarray:
        return picture

    def hears(self, samples: int) -> list[tuple[int, int]]:
        return [(0, samples)]

    def embed(self, pictures: list[np.ndarray], sounds: list[np.ndarray] | None) -> Vectors:
        self.calls += 1
        value = np.full(1024, media.number_of(pictures[0]), np.float32)
        return Vectors(value, None if sounds is None else np.full(1024, len(sounds[0]), np.float32))


@pytest.fixture
def corpus(tmp_path):
    """Three training videos: one with sound, one without, one missing."""
    splits = {"train": ["video0", "video1", "video2"], "val": ["video3"], "test": ["video4"]}
    root = media.write_corpus(tmp_path / "root", splits, missing=["video1", "video2"])
    media.write_media(root / "VideoData" / "video1.mp4", [media.numbered(7)] * 5)
    (tmp_path / "weights").write_bytes(b"weights")
    return root


def run(root, fake, corpus="demo", splits=("train",)) -> tuple[dict[str, str], dict[str, str]]:
    folder = str(root / "FeatureData" / "Fake")
    teach.claim(folder, fake)
    return teach.teach(teach.Teach(fake, folder), teach.read_samples(CORPORA[corpus], str(root), splits), Here())


def test_vectors_are_written_where_the_corpus_finds_them(corpus):
    fake = Fake(str(corpus.parent / "weights"))
    failed, mute = run(corpus, fake)
    assert list(failed) == ["video2"] and not mute and "no such file" in failed["video2"]
    assert json.loads((corpus / "FeatureData" / "Fake" / "failed.json").read_text()) == failed
    record = json.loads((corpus / "FeatureData" / "Fake" / "teacher.json").read_text())
    assert record["teacher"] == "Fake" and record["settings"] == {"frames": 3}
    samples = {sample.id: sample for sample in CORPORA["demo"].read(str(corpus), teacher="Fake")["train"]}
    np.testing.assert_array_equal(vectors.read_vector(samples["video1"].teacher_video), 7)
    assert samples["video1"].teacher_audio is None and samples["video2"].teacher_video is None
    assert abs(vectors.read_vector(samples["video0"].teacher_audio)[0] - 16000) < 2100  # AAC pads a little


def test_only_what_is_missing_is_done_again(corpus):
    fake = Fake(str(corpus.parent / "weights"))
    run(corpus, fake)
    assert fake.calls == 2
    run(corpus, fake)
    assert fake.calls == 2  # the clip without sound is done as well
    (corpus / "FeatureData" / "Fake" / "VideoFeature" / "video0.npy").unlink()
    run(corpus, fake)
    assert fake.calls == 3


def test_a_folder_of_pictures_has_a_vector_without_sound(corpus):
    for number in (1, 2):
        (corpus / "VideoData" / "video2").mkdir(exist_ok=True)
        Image.fromarray(media.numbered(9)).save(corpus / "VideoData" / "video2" / f"{number}.png")
    assert run(corpus, Fake(str(corpus.parent / "weights"))) == ({}, {})
    vectors_of = {sample.id: sample for sample in CORPORA["demo"].read(str(corpus), teacher="Fake")["train"]}
    np.testing.assert_array_equal(vectors.read_vector(vectors_of["video2"].teacher_video), 9)


def test_broken_sound_costs_the_sound_alone_until_it_is_mended(corpus):
    fake, listing = Fake(str(corpus.parent / "weights")), corpus / "FeatureData" / "Fake" / "failed.json"
    (corpus / "AudioData").mkdir()
    (corpus / "AudioData" / "video1.wav").write_bytes(b"no sound at all")
    for _ in range(2):  # the second run tries again, and tells again
        failed, mute = run(corpus, fake)
        assert failed.keys() == {"video2"} and "not a readable media file" in mute["video1"]
        assert json.loads(listing.read_text())["video1"] == f"sound: {mute['video1']}"
    sample = CORPORA["demo"].read(str(corpus), teacher="Fake")["train"][1]
    assert sample.teacher_audio is None
    np.testing.assert_array_equal(vectors.read_vector(sample.teacher_video), 7)
    media.write_media(corpus / "AudioData" / "video1.wav", sound=media.tone(16000, 1))
    assert run(corpus, fake)[1] == {} and json.loads(listing.read_text()).keys() == {"video2"}
    assert CORPORA["demo"].read(str(corpus), teacher="Fake")["train"][1].teacher_audio


def test_a_stop_forgets_nothing_of_the_clips_without_sound(corpus, monkeypatch):
    """They have the vector of their pictures, so nothing but failed.json says that they are to be tried again."""
    (corpus / "AudioData").mkdir()
    (corpus / "AudioData" / "video0.wav").write_bytes(b"no sound at all")
    fake, embed = Fake(str(corpus.parent / "weights")), Fake.embed

    def stopped(self, *inputs):
        if self.calls:
            raise KeyboardInterrupt
        return embed(self, *inputs)

    monkeypatch.setattr(Fake, "embed", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(corpus, fake)
    monkeypatch.setattr(Fake, "embed", embed)
    assert run(corpus, fake)[1].keys() == {"video0"}


def test_videos_whose_names_are_not_utf_8_have_vectors_too(tmp_path):
    root = tmp_path / "videos"
    root.mkdir()
    (tmp_path / "weights").write_bytes(b"weights")
    media.write_media(root / "a.mp4", [media.numbered(5)] * 3)
    os.rename(root / "a.mp4", os.path.join(os.fsencode(root), b"caf\xe9.mp4"))
    assert run(root, Fake(str(tmp_path / "weights")), "folder", ["test"]) == ({}, {})
    [sample] = CORPORA["folder"].read(str(root), teacher="Fake")["test"]
    assert sample.id == "caf\\xe9.mp4"
    np.testing.assert_array_equal(vectors.read_vector(sample.teacher_video), 5)


def test_exit_codes_of_the_command(corpus, monkeypatch, capsys):
    monkeypatch.setitem(teach.TEACHERS, "pe-av", Fake)
    monkeypatch.setattr(teach.runners, "from_arguments", lambda *_, **__: Here())
    monkeypatch.chdir(corpus.parent)
    command = ["--corpus", "demo", "--root", "root", "--teacher", "pe-av", "--weights", "weights"]
    assert teach.main(command) == 0  # two of three
    out = capsys.readouterr().out
    assert f"2 of 3 clips have vectors of Fake in {corpus / 'FeatureData' / 'Fake'}" in out
    assert "1 clips failed:\n  video2: " in out
    assert teach.main([*command, "--strict"]) == 1
    for name in ("video3", "video4"):
        (corpus / "VideoData" / f"{name}.mp4").unlink()
    assert teach.main([*command, "--splits", "val", "test"]) == 1  # all of them fail
    assert json.loads((corpus / "FeatureData" / "Fake" / "failed.json").read_text()).keys() == {
        *("video2", "video3", "video4")  # those of the split that was not asked for stay listed
    }
    assert "0 of 2 clips" in capsys.readouterr().out
    assert teach.main([*command[:-1], "./lost"]) == 1
    assert "--weights ./lost: no such file or folder here" in capsys.readouterr().err

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(teach, "teach", stopped)
    assert teach.main(command) == 130
    assert (
        capsys.readouterr().err == "data_prep.teach: stopped; the vectors written are kept, the same command goes on\n"
    )


def test_paths_are_absolute_for_workers_elsewhere(corpus, monkeypatch):
    monkeypatch.setitem(teach.TEACHERS, "pe-av", Fake)
    monkeypatch.setattr(teach.runners, "from_arguments", lambda *_, **__: Here())
    seen = []
    monkeypatch.setattr(teach, "teach", lambda task, samples, _: seen.append((task, samples)) or ({}, {}))
    monkeypatch.chdir(corpus.parent)
    teach.main(["--corpus", "demo", "--root", "root", "--teacher", "pe-av", "--weights", "weights", "--out", "vectors"])
    [(task, samples)] = seen
    assert task.folder == str(corpus.parent / "vectors") and task.teacher.path == str(corpus.parent / "weights")
    assert samples[0].video == str(corpus / "VideoData" / "video0.mp4")


def test_vectors_of_two_kinds_are_not_mixed(corpus, monkeypatch):
    fake = Fake(str(corpus.parent / "weights"))
    run(corpus, fake)
    monkeypatch.setattr(Fake, "licence", "the same, in other words")
    run(corpus, fake)
    with pytest.raises(ValueError, match=r"settings \{'frames': 3\}, this run has \{'frames': 4\}"):
        run(corpus, Fake(fake.path, frames=4))
    (corpus.parent / "weights").write_bytes(b"others")
    with pytest.raises(
        ValueError, match=r"holds vectors with weights_sha256 .* use the same weights, or another --out"
    ):
        run(corpus, fake)
    (corpus / "FeatureData" / "Fake" / "teacher.json").unlink()
    with pytest.raises(ValueError, match=r"no teacher.json says what made them"):
        run(corpus, fake)


@pytest.mark.parametrize("values", [np.ones(512, np.float32), np.full(1024, np.nan, np.float32)])
def test_vectors_that_no_shard_can_hold_are_failures(corpus, values, monkeypatch):
    monkeypatch.setattr(Fake, "embed", lambda *_: Vectors(values, None))
    failed, _ = run(corpus, Fake(str(corpus.parent / "weights")))
    assert "Fake gave" in failed["video0"] and not (corpus / "FeatureData" / "Fake" / "VideoFeature").exists()


def test_ids_stay_in_the_folder():
    assert vector_path("F", "VideoFeature", "a/b c") == "F/VideoFeature/a/b c.npy"
    for clip_id in ("../a", "a/../../b", "/a", "", "a//b", "a\0b"):
        with pytest.raises(ValueError, match="cannot be a file name"):
            vector_path("F", "VideoFeature", clip_id)


def test_splits_that_are_not_there_are_named(corpus):
    with pytest.raises(ValueError, match="no clips in split extra; it has train, val, test"):
        teach.read_samples(CORPORA["demo"], str(corpus), ["train", "extra"])


def test_the_licence_is_said_before_anything_else(corpus, capsys):
    arguments = ["--corpus", "demo", "--root", str(corpus), "--weights", str(corpus / "none.pth")]
    assert teach.main([*arguments, "--teacher", "imagebind"]) == 1
    out, error = capsys.readouterr()
    assert "CC BY-NC-SA 4.0: no commercial use. The vectors made with them are under it too" in out
    assert "none.pth: no such file" in error
    assert teach.main([*arguments, "--teacher", "pe-av"]) == 1
    out, error = capsys.readouterr()
    assert "Apache-2.0" in out and "none.pth: no such file" in error


def test_packages_that_are_not_installed_are_said_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install torch==2\.13\.0 'timm>=1\.0\.22,<=1\.0\.24'$"):
        PeAv("facebook/pe-av-base").check()
    with pytest.raises(ValueError, match=r"none: no such file; it should be imagebind_huge\.pth"):
        ImageBind("none").check()
    (tmp_path / "huge.pth").touch()
    with pytest.raises(ValueError, match=r"package torch: pip install -c constraints\.txt -e '\.\[prep,torch\]'"):
        ImageBind(str(tmp_path / "huge.pth")).check()


def test_a_checkpoint_of_another_width_is_refused_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)  # as if torch and timm were there
    config = {"model_type": "pe_audio_video", "text_config": {"hidden_size": 768}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="its vectors have 768 values, shards hold 1024"):
        PeAv(str(tmp_path)).check()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(ValueError, match="a checkpoint of type 'clip', not 'pe_audio_video'"):
        PeAv(str(tmp_path)).check()


def test_training_without_teachers_says_that_the_early_alignment_is_off(config, tmp_path, capsys, monkeypatch):
    directory = write_corpus(tmp_path / "shards", {"train": 24, "val": 9, "test": 13})
    manifest = json.loads((directory / "manifest.json").read_text())
    config = config.copy_and_resolve_references().unlock()
    config.data_dir = str(directory)

    def begun(*_) -> None:
        raise InterruptedError  # the message has come by now, and training is tested elsewhere

    monkeypatch.setattr(loop, "MetricsLog", begun)
    manifest["counts"]["train"]["with_teacher"] = 0
    (directory / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InterruptedError):
        method_run.train(resolve(config), str(tmp_path / "run"))
    assert "no training clip has teacher vectors: the early-alignment loss is 0 throughout" in capsys.readouterr().out
