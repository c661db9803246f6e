"""A folder of teacher vectors: {VideoFeature,AudioFeature}/ID.npy, and teacher.json, which says what made them."""

import hashlib
import json
import os

import numpy as np

from data_prep import names
from data_prep.files import replacing, write_json
from data_prep.teachers.teacher import Teacher

PICTURES, SOUNDS, RECORD, FAILED = "VideoFeature", "AudioFeature", "teacher.json", "failed.json"


def vector_path(folder: str, kind: str, clip_id: str) -> str:
    """Where a clip's vector lies; '/' in an id makes sub-folders, and `names.short` cuts what is too long for a file.

    Raises ValueError for an id that leads elsewhere.

    A backslash leads nowhere: it is a letter of file names here, and stands in the ids of videos whose names are not
    UTF-8.
    """
    if any(part in ("", ".", "..") for part in clip_id.split("/")) or "\0" in clip_id:
        raise ValueError(f"clip id {clip_id!r} cannot be a file name below {folder}")
    *folders, name = clip_id.split("/")
    return os.path.join(folder, kind, *map(names.short, folders), names.short(name, ".npy"))


def save_vector(path: str, vector: np.ndarray) -> None:
    """The file has its name only once it is complete."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, vector.astype(np.float32))


def claim(folder: str, teacher: Teacher) -> None:
    """Writes teacher.json, or compares it. Raises ValueError where vectors of another origin lie in the folder."""
    now = {"teacher": teacher.name, "weights_sha256": digest(teacher.path), "settings": teacher.settings}
    path = os.path.join(folder, RECORD)
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            before = json.load(file)
        if changed := [name for name in now if before.get(name) != now[name]]:
            raise ValueError(
                f"{folder} holds vectors with {changed[0]} {before.get(changed[0])}, this run has {now[changed[0]]}; "
                "vectors of two kinds cannot be compared: use the same weights, or another --out"
            )
        return
    for kind in (PICTURES, SOUNDS):
        if os.path.isdir(os.path.join(folder, kind)) and os.listdir(os.path.join(folder, kind)):
            raise ValueError(
                f"{os.path.join(folder, kind)} holds vectors, and no {RECORD} says what made them; move them away or "
                "use another --out"
            )
    os.makedirs(folder, exist_ok=True)
    write_json(path, now | {"licence": teacher.licence})  # our words for it may change, the vectors do not


def digest(weights: str) -> str:
    """SHA-256 of a weight file, or of all that a checkpoint's folder holds in JSON and safetensors."""
    paths = [weights]
    if os.path.isdir(weights):
        files = sorted(name for name in os.listdir(weights) if name.endswith((".json", ".safetensors")))
        paths = [os.path.join(weights, name) for name in files]
    total = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def read_failed(path: str) -> dict[str, str]:
    """What failed.json lists; nothing if there is none."""
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)
