"""What the clips of a corpus lack: captions, files, sound, transcripts, teacher vectors.

Of each media file the header alone is read.
"""

import os
from collections.abc import Mapping, Sequence

from tqdm import tqdm

from data_prep import names
from data_prep.corpora.sample import Corpus, Sample
from data_prep.media import video
from data_prep.media.decode import MediaError, open_media, picture_stream
from data_prep.runners import reason_of
from data_prep.speech import subtitles, transcripts

NO_CAPTION, NO_MEDIA, UNREADABLE, NO_SOUND = "no caption", "no media file", "unreadable", "no sound"
NO_TRANSCRIPT, NOTHING_SAID, NO_TEACHER = "no transcript", "nothing is said", "no teacher vectors"
KINDS = (NO_CAPTION, NO_MEDIA, UNREADABLE, NO_SOUND, NO_TRANSCRIPT, NOTHING_SAID, NO_TEACHER)
Gaps = dict[str, dict[str, dict[str, str]]]  # kind of gap → split → clip id → detail


def survey(splits: Mapping[str, Sequence[Sample]]) -> Gaps:
    """What the clips lack. A clip without words of which a transcript file has a row lacks none: nothing is said."""
    gaps: Gaps = {kind: {split: {} for split in splits} for kind in KINDS}
    total = sum(map(len, splits.values()))
    with tqdm(total=total, unit="clip", desc="opening", disable=not total) as bar:
        for split, samples in splits.items():
            for sample in samples:
                lacks = _gaps_of(sample)
                if not sample.captions:
                    lacks[NO_CAPTION] = f"{sample.empty_captions} empty ones" if sample.empty_captions else ""
                for kind, detail in lacks.items():
                    gaps[kind][split][sample.id] = detail
                bar.update()
    return gaps


def has_subtitles(sample: Sample) -> bool:
    """Whether subtitles lie beside its video, or in it. A file that cannot be opened has none."""
    if sample.subtitles is None or sample.subtitles != sample.video:
        return sample.subtitles is not None
    try:
        with open_media(sample.subtitles) as container:
            return subtitles.text_track(container) is not None
    except MediaError:
        return False


def _gaps_of(sample: Sample) -> dict[str, str]:
    gaps = {}
    media = (sample.audio or sample.video) if sample.is_sound else sample.video  # what decides whether there is a clip
    assert media is not None  # every sample has one of the two
    sound: bool | None = True if sample.audio and not sample.is_sound else None  # None: not known
    said = bool(sample.transcript) or sample.subtitles not in (None, sample.video)
    if os.path.isdir(media):
        sound = bool(sound)
        try:
            next(video.pictures_of_folder(media, 1))
        except MediaError as error:
            gaps[UNREADABLE] = reason_of(error)
    elif not os.path.exists(media):
        gaps[NO_MEDIA] = media
    else:
        try:
            with open_media(media) as container:
                sound = sound or bool(container.streams.audio)
                said = said or (sample.subtitles is not None and subtitles.text_track(container) is not None)
                if not sample.is_sound:
                    picture_stream(container, media)
        except MediaError as error:
            gaps[UNREADABLE] = reason_of(error)
    if sound is False:
        gaps |= {UNREADABLE: "no sound track"} if sample.is_sound else {NO_SOUND: ""}
    if not said:
        gaps[NOTHING_SAID if sample.transcribed else NO_TRANSCRIPT] = ""
    if sample.split == "train" and not sample.is_sound:  # no other split reads them, and no teacher is for sounds
        lacks = ["picture"] * (not sample.teacher_video) + ["sound"] * (sound is not False and not sample.teacher_audio)
        if lacks:
            gaps[NO_TEACHER] = f"no vector of the {' and the '.join(lacks)}"
    return gaps


def transcribed_ids(corpus: Corpus, path: str) -> set[str]:
    """The ids of a transcript file, each as `names.form`; none where it is a table written by hand."""
    try:
        return set(map(names.form, transcripts.read(path, keys_are_ids=corpus.name == "folder")))
    except ValueError:  # the corpus has read it already, so it is of another, good form
        return set()
