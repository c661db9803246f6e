"""Corpora in the layouts that their authors publish: official split files in, samples out.

A corpus has a name, defaults, and `read(root)`, which returns the samples of train, val and test in the files' order.
Only annotations are read here; that a video is missing or broken is found, clip by clip, when it is prepared.
"""

import collections
import csv
import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence

from data_prep import speech

VIDEO_SUFFIXES = (".mp4", ".webm")
_SHOWN = 5  # examples per problem in a message


@dataclasses.dataclass(frozen=True)
class Sample:
    """One clip before preparation: its texts, and the paths of its media."""

    id: str
    split: str
    video: str  # the path it should have, where there is none
    captions: list[str]
    groups: list[str]  # query group of each caption, "" where unknown
    transcript: str
    tags: list[str]
    audio: str | None  # a sound file to use instead of the video's own track
    teacher_video: str | None
    teacher_audio: str | None
    empty_captions: int = 0  # dropped; counted for the manifest


@dataclasses.dataclass(frozen=True)
class Corpus:
    name: str
    image_size: int
    max_frames: int
    read: Callable[[str], dict[str, list[Sample]]]
    learn_tokenizer: bool = False  # a made corpus gets a small vocabulary of its own


class _Problems:
    """Collects what is wrong, so that a user sees all of it at once."""

    def __init__(self, root: str):
        self.root, self.found = root, []

    def add(self, what: str, examples: Sequence[str] = ()) -> None:
        shown = ", ".join(map(repr, examples[:_SHOWN])) + (
            f" and {len(examples) - _SHOWN} more" * (len(examples) > _SHOWN)
        )
        self.found.append(f"{what}: {shown}" if examples else what)

    def stop_if_any(self) -> None:
        if self.found:
            lines = "".join(f"\n  - {line}" for line in self.found)
            raise ValueError(
                f"{self.root}: {len(self.found)} problem(s) in the annotations; correct them and run again{lines}"
            )


# ---------------------------------------------------------------- reading files


def _rows(path: str, columns: Sequence[str], problems: _Problems) -> list[dict[str, str]]:
    """Rows of a CSV file, or a problem if it is not UTF-8 or lacks one of the columns."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            found = [name.strip() for name in reader.fieldnames or []]
            if missing := [name for name in columns if name not in found]:
                problems.add(f"{path} has the columns {found}, it lacks", missing)
                return []
            reader.fieldnames = found
            return [{name: _text(row[name] or "") for name in columns} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.add(f"{path} cannot be read ({error})")
        return []


def _text(value: str) -> str:
    """Trimmed, and writable as UTF-8: JSON may carry half an emoji, which no file can store."""
    return value.encode("utf-8", "replace").decode().strip()


def _by_stem(folder: str, suffixes: Sequence[str]) -> dict[str, str]:
    """Clip id → path, for the files with these suffixes; the first suffix wins. {} where there is no such folder."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = {}
    for suffix in reversed(suffixes):
        found |= {name.removesuffix(suffix): os.path.join(folder, name) for name in names if name.endswith(suffix)}
    return found


def _check_ids(where: str, ids: Sequence[str], problems: _Problems) -> None:
    """Ids become file names and keys: unique, and nothing that leads to another folder."""
    if twice := [clip_id for clip_id, count in collections.Counter(ids).items() if count > 1]:
        problems.add(f"{where} has ids more than once", twice)
    bad = [i for i in dict.fromkeys(ids) if not i or i == "." or ".." in i or any(c in i for c in "/\\\0")]
    if bad:
        problems.add(f"{where} has ids that are empty or hold '/', '\\', NUL or '..'", bad)


# ---------------------------------------------------------------- MSR-VTT


