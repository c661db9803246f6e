"""The annotation files of the demo corpus: those of the official MSR-VTT release, and three of our own."""

import csv
from collections.abc import Iterable
from pathlib import Path

from data_prep.demo.scenes import HARD, SPLITS, Scene
from data_prep.files import replacing, write_json


def write_annotations(out: Path, scenes: list[Scene], transcripts: bool) -> None:
    """The files of the official release, and three of ours: which sense a query asks for, which sounds a clip has, and
    what is spoken in it. `transcripts`: with the generator's, as the file that is published beside MSR-VTT."""
    folder = out / "Annotations"
    by_split = {split: [s for s in scenes if s.split == split] for split in SPLITS}
    captions = [(s.video_id, text) for s in scenes for _, text in s.captions]
    write_json(
        str(folder / "MSRVTT_data.json"),
        {
            "videos": [{"video_id": s.video_id, "split": s.split} for s in scenes],
            "sentences": [{"video_id": v, "caption": text, "sen_id": i} for i, (v, text) in enumerate(captions)],
        },
        end="\n",
    )
    _write_csv(folder / "MSRVTT_train.9k.csv", ("video_id",), ((s.video_id,) for s in by_split["train"]))
    _write_csv(folder / "MSRVTT_val.csv", ("video_id",), ((s.video_id,) for s in by_split["validate"]))
    _write_csv(
        folder / "MSRVTT_JSFUSION_test.csv",
        ("key", "vid_key", "video_id", "sentence"),
        (
            (f"ret{i}", f"msr{s.video_id.removeprefix('video')}", s.video_id, s.captions[0][1])
            for i, s in enumerate(by_split["test"])
        ),
    )
    _write_csv(
        folder / "query_groups.csv",
        ("video_id", "sentence", "group"),
        (
            (s.video_id, text, kind)
            for split in ("validate", "test")
            for s in by_split[split]
            for kind, text in s.captions
        ),
    )
    _write_csv(folder / "clip_tags.csv", ("video_id", "tags"), ((s.video_id, s.tags) for s in scenes))
    _write_csv(
        folder / "spoken.csv",
        ("video_id", "sentence", "voice", "speed", "hard"),
        ((s.video_id, s.sentence, s.voice, str(s.speed), str(int(s.speaking is HARD))) for s in scenes if s.sentence),
    )
    if transcripts:
        heard = [{"key": f"{s.video_id}.wav", "text": s.transcript} for s in scenes if s.transcript]
        write_json(str(out / "msrvtt10k_asr_text.json"), heard, end="\n")


def write_transcripts(out: Path, scenes: list[Scene]) -> None:
    """The generator's, as `data_prep.corpora.folder` reads them beside videos."""
    heard = ((f"{s.video_id}.mp4", s.transcript) for s in scenes if s.transcript)
    _write_csv(out / "transcripts.csv", ("video", "text"), heard)


def _write_csv(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    with replacing(str(path)) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
