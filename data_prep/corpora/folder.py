"""Any folder of videos, with captions and transcripts where there are some.

Every video file below the root is a clip; its id is its path there, suffix included. At the root may lie

    captions.csv      columns video, caption; optional group, split (train, val or test; else test)
    captions.json     {video: [caption, …]}, or rows with the same names
    transcripts.csv   columns video, text
    transcripts.json  {video: text}, or rows as data_prep.transcribe writes them

A row may name a video with "./" before its id, and in either of Unicode's forms of é. A .srt or .vtt file beside a
video (clip.srt, clip.en.srt) holds its subtitles; else the video itself may.
"""

import collections
import logging
import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from data_prep.corpora import layout
from data_prep.corpora.annotations import Problems, clean, read_json, read_rows, with_near
from data_prep.corpora.sample import TEACHER, Sample
from data_prep.speech import subtitles, timed_data
from data_prep.speech import transcripts as transcript_files

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".3gp", ".ogv", ".mxf", ".asf", ".vob"),
)
TRANSCRIPTS = "transcripts.csv"  # read before a recogniser's transcripts.json
_SHOWN = 10  # names in the warning
_SPLITS = ("train", "val", "test")
_log = logging.getLogger(__name__)


def read(root: str, transcripts: str | None = None, teacher: str = TEACHER) -> dict[str, list[Sample]]:
    """All videos below the root. Those that no row puts into another split are test: a gallery to search.

    Hidden files and folders are passed over. Links that lead out of the root are not followed: a warning names them.
    Raises one ValueError that lists every problem, among them rows that name no video.
    """
    problems = Problems(root)
    if not os.path.isdir(root):
        problems.add("--root should be a folder of videos; there is no such folder")
        problems.stop_if_any()
    videos, beside = _walk(root, problems)
    if not videos:
        problems.add(f"no video below this folder; known are {' '.join(VIDEO_SUFFIXES)}")
    known = _named(videos)
    rows = [row | {"video": known(row["video"])} for row in _read_captions(root, problems)]
    _must_name_videos("captions", [row["video"] for row in rows], videos, problems)
    spoken = _read_transcripts(root, transcripts, videos, known, problems)
    splits = _splits(rows, problems)
    problems.stop_if_any()

    by_video = collections.defaultdict(list)
    for row in rows:
        by_video[row["video"]].append(row)
    own_subtitles = subtitles_of(videos.values(), beside)

    def vector(kind: str, clip_id: str) -> str | None:
        stem = os.path.join(root, "FeatureData", teacher, kind, clip_id)
        return next((stem + suffix for suffix in layout.VECTOR_SUFFIXES if os.path.exists(stem + suffix)), None)

    samples = {split: [] for split in _SPLITS}
    for clip_id, path in videos.items():
        kept = [row for row in by_video[clip_id] if row["caption"]]
        transcript, speech = spoken.get(clip_id, ("", {}))
        split = splits.get(clip_id, "test")
        samples[split].append(
            Sample(
                id=clip_id,
                split=split,
                video=path,
                captions=[row["caption"] for row in kept],
                groups=[row["group"] for row in kept],
                transcript=transcript,
                tags=[],
                audio=None,
                teacher_video=vector("VideoFeature", clip_id),
                teacher_audio=vector("AudioFeature", clip_id),
                speech=speech,
                subtitles=own_subtitles.get(path, path),
                empty_captions=len(by_video[clip_id]) - len(kept),
            )
        )
    return samples


# ---------------------------------------------------------------- files


def _walk(root: str, problems: Problems) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Clip id → path, in the ids' order; and folder → names of the subtitle files in it."""
    inside = os.path.join(os.path.realpath(root), "")
    videos, beside, left_out = {}, collections.defaultdict(list), []
    # Folders behind links are not entered: inside the root they are found where they are, without loops.
    for folder, folders, names in os.walk(root, onerror=lambda error: left_out.append(error.filename)):
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in (name for name in (*linked, *sorted(names)) if not name.startswith(".")):
            path, suffix = os.path.join(folder, name), os.path.splitext(name)[1].lower()
            if name not in linked and suffix not in VIDEO_SUFFIXES and suffix not in subtitles.FORMATS:
                continue
            if os.path.islink(path) and not _leads_inside(path, inside):
                left_out.append(path)
            elif suffix in subtitles.FORMATS:
                beside[folder].append(name)
            elif os.path.isfile(path):
                clip_id = _as_text(os.path.relpath(path, root)).replace(os.sep, "/")
                if clip_id in videos:
                    problems.add("two videos have the same name once it is written as UTF-8; rename one", [clip_id])
                videos[clip_id] = path
    if left_out:
        _log.warning(
            "%s: left out %d links that lead out of this folder or nowhere, or folders that cannot be read: %s%s",
            *(root, len(left_out), ", ".join(_as_text(os.path.relpath(path, root)) for path in left_out[:_SHOWN])),
            f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else "",
        )
    return dict(sorted(videos.items())), beside


def _leads_inside(path: str, inside: str) -> bool:
    target = os.path.realpath(path)
    return os.path.exists(target) and os.path.join(target, "").startswith(inside)


