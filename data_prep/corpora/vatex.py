"""VATEX in the layout that its users have: three lists of ids, and ten English captions a clip in one JSON file."""

import os

from data_prep.corpora import layout
from data_prep.corpora.annotations import Problems, clean, read_json, read_lines
from data_prep.corpora.sample import TEACHER, Sample

TRANSCRIPTS = "vatex_asr_text.json"
_CAPTIONS = "ref_captions.json"
_LISTS = {"train": "train_list.txt", "val": "val_list.txt", "test": "test_list.txt"}


def read(root: str, transcripts: str | None = None, teacher: str = TEACHER) -> dict[str, list[Sample]]:
    """The three lists, each clip with all its captions. Raises one ValueError that lists every problem."""
    problems = Problems(root)
    layout.require(problems, "VATEX", [*_LISTS.values(), _CAPTIONS])
    notes = os.path.join(root, "Annotations")
    lists = {split: read_lines(os.path.join(notes, name), problems) for split, name in _LISTS.items()}
    captions = _read_captions(os.path.join(notes, _CAPTIONS), problems)
    files = layout.transcript_files(root, TRANSCRIPTS, transcripts)
    return layout.make_samples(problems, lists, dict.fromkeys(lists, captions), files, teacher)


def _read_captions(path: str, problems: Problems) -> dict[str, list[str]]:
    data = read_json(path, problems)
    if data is None:
        return {}
    wrong = [data] if not isinstance(data, dict) else [i for i, texts in data.items() if not _are_texts(texts)]
    if wrong:
        problems.add(f"{path} does not have the form {{id: [caption, …]}}; see", [str(item)[:80] for item in wrong])
        return {}
    return {clean(clip_id): [clean(text) for text in texts] for clip_id, texts in data.items()}


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
