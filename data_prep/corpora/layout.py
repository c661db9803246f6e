"""The folders of the official layout: from lists of clip ids and captions to samples.

Annotations/      the corpus's own files; query_groups.csv and clip_tags.csv, if there, name groups and tags
VideoData/        {id}.mp4, .webm, .avi or .mkv, or a folder of pictures {id}/; also one level down, by film
AudioData/        {id}.wav; of corpora of sounds also .flac, .mp3, .m4a, .ogg or .opus
FeatureData/      {teacher}/VideoFeature/{id}.npy or .pt, and AudioFeature
the published transcript file, or transcripts.json by data_prep.transcribe
"""

import os
from collections.abc import Mapping, Sequence

from data_prep import names
from data_prep.corpora.annotations import Problems, check_ids, check_overlap
from data_prep.corpora.sample import Sample
from data_prep.corpora.tables import read_rows
from data_prep.speech import transcripts

VIDEO_SUFFIXES = (".mp4", ".webm", ".avi", ".mkv")  # the first that is there is taken
SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus")  # of corpora of sounds; of others the first
VECTOR_SUFFIXES = (".npy", ".pt")
OWN_TRANSCRIPTS = "transcripts.json"  # what data_prep.transcribe writes


def transcript_files(root: str, published: str = "", named: str | None = None) -> list[str]:
    """The transcript files that are read: the one that is named, else the published one, and our own.

    A clip has what the first of them says that knows it.
    """
    if named:
        return [named]
    paths = [
        [os.path.join(folder, name) for folder in (root, os.path.join(root, "Annotations"))]
        for name in (published, OWN_TRANSCRIPTS)
        if name
    ]
    return [path for of_name in paths if (path := next(filter(os.path.exists, of_name), ""))]


def require(problems: Problems, what: str, files: Sequence[str], media: Sequence[str] = ("VideoData",)) -> None:
    """Stops if any of the annotation files, or every folder of `media`, is not there. All are named."""
    paths = [*(os.path.join(problems.root, "Annotations", name) for name in files)]
    folders = [os.path.join(problems.root, name) for name in media]
    paths += [] if any(map(os.path.exists, folders)) else folders[:1]
    if missing := [path for path in paths if not os.path.exists(path)]:
        problems.add(f"--root should hold the official {what} layout; it lacks", missing)
        problems.stop_if_any()


