"""Teachers: what goes into them, what comes out, and vectors in files with what is wrong with them."""

import dataclasses
import importlib.util
import json
from typing import ClassVar

import media
import numpy as np
import pytest
from conftest import write_corpus
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from data_prep import teach
from data_prep.corpora import CORPORA
from data_prep.runners import Here
from data_prep.teachers import ImageBind, PeAv, Vectors, imagebind, sampling, vectors
from data_prep.video import MediaError
from save_jax import train
from save_jax.config import resolve

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
        with pytest.raises(ValueError, match=r"1 teacher files are \.pt .*pip install 'save_jax\[torch\]'"):
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
    samples = sampling.sound(path, 48000)
    assert samples.shape == (96000,) and samples.dtype == np.float32
    middle = slice(4800, -4800)
    np.testing.assert_allclose(samples[middle], media.tone(48000, 2, 440)[middle], atol=2e-3)
    assert sampling.sound(media.write_media(tmp_path / "b.mp4", [media.numbered(1)] * 3), 48000) is None


# ---------------------------------------------------------------- ImageBind's inputs


def test_imagebind_cuts_three_clips():
    """Ten seconds: the spare eight in three, so the clips begin at 0, 8/3 and 16/3 s. Two or less: one, three times."""
    starts = [0, 42666, 85333]
    assert imagebind.clip_bounds(160000) == [(start, start + 32000) for start in starts]
    assert imagebind.clip_bounds(16000) == [(0, 32000)] * 3


def test_imagebind_hears_what_kaldi_would(tmp_path):
    """Against the NumPy path that transformers has for AST: another implementation of Kaldi's fbank."""
    samples = (0.1 * np.random.default_rng(0).normal(size=50000)).astype(np.float32) + 0.2
    values = imagebind.sound_input(samples)
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
    assert np.isfinite(imagebind.sound_input(np.ones(count, np.float32))).all()


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

    def embed(self, pictures: list[np.ndarray], sound: np.ndarray | None) -> Vectors:
        self.calls += 1
        value = np.full(1024, media.number_of(pictures[0]), np.float32)
        return Vectors(value, None if sound is None else np.full(1024, len(sound), np.float32))


@pytest.fixture
def corpus(tmp_path):
    """Three training videos: one with sound, one without, one missing."""
    splits = {"train": ["video0", "video1", "video2"], "val": ["video3"], "test": ["video4"]}
    root = media.write_corpus(tmp_path / "root", splits, missing=["video1", "video2"])
    media.write_media(root / "VideoData" / "video1.mp4", [media.numbered(7)] * 5)
    (tmp_path / "weights").write_bytes(b"weights")
    return root


def run(root, fake, splits=("train",)) -> dict[str, str]:
    folder = str(root / "FeatureData" / "Fake")
    teach.claim(folder, fake)
    return teach.teach(teach.Teach(fake, folder), teach.read_samples(CORPORA["demo"], str(root), splits), Here())


def test_vectors_are_written_where_the_corpus_finds_them(corpus):
    fake = Fake(str(corpus.parent / "weights"))
    failed = run(corpus, fake)
    assert list(failed) == ["video2"] and "no such file" in failed["video2"]
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


def test_vectors_of_two_kinds_are_not_mixed(corpus):
    fake = Fake(str(corpus.parent / "weights"))
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
    failed = run(corpus, Fake(str(corpus.parent / "weights")))
    assert "Fake gave" in failed["video0"] and not (corpus / "FeatureData" / "Fake" / "VideoFeature").exists()


def test_ids_stay_in_the_folder():
    assert teach.vector_path("F", "VideoFeature", "a/b c") == "F/VideoFeature/a/b c.npy"
    for clip_id in ("../a", "a/../../b", "/a", "", "a//b", "a\\b", "a\0b"):
        with pytest.raises(ValueError, match="cannot be a file name"):
            teach.vector_path("F", "VideoFeature", clip_id)


def test_splits_that_are_not_there_are_named(corpus):
    with pytest.raises(ValueError, match="no clips in split extra; it has train, val, test"):
        teach.read_samples(CORPORA["demo"], str(corpus), ["train", "extra"])


def test_the_licence_is_said_before_anything_else(corpus, capsys):
    arguments = ["--corpus", "demo", "--root", str(corpus), "--weights", str(corpus / "none.pth")]
    assert teach.main([*arguments, "--teacher", "imagebind"]) == 1
    out, error = capsys.readouterr()
    assert "CC BY-NC-SA 4.0: no commercial use. The vectors made with them are under it too" in out
    assert "the teacher ImageBind needs the package" in error and "pip install" in error
    assert teach.main([*arguments, "--teacher", "pe-av"]) == 1
    assert "Apache-2.0" in capsys.readouterr().out


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

    monkeypatch.setattr(train.writers, "MetricsWriter", begun)
    manifest["counts"]["train"]["with_teacher"] = 0
    (directory / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InterruptedError):
        train.train(resolve(config), str(tmp_path / "run"))
    assert "no training clip has teacher vectors: the early-alignment loss is 0 throughout" in capsys.readouterr().out
