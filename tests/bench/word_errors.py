"""Word errors of Whisper on the demo's voices: by voice, by speed, and by the level of the voice over the bed.

    python tests/bench/word_errors.py --model FOLDER [--model FOLDER …]
    python tests/bench/word_errors.py --demo DIR --transcripts FILE [--transcripts FILE …]
    python … --demo DIR --transcripts FILE --recogniser NAME --readings data_prep/demo/heard.json

The first speaks one sentence of each topic over beds in turn, as the demo mixes them; a model is a folder in
faster-whisper's form. The second reads what `data_prep.transcribe` heard in a demo corpus. The third keeps it, sentence
by sentence, for the generator, which gives such a corpus transcripts without a recogniser.
"""

import argparse
import collections
import csv
import json
import os
import sys
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.words import edit_distance
from helpers.words import spoken_words as words

from data_prep.demo.captions import EVENT_WORDS
from data_prep.demo.sounds import SOUND_RATE, make_event
from data_prep.demo.speech import speak
from data_prep.demo.topics import TOPICS
from data_prep.media.audio import SAMPLE_RATE
from data_prep.speech import transcripts, whisper

VOICES = ("en-us", "en-gb-x-rp", "en-us+f3", "en-us+m3", "en-gb-scotland", "en-us+f2", "en-gb-x-rp+m7", "en-us+Annie")
SETTINGS = (110, 120, 130, 150, 170, 200)
LEVELS = (float("inf"), 20.0, 15.0, 10.0, 6.0, 3.0)


def clips(voice: str, setting: int, level: float):
    """(sentence, mono float32 samples at 16 kHz) of each topic; level: the voice over the bed, in decibels of RMS."""
    events = tuple(EVENT_WORDS)
    for number, topic in enumerate(TOPICS):
        sentence = topic.sentences[number % len(topic.sentences)]
        spoken = speak(sentence, voice, setting)
        spoken = np.concatenate([np.zeros(SOUND_RATE // 4), spoken, np.zeros(SOUND_RATE // 4)])
        bed = make_event(events[number % len(events)], np.random.default_rng(number), len(spoken))
        loud = np.sqrt(np.mean(spoken**2))
        sound = spoken + bed * (loud * 10 ** (-level / 20))
        yield sentence, spoken, sound


def rate(engine, voice: str, setting: int, level: float) -> tuple[float, float]:
    """(word error rate, words a minute that were really spoken)."""
    wrong = total = 0
    speeds = []
    for sentence, spoken, sound in clips(voice, setting, level):
        [heard] = engine.transcribe([resampled(sound)], ["en"])
        said = words(sentence)
        wrong += edit_distance(said, words(" ".join(segment.text for segment in heard.segments)))
        total += len(said)
        speeds.append(60 * len(said) * SOUND_RATE / (len(spoken) - SOUND_RATE // 2))
    return wrong / total, float(np.mean(speeds))


def resampled(sound: np.ndarray) -> np.ndarray:
    """float32 at 16 kHz."""
    frame = av.AudioFrame.from_ndarray(sound.astype(np.float32)[None], format="fltp", layout="mono")
    frame.sample_rate = SOUND_RATE
    resampler = av.AudioResampler("fltp", "mono", SAMPLE_RATE)
    return np.concatenate([part.to_ndarray()[0] for given in (frame, None) for part in resampler.resample(given)])


def read_spoken(demo: Path) -> dict[str, dict[str, str]]:
    """Clip → {"sentence", "hard", …}."""
    with (demo / "Annotations" / "spoken.csv").open(newline="", encoding="utf-8") as file:
        return {row["video_id"]: row for row in csv.DictReader(file)}


def keep_readings(demo: Path, transcript: str, recogniser: str, out: Path) -> None:
    """Writes what each sentence was heard as, once for each clip that speaks it."""
    heard, readings = transcripts.read(transcript), collections.defaultdict(list)
    for clip, row in sorted(read_spoken(demo).items()):
        readings[row["sentence"]].append(heard[clip][0])
    content = {"recogniser": recogniser, "readings": dict(sorted(readings.items()))}
    out.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def of_corpus(demo: Path, files: list[str]) -> None:
    """Prints word errors of transcript files by kind of voice, what was lost, and what was invented."""
    spoken = read_spoken(demo)
    print("| transcripts | all | clear voices | hard voices | sentences right | nothing heard | nothing spoken, text |")
    print("|---|---|---|---|---|---|---|")
    for name in files:
        heard = {clip: text for clip, (text, _) in transcripts.read(name).items() if text}
        wrong = {
            clip: edit_distance(words(row["sentence"]), words(heard.get(clip, ""))) for clip, row in spoken.items()
        }
        cells = []
        for kinds in ("01", "0", "1"):
            chosen = [clip for clip, row in spoken.items() if row["hard"] in kinds]
            total = sum(len(words(spoken[clip]["sentence"])) for clip in chosen)
            cells.append(f"{sum(wrong[clip] for clip in chosen) / total:.3f}")
        lost, invented = len(spoken.keys() - heard.keys()), len(heard.keys() - spoken.keys())
        cells += [
            f"{np.mean([not errors for errors in wrong.values()]):.2f}",
            f"{lost} of {len(spoken)}",
            str(invented),
        ]
        print(f"| {os.path.basename(name)} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", action="append", default=[], help="folder; may be given again")
    parser.add_argument("--demo", type=Path, help="folder of a demo corpus")
    parser.add_argument("--transcripts", action="append", default=[], help="of that corpus; may be given again")
    parser.add_argument("--readings", type=Path, help="file to keep what each sentence was heard as, of one transcript")
    parser.add_argument("--recogniser", default="", help="named in that file")
    args = parser.parse_args()
    if not (args.model or (args.demo and args.transcripts)):
        parser.error("give --model, or --demo and --transcripts")
    if args.readings and not (args.recogniser and args.demo and len(args.transcripts) == 1):
        parser.error("--readings needs --demo, one file of --transcripts, and --recogniser to say whose they are")
    if args.readings:
        keep_readings(args.demo, args.transcripts[0], args.recogniser, args.readings)
    if args.demo:
        of_corpus(args.demo, args.transcripts)
    if args.model:
        of_conditions(args.model)


def of_conditions(models: list[str]) -> None:
    engines = [whisper.load("faster-whisper", model, 1) for model in models]
    names = [os.path.basename(os.path.normpath(model)) for model in models]
    cases = [("en-us", 120, level) for level in LEVELS]
    cases += [(voice, setting, 12.0) for voice in VOICES[:2] for setting in SETTINGS]
    cases += [(voice, 120, 12.0) for voice in VOICES[2:]]
    print("| voice | espeak's setting | words a minute | over the bed | " + " | ".join(names) + " |")
    print("|---" * (4 + len(names)) + "|")
    for voice, setting, level in cases:
        found = [rate(engine, voice, setting, level) for engine in engines]
        over = "no bed" if np.isinf(level) else f"{level:.0f} dB"
        print(
            f"| {voice} | {setting} | {found[0][1]:.0f} | {over} | " + " | ".join(f"{w:.3f}" for w, _ in found) + " |"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
