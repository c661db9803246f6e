"""MSR-VTT in the layout that its users have: official split files in, samples out."""

import collections
import json
import os

from data_prep.corpora.annotations import (
    VIDEO_SUFFIXES,
    Problems,
    by_stem,
    check_ids,
    check_overlap,
    clean,
    read_rows,
    read_transcripts,
)
from data_prep.corpora.sample import Sample


def read_msrvtt(root: str) -> dict[str, list[Sample]]:
    """The 9k protocol of MSR-VTT: 1k-A (JSFusion) as test, one caption a clip; all captions elsewhere.

    Validation is MSRVTT_val.csv. MSR-VTT itself has no such file: there, validation is the JSON's `validate` videos,
    and they are taken OUT of the 9k training list (which contains them), so that nothing is picked on test; the
    published numbers trained on all 9,000. Raises one ValueError that lists every problem of the annotations.
    """
    problems = Problems(root)
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
    lists = {"train": [row["video_id"] for row in read_rows(paths["train"], ["video_id"], problems)]}
    test_rows = read_rows(paths["test"], ["video_id", "sentence"], problems)
    val_path = os.path.join(notes, "MSRVTT_val.csv")
    if os.path.exists(val_path):
        lists["val"] = [row["video_id"] for row in read_rows(val_path, ["video_id"], problems)]
    else:
        lists["val"] = [clip_id for clip_id, split in videos if split == "validate"]
        held_out = set(lists["val"])
        lists["train"] = [clip_id for clip_id in lists["train"] if clip_id not in held_out]
    lists["test"] = [row["video_id"] for row in test_rows]
    check_ids(paths["data"], [clip_id for clip_id, _ in videos], problems)
    for split, ids in lists.items():
        check_ids(f"the {split} list", ids, problems)
    check_overlap(lists, problems)

    captions = {split: sentences for split in ("train", "val")}
    captions["test"] = collections.defaultdict(list)
    for row in test_rows:
        captions["test"][row["video_id"]].append(row["sentence"])
    used = {(i, text) for split, ids in lists.items() for i in ids for text in captions[split].get(i, ())}
    groups = _read_groups(os.path.join(notes, "query_groups.csv"), used, problems)
    tags_path = os.path.join(notes, "clip_tags.csv")
    tag_rows = read_rows(tags_path, ["video_id", "tags"], problems) if os.path.exists(tags_path) else []
    tags = {row["video_id"]: row["tags"].split() for row in tag_rows}
    transcripts = read_transcripts([root, notes], "msrvtt10k_asr_text.json", problems)
    problems.stop_if_any()

    features = os.path.join(root, "FeatureData", "ImageBind")
    files = {
        "video": by_stem(os.path.join(root, "VideoData"), VIDEO_SUFFIXES),
        "audio": by_stem(os.path.join(root, "AudioData"), (".wav",)),
        "teacher_video": by_stem(os.path.join(features, "VideoFeature"), (".npy", ".pt")),
        "teacher_audio": by_stem(os.path.join(features, "AudioFeature"), (".npy", ".pt")),
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


def _read_data_json(path: str, problems: Problems) -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
    """[(id, split)] and id → captions, both in the file's order."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        videos = [(clean(video["video_id"]), video["split"]) for video in data["videos"]]
        captions = collections.defaultdict(list)
        for sentence in data["sentences"]:
            captions[clean(sentence["video_id"])].append(clean(sentence["caption"]))
        return videos, captions
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problems.add(
            f"{path} does not have the form {{videos: [{{video_id, split}}], sentences: [{{video_id, caption}}]}} "
            f"({type(error).__name__}: {error})"
        )
        return [], {}


def _read_groups(path: str, used: set[tuple[str, str]], problems: Problems) -> dict[tuple[str, str], str]:
    """(id, caption) → query group. A row that matches no caption would vanish unseen, so it is a problem."""
    if not os.path.exists(path):
        return {}
    rows = read_rows(path, ["video_id", "sentence", "group"], problems)
    if lost := [
        f"{row['video_id']}: {row['sentence']}" for row in rows if (row["video_id"], row["sentence"]) not in used
    ]:
        problems.add(f"{path}: {len(lost)} of {len(rows)} rows match no caption", lost)
    return {(row["video_id"], row["sentence"]): row["group"] for row in rows}
