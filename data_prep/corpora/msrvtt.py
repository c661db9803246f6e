"""MSR-VTT in the layout that its users have: official split files in, samples out, for the 9k and 7k protocols."""

import collections
import os

from data_prep.corpora import layout
from data_prep.corpora.annotations import Problems, check_ids, clean, read_json
from data_prep.corpora.sample import TEACHER, Sample
from data_prep.corpora.tables import read_rows

TRANSCRIPTS = "msrvtt10k_asr_text.json"
_DATA, _TRAIN_9K, _TRAIN_7K = "MSRVTT_data.json", "MSRVTT_train.9k.csv", "MSRVTT_train.7k.csv"
_VAL, _TEST_1K = "MSRVTT_val.csv", "MSRVTT_JSFUSION_test.csv"


def read_9k(root: str, transcripts: str | None = None, teacher: str = TEACHER) -> dict[str, list[Sample]]:
    """The 9k protocol: 1k-A (JSFusion) as test, one caption a clip; all captions elsewhere.

    Validation is MSRVTT_val.csv. MSR-VTT itself has no such file: there, validation is the JSON's `validate` videos,
    and they are taken OUT of the 9k training list (which contains them), so that nothing is picked on test; the
    published numbers trained on all 9,000. Raises one ValueError that lists every problem of the annotations.
    """
    problems = Problems(root)
    layout.require(problems, "MSR-VTT", [_DATA, _TRAIN_9K, _TEST_1K])
    notes = os.path.join(root, "Annotations")
    videos, sentences = _read_data(os.path.join(notes, _DATA), problems)
    test_rows = read_rows(os.path.join(notes, _TEST_1K), ["video_id", "sentence"], problems)
    train = _listed(os.path.join(notes, _TRAIN_9K), problems)
    if os.path.exists(os.path.join(notes, _VAL)):
        val = _listed(os.path.join(notes, _VAL), problems)
    else:
        val = [clip_id for clip_id, split in videos if split == "validate"]
        held_out = set(val)
        train = [clip_id for clip_id in train if clip_id not in held_out]
    test_captions = collections.defaultdict(list)
    for row in test_rows:
        test_captions[row["video_id"]].append(row["sentence"])
    return layout.make_samples(
        problems,
        {"train": train, "val": val, "test": [row["video_id"] for row in test_rows]},
        {"train": sentences, "val": sentences, "test": test_captions},
        layout.transcript_files(root, TRANSCRIPTS, transcripts),
        teacher,
    )


def read_7k(root: str, transcripts: str | None = None, teacher: str = TEACHER) -> dict[str, list[Sample]]:
    """The 7k protocol, MSR-VTT's own split: every video of the JSON, with all its captions, in test as well.

    MSRVTT_train.7k.csv holds nothing that the JSON does not; where it is there, it must list the same training videos,
    with or without the validation videos. Raises one ValueError that lists every problem of the annotations.
    """
    problems = Problems(root)
    layout.require(problems, "MSR-VTT", [_DATA])
    path = os.path.join(root, "Annotations", _DATA)
    videos, sentences = _read_data(path, problems)
    if strange := [f"{clip_id}: {split}" for clip_id, split in videos if split not in ("train", "validate", "test")]:
        problems.add(f"{path} has splits that are not train, validate or test", strange)
    official = {"train": "train", "val": "validate", "test": "test"}
    lists = {ours: [i for i, split in videos if split == theirs] for ours, theirs in official.items()}
    listing = os.path.join(root, "Annotations", _TRAIN_7K)
    if os.path.exists(listing):
        listed, train, val = set(_listed(listing, problems)), set(lists["train"]), set(lists["val"])
        if listed not in (train, train | val):
            problems.add(
                f"{listing} lists {len(listed)} videos, which are neither the {len(train)} of split train in {path} "
                f"nor these and the {len(val)} of validate; in one only",
                sorted(listed ^ (train | val if listed & val else train)),
            )
    files = layout.transcript_files(root, TRANSCRIPTS, transcripts)
    return layout.make_samples(problems, lists, dict.fromkeys(lists, sentences), files, teacher)


def _listed(path: str, problems: Problems) -> list[str]:
    return [row["video_id"] for row in read_rows(path, ["video_id"], problems)]


def _read_data(path: str, problems: Problems) -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
    """[(id, split)] and id → captions, both in the file's order."""
    if (data := read_json(path, problems)) is None:
        return [], {}
    try:
        videos = [(clean(video["video_id"]), video["split"]) for video in data["videos"]]
        captions = {}
        for sentence in data["sentences"]:
            captions.setdefault(clean(sentence["video_id"]), []).append(clean(sentence["caption"]))
    except (KeyError, TypeError, AttributeError) as error:
        problems.add(
            f"{path} does not have the form {{videos: [{{video_id, split}}], sentences: [{{video_id, caption}}]}} "
            f"({type(error).__name__}: {error})"
        )
        return [], {}
    check_ids(path, [clip_id for clip_id, _ in videos], problems)
    return videos, captions
