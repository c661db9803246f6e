"""The shard contract: what the record of a clip holds, and how shards are written, checked and read.

A shard is a TFRecord file of `tf.train.Example` messages, one clip each, with `SHARD.index.json` beside it: ids, byte
offsets, caption counts, failures, settings and the file's checksum. A shard exists once its index does. With the
offsets every record can be read directly, so that a global shuffle and an exact resume need no copy of the frames.
Neither JAX nor TensorFlow is imported: this file runs in preparation and in loader workers.
"""

import dataclasses
import glob
import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence

import google_crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SCHEMA_VERSION = 2
FBANK_SHAPE = (1024, 128)  # 1,024 time steps × 128 mel bins
SPECTROGRAM_SHAPE = (256, 256)  # 256 frequencies, low first × 256 times
TEACHER_DIM = 1024
INDEX_SUFFIX = ".index.json"
MANIFEST = "manifest.json"
_LENGTH_BYTES, _CRC_BYTES = 8, 4
_HEADER_BYTES = _LENGTH_BYTES + _CRC_BYTES


class ShardError(ValueError):
    """A shard, its index or its manifest is missing, damaged, or of another version or setting."""


@dataclasses.dataclass
class Clip:
    """One clip as a record holds it. `None` means that the clip has no such thing; the model gets a flag for it."""

    id: str
    captions: list[str]
    groups: list[str]  # query group of each caption, "" where unknown
    frames: list[bytes]  # square, one a second, in time order: JPEG, or raw RGB where the settings say so; [] if failed
    frame_times: np.ndarray  # float32 [frames], seconds from the video's first frame
    fbank: np.ndarray | None  # float16 [1024, 128], normalised log-mel
    transcript: str  # "" where nothing was said or recognised
    tags: list[str]  # free labels for breakdowns, such as "music"
    teacher_video: np.ndarray | None  # float32 [1024]
    teacher_audio: np.ndarray | None  # float32 [1024]
    # Where the transcript comes from, with time stamps: {"source": str, "language": str, "segments": [{"start": s,
    # "end": s, "text": str, "language": where it is not the clip's}], "dropped": [the same, and "reason"]}; keys
    # without a value are left out.
    speech: dict = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)  # what the clip lost without failing, such as its sound
    failed: str = ""  # why the clip could not be prepared; such a clip stays in the gallery of val and test
    # float16 [256, 256], -1 is silence; only shards whose settings say `"spectrogram": True` have it.
    spectrogram: np.ndarray | None = None


# ---------------------------------------------------------------- codec


