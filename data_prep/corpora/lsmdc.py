"""LSMDC in the layout that its users have: tab-separated files without a header, a clip and a sentence a row."""

import csv
import glob
import os

from data_prep.corpora import layout
from data_prep.corpora.annotations import Problems, clean
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
    transcripts = transcripts or layout.transcripts_path(root, TRANSCRIPTS)
    return layout.make_samples(
        problems, {split: [*of] for split, of in captions.items()}, captions, transcripts, teacher
    )


def _read_rows(path: str, problems: Problems) -> dict[str, list[str]]:
    """Clip id → sentences, both in the file's order."""
    captions, wrong = {}, []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            # A quotation mark is a letter here: sentences begin with one and need not end with one.
            reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            for row in reader:
                if len(row) == len(_COLUMNS):
                    captions.setdefault(clean(row[0]), []).append(clean(row[-1]))
                elif row:
                    wrong.append(f"line {reader.line_num} with {len(row)}: {' | '.join(row)[:60]}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.add(f"{path} cannot be read ({error})")
    if wrong:
        columns = ", ".join(_COLUMNS)
        problems.add(f"{path}: {len(wrong)} rows do not have the {len(_COLUMNS)} columns {columns}", wrong)
    return captions
