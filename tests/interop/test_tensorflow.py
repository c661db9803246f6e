"""TensorFlow reads what we write: every field of every clip, through TensorFlow Datasets and through plain tf.data.

In an environment of its own: see README.md beside this file.
"""

import json

import numpy as np
import pytest
import simplejpeg
import tensorflow as tf
import tensorflow_datasets as tfds
from helpers import media

from data_prep.commands import build
from save_jax.data import records

SPLITS = {"train": ["video0", "video1", "video2"], "val": ["video3"], "test": ["video4", "video5"]}
CAPTIONS = {"video0": ["a caption 🐕", "zwei Wörter"], "video5": ["the only one"]}
ARRAYS = {"fbank": np.float16, "teacher_video": np.float32, "teacher_audio": np.float32, "spectrogram": np.float16}
TEXT, TEXTS = ("id", "transcript", "speech", "failed"), ("captions", "groups", "tags", "notes")
# As the README beside this file gives it to users.
SPEC = {name: tf.io.FixedLenFeature([], tf.string) for name in (*TEXT, *ARRAYS)}
SPEC |= {name: tf.io.RaggedFeature(tf.string) for name in (*TEXTS, "frames")}
SPEC |= {"frame_times": tf.io.RaggedFeature(tf.float32)}
SPEC |= {f"has_{name}": tf.io.FixedLenFeature([], tf.int64) for name in ARRAYS}


def spec_of(source: records.ShardSource) -> dict:
    """As the README says: the spectrogram only where the shards' settings name it."""
    return {
        name: kind for name, kind in SPEC.items() if "spectrogram" not in name or source.settings.get("spectrogram")
    }


@pytest.fixture(scope="module", params=[["jpeg"], ["raw"], ["jpeg", "--spectrogram"]], ids=" ".join)
def shards(request, tmp_path_factory) -> str:
    """A built corpus with sound, teacher vectors, a transcript with time stamps, and a clip that failed."""
    root = media.write_corpus(tmp_path_factory.mktemp("corpus") / "root", SPLITS, CAPTIONS, missing=["video5"])
    features = root / "FeatureData" / "ImageBind"
    for number, kind in enumerate(("VideoFeature", "AudioFeature")):
        (features / kind).mkdir(parents=True)
        np.save(features / kind / "video0.npy", np.random.default_rng(number).normal(size=1024))
    transcript = [{"key": "video0.wav", "text": "Good morning, Zoë."}]
    (root / "msrvtt10k_asr_text.json").write_text(json.dumps(transcript))
    out = root.parent / "shards"
    command = ["--corpus", "demo", "--root", str(root), "--out", str(out), "--jobs", "1", "--image-size", "48"]
    assert build.main([*command, "--clips-per-shard", "2", "--frames", *request.param]) == 0
    return str(out)


def ours(shards: str, split: str) -> records.ShardSource:
    return records.ShardSource(records.split_shards(shards, split))


def check_text_and_times(theirs: dict, clip: records.Clip) -> None:
    for name in TEXT:
        value = getattr(clip, name)
        assert theirs[name].numpy().decode() == (json.dumps(value, sort_keys=True) if name == "speech" else value)
    for name in TEXTS:
        assert [text.decode() for text in theirs[name].numpy()] == getattr(clip, name)
    np.testing.assert_array_equal(theirs["frame_times"].numpy(), clip.frame_times)


@pytest.mark.parametrize("split", SPLITS)
def test_tensorflow_datasets(shards, split):
    raw = ours(shards, split).settings["frames"] == "raw"
    builder = tfds.builder_from_directory(shards)
    dataset = list(builder.as_dataset(split=split, shuffle_files=False))
    assert len(dataset) == len(SPLITS[split]) == builder.info.splits[split].num_examples
    for theirs, clip in zip(dataset, ours(shards, split), strict=True):
        assert theirs.keys() == spec_of(ours(shards, split)).keys()
        check_text_and_times(theirs, clip)
        for name, dtype in ((name, dtype) for name, dtype in ARRAYS.items() if name in theirs):
            array = getattr(clip, name)
            assert theirs[f"has_{name}"].numpy() == (array is not None)
            assert theirs[name].dtype == dtype
            np.testing.assert_array_equal(theirs[name].numpy(), 0 if array is None else array)
        assert theirs["frames"].shape == (len(clip.frames), 48, 48, 3) and theirs["frames"].dtype == tf.uint8
        for picture, data in zip(theirs["frames"].numpy(), clip.frames, strict=True):
            if raw:
                assert picture.tobytes() == data
            else:
                np.testing.assert_array_equal(picture, tf.io.decode_jpeg(data).numpy())
                # By default TensorFlow takes libjpeg's fast transform, some levels off; asked for the exact one, ours.
                exact = tf.io.decode_jpeg(data, dct_method="INTEGER_ACCURATE").numpy()
                np.testing.assert_array_equal(exact, simplejpeg.decode_jpeg(data, "RGB"))


@pytest.mark.parametrize("split", SPLITS)
def test_tf_data_alone(shards, split):
    source = ours(shards, split)
    spec = spec_of(source)
    dataset = tf.data.TFRecordDataset(source.paths).map(lambda data: tf.io.parse_single_example(data, spec))
    clips = list(dataset)
    assert len(clips) == len(SPLITS[split])
    for theirs, clip in zip(clips, source, strict=True):
        check_text_and_times(theirs, clip)
        assert list(theirs["frames"].numpy()) == clip.frames
        for name, dtype in ((name, dtype) for name, dtype in ARRAYS.items() if name in spec):
            array = getattr(clip, name)
            decoded = tf.io.decode_raw(theirs[name], dtype).numpy()
            assert theirs[f"has_{name}"].numpy() == (array is not None)
            np.testing.assert_array_equal(decoded, 0 if array is None else array.ravel())


def test_the_corpus_is_not_empty_of_what_is_compared(shards):
    clips = [*ours(shards, "train"), *ours(shards, "test")]
    assert clips[0].frames and clips[0].fbank is not None and clips[0].teacher_audio is not None
    assert clips[0].transcript == "Good morning, Zoë." and clips[0].captions == CAPTIONS["video0"]
    assert all(
        (clip.spectrogram is not None) == bool(ours(shards, "train").settings.get("spectrogram")) for clip in clips[:-1]
    )
    assert clips[-1].failed and clips[-1].frames == []
