"""Moments, embeddings and judgements as other programs read them."""

import csv
import dataclasses
import re

import av
import numpy as np
import opentimelineio as otio
import pyarrow.parquet as pq
import pytest
from helpers import media

from data_prep.media import video
from data_prep.media.opening import MediaError
from save_jax.search import door, export, judgements
from save_jax.search.library import Moment

MOMENT = Moment("/videos/a.mp4", "videos/a.mp4", 61.24, 73.5, 65.0, 3.5, {"vision": 1.0}, 'a red, "blue"\ncar')


def test_csv_can_be_read_back(tmp_path):
    path = tmp_path / "a.csv"
    odd = dataclasses.replace(MOMENT, file="/videos/\udcff, é.mp4")
    export.write(str(path), [MOMENT, odd], "x")
    first, second = csv.DictReader(path.read_text(encoding="utf-8").splitlines(keepends=True))
    assert first == {
        "file": MOMENT.file,
        "start": "61.24",
        "end": "73.5",
        "best": "65.0",
        "score": "3.5",
        "words": MOMENT.words,
    }
    assert second["file"] == "/videos/\\xff, é.mp4"


def test_edit_decision_list(tmp_path):
    """Source and record last equally long, and no name ends a line."""
    hostile = dataclasses.replace(MOMENT, file="/v/a\n002  AX\x1b.mp4", start=0.51, end=3599.99)
    path = tmp_path / "a.edl"
    export.write(str(path), [MOMENT, hostile, MOMENT], "a red car\nFCM: DROP FRAME")
    lines = path.read_text().splitlines()
    assert lines[:2] == ["TITLE: a red car FCM: DROP FRAME", "FCM: NON-DROP FRAME"]
    assert lines[2] == "001  AX       V     C        00:01:01:06 00:01:13:13 00:00:00:00 00:00:12:07"
    assert lines[3:5] == ["* FROM CLIP NAME: a.mp4", "* SOURCE FILE: /videos/a.mp4"]
    events = [line for line in lines if re.match(r"\d{3}  AX", line)]
    assert len(events) == 3 and "\x1b" not in path.read_text()
    codes = [[frames(code) for code in event.split()[-4:]] for event in events]
    assert all(b - a == d - c for a, b, c, d in codes)
    assert [c for _, _, c, _ in codes[1:]] == [d for _, _, _, d in codes[:-1]]
    assert codes[1][:2] == [13, 90000]


def frames(code: str) -> int:
    hours, minutes, seconds, part = map(int, code.split(":"))
    return 25 * (3600 * hours + 60 * minutes + seconds) + part


def test_opentimelineio(tmp_path):
    path = tmp_path / "a.otio"
    export.write(str(path), [MOMENT, dataclasses.replace(MOMENT, file="/videos/b é.mp4")], "a red car")
    [track] = otio.adapters.read_from_file(str(path)).tracks
    assert [clip.name for clip in track] == ["a.mp4", "b é.mp4"]
    span = track[0].source_range
    assert (span.start_time.to_seconds(), span.duration.to_seconds()) == pytest.approx((61.24, 12.26))
    assert track[0].media_reference.target_url.endswith("/videos/a.mp4")


def test_other_forms_are_refused(tmp_path, opened):
    with pytest.raises(ValueError, match=r"a\.xml: moments are written as \.csv, \.edl, \.otio"):
        export.write(str(tmp_path / "a.xml"), [MOMENT], "")
    with pytest.raises(ValueError, match=r"embeddings are written as \.npy or \.parquet"):
        door.export_embeddings(opened, str(tmp_path / "a.csv"))


