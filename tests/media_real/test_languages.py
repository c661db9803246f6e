"""Whisper base, which knows many languages, on telephone prompts in English and French, alone and in one film.

Needs the registries of pip and Debian; see tests/helpers/real_media.py.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import media
from helpers import real_media as packages
from helpers.words import edit_distance, spoken_words

from data_prep.commands import build, inspect, transcribe
from save_jax.data import records

# What the names of the files in `digits` stand for: days from Sunday, months, numbers.
DAYS_AND_MONTHS = {
    "en": "sunday monday tuesday wednesday thursday friday saturday january february march april may june july august "
    "september october november december",
    "fr": "dimanche lundi mardi mercredi jeudi vendredi samedi janvier février mars avril mai juin juillet août "
    "septembre octobre novembre décembre",
}
NUMBERS = range(21)
COUNTED = [*(f"day-{day}" for day in range(7)), *(f"mon-{month}" for month in range(12)), *map(str, NUMBERS)]
PROMPTS = {  # as Asterisk has them
    "agent-alreadyon": "That agent is already logged on. Please enter your agent number followed by the pound key.",
    "conf-leaderhasleft": "The leader has left the conference.",
    "conf-placeintoconf": "You will now be placed into the conference.",
    "confbridge-begin-glorious-b": "The conference will begin when our glorious leader arrives.",
    "confbridge-lock-no-join": "The conference is currently locked and cannot be joined.",
    "confbridge-pin": "Please enter your personal identification number followed by the pound or hash key.",
    "queue-periodic-announce": "All of our representatives are currently busy. Please stay on the line and your call "
    "will be answered by the next available representative.",
    "vm-reenterpassword": "Please re-enter your password followed by the pound key.",
    "vm-sorry": "I'm sorry I did not understand your response.",
    "vm-toreply": "Press one to send a reply.",
}
FRENCH = ["conf-lockednow", "conf-onlyperson", "confbridge-conf-end", "privacy-unident", "vm-enter-num-to-call"]
_NUMBERS = "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize"
DIGITS = {"one": "1"} | {word: str(number) for number, word in enumerate(_NUMBERS.split())}


def prompts(language: str, names: list[str], pause: float) -> np.ndarray:
    folder = packages.prompts(language)
    return packages.joined([part for name in names for part in (packages.heard(folder / f"{name}.wav"), pause)])


def transcribed(folder: Path, sounds: dict[str, np.ndarray], *flags: str) -> dict[str, dict]:
    """File → row, by the command, of a film for each sound."""
    for name, sound in sounds.items():
        frames = [media.numbered(second) for second in range(1 + len(sound) // 16_000)]
        media.write_media(folder / name, frames, fps=1, sound=sound)
    command = ["--corpus", "folder", "--root", str(folder), "--engine", "faster-whisper"]
    assert transcribe.main([*command, "--model", str(packages.whisper_base()), *flags]) == 0
    return {row["key"]: row for row in json.loads((folder / "transcripts.json").read_text())}


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> tuple[Path, dict[str, dict]]:
    folder = tmp_path_factory.mktemp("films")
    english, french = prompts("en", [*PROMPTS], 0.8), prompts("fr", FRENCH, 0.8)
    sounds = {f"{code}.mp4": prompts(code, [f"digits/{name}" for name in COUNTED], 0.5) for code in DAYS_AND_MONTHS}
    sounds["both.mp4"] = packages.joined([english, 5.0, french])
    return folder, transcribed(folder, sounds)


def share_wrong(said: str, heard: str) -> float:
    known, found = ([DIGITS.get(word, word) for word in spoken_words(text)] for text in (said, heard))
    return edit_distance(known, found) / len(known)


@pytest.mark.parametrize(("language", "most"), [("en", 0.12), ("fr", 0.15)])
def test_counted_words(films, language, most):
    row = films[1][f"{language}.mp4"]
    assert row["language"] == language
    said = " ".join([DAYS_AND_MONTHS[language], *map(str, NUMBERS)])
    assert share_wrong(said, row["text"]) <= most, row["text"]


def test_english_prompts(films):
    row = films[1]["both.mp4"]
    heard = " ".join(part["text"] for part in row["segments"] if "language" not in part)
    assert share_wrong(" ".join(PROMPTS.values()), heard) <= 0.12, heard


def test_each_segment_of_a_film_in_two_languages(films, tmp_path):
    folder, rows = films
    row = rows["both.mp4"]
    begins = len(prompts("en", [*PROMPTS], 0.8)) / 16_000 + 5
    assert row["language"] == "en"
    languages = [(part["start"] > begins - 1, part.get("language", "en")) for part in row["segments"]]
    assert {*languages} == {(False, "en"), (True, "fr")}, row["segments"]
    assert "cette conférence est maintenant" in row["text"].lower()
    # The record has it, and so does what `inspect` shows.
    assert build.main(["--corpus", "folder", "--root", str(folder), "--out", str(tmp_path)]) == 0
    clip, _ = inspect.find(inspect.find_shards(str(tmp_path)), "both.mp4")
    assert clip.speech["language"] == "en" and clip.speech["segments"] == row["segments"]
    assert records.decode(records.encode(clip)).speech == clip.speech


def test_a_given_language_is_that_of_all(tmp_path):
    row = transcribed(tmp_path, {"a.mp4": prompts("fr", FRENCH, 0.8)}, "--language", "fr")["a.mp4"]
    assert row["language"] == "fr" and not any("language" in part for part in row["segments"])
    assert "conférence" in row["text"]