def read_msrvtt(root: str) -> dict[str, list[Sample]]:
    """The 9k protocol of MSR-VTT: 1k-A (JSFusion) as test, one caption a clip; all captions elsewhere.

    Validation is MSRVTT_val.csv. MSR-VTT itself has no such file: there, validation is the JSON's `validate` videos,
    and they are taken OUT of the 9k training list (which contains them), so that nothing is picked on test; the
    published numbers trained on all 9,000. Raises one ValueError that lists every problem of the annotations.
    """
    problems = _Problems(root)
    notes = os.path.join(root, "Annotations")
    paths = {
        "data": os.path.join(notes, "MSRVTT_data.json"),
        "train": os.path.join(notes, "MSRVTT_train.9k.csv"),
        "test": os.path.join(notes, "MSRVTT_JSFUSION_test.csv"),
    }
    if missing := [path for path in (*paths.values(), os.path.join(root, "VideoData")) if not os.path.exists(path)]:
        problems.add("--root should hold the official MSR-VTT layout; it lacks", missing)
        problems.stop_if_any()

    videos, sentences = _read_data_json(paths["data"], problems)
    lists = {"train": [row["video_id"] for row in _rows(paths["train"], ["video_id"], problems)]}
    test_rows = _rows(paths["test"], ["video_id", "sentence"], problems)
    val_path = os.path.join(notes, "MSRVTT_val.csv")
    if os.path.exists(val_path):
        lists["val"] = [row["video_id"] for row in _rows(val_path, ["video_id"], problems)]
    else:
        lists["val"] = [clip_id for clip_id, split in videos if split == "validate"]
        held_out = set(lists["val"])
        lists["train"] = [clip_id for clip_id in lists["train"] if clip_id not in held_out]
    lists["test"] = [row["video_id"] for row in test_rows]
    _check_ids(paths["data"], [clip_id for clip_id, _ in videos], problems)
    for split, ids in lists.items():
        _check_ids(f"the {split} list", ids, problems)
    _check_overlap(lists, problems)

    captions = {split: sentences for split in ("train", "val")}
    captions["test"] = collections.defaultdict(list)
    for row in test_rows:
        captions["test"][row["video_id"]].append(row["sentence"])
    used = {(i, text) for split, ids in lists.items() for i in ids for text in captions[split].get(i, ())}
    groups = _read_groups(os.path.join(notes, "query_groups.csv"), used, problems)
    tags_path = os.path.join(notes, "clip_tags.csv")
    tag_rows = _rows(tags_path, ["video_id", "tags"], problems) if os.path.exists(tags_path) else []
    tags = {row["video_id"]: row["tags"].split() for row in tag_rows}
    transcripts = _read_transcripts([root, notes], "msrvtt10k_asr_text.json", problems)
    problems.stop_if_any()

    features = os.path.join(root, "FeatureData", "ImageBind")
    files = {
        "video": _by_stem(os.path.join(root, "VideoData"), VIDEO_SUFFIXES),
        "audio": _by_stem(os.path.join(root, "AudioData"), (".wav",)),
        "teacher_video": _by_stem(os.path.join(features, "VideoFeature"), (".npy", ".pt")),
        "teacher_audio": _by_stem(os.path.join(features, "AudioFeature"), (".npy", ".pt")),
    }

    def sample(clip_id: str, split: str) -> Sample:
        texts = captions[split].get(clip_id, [])
        kept = [text for text in texts if text]
        return Sample(
            id=clip_id,
            split=split,
            video=files["video"].get(clip_id, os.path.join(root, "VideoData", clip_id + VIDEO_SUFFIXES[0])),
            captions=kept,
            groups=[groups.get((clip_id, text), "") for text in kept],
            transcript=transcripts.get(clip_id, ""),
            tags=tags.get(clip_id, []),
            audio=files["audio"].get(clip_id),
            teacher_video=files["teacher_video"].get(clip_id),
            teacher_audio=files["teacher_audio"].get(clip_id),
            empty_captions=len(texts) - len(kept),
        )

    return {split: [sample(clip_id, split) for clip_id in lists[split]] for split in ("train", "val", "test")}


def _read_data_json(path: str, problems: _Problems) -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
    """[(id, split)] and id → captions, both in the file's order."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        videos = [(_text(video["video_id"]), video["split"]) for video in data["videos"]]
        captions = collections.defaultdict(list)
        for sentence in data["sentences"]:
            captions[_text(sentence["video_id"])].append(_text(sentence["caption"]))
        return videos, captions
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problems.add(
            f"{path} does not have the form {{videos: [{{video_id, split}}], sentences: [{{video_id, caption}}]}} "
            f"({type(error).__name__}: {error})"
        )
        return [], {}


def _check_overlap(lists: Mapping[str, Sequence[str]], problems: _Problems) -> None:
    names = list(lists)
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            members = set(lists[second])
            if shared := [clip_id for clip_id in lists[first] if clip_id in members]:
                problems.add(f"{first} and {second} share {len(shared)} clips", shared)


def _read_groups(path: str, used: set[tuple[str, str]], problems: _Problems) -> dict[tuple[str, str], str]:
    """(id, caption) → query group. A row that matches no caption would vanish unseen, so it is a problem."""
    if not os.path.exists(path):
        return {}
    rows = _rows(path, ["video_id", "sentence", "group"], problems)
    if lost := [
        f"{row['video_id']}: {row['sentence']}" for row in rows if (row["video_id"], row["sentence"]) not in used
    ]:
        problems.add(f"{path}: {len(lost)} of {len(rows)} rows match no caption", lost)
    return {(row["video_id"], row["sentence"]): row["group"] for row in rows}


def _read_transcripts(folders: Sequence[str], name: str, problems: _Problems) -> dict[str, str]:
    path = next((p for p in (os.path.join(folder, name) for folder in folders) if os.path.exists(p)), None)
    if path is None:
        return {}
    try:
        return {clip_id: _text(text) for clip_id, text in speech.read_transcripts(path).items()}
    except ValueError as error:
        problems.add(str(error))
        return {}


CORPORA = {
    corpus.name: corpus
    for corpus in (
        Corpus("demo", image_size=64, max_frames=12, read=read_msrvtt, learn_tokenizer=True),
        Corpus("msrvtt-9k", image_size=224, max_frames=12, read=read_msrvtt),
    )
}