@pytest.mark.parametrize(
    ("suffix", "codec", "sound_codec"), [(".mp4", "libx264", "aac"), (".webm", "libvpx", "libopus")]
)
def test_clips_are_cut_out(tmp_path, suffix, codec, sound_codec):
    """From the key frame before, a second away at most, to the end of the moment; and they play."""
    path = tmp_path / f"a{suffix}"
    pictures = [media.numbered(2 * k) for k in range(100)]
    options = {"g": "10", "keyint_min": "10"} | ({"bf": "2"} if codec == "libx264" else {})
    media.write_media(
        path, pictures, fps=10, sound=media.tone(48000, 10), rate=48000, codec=codec, sound_codec=sound_codec,
        codec_options=options,
    )  # fmt: skip
    made = export.cut(dataclasses.replace(MOMENT, file=str(path), start=3.5, end=6.0), 1, str(tmp_path / "cuts"))
    with av.open(made) as container:
        shown = [media.number_of(frame.to_ndarray(format="rgb24")) // 2 for frame in container.decode(video=0)]
    assert 25 <= shown[0] <= 35 and set(range(35, 60)) <= set(shown) and max(shown) <= 62
    with av.open(made) as container:
        heard = sum(frame.samples for frame in container.decode(audio=0)) / 48000
    assert 2.4 <= heard <= 4
    assert len(video.read_frames(made, 64, 12)[0]) >= 3


def test_names_of_cut_clips_fit(tmp_path):
    path = tmp_path / f"{'é' * 120}.mp4"
    media.write_media(path, [media.numbered(k) for k in range(20)], fps=10)
    made = export.cut(dataclasses.replace(MOMENT, file=str(path), start=0, end=1), 1, str(tmp_path / "cuts"))
    assert made.endswith(".mkv") and av.open(made)
    with pytest.raises(MediaError, match="no such file"):
        export.cut(MOMENT, 1, str(tmp_path / "cuts"))
    with pytest.raises(ValueError, match=r"nothing lies at 50\.0 s"):
        export.cut(dataclasses.replace(MOMENT, file=str(path), start=50, end=0), 1, str(tmp_path / "cuts"))


def test_embeddings(tmp_path, opened):
    view = opened.view
    door.export_embeddings(opened, str(tmp_path / "a.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), view.means)
    door.export_embeddings(opened, str(tmp_path / "a.parquet"))
    table = pq.read_table(tmp_path / "a.parquet").to_pydict()
    np.testing.assert_array_equal(np.array(table["vector"], np.float32), view.means)
    assert set(table["file"]) == {"mine/animals/dog.mp4", "mine/animals/bird.mp4", "mine/cars/red.mp4"}
    assert table["start"] == view.starts.tolist() and table["end"] == view.ends.tolist()
    np.testing.assert_allclose(np.linalg.norm(view.means, axis=1), 1, atol=1e-5)


def test_judgements_count_what_is_meant(tmp_path, opened, videos):
    path = tmp_path / "queries.csv"
    path.write_text(
        'query,file,start,end\n"""red car""",mine/cars/red.mp4,0,2\n'
        f'"""doesn\'t bark""",{videos}/animals/dog.mp4,,\n"""red car""",mine/animals/bird.mp4,,\n',
        encoding="utf-8-sig",
    )
    judged = judgements.read(str(path))
    assert [(row.query, row.start) for row in judged] == [
        ('"red car"', 0.0),
        ('"doesn\'t bark"', None),
        ('"red car"', None),
    ]
    result = judgements.evaluate(opened, judged)
    assert result["queries"] == 3
    assert result["R@1"] == result["R@10"] == pytest.approx(200 / 3)
    assert result["IoU≥0.5"] in (0, 100) and result["start"] <= 2
    assert judgements.overlap(MOMENT, 61.24, 67.37) == pytest.approx(0.5)
    assert judgements.overlap(MOMENT, 0, 10) == 0


def test_judgements_that_cannot_be_read(tmp_path, opened):
    path = tmp_path / "queries.csv"
    for text, message in (
        ("query,start\na,1\n", "needs the columns query and file"),
        ("query,file\n", "has no row"),
        ("query,file,start,end\na,b,one,2\n", "line 2: could not convert"),
        ("", "needs the columns"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            judgements.read(str(path))
    path.write_text("query,file\na,none.mp4\n")
    with pytest.raises(ValueError, match=r"not in the index: none\.mp4; files are named as"):
        judgements.evaluate(opened, judgements.read(str(path)))