def make_samples(
    problems: Problems,
    lists: Mapping[str, Sequence[str]],
    captions: Mapping[str, Mapping[str, Sequence[str]]],
    transcript_files: Sequence[str],
    teacher: str,
    sounds_alone: bool = False,
    file_names: Mapping[str, str] | None = None,
) -> dict[str, list[Sample]]:
    """Samples of `{split: ids}` with the captions `{split: {id: texts}}`, after all checks.

    `sounds_alone`: a corpus of sounds, where a clip needs no video. `file_names`: file name without suffix → clip id,
    where files may have other names than the ids. Raises one ValueError with all problems, those found before included.
    """
    root = problems.root
    notes = os.path.join(root, "Annotations")
    for split, ids in lists.items():
        check_ids(f"the {split} list", ids, problems)
        if silent := [clip_id for clip_id in ids if clip_id not in captions[split]]:
            problems.add(f"the {split} list has {len(silent)} clips without any caption in the annotations", silent)
    check_overlap(lists, problems)
    used = {(i, text) for split, ids in lists.items() for i in ids for text in captions[split].get(i, ())}
    groups = _read_groups(os.path.join(notes, "query_groups.csv"), used, problems)
    tags_path = os.path.join(notes, "clip_tags.csv")
    tag_rows = read_rows(tags_path, ["video_id", "tags"], problems) if os.path.exists(tags_path) else []
    tags = {row["video_id"]: row["tags"].split() for row in tag_rows}
    said = [read_transcripts(path, problems) for path in transcript_files]
    problems.stop_if_any()

    known = names.matcher([clip_id for members in lists.values() for clip_id in members])
    tags = {known(clip_id): words for clip_id, words in tags.items()}
    spoken = {known(clip_id): row for of_file in reversed(said) for clip_id, row in of_file.items()}
    ids = {clip_id: clip_id for members in lists.values() for clip_id in members}
    files = ids | dict(file_names or {})
    videos = by_id(os.path.join(root, "VideoData"), VIDEO_SUFFIXES, files, problems, folders=True)
    sound_suffixes = SOUND_SUFFIXES if sounds_alone else SOUND_SUFFIXES[:1]
    sounds = by_id(os.path.join(root, "AudioData"), sound_suffixes, files, problems)
    vectors = {
        kind: by_id(os.path.join(root, "FeatureData", teacher, kind), VECTOR_SUFFIXES, ids, problems)
        for kind in ("VideoFeature", "AudioFeature")
    }
    problems.stop_if_any()

    def sample(clip_id: str, split: str) -> Sample:
        texts = captions[split][clip_id]
        kept = [text for text in texts if text]
        transcript, speech = spoken.get(clip_id, ("", {}))
        video, sound = videos.get(clip_id), sounds.get(clip_id)
        if sounds_alone and not video and not sound:  # the paths that it should have
            sound = os.path.join(root, "AudioData", clip_id + SOUND_SUFFIXES[0])
        elif not sounds_alone and not video:
            video = os.path.join(root, "VideoData", clip_id + VIDEO_SUFFIXES[0])
        return Sample(
            id=clip_id,
            split=split,
            video=video,
            captions=kept,
            groups=[groups.get((clip_id, text), "") for text in kept],
            transcript=transcript,
            transcribed=clip_id in spoken,
            tags=tags.get(clip_id, []),
            audio=sound,
            teacher_video=vectors["VideoFeature"].get(clip_id),
            teacher_audio=vectors["AudioFeature"].get(clip_id),
            speech=speech,
            empty_captions=len(texts) - len(kept),
            is_sound=sounds_alone,
        )

    return {split: [sample(clip_id, split) for clip_id in ids] for split, ids in lists.items()}


def by_id(
    folder: str, suffixes: Sequence[str], ids: Mapping[str, str], problems: Problems, folders: bool = False
) -> dict[str, str]:
    """Clip id → path of the files of these clips in a folder and those directly in it; {} if there is none.

    `ids`: file name without suffix → clip id. Of several files of one clip the first suffix wins; several with the same
    suffix are a problem. `folders`: those named as a clip hold its pictures; they come after all suffixes and are not
    looked into.
    """
    files: dict[str, list[tuple[int, str]]] = {}
    known = names.matcher(ids)

    def scan(directory: str, deeper: bool) -> None:
        with os.scandir(directory) as entries:
            for entry in entries:
                name = names.as_text(entry.name)
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in suffixes:
                    if known(stem) in ids:
                        files.setdefault(ids[known(stem)], []).append((suffixes.index(suffix.lower()), entry.path))
                elif folders and known(name) in ids and entry.is_dir():
                    files.setdefault(ids[known(name)], []).append((len(suffixes), entry.path))
                elif deeper and entry.is_dir():
                    scan(entry.path, deeper=False)

    if os.path.isdir(folder):
        scan(folder, deeper=True)
    best = {i: sorted(path for rank, path in ranked if rank == min(ranked)[0]) for i, ranked in files.items()}
    if several := [
        " and ".join(names.told_apart([os.path.relpath(path, folder) for path in paths]))
        for paths in best.values()
        if len({os.path.realpath(path) for path in paths}) > 1  # links to one file are no choice
    ]:
        problems.add(f"{folder} holds {len(several)} clips more than once; keep one file of each", sorted(several))
    return {clip_id: paths[0] for clip_id, paths in best.items()}


def read_transcripts(path: str, problems: Problems, keys_are_ids: bool = False) -> dict[str, tuple[str, dict]]:
    """Clip id → (transcript, speech) of a transcript file, {} where it has a problem."""
    try:
        return transcripts.read(path, keys_are_ids)
    except ValueError as error:
        problems.add(str(error))
        return {}


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