def _as_text(name: str) -> str:
    """A file name as text that UTF-8 can hold, whatever bytes it has."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def subtitles_of(videos: Collection[str], beside: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Path of a video → that of its subtitle file: clip.srt, else English (as CLIP is), else any.

    Of clip.mp4 and clip.2.mp4, clip.2.srt belongs to the second alone, and clip.en.srt to the first.
    """
    stems = {os.path.splitext(path)[0] for path in videos}
    own = collections.defaultdict(list)  # path without suffix → what each file's name says besides, and its path
    for folder, names in beside.items():
        for name in names:
            stem, parts = os.path.splitext(os.path.join(folder, name))[0], []
            while stem not in stems and "." in os.path.basename(stem):
                stem, part = os.path.splitext(stem)  # clip.en.forced → en, forced
                parts.append(part.lower())
            own[stem].append((parts, os.path.join(folder, name)))

    def preference(file: tuple[list[str], str]) -> tuple:
        parts, path = file
        no_speech = any(part.removeprefix(".") in timed_data.NAMES for part in parts)
        return no_speech, ".forced" in parts, bool(parts), not any(part.startswith(".en") for part in parts), path

    return {path: min(own[stem], key=preference)[1] for path in videos if (stem := os.path.splitext(path)[0]) in own}


# ---------------------------------------------------------------- texts


def _named(videos: Collection[str]) -> Callable[[str], str]:
    """Turns the name that a row gives a video into its id, and leaves one that is of no video, or of two."""
    composed = collections.defaultdict(list)  # macOS writes é as two characters in file names
    for clip_id in videos:
        composed[unicodedata.normalize("NFC", clip_id)].append(clip_id)

    def clip_id_of(name: str) -> str:
        name = name.removeprefix("./")
        same = composed.get(unicodedata.normalize("NFC", name), [])
        return name if name in videos or len(same) != 1 else same[0]

    return clip_id_of


def _read_captions(root: str, problems: Problems) -> list[dict[str, str]]:
    """Rows of video, caption, group and split; the last two are "" where unknown."""
    table, structure = os.path.join(root, "captions.csv"), os.path.join(root, "captions.json")
    if os.path.exists(table) and os.path.exists(structure):
        problems.add(f"there are both {table} and {structure}; keep one")
    if os.path.exists(table):
        return read_rows(table, ["video", "caption"], problems, optional=["group", "split"])
    data = read_json(structure, problems) if os.path.exists(structure) else []
    try:
        if isinstance(data, dict):
            data = [{"video": video, "caption": text} for video, texts in data.items() for text in _list_of(texts)]
        names = ("video", "caption", "group", "split")
        return [{name: clean(row.get(name) or "") for name in names} for row in data or []]
    except (TypeError, AttributeError) as error:
        problems.add(f"{structure} has neither the form {{video: [caption, …]}} nor [{{video, caption}}, …] ({error})")
        return []


def _list_of(texts: object) -> list[str]:
    if not isinstance(texts, list):
        raise TypeError(f"{texts!r} is not a list of captions")
    return texts


def _read_transcripts(
    root: str, path: str | None, videos: Collection[str], known: Callable[[str], str], problems: Problems
) -> dict[str, tuple[str, dict]]:
    """Clip id → (transcript, speech). Rows written by hand must name a video; a recogniser's may be older than that.

    `known`: as `_named` gives it.
    """
    path = path or layout.transcripts_path(root, TRANSCRIPTS)
    if path is None:
        return {}
    if path.lower().endswith(".csv"):
        texts = {row["video"]: row["text"] for row in read_rows(path, ["video", "text"], problems)}
    elif isinstance(data := read_json(path, problems), dict):
        texts = {clean(video): clean(str(text or "")) for video, text in data.items()}
    else:
        return layout.read_transcripts(path, problems, keys_are_ids=True) if data is not None else {}
    texts = {known(video): text for video, text in texts.items()}
    _must_name_videos(path, list(texts), videos, problems)
    return {clip_id: (transcript_files.clean(text), {}) for clip_id, text in texts.items()}


def _must_name_videos(what: str, named: Iterable[str], videos: Collection[str], problems: Problems) -> None:
    if strange := [video for video in dict.fromkeys(named) if video not in videos]:
        shown = [with_near(video, list(videos)) for video in strange[:5]] + strange[5:]
        problems.add(f"{what}: {len(strange)} rows name no video below this folder", shown)


def _splits(rows: Iterable[dict[str, str]], problems: Problems) -> dict[str, str]:
    """Clip id → split, for the rows that name one."""
    named = collections.defaultdict(set)
    for row in rows:
        if row["split"]:
            named[row["video"]].add(row["split"])
    if unknown := sorted({split for splits in named.values() for split in splits} - set(_SPLITS)):
        problems.add("captions: splits that are not train, val or test", unknown)
    if torn := [video for video, splits in named.items() if len(splits) > 1]:
        problems.add("captions: videos in more than one split", torn)
    return {video: splits.pop() for video, splits in named.items()}