def _example_class() -> type:
    """`tf.train.Example` without TensorFlow: declared at run time in a pool of its own, wire-compatible."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto

    def message(name: str, *fields: tuple) -> descriptor_pb2.DescriptorProto:
        msg = file.message_type.add(name=name)
        for number, (field_name, label, kind, type_name) in enumerate(fields, start=1):
            msg.field.add(name=field_name, number=number, label=label, type=kind, type_name=type_name)
        return msg

    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    message("BytesList", ("value", many, field.TYPE_BYTES, None))
    message("FloatList", ("value", many, field.TYPE_FLOAT, None))
    message("Int64List", ("value", many, field.TYPE_INT64, None))
    feature = message(
        "Feature",
        ("bytes_list", one, field.TYPE_MESSAGE, ".tensorflow.BytesList"),
        ("float_list", one, field.TYPE_MESSAGE, ".tensorflow.FloatList"),
        ("int64_list", one, field.TYPE_MESSAGE, ".tensorflow.Int64List"),
    )
    feature.oneof_decl.add(name="kind")
    for alternative in feature.field:
        alternative.oneof_index = 0
    features = message("Stored", ("feature", many, field.TYPE_MESSAGE, ".tensorflow.Stored.FeatureEntry"))
    entry = features.nested_type.add(name="FeatureEntry")
    entry.field.add(name="key", number=1, label=one, type=field.TYPE_STRING)
    entry.field.add(name="value", number=2, label=one, type=field.TYPE_MESSAGE, type_name=".tensorflow.Feature")
    entry.options.map_entry = True
    message("Example", ("features", one, field.TYPE_MESSAGE, ".tensorflow.Stored"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


_Example = _example_class()


def arrays_of(settings: Mapping) -> dict[str, tuple[type, tuple[int, ...]]]:
    """Name → dtype and shape of the arrays in every record of a shard with these settings."""
    arrays: dict[str, tuple[type, tuple[int, ...]]] = {
        "fbank": (np.float16, FBANK_SHAPE),
        "teacher_video": (np.float32, (TEACHER_DIM,)),
        "teacher_audio": (np.float32, (TEACHER_DIM,)),
    }
    if settings.get("spectrogram"):
        arrays["spectrogram"] = (np.float16, SPECTROGRAM_SHAPE)
    return arrays


def encode(clip: Clip, settings: Mapping | None = None) -> bytes:
    """Serialises a clip. `settings`: of its shard; None means no setting that adds a field.

    Raises ValueError if an array has another shape or dtype than the schema's. Also for a spectrogram that the settings
    do not ask for: it would be lost.
    """
    texts = {
        "id": [clip.id],
        "captions": clip.captions,
        "groups": clip.groups,
        "transcript": [clip.transcript],
        "tags": clip.tags,
        "speech": [json.dumps(clip.speech, ensure_ascii=False, sort_keys=True)],
        "notes": clip.notes,
        "failed": [clip.failed],
    }
    if len(clip.groups) != len(clip.captions):
        raise ValueError(f"clip {clip.id}: {len(clip.captions)} captions but {len(clip.groups)} groups")
    arrays = arrays_of(settings or {})
    if clip.spectrogram is not None and "spectrogram" not in arrays:
        raise ValueError(
            f"clip {clip.id} has a spectrogram, its shard's settings {dict(settings or {})} ask for none; "
            'add "spectrogram": True to them'
        )
    example = _Example()
    feature = example.features.feature
    for name, values in texts.items():
        feature[name].bytes_list.value.extend(value.encode() for value in values)
    if len(clip.frame_times) != len(clip.frames):
        raise ValueError(f"clip {clip.id}: {len(clip.frames)} frames but {len(clip.frame_times)} times")
    feature["frames"].bytes_list.value.extend(clip.frames)
    feature["frame_times"].float_list.value.extend(map(float, clip.frame_times))
    for name, (dtype, shape) in arrays.items():
        array = getattr(clip, name)
        # A missing array is stored as zeros with a flag of 0, so that every record has the same shapes.
        feature[f"has_{name}"].int64_list.value.append(int(array is not None))
        array = np.zeros(shape, dtype) if array is None else np.asarray(array)
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(
                f"clip {clip.id}: {name} is {array.dtype}{list(array.shape)}, not {dtype.__name__}{list(shape)}"
            )
        feature[name].bytes_list.value.append(array.tobytes())
    return example.SerializeToString(deterministic=True)


def decode(data: bytes) -> Clip:
    """The inverse of `encode`, whatever the settings. Arrays are read-only views of the record."""
    feature = _Example.FromString(data).features.feature

    def texts(name: str) -> list[str]:
        return [value.decode() for value in feature[name].bytes_list.value]

    def array(name: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray | None:
        # Reading a missing name of a protobuf map would add it.
        if f"has_{name}" not in feature or not feature[f"has_{name}"].int64_list.value[0]:
            return None
        return np.frombuffer(feature[name].bytes_list.value[0], dtype).reshape(shape)

    return Clip(
        id=texts("id")[0],
        captions=texts("captions"),
        groups=texts("groups"),
        frames=list(feature["frames"].bytes_list.value),
        frame_times=np.array(feature["frame_times"].float_list.value, np.float32),
        transcript=texts("transcript")[0],
        tags=texts("tags"),
        speech=json.loads(texts("speech")[0]),
        notes=texts("notes"),
        failed=texts("failed")[0],
        **{name: array(name, dtype, shape) for name, (dtype, shape) in arrays_of({"spectrogram": True}).items()},
    )


def _masked_crc(data: bytes) -> bytes:
    """TFRecord's rotated CRC32C, four little-endian bytes."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


