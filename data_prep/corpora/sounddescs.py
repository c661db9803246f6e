"""SoundDescs in the form of the audio-retrieval benchmark: three lists of ids, and a description of each sound.

Files are those of github.com/akoepke/audio-retrieval-benchmark: data/SoundDescs/{train,val,test}_list.txt, an id of
BBC Sound Effects a line, and sounddescs_data/descriptions.pkl, {id: description}; its downloader names sounds {id}.wav.
The counts are those of its paper (arXiv 2112.09418): 32,979 sounds, of which 70 % are train, 15 % val and 15 % test.
"""

import os
import pickle

from data_prep.corpora import layout
from data_prep.corpora.annotations import Problems, clean, read_lines
from data_prep.corpora.sample import TEACHER, Sample

_LISTS = {"train": "train_list.txt", "val": "val_list.txt", "test": "test_list.txt"}
_DESCRIPTIONS = "descriptions.pkl"


def read(root: str, transcripts: str | None = None, teacher: str = TEACHER) -> dict[str, list[Sample]]:
    """The three lists, a caption for each sound. Raises one ValueError that lists every problem."""
    problems = Problems(root)
    layout.require(problems, "SoundDescs", [*_LISTS.values(), _DESCRIPTIONS], media=("AudioData", "VideoData"))
    notes = os.path.join(root, "Annotations")
    lists = {split: read_lines(os.path.join(notes, name), problems) for split, name in _LISTS.items()}
    captions = _read_descriptions(os.path.join(notes, _DESCRIPTIONS), problems)
    files = layout.transcript_files(root, named=transcripts)
    return layout.make_samples(problems, lists, dict.fromkeys(lists, captions), files, teacher, sounds_alone=True)


class _Plain(pickle.Unpickler):
    """Reads dicts, lists and texts alone: a pickle may name any function to call, and this one was downloaded."""

    def find_class(self, module: str, name: str) -> type:
        raise pickle.UnpicklingError(f"it wants {module}.{name}, where only texts are expected")


def _read_descriptions(path: str, problems: Problems) -> dict[str, list[str]]:
    try:
        with open(path, "rb") as file:
            data = _Plain(file).load()
    except Exception as error:  # what is no pickle fails in any way: EOFError, KeyError, UnicodeDecodeError, …
        problems.add(f"{path} cannot be read as a pickle of texts ({type(error).__name__}: {error})")
        return {}
    wrong = (
        [data] if not isinstance(data, dict) else [i for i in data.items() if not all(isinstance(x, str) for x in i)]
    )
    if wrong:
        problems.add(f"{path} does not have the form {{id: description}}; see", [str(item)[:80] for item in wrong])
        return {}
    return {clean(clip_id): [clean(text)] for clip_id, text in data.items()}
