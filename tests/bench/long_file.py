"""An hour of recorded speech, music and silence through `data_prep.transcribe`: memory, speed, time stamps. A command.

    python tests/bench/long_file.py [--minutes 60] [--model FOLDER]

Joins read sentences, music and silence (`tests/helpers/programme.py`) to one video and transcribes it with Whisper
tiny.en in a process of its own. Prints that process's peak memory, its time by that of the file, the largest error of
the segments' start times against where the sentences were put, the share of wrong words, and what the filters dropped.
"""

import argparse
import collections
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from helpers import media, programme, real_media
from helpers.words import edit_distance, spoken_words


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--model", default="", help="folder for faster-whisper (default: tiny.en)")
    args = parser.parse_args()
    model = args.model or str(real_media.whisper_tiny_en())
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        sound, turns = programme.make(60 * args.minutes)
        seconds = len(sound) / 16_000
        frames = [media.numbered(second % 256) for second in range(int(seconds))]
        media.write_media(folder / "long.mp4", frames, fps=1, sound=sound)
        command = [sys.executable, "-m", "data_prep.transcribe", "--corpus", "folder", "--root", name]
        start = time.perf_counter()
        subprocess.run([*command, "--engine", "faster-whisper", "--model", model], check=True)
        wall = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        [row] = json.loads((folder / "transcripts.json").read_text())
    errors = programme.start_errors(turns, row["segments"])
    known = sorted(abs(error) for error in errors if error is not None)
    said = [word for turn in turns for word in spoken_words(turn.text)]
    wrong = edit_distance(said, spoken_words(row["text"]))
    print(f"{seconds / 60:.1f} minutes, {len(turns)} sentences, {len(row['segments'])} segments")
    print(f"peak memory {used.ru_maxrss / 1024:.0f} MB")
    print(f"time {wall:.0f} s, {wall / seconds:.3f} of the file's; processor {used.ru_utime + used.ru_stime:.0f} s")
    print(
        f"starts: largest error {known[-1]:.2f} s, median {known[len(known) // 2]:.2f} s; {errors.count(None)} within"
    )
    print(f"words: {wrong} of {len(said)} wrong ({wrong / len(said):.1%})")
    reasons = collections.Counter(dropped["reason"].partition(" (")[0] for dropped in row.get("dropped", ()))
    print("dropped: " + ("; ".join(f"{count} {reason}" for reason, count in reasons.most_common()) or "nothing"))


if __name__ == "__main__":
    main()
