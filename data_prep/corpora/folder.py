"""Any folder of videos, with captions and transcripts where there are some.

Every video file below the root is a clip; its id is its path there, suffix included. At the root may lie

    captions.csv      columns video, caption; optional group, split (train, val or test; else by --shares, or test)
    captions.json     {video: [caption, …]}, or rows with the same names
    transcripts.csv   columns video, text; with start and end, a row for each segment
    transcripts.json  {video: text}, {video: {text, segments}}, or rows as data_prep.transcribe writes them

A row may name a video with "./" before its id, and in either of Unicode's forms of é. A .srt or .vtt file beside a
video (clip.srt, clip.en.srt) holds its subtitles; else the video itself may.
"""

import collections
import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence

from data_prep import names
from data_prep.corpora import folder_texts, layout
from data_prep.corpora.annotations import Problems
from data_prep.corpora.sample import TEACHER, Sample
from data_prep.speech import subtitles, timed_data

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".3gp", ".ogv", ".mxf", ".asf", ".vob"),
)
# What is no clip here, and may have been meant as one: kind → suffixes. Names without a suffix are a kind of their own.
_NO_CLIPS = {
    "sound files (this corpus is of videos)": (*layout.SOUND_SUFFIXES, ".aac", ".wma", ".aiff", ".mka"),
    "unfinished downloads": (".part", ".crdownload", ".download", ".ytdl"),
    "files without a suffix": ("",),
}
_NOTES = 1 << 16  # bytes up to which a file without a suffix is taken for notes
TRANSCRIPTS = "transcripts.csv"  # read before a recogniser's transcripts.json
SPLITS = folder_texts.SPLITS
_SHOWN = 10  # names in the warning
_log = logging.getLogger(__name__)


def read(
    root: str,
    transcripts: str | None = None,
    teacher: str = TEACHER,
    shares: Sequence[float] = (0, 0, 1),
) -> dict[str, list[Sample]]:
    """All videos below the root. Those that no row puts into a split are divided by `shares`, of train, val and test.

    By default they are all test: a gallery to search. Hidden files and folders are passed over. Links that lead out of
    the root are not followed: a warning names them. Raises one ValueError that lists every problem, among them rows
    that name no video.
    """
    problems = Problems(root)
    if not os.path.isdir(root):
        problems.add("--root should be a folder of videos; there is no such folder")
        problems.stop_if_any()
    videos, beside = _walk(root, problems)
    if not videos:
        problems.add(f"no video below this folder; known are {' '.join(VIDEO_SUFFIXES)}")
    rows = folder_texts.read_captions(root, videos, problems)
    spoken = {}
    for path in reversed(layout.transcript_files(root, TRANSCRIPTS, transcripts)):
        spoken |= folder_texts.read_transcripts(path, videos, problems)
    splits = folder_texts.splits_of(rows, problems)
    problems.stop_if_any()

    by_video = collections.defaultdict(list)
    for row in rows:
        by_video[row["video"]].append(row)
    own_subtitles = subtitles_of(videos.values(), beside)
    _warn(root, videos, beside)

    vectors = {
        kind: _vectors(os.path.join(root, "FeatureData", teacher, kind), videos)
        for kind in ("VideoFeature", "AudioFeature")
    }

    samples = {split: [] for split in SPLITS}
    for clip_id, path in videos.items():
        kept = [row for row in by_video[clip_id] if row["caption"]]
        transcript, speech = spoken.get(clip_id, ("", {}))
        split = splits.get(clip_id) or share_of(clip_id, shares)
        samples[split].append(
            Sample(
                id=clip_id,
                split=split,
                video=path,
                captions=[row["caption"] for row in kept],
                groups=[row["group"] for row in kept],
                transcript=transcript,
                transcribed=clip_id in spoken,
                tags=[],
                audio=None,
                teacher_video=vectors["VideoFeature"].get(clip_id),
                teacher_audio=vectors["AudioFeature"].get(clip_id),
                speech=speech,
                subtitles=own_subtitles.get(path, path),
                empty_captions=len(by_video[clip_id]) - len(kept),
            )
        )
    empty = [split for split, share in zip(SPLITS, shares, strict=True) if share and not samples[split]]
    if empty and len(splits) < len(videos):  # not all are where a row wants them
        raise ValueError(
            f"{root}: no video of {len(videos)} came into {', '.join(empty)}; give it more (--shares), or 0"
        )
    return samples


def share_of(clip_id: str, shares: Sequence[float]) -> str:
    """The split of a clip by its id alone, in either of Unicode's forms: none changes it when others come or go.

    Raises ValueError where `shares`, of train, val and test, are not three numbers from 0 that sum to 1.
    """
    if len(shares) != len(SPLITS) or min(shares) < 0 or not abs(sum(shares) - 1) < 1e-6:
        raise ValueError(f"shares {', '.join(map(str, shares))}: give three for train, val and test, with a sum of 1")
    place = int.from_bytes(hashlib.sha256(names.form(clip_id).encode()).digest()[:6]) / 2**48
    ends = itertools.accumulate(shares)
    return next((split for split, end in zip(SPLITS, ends, strict=True) if place < end), "test")


# ---------------------------------------------------------------- files


