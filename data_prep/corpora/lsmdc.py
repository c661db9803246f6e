"""LSMDC in the layout that its users have: tab-separated files without a header, a clip and a sentence a row."""

import glob
import os
import re

from data_prep.corpora import layout
from data_prep.corpora.annotations import Problems, clean, read_text
from data_prep.corpora.sample import TEACHER, Sample

TRANSCRIPTS = "lsmdc_asr_text.json"
_TRAIN, _VAL, _TEST = "LSMDC16_annos_training.csv", "LSMDC16_annos_val.csv", "LSMDC16_challenge_1000_publictect.csv"
_COLUMNS = ("clip", "start aligned", "end aligned", "start extracted", "end extracted", "sentence")


def read(root: str, transcripts: str | None = None, teacher: str = TEACHER) -> dict[str, list[Sample]]:
    """The three files. A clip in several rows of one file has several captions; its rows need not be neighbours.

    The validation file may have another name that ends in `_val.csv`. Raises one ValueError that lists every problem.
    """
    problems = Problems(root)
    notes = os.path.join(root, "Annotations")
    others = sorted(glob.glob(os.path.join(glob.escape(notes), "*_val.csv")))
    val = _VAL if os.path.exists(os.path.join(notes, _VAL)) or len(others) != 1 else os.path.basename(others[0])
    names = {"train": _TRAIN, "val": val, "test": _TEST}
    layout.require(problems, "LSMDC", [*names.values()])
    captions = {split: _read_rows(os.path.join(notes, name), problems) for split, name in names.items()}
    files = layout.transcript_files(root, TRANSCRIPTS, transcripts)
    return layout.make_samples(problems, {split: [*of] for split, of in captions.items()}, captions, files, teacher)


def _read_rows(path: str, problems: Problems) -> dict[str, list[str]]:
    """Clip id → sentences, both in the file's order."""
    captions, wrong = {}, []
    text = read_text(path, problems) or ""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        # A quotation mark is a letter here: sentences begin with one and need not end with one.
        row = line.split("\t")
        if len(row) == len(_COLUMNS):
            captions.setdefault(clean(row[0]), []).append(clean(row[-1]))
        elif line.strip():
            wrong.append(f"line {number} with {len(row)}: {' | '.join(row)[:60]}")
    if wrong:
        columns = ", ".join(_COLUMNS)
        problems.add(f"{path}: {len(wrong)} rows do not have the {len(_COLUMNS)} columns {columns}", wrong)
    return captions
