"""AudioCaps in the form that its authors publish: a CSV file for each split, sounds by their YouTube ids.

The columns and counts are those of github.com/cdjkim/audiocaps, dataset/README.md: 49,838, 495 and 975 clips, with one
caption in train and five in val and test, a row each. The authors give no media. Files are found by the names that
downloaders give them: {youtube_id}, {youtube_id}_{start_time}, or Y{youtube_id} as in copies of AudioSet.
"""

import os

from data_prep.corpora import layout
from data_prep.corpora.annotations import Problems
from data_prep.corpora.sample import TEACHER, Sample
from data_prep.corpora.tables import read_rows

_FILES = {"train": "train.csv", "val": "val.csv", "test": "test.csv"}
_COLUMNS = ["audiocap_id", "youtube_id", "start_time", "caption"]


def read(root: str, transcripts: str | None = None, teacher: str = TEACHER) -> dict[str, list[Sample]]:
    """The three files; a clip goes by its YouTube id. Raises one ValueError that lists every problem.

    AudioSet takes one part of a video: two different start times of one id are a problem.
    """
    problems = Problems(root)
    layout.require(problems, "AudioCaps", [*_FILES.values()], media=("AudioData", "VideoData"))
    captions, starts, names = {}, {}, {}
    for split, file in _FILES.items():
        captions[split] = {}
        for row in read_rows(os.path.join(root, "Annotations", file), _COLUMNS, problems):
            clip_id, start = row["youtube_id"], row["start_time"]
            captions[split].setdefault(clip_id, []).append(row["caption"])
            starts.setdefault(clip_id, set()).add(start)
            names |= {f"{clip_id}_{start}": clip_id, f"Y{clip_id}": clip_id}
    if several := [f"{i} at {', '.join(sorted(times))}" for i, times in starts.items() if len(times) > 1]:
        problems.add(f"{len(several)} YouTube ids have more than one start time", several)
    lists = {split: [*by_clip] for split, by_clip in captions.items()}
    files = layout.transcript_files(root, named=transcripts)
    return layout.make_samples(problems, lists, captions, files, teacher, sounds_alone=True, file_names=names)
