"""Charades in the layout that its users have: two CSV files, and the script of a video as its one caption."""

import hashlib
import os

from data_prep.corpora import layout
from data_prep.corpora.annotations import Problems
from data_prep.corpora.sample import TEACHER, Sample
from data_prep.corpora.tables import read_rows

TRANSCRIPTS = "charades_vad_text.json"
_TRAIN, _TEST = "Charades_v1_train.csv", "Charades_v1_test.csv"
_HELD_OUT = 16  # one training video in so many, about 500


def is_held_out(clip_id: str) -> bool:
    """Whether a training video is used for validation: the SHA-256 of its id, taken as a number, divides by 16."""
    return int(hashlib.sha256(clip_id.encode()).hexdigest(), 16) % _HELD_OUT == 0


def read(root: str, transcripts: str | None = None, teacher: str = TEACHER) -> dict[str, list[Sample]]:
    """Train, validation and test, a caption each: the script that the actors followed.

    Charades has no validation split and the published numbers are picked on test. Here one training video in sixteen
    is held out, chosen by its id alone, the same everywhere. Raises one ValueError that lists every problem.
    """
    problems = Problems(root)
    layout.require(problems, "Charades", [_TRAIN, _TEST])
    notes = os.path.join(root, "Annotations")
    train = read_rows(os.path.join(notes, _TRAIN), ["id", "script"], problems)
    test = read_rows(os.path.join(notes, _TEST), ["id", "script"], problems)
    rows = {
        "train": [row for row in train if not is_held_out(row["id"])],
        "val": [row for row in train if is_held_out(row["id"])],
        "test": test,
    }
    lists = {split: [row["id"] for row in part] for split, part in rows.items()}
    captions = {split: {row["id"]: [" ".join(row["script"].split())] for row in part} for split, part in rows.items()}
    files = layout.transcript_files(root, TRANSCRIPTS, transcripts)
    return layout.make_samples(problems, lists, captions, files, teacher)