def _walk(root: str, problems: Problems) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Clip id → path, in the ids' order; and folder → names of the subtitle files in it."""
    inside = os.path.join(os.path.realpath(root), "")
    videos, beside, left_out = {}, collections.defaultdict(list), []
    passed_over: dict[str, list[str]] = {kind: [] for kind in _NO_CLIPS}
    # Folders behind links are not entered: inside the root they are found where they are, without loops.
    for folder, folders, files in os.walk(root, onerror=lambda error: left_out.append(error.filename)):
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in (name for name in (*linked, *sorted(files)) if not name.startswith(".")):
            path, suffix = os.path.join(folder, name), os.path.splitext(name)[1].lower()
            if name not in linked and suffix not in VIDEO_SUFFIXES and suffix not in subtitles.FORMATS:
                for kind, suffixes in _NO_CLIPS.items():
                    if suffix in suffixes and (suffix or (os.path.isfile(path) and os.path.getsize(path) > _NOTES)):
                        passed_over[kind].append(path)
                continue
            if os.path.islink(path) and not _leads_inside(path, inside):
                left_out.append(path)
            elif suffix in subtitles.FORMATS:
                beside[folder].append(name)
            elif os.path.isfile(path):
                clip_id = names.as_text(os.path.relpath(path, root)).replace(os.sep, "/")
                if clip_id in videos:
                    problems.add("two videos have the same name once it is written as UTF-8; rename one", [clip_id])
                videos[clip_id] = path
    if left_out:
        _log.warning(
            "%s: left out %d links that lead out of this folder or nowhere, or folders that cannot be read: %s%s",
            *(root, len(left_out), ", ".join(names.as_text(os.path.relpath(path, root)) for path in left_out[:_SHOWN])),
            f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else "",
        )
    for kind, paths in passed_over.items():
        if paths:
            shown = ", ".join(names.as_text(os.path.relpath(path, root)) for path in paths[:_SHOWN])
            more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
            _log.warning("%s: passed over %d %s: %s%s", root, len(paths), kind, shown, more)
    return dict(sorted(videos.items())), beside


def _leads_inside(path: str, inside: str) -> bool:
    target = os.path.realpath(path)
    return os.path.exists(target) and os.path.join(target, "").startswith(inside)


def subtitles_of(videos: Collection[str], beside: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Path of a video → that of its subtitle file: clip.srt, else English (as CLIP is), else any.

    Of clip.mp4 and clip.2.mp4, clip.2.srt belongs to the second alone, and clip.en.srt to the first.
    """
    stems = {os.path.splitext(path)[0] for path in videos}
    known = names.matcher(stems, any_case=True)
    own = collections.defaultdict(list)  # path without suffix → what each file's name says besides, and its path
    for folder, files in beside.items():
        for name in files:
            stem, parts = _stem_of(os.path.join(folder, name), known, stems)
            own[stem].append((parts, os.path.join(folder, name)))

    def preference(file: tuple[list[str], str]) -> tuple:
        parts, path = file
        no_speech = any(part.removeprefix(".") in timed_data.NAMES for part in parts)
        return no_speech, ".forced" in parts, bool(parts), not any(part.startswith(".en") for part in parts), path

    return {path: min(own[stem], key=preference)[1] for path in videos if (stem := os.path.splitext(path)[0]) in own}


def _stem_of(path: str, known: Callable[[str], str], stems: Collection[str]) -> tuple[str, list[str]]:
    """The video's path without suffix that a subtitle file is named after, and what its name says besides."""
    stem, parts = os.path.splitext(path)[0], []
    while known(stem) not in stems and "." in os.path.basename(stem):
        stem, part = os.path.splitext(stem)  # clip.en.forced → en, forced
        parts.append(part.lower())
    return known(stem), parts


def _warn(root: str, videos: Mapping[str, str], beside: Mapping[str, Sequence[str]]) -> None:
    """Names what a user may take for one file, or for the subtitles of a video."""
    for group in names.alike(videos):
        _log.warning(
            "%s: %s have names that look the same and differ in the Unicode form of their letters; rows mean the one "
            "that they spell exactly",
            *(root, " and ".join(map(ascii, group))),
        )
    stems = {os.path.splitext(path)[0] for path in videos.values()}
    known = names.matcher(stems, any_case=True)
    paths = [os.path.join(folder, name) for folder, files in beside.items() for name in files]
    if lost := [path for path in paths if _stem_of(path, known, stems)[0] not in stems]:
        _log.warning(
            "%s: %d subtitle files are named after no video beside them: %s%s",
            *(root, len(lost), ", ".join(names.as_text(os.path.relpath(path, root)) for path in lost[:_SHOWN])),
            f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else "",
        )


def _vectors(folder: str, videos: Collection[str]) -> dict[str, str]:
    """Clip id → path of its vector, in a folder that is laid out as the videos are."""
    names_of = {}  # path of a vector → clip id
    for clip_id in videos:
        place, _, name = clip_id.rpartition("/")
        for suffix in layout.VECTOR_SUFFIXES:
            names_of[os.path.join(place, names.as_text(names.short(name, suffix)))] = clip_id
    known, found = names.matcher(names_of), {}
    for directory, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(directory, name)
            if (own := known(names.as_text(os.path.relpath(path, folder)))) in names_of:
                found.setdefault(names_of[own], []).append(path)
    order = layout.VECTOR_SUFFIXES
    return {
        clip_id: min(paths, key=lambda path: order.index(os.path.splitext(path)[1])) for clip_id, paths in found.items()
    }