# ---------------------------------------------------------------- writing


def shard_name(split: str, number: int, count: int) -> str:
    """File name of a shard, in the pattern that TensorFlow Datasets reads."""
    return f"clips-{split}.tfrecord-{number:05d}-of-{count:05d}"


def write_shard(path: str, clips: Iterator[Clip], settings: Mapping) -> dict:
    """Writes one shard and its index, whole or not at all, and returns the index.

    Both are written under temporary names and renamed when complete. On any error, such as a full disk, the temporary
    files are removed. Finished shards stay valid, and running again continues from there.
    """
    index = {
        "schema": SCHEMA_VERSION,
        "settings": dict(settings),
        "ids": [],
        "offsets": [],
        "captions": [],
        "failed": {},
    }
    temporary = f"{path}.tmp-{os.getpid()}"
    crc, size = google_crc32c.Checksum(), 0
    try:
        with open(temporary, "wb") as file:
            for clip in clips:
                data = encode(clip, settings)
                header = struct.pack("<Q", len(data))
                framed = b"".join((header, _masked_crc(header), data, _masked_crc(data)))
                file.write(framed)
                crc.update(framed)
                index["ids"].append(clip.id)
                index["offsets"].append(size)
                index["captions"].append(len(clip.captions))
                if clip.failed:
                    index["failed"][clip.id] = clip.failed
                size += len(framed)
            file.flush()
            os.fsync(file.fileno())
        index |= {"bytes": size, "crc32c": crc.hexdigest().decode()}
        with open(temporary + INDEX_SUFFIX, "w", encoding="utf-8") as file:
            json.dump(index, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        os.replace(temporary + INDEX_SUFFIX, path + INDEX_SUFFIX)
    except BaseException as error:
        for leftover in (temporary, temporary + INDEX_SUFFIX):
            if os.path.exists(leftover):
                os.remove(leftover)
        if isinstance(error, OSError):
            raise ShardError(
                f"cannot write {path}: {error.strerror or error}. Free some space or choose another --out, then run "
                "the same command again: finished shards are kept."
            ) from error
        raise
    return index


# ---------------------------------------------------------------- reading


def read_index(path: str) -> dict:
    """The index of the shard at `path`, checked for version and against the shard's size."""
    try:
        with open(path + INDEX_SUFFIX, encoding="utf-8") as file:
            index = json.load(file)
    except (OSError, ValueError) as error:
        raise ShardError(
            f"{path}: no readable index beside the shard ({error}); delete it and run data_prep.build again"
        ) from error
    if index.get("schema") != SCHEMA_VERSION:
        raise ShardError(
            f"{path} has schema version {index.get('schema')}, this code reads version {SCHEMA_VERSION}; "
            "run data_prep.build again into an empty folder"
        )
    size = os.path.getsize(path) if os.path.exists(path) else None
    if size != index["bytes"]:
        actual = "is missing" if size is None else f"has {size} bytes"
        raise ShardError(
            f"{path} {actual}, its index says {index['bytes']} bytes; delete both and run data_prep.build again"
        )
    return index


def verify_shard(path: str, index: Mapping | None = None) -> None:
    """Reads the whole shard and compares its checksum. On a mismatch, ShardError names the first bad record."""
    index = index or read_index(path)
    crc = google_crc32c.Checksum()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            crc.update(block)
    if crc.hexdigest().decode() == index["crc32c"]:
        return
    source = ShardSource([path])
    for number in range(len(source)):
        source.read(number)  # raises with shard, record and clip id
    raise ShardError(
        f"{path}: the checksum differs from its index though every record is whole; delete both and rebuild"
    )


def splits(directory: str) -> list[str]:
    """Names of the splits in a folder of shards."""
    indexes = glob.glob(os.path.join(glob.escape(directory), f"clips-*.tfrecord-*-of-*{INDEX_SUFFIX}"))
    return sorted({os.path.basename(path).removeprefix("clips-").split(".")[0] for path in indexes})


def split_shards(directory: str, split: str) -> list[str]:
    """Paths of the shards of a split, complete and in order. Raises ShardError if any is missing."""
    indexes = sorted(glob.glob(os.path.join(glob.escape(directory), f"clips-{split}.tfrecord-*-of-*{INDEX_SUFFIX}")))
    paths = [path.removesuffix(INDEX_SUFFIX) for path in indexes]
    if not paths:
        message = f"no shards of split {split!r} in {directory!r}"
        if there := splits(directory):
            message += f", which holds {', '.join(there)}"
        if there == ["test"] and split != "test":
            message += " (a folder of videos gets other splits by data_prep.build --shares, into another --out)"
        raise ShardError(f"{message}; make them with data_prep.build, or set config.data_dir")
    count = int(paths[0].rsplit("-", 1)[1])
    expected = [os.path.join(directory, shard_name(split, number, count)) for number in range(count)]
    if paths != expected:
        missing = sorted(set(expected) - set(paths)) or sorted(set(paths) - set(expected))
        raise ShardError(
            f"split {split!r} has {len(paths)} of {count} shards; check {missing[0]}; run data_prep.build again"
        )
    return paths


class ShardSource:
    """Random access to the clips of a list of shards: `source[i]` reads, checks and decodes record i.

    A grain data source: it has a length. It pickles without its open files, so that workers open their own.
    """

    def __init__(self, paths: Sequence[str]):
        indexes = [read_index(path) for path in paths]
        settings = [index["settings"] for index in indexes]
        for path, other in zip(paths, settings, strict=True):
            if other != settings[0]:
                raise ShardError(f"{path} was built with {other}, {paths[0]} with {settings[0]}; rebuild one of them")
        self.paths = list(paths)
        self.settings = settings[0]
        self.ids = [clip_id for index in indexes for clip_id in index["ids"]]
        self.failed = {clip_id: reason for index in indexes for clip_id, reason in index["failed"].items()}
        self.caption_counts = np.array([count for index in indexes for count in index["captions"]], np.int64)
        self._shard = np.repeat(np.arange(len(paths)), [len(index["ids"]) for index in indexes])
        self._offset = np.array([offset for index in indexes for offset in index["offsets"]], np.int64)
        ends = [offset for index in indexes for offset in [*index["offsets"][1:], index["bytes"]] if index["ids"]]
        self._length = np.array(ends, np.int64) - self._offset
        self._files: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> Clip:
        return decode(self.read(number))

    def read(self, number: int) -> bytes:
        """The bytes of record `number`, after checking both of its checksums."""
        number = int(number)
        shard = int(self._shard[number])
        if shard not in self._files:
            opened = os.open(self.paths[shard], os.O_RDONLY)
            if self._files.setdefault(shard, opened) != opened:  # another thread was faster
                os.close(opened)
        file, begin, size = self._files[shard], int(self._offset[number]), int(self._length[number])
        header = os.pread(file, _HEADER_BYTES, begin)  # three reads: a slice of one would copy megabytes
        data = os.pread(file, size - _HEADER_BYTES - _CRC_BYTES, begin + _HEADER_BYTES)
        length = header[:_LENGTH_BYTES]
        if (
            len(data) != size - _HEADER_BYTES - _CRC_BYTES
            or struct.unpack("<Q", length)[0] != len(data)
            or header[_LENGTH_BYTES:] != _masked_crc(length)
            or os.pread(file, _CRC_BYTES, begin + size - _CRC_BYTES) != _masked_crc(data)
        ):
            first = int(np.searchsorted(self._shard, shard))
            raise ShardError(
                f"{self.paths[shard]}: record {number - first} (clip {self.ids[number]}) fails its checksum; "
                "delete this shard and its index and run data_prep.build again"
            )
        return data

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_files": {}}

    def __del__(self, close=os.close):  # bound here: at the end of a process `os` may be gone before this
        for file in getattr(self, "_files", {}).values():
            close(file)
