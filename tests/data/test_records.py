"""The shard contract: nothing is lost in a record, and every damage is named."""

import dataclasses
import hashlib
import json
import os
import pickle

import numpy as np
import pytest

from save_jax.data import records

SETTINGS = {"corpus": "test", "image_size": 4, "max_frames": 2, "frames": "jpeg"}


def clip(number: int, **changes) -> records.Clip:
    random = np.random.default_rng(number)
    full = records.Clip(
        id=f"video{number}",
        captions=["a dog 🐕", " ".join(["word"] * 500)],
        groups=["sound", ""],
        frames=[random.bytes(50), random.bytes(70)],
        frame_times=np.array([0, 1.04], np.float32),
        fbank=random.normal(size=records.FBANK_SHAPE).astype(np.float16),
        transcript="¿Qué dijo?",
        tags=["music"],
        speech={"source": "whisper", "language": "es", "segments": [{"start": 0.0, "end": 1.5, "text": "¿Qué dijo?"}]},
        notes=["no teacher vector for the sound"],
        teacher_video=random.normal(size=1024).astype(np.float32),
        teacher_audio=None,
    )
    return dataclasses.replace(full, **changes)


def bare(number: int) -> records.Clip:
    """A failed clip: nothing but its id and a reason."""
    return clip(
        number,
        captions=[],
        groups=[],
        frames=[],
        frame_times=np.zeros(0, np.float32),
        fbank=None,
        transcript="",
        tags=[],
        teacher_video=None,
        failed="no video",
    )


def assert_same(one: records.Clip, other: records.Clip) -> None:
    for field in dataclasses.fields(records.Clip):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b, field.name


def write(directory, clips, number=0, count=1, settings=SETTINGS, split="train") -> str:
    path = os.path.join(directory, records.shard_name(split, number, count))
    records.write_shard(path, iter(clips), settings)
    return path


def test_encode_decode():
    for original in (clip(0), bare(1)):
        assert_same(records.decode(records.encode(original)), original)
    assert records.encode(clip(0)) == records.encode(clip(0))


def test_encode_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"clip video0: fbank is float32\[1024, 128\], not float16\[1024, 128\]"):
        records.encode(clip(0, fbank=np.zeros(records.FBANK_SHAPE, np.float32)))
    with pytest.raises(ValueError, match=r"teacher_video is float32\[512\], not float32\[1024\]"):
        records.encode(clip(0, teacher_video=np.zeros(512, np.float32)))
    with pytest.raises(ValueError, match="clip video0: 2 captions but 1 groups"):
        records.encode(clip(0, groups=[""]))


def test_spectrogram_only_where_the_settings_say_so():
    spectrogram = np.linspace(-1, 1, 256 * 256).reshape(records.SPECTROGRAM_SHAPE).astype(np.float16)
    asked = SETTINGS | {"spectrogram": True}
    for original in (clip(0, spectrogram=spectrogram), clip(1), bare(2)):
        assert_same(records.decode(records.encode(original, asked)), original)
    # Every record has the same fixed fields: an absent one is as long, to a byte, as one that is there.
    there, absent = records.encode(clip(0, spectrogram=spectrogram), asked), records.encode(clip(0), asked)
    assert len(there) == len(absent) > len(records.encode(clip(0), SETTINGS)) + 2 * 256 * 256
    with pytest.raises(ValueError, match=r"clip video0 has a spectrogram, .*'image_size': 4.* ask for none; add"):
        records.encode(clip(0, spectrogram=spectrogram), SETTINGS)
    with pytest.raises(ValueError, match=r"spectrogram is float16\[255, 256\], not float16\[256, 256\]"):
        records.encode(clip(0, spectrogram=spectrogram[1:]), asked)


def test_records_without_spectrogram_have_the_bytes_that_they_always_had():
    """The digest is that of schema version 2 before there were spectrograms: shards stay as they are, and readable."""
    fbank = (np.arange(1024 * 128) % 100 / 100).reshape(records.FBANK_SHAPE).astype(np.float16)
    old = clip(0, frames=[b"one", b"two"], fbank=fbank, teacher_video=np.arange(1024, dtype=np.float32))
    for settings in (None, SETTINGS, SETTINGS | {"spectrogram": False}):
        data = records.encode(old, settings)
        assert hashlib.sha256(data).hexdigest() == "6255c68c161ae89451d513cdefe94c8533de79d6f0e075722a4c2d9452d2d306"
    assert records.decode(data).spectrogram is None


