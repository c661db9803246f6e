"""The texts of a plain folder of videos: captions and transcripts, as tables or JSON, by the names of the videos."""

import collections
import os
import re
from collections.abc import Collection, Iterable, Mapping

from data_prep import names
from data_prep.corpora import layout
from data_prep.corpora.annotations import Problems, clean, read_json, with_near
from data_prep.corpora.tables import LINE, read_rows
from data_prep.speech import transcripts

SPLITS = ("train", "val", "test")
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:[.,]\d+)?)|(\d+(?:[.,]\d+)?)")  # 1:02:03.5, 02:03,5 or 63.5
Row = dict[str, str]


def read_captions(root: str, videos: Collection[str], problems: Problems) -> list[Row]:
    """Rows of video (its id), caption, group and split; the last two are "" where unknown."""
    table, structure = os.path.join(root, "captions.csv"), os.path.join(root, "captions.json")
    if os.path.exists(table) and os.path.exists(structure):
        problems.add(f"there are both {table} and {structure}; keep one")
    if os.path.exists(table):
        rows = read_rows(table, ["video", "caption"], problems, optional=["group", "split"])
    else:
        rows = _captions_of_json(structure, problems) if os.path.exists(structure) else []
    return _with_ids("captions", rows, videos, problems)


def _captions_of_json(path: str, problems: Problems) -> list[Row]:
    data, rows = read_json(path, problems), []
    try:
        if isinstance(data, dict):
            data = [{"video": video, "caption": text} for video, texts in data.items() for text in _list_of(texts)]
        for number, row in enumerate(data or [], 1):
            if missing := [name for name in ("video", "caption") if name not in row]:
                raise TypeError(f"row {number} has the names {', '.join(row)}, it lacks {' and '.join(missing)}")
            row = {name: clean(row.get(name) or "") for name in ("video", "caption", "group", "split")}
            rows.append(row | {LINE: f"{number} of the rows"})
    except (TypeError, AttributeError) as error:
        problems.add(f"{path} has neither the form {{video: [caption, …]}} nor [{{video, caption}}, …] ({error})")
        return []
    return rows


def _list_of(texts: object) -> list[str]:
    if not isinstance(texts, list):
        raise TypeError(f"{texts!r} is not a list of captions")
    return texts


def read_transcripts(path: str, videos: Collection[str], problems: Problems) -> dict[str, tuple[str, dict]]:
    """Clip id → (transcript, speech). Rows written by hand must name a video; a recogniser's may be older than that."""
    if path.lower().endswith((".csv", ".tsv")):
        rows = read_rows(path, ["video", "text"], problems, optional=["start", "end"])
        return _of_table(path, _with_ids(path, rows, videos, problems), problems)
    if (data := read_json(path, problems)) is None:
        return {}
    if not isinstance(data, dict):
        return _by_id(path, layout.read_transcripts(path, problems, keys_are_ids=True), videos, problems)
    if isinstance(data.get("segments"), list):
        problems.add(
            f'{path} is what Whisper writes of one video; write {{"clip.mp4": {{"text": …, "segments": […]}}, …}}'
        )
        return {}
    found, wrong = {}, []
    for video, value in data.items():
        try:
            found[clean(video)] = transcripts.of_value(clean(value) if isinstance(value, str) else value)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            wrong.append(f"{video} ({type(error).__name__}: {error})")
    if wrong:
        problems.add(f"{path}: {len(wrong)} videos have neither a text, nor {{text, segments}}, nor segments", wrong)
    rows = [{"video": video, LINE: ""} for video in found]
    _with_ids(path, rows, videos, problems)
    return _by_id(path, found, videos, problems)


def _of_table(path: str, rows: Iterable[Row], problems: Problems) -> dict[str, tuple[str, dict]]:
    """One row a video; or one row a segment, with its start and end in seconds or as 1:02:03.5."""
    by_video, wrong = collections.defaultdict(list), []
    for row in rows:
        by_video[row["video"]].append(row)
    several = {video: of_video for video, of_video in by_video.items() if len(of_video) > 1}
    if not several:
        return {video: (transcripts.clean(row["text"]), {}) for video, [row] in by_video.items()}
    segments = collections.defaultdict(list)
    for video, of_video in by_video.items():
        for row in of_video:
            start, end = _seconds(row["start"]), _seconds(row["end"] or row["start"])
            if start is None or end is None:
                wrong.append(f"{video}, line {row[LINE]}")
            elif row["text"]:
                segments[video].append({"start": start, "end": end, "text": row["text"]})
    if wrong:
        problems.add(
            f"{path} has several rows for {len(several)} videos, which need columns start and end in seconds to be put "
            "together; else write one row for each video. Without a time are",
            wrong,
        )
        return {}
    return {video: transcripts.joined(segments[video]) for video in by_video}


def _seconds(text: str) -> float | None:
    if (match := _CLOCK.fullmatch(text)) is None:
        return None
    hours, minutes, seconds, alone = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float((alone or seconds).replace(",", "."))


def _by_id(path: str, found: Mapping[str, tuple], videos: Collection[str], problems: Problems) -> dict[str, tuple]:
    """The same by the ids of the videos that the names mean; two rows for one video are a problem."""
    known, by_id = names.matcher(videos), {}
    for name, value in found.items():
        by_id.setdefault(known(name.removeprefix("./")), {})[name] = value
    if twice := [" and ".join(names.told_apart([*of_id])) for of_id in by_id.values() if len(of_id) > 1]:
        problems.add(f"{path} has several rows for one video", twice)
    return {clip_id: value for clip_id, of_id in by_id.items() for value in of_id.values()}


def _with_ids(what: str, rows: Iterable[Row], videos: Collection[str], problems: Problems) -> list[Row]:
    """The rows with the ids of the videos that they mean; a problem where they mean none."""
    known = names.matcher(videos)
    rows = [row | {"video": known(row["video"].removeprefix("./"))} for row in rows]
    strange: dict[str, Row] = {}
    for row in rows:
        if row["video"] not in videos:
            strange.setdefault(row["video"], row)
    if strange:
        shown = [_strange(video, row, videos) for video, row in strange.items()]
        problems.add(f"{what}: {len(strange)} rows name no video below this folder", shown)
    return rows


def _strange(video: str, row: Row, videos: Collection[str]) -> str:
    if not video:
        return f"nothing in line {row[LINE]}"
    same = [name for name in videos if names.form(name) == names.form(video)]
    if same:
        return (
            f"{video} ({len(same)} files differ from it in the Unicode form of their letters alone; rename all but one)"
        )
    return with_near(video, list(videos))


def splits_of(rows: Iterable[Row], problems: Problems) -> dict[str, str]:
    """Clip id → split, for the rows that name one."""
    named = collections.defaultdict(set)
    for row in rows:
        if row["split"]:
            named[row["video"]].add(row["split"])
    if unknown := sorted({split for splits in named.values() for split in splits} - set(SPLITS)):
        problems.add("captions: splits that are not train, val or test", unknown)
    if torn := [video for video, splits in named.items() if len(splits) > 1]:
        problems.add("captions: videos in more than one split", torn)
    return {video: splits.pop() for video, splits in named.items()}
