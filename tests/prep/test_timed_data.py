"""Files in the form of subtitles that nobody says: left out with a reason, which the build tells."""

import json

import pytest
from helpers import official_corpora as made
from helpers.corpus import SETTINGS

from data_prep.clip import prepare
from data_prep.corpora import CORPORA
from data_prep.speech import subtitles


def srt(texts, step=1.0, length=0.9):
    """A .srt file of these texts, one every `step` seconds."""
    stamps = [(step * k, step * k + length) for k in range(len(texts))]
    return "\n".join(f"{k}\n{_stamp(a)} --> {_stamp(b)}\n{texts[k]}\n" for k, (a, b) in enumerate(stamps))


def _stamp(seconds):
    return f"{int(seconds // 3600):02}:{int(seconds // 60) % 60:02}:{seconds % 60:06.3f}".replace(".", ",")


DRONE = [
    f'<font size="28">SrtCnt : {k}, DiffTime : 33ms\n2024-05-01 12:00:0{k}.123\n[iso : 100] [shutter : 1/1000.0] '
    f"[latitude: 48.1{k}] [longitude: 11.5] </font>"
    for k in range(8)
]
FILES = {
    "drone.srt": (srt(DRONE), "readings of a camera or a drone"),
    "old drone.srt": (srt([f"F/2.8, SS 320.02, ISO 100, EV 0, D 12.{k}m, H 5.10m" for k in range(8)]), "readings of a"),
    "gps.srt": (srt([f"GPS(11.5{k},48.1,19) BAROMETER:91.{k}" for k in range(8)]), "readings of a camera or a drone"),
    "dashcam.srt": (srt([f"2021/03/04 12:00:0{k} {40 + k} km/h" for k in range(8)]), "readings of a camera or a drone"),
    "clock.srt": (srt([f"12:00:0{k} Montag" for k in range(8)]), "readings of a device: the same words"),
    "slow clock.srt": (srt([f"12:00:{2 * k:02} Montag" for k in range(20)], 2), "readings of a device: the same words"),
    "sprite.vtt": (
        "WEBVTT\n\n" + srt([f"my s.jpg#xywh={160 * k},0,160,90" for k in range(8)]),
        "addresses of pictures",
    ),
    "pictures.vtt": ("WEBVTT\n\n" + srt([f"https://x.org/t/{k}.webp?w=1" for k in range(8)]), "addresses of pictures"),
    "data.vtt": ("WEBVTT\n\n" + srt([json.dumps({"title": "a", "n": k}, indent=1) for k in range(3)]), "data for"),
    "kind.vtt": ("WEBVTT\nKind: chapters\n\n" + srt(["Welcome", "The end"]), "a track of chapters"),
    "clip.chapters.vtt": ("WEBVTT\n\n" + srt(["Welcome", "The end"]), "a track of chapters"),
    "long.vtt": ("WEBVTT\n\n" + srt(["Welcome to it", "The second part", "The end"], 90, 90), "titles of chapters"),
}


@pytest.mark.parametrize("name", FILES)
def test_it_is_left_out_with_a_reason(tmp_path, name):
    content, reason = FILES[name]
    (tmp_path / name).write_text(content)
    text, speech = subtitles.read(str(tmp_path / name))
    assert text == "" and "segments" not in speech
    (part,) = speech["dropped"]  # one for all of them
    assert part["reason"].startswith(reason) and "not speech; the first of " in part["reason"]
    assert subtitles.nobody_speaks(speech) == part["reason"]


@pytest.mark.parametrize(
    "texts",
    [
        ["The camera has an ISO of 100,", "an f/2.8 lens and costs 300 dollars.", "We were at 20 km/h."],
        ["Ten.", "9", "8", "7"],
        ["Room 101.", "Room 102.", "Room 103."],
        ["It was 3 to 2.", "No, it was 4 to 2, I saw it.", "Look at a.jpg on my page."],
        ["1, 2, 3,", "4, 5, 6,", "7, 8, 9, 10."],
        ["It's 3 to 1 now", "It's 4 to 1 now", "It's 5 to 2 now"],
        [f"It's {k} to {k + 1} now" for k in range(12)],
        ["Where are you now?", "Where are you now?", "Where are you now?"],
    ],
)
def test_speech_about_such_things_stays(tmp_path, texts):
    (tmp_path / "a.srt").write_text(srt(texts, step=3))
    assert len(subtitles.read(str(tmp_path / "a.srt"))[1]["segments"]) == len(texts)


def test_two_long_cues_are_no_chapters(tmp_path):
    (tmp_path / "a.srt").write_text(srt(["Look at that whale.", "It is gone."], step=40, length=40))
    assert len(subtitles.read(str(tmp_path / "a.srt"))[1]["segments"]) == 2


def test_a_short_count_is_speech_at_any_pace(tmp_path):
    (tmp_path / "a.srt").write_text(srt(["1, 2, 3,", "4, 5, 6,", "7, 8, 9, 10."]))
    assert len(subtitles.read(str(tmp_path / "a.srt"))[1]["segments"]) == 3


def test_the_record_tells_it(tmp_path):
    made.video(tmp_path / "DJI_0001.mp4")
    (tmp_path / "DJI_0001.srt").write_text(srt(DRONE))
    (sample,) = CORPORA["folder"].read(str(tmp_path))["test"]
    clip = prepare(sample, SETTINGS)
    assert clip.transcript == "" and "iso : 100" in clip.speech["dropped"][0]["text"]
    (note,) = clip.notes
    assert note.startswith(f"subtitles: {tmp_path}/DJI_0001.srt: readings of a camera or a drone, not speech")


def test_files_named_as_such_are_not_chosen_before_subtitles(tmp_path):
    for name in ("a.mp4", "a.chapters.vtt", "a.de.vtt", "b.mp4", "b.thumbnails.vtt"):
        (tmp_path / name).touch()
    first, second = CORPORA["folder"].read(str(tmp_path))["test"]
    assert first.subtitles.endswith("a.de.vtt") and second.subtitles.endswith("b.thumbnails.vtt")