def test_shards_with_spectrogram(tmp_path):
    spectrogram = np.full(records.SPECTROGRAM_SHAPE, -1, np.float16)
    asked = SETTINGS | {"spectrogram": True}
    clips = [clip(0, spectrogram=spectrogram), clip(1)]
    first, second = write(tmp_path, clips, 0, 2, asked), write(tmp_path, [clip(2)], 1, 2)
    source = records.ShardSource([first])
    assert source.settings["spectrogram"] is True
    for number, original in enumerate(clips):
        assert_same(source[number], original)
    assert_same(records.ShardSource([second])[0], clip(2))  # a shard of before, beside it
    with pytest.raises(records.ShardError, match="'spectrogram': True"):
        records.ShardSource([first, second])


def test_source_reads_any_order_across_shards(tmp_path):
    clips = [clip(0), bare(1), clip(2), clip(3), clip(4)]
    for number, part in enumerate((clips[:2], [], clips[2:])):
        write(tmp_path, part, number, 3)
    source = records.ShardSource(records.split_shards(str(tmp_path), "train"))
    assert len(source) == 5 and source.ids == [c.id for c in clips] and source.settings == SETTINGS
    assert source.caption_counts.tolist() == [2, 0, 2, 2, 2] and source.failed == {"video1": "no video"}
    for number in (4, 0, 2, 1, 3, 0):
        assert_same(source[number], clips[number])
    again = pickle.loads(pickle.dumps(source))
    assert_same(again[3], clips[3])


def test_flipped_byte_names_shard_record_and_clip(tmp_path):
    path = write(tmp_path, [clip(0), clip(1), clip(2)])
    records.verify_shard(path)
    offsets = records.read_index(path)["offsets"]
    with open(path, "r+b") as file:
        for position in (offsets[1] + 3, offsets[1] + 1000, offsets[2] - 1):  # length, data, checksum
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ 1]))
            file.flush()
            source = records.ShardSource([path])
            for fails in (lambda source=source: source[1], lambda: records.verify_shard(path)):
                with pytest.raises(
                    records.ShardError, match=r"00000-of-00001: record 1 \(clip video1\) fails its checksum"
                ):
                    fails()
            assert_same(source[0], clip(0))
            assert_same(source[2], clip(2))
            file.seek(position)
            file.write(bytes([byte]))
            file.flush()
    records.verify_shard(path)


def test_other_schema_version(tmp_path):
    path = write(tmp_path, [clip(0)])
    index = records.read_index(path)
    with open(path + records.INDEX_SUFFIX, "w") as file:
        json.dump(index | {"schema": 99}, file)
    with pytest.raises(
        records.ShardError, match=r"has schema version 99, this code reads version 2; run data_prep.build"
    ):
        records.ShardSource([path])


def test_missing_cut_or_mixed_shards(tmp_path):
    with pytest.raises(records.ShardError, match="no shards of split 'train'"):
        records.split_shards(str(tmp_path), "train")
    first = write(tmp_path, [clip(0)], 0, 2)
    with pytest.raises(records.ShardError, match=r"has 1 of 2 shards; check .*00001-of-00002"):
        records.split_shards(str(tmp_path), "train")
    with pytest.raises(records.ShardError, match=r"'val' in .*, which holds train; make them with data_prep.build"):
        records.split_shards(str(tmp_path), "val")
    (gallery := tmp_path / "gallery").mkdir()
    write(gallery, [clip(0)], split="test")
    with pytest.raises(
        records.ShardError, match=r"'train' in .*, which holds test \(a folder of videos gets .*--shares"
    ):
        records.split_shards(str(gallery), "train")
    second = write(tmp_path, [clip(1)], 1, 2, settings=SETTINGS | {"image_size": 8})
    with pytest.raises(records.ShardError, match=r"'image_size': 8.*'image_size': 4"):
        records.ShardSource([first, second])
    os.truncate(first, 100)
    with pytest.raises(records.ShardError, match=r"has 100 bytes, its index says \d+ bytes"):
        records.ShardSource([first])
    os.remove(second + records.INDEX_SUFFIX)
    with pytest.raises(records.ShardError, match="no readable index"):
        records.read_index(second)


def test_an_error_while_writing_leaves_nothing(tmp_path):
    def clips():
        yield clip(0)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write(tmp_path, clips())
    with pytest.raises(
        records.ShardError, match=r"cannot write .*: No such file or directory.*run the same command again"
    ):
        write(tmp_path / "nowhere", [clip(0)])
    assert os.listdir(tmp_path) == []
