"""Miniature corpora in exactly the forms that their authors publish, with real videos where a test wants some."""

import json
import pathlib
import pickle
from collections.abc import Mapping, Sequence

from PIL import Image

from data_prep.corpora.charades import is_held_out
from helpers import media

SPLITS = {"train": ["video0", "video1"], "val": ["video2"], "test": ["video3", "video4"]}
VATEX = {
    "train": ["--07WQ2iBlw_000001_000011", "-0pSVbMdqnc_000010_000020"],
    "val": ["_5_aLvPwu9c_000017_000027"],
    "test": ["zz5Vb8LqpgI_000026_000036"],
}
CHARADES_COLUMNS = [
    *("id", "subject", "scene", "quality", "relevance", "verified"),
    *("script", "objects", "descriptions", "actions", "length"),
]
AUDIOCAPS = {
    "train": [("vfY_TJq7n_U", 130), ("-dWhHV3X25Q", 60)],
    "val": [("uYT5gxnyMWM", 50)],
    "test": [("y2bVZ7rz-5M", 280), ("_w76HGONaKg", 570)],
}
SOUNDDESCS = {"train": ["07051146", "nhu05102079"], "val": ["07001030"], "test": ["07033137", "nhu9479450"]}
LSMDC = {
    "train": ["0001_American_Beauty_00.00.51.926-00.00.54.129", "0001_American_Beauty_00.01.01.815-00.01.08.006"],
    "val": ["1012_Unbreakable_00.05.16.065-00.05.21.941"],
    "test": ["0003_CASABLANCA_00.03.09.926-00.03.11.925"],
}
LSMDC_FILES = {
    "train": "LSMDC16_annos_training.csv",
    "val": "LSMDC16_annos_val.csv",
    "test": "LSMDC16_challenge_1000_publictect.csv",
}


def folders(root: pathlib.Path) -> pathlib.Path:
    """Makes the two folders that every corpus has, and returns that of the annotations."""
    (root / "VideoData").mkdir(parents=True)
    (root / "Annotations").mkdir()
    return root / "Annotations"


def video(path: pathlib.Path, number: int = 0, sound: bool = True) -> pathlib.Path:
    """A real video of a second, with a tone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [media.numbered(number + k) for k in range(10)]
    media.write_media(path, frames, fps=10, sound=media.tone(16000, 1) if sound else None)
    return path


def pictures(folder: pathlib.Path, count: int = 3) -> pathlib.Path:
    """A clip as a folder of pictures."""
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(media.numbered(number)).save(folder / f"{number + 1}.jpg")
    return folder


def msrvtt_7k(root: pathlib.Path, splits: Mapping[str, Sequence[str]] = SPLITS, captions: int = 20) -> pathlib.Path:
    """MSR-VTT's own file, which has the splits as well; captions are not in the videos' order, as in the original."""
    official = {"train": "train", "val": "validate", "test": "test"}
    ids = [clip_id for members in splits.values() for clip_id in members]
    videos = [
        {"video_id": i, "split": official[split], "category": 3, "url": "", "start time": 0.0, "end time": 9.0}
        for split, members in splits.items()
        for i in members
    ]
    sentences = [{"caption": f"{k} of {i}", "video_id": i} for k in range(captions) for i in reversed(ids)]
    sentences = [row | {"sen_id": number} for number, row in enumerate(sentences)]
    (folders(root) / "MSRVTT_data.json").write_text(json.dumps({"info": {}, "videos": videos, "sentences": sentences}))
    return root


def vatex(root: pathlib.Path, splits: Mapping[str, Sequence[str]] = VATEX, newline: str = "\n") -> pathlib.Path:
    notes = folders(root)
    for split, members in splits.items():
        (notes / f"{split}_list.txt").write_bytes("".join(i + newline for i in members).encode())
    captions = {i: [f"{k} of {i}" for k in range(10)] for members in splits.values() for i in members}
    (notes / "ref_captions.json").write_text(json.dumps(captions))
    return root


def charades_ids(count: int, held_out: bool) -> list[str]:
    """Ids of five letters, as Charades has them, that are held out for validation, or are not."""
    names = (f"{number:05X}" for number in range(10_000))
    return [name for name in names if is_held_out(name) == held_out][:count]


def charades(root: pathlib.Path, train: Mapping[str, str], test: Mapping[str, str]) -> pathlib.Path:
    """`{id: script}`; descriptions hold a line break within quotes."""
    notes = folders(root)
    for name, scripts in (("train", train), ("test", test)):
        rows = [
            [i, "HR43", "Kitchen", "6", "7", "Yes", script, "food;light", 'One, two.;\nThree "x".', "c092 1 2", "33.6"]
            for i, script in scripts.items()
        ]
        media.write_csv(notes / f"Charades_v1_{name}.csv", CHARADES_COLUMNS, rows)
    return root


def lsmdc(root: pathlib.Path, rows: Mapping[str, Sequence[str]] | None = None) -> pathlib.Path:
    """`{split: rows}`, each row a line of a file; else a sentence for each of the clips above."""
    notes = folders(root)
    made = {split: [lsmdc_row(i, f"Someone is in {i[:4]}.") for i in ids] for split, ids in LSMDC.items()}
    for split, lines in (made | dict(rows or {})).items():
        (notes / LSMDC_FILES[split]).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return root


def lsmdc_row(clip_id: str, sentence: str) -> str:
    """The times of the official files: aligned and extracted start and end."""
    start, end = clip_id.rsplit("_", 1)[-1].split("-")
    return "\t".join([clip_id, start, end, start, end, sentence])


def audiocaps(root: pathlib.Path, splits: Mapping[str, Sequence[tuple[str, int]]] = AUDIOCAPS) -> pathlib.Path:
    """`{split: [(youtube id, start)]}`: five captions a clip in val and test, a row each and not beside each other."""
    notes, number = folders(root), 90_000
    (root / "AudioData").mkdir()
    for split, clips in splits.items():
        rows = []
        for k in range(1 if split == "train" else 5):
            for clip_id, start in clips:
                number += 1
                rows.append([number, clip_id, start, f"Sound {k}, of {clip_id}"])
        media.write_csv(notes / f"{split}.csv", ["audiocap_id", "youtube_id", "start_time", "caption"], rows)
    return root


def sounddescs(root: pathlib.Path, splits: Mapping[str, Sequence[str]] = SOUNDDESCS) -> pathlib.Path:
    """The lists have no new line at their end, and there are descriptions of sounds that no list has."""
    notes = folders(root)
    (root / "AudioData").mkdir()
    for split, members in splits.items():
        (notes / f"{split}_list.txt").write_text("\n".join(members))
    described = [clip_id for members in splits.values() for clip_id in members] + ["07099999"]
    (notes / "descriptions.pkl").write_bytes(pickle.dumps({i: f"Clocks: {i}, ticking.  " for i in described}))
    return root


def write_transcripts(path: pathlib.Path, texts: Mapping[str, str]) -> pathlib.Path:
    """`{id: text}` in the published form."""
    path.write_text(json.dumps([{"key": f"{clip_id}.wav", "text": text} for clip_id, text in texts.items()]))
    return path
