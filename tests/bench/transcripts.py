"""What real transcripts cost SAVE: trained and tested on the demo with those of several recognisers, and with none.

    python tests/bench/transcripts.py --demo data/demo --work FOLDER --model tiny.en=FOLDER --model base=FOLDER

Beside them stand what was really spoken ("spoken") and the generator's ("generator"). Prints the table by query group,
and which differences from "spoken" are more than chance. What is there already is kept: a run of hours can be stopped.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

from save_jax.config.finding import read_config
from save_jax.sweep import grids, runs, significance, tables
from save_jax.training import process

FIRST = "spoken"


def write_transcripts(demo: Path, work: Path, models: dict[str, str]) -> dict[str, Path]:
    """Name → transcript file."""
    with (demo / "Annotations" / "spoken.csv").open(newline="", encoding="utf-8") as file:
        spoken = [{"key": f"{row['video_id']}.wav", "text": row["sentence"]} for row in csv.DictReader(file)]
    (work / "spoken.json").write_text(json.dumps(spoken), encoding="utf-8")
    (work / "none.json").write_text("[]", encoding="utf-8")
    found = {FIRST: work / "spoken.json", "generator": demo / "msrvtt10k_asr_text.json", "none": work / "none.json"}
    for name, model in models.items():
        found[name] = work / f"{name}.json"
        if not found[name].exists():
            arguments = ["--root", str(demo), "--engine", "faster-whisper", "--model", model, "--language", "en"]
            run("transcribe", "--corpus", "demo", *arguments, "--out", str(found[name]))
    return found


def run(command: str, *arguments: str) -> None:
    """A command of preparation. Raises CalledProcessError where it fails."""
    subprocess.run([sys.executable, "-m", f"data_prep.{command}", *arguments], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--demo", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FOLDER", help="of faster-whisper's form")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--variants", default="", help="of those, such as spoken,base,none (default: all)")
    parser.add_argument("--config", default="demo", help="demo:smoke for a try of minutes")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    variants = {}
    wanted = [*filter(None, args.variants.split(","))]
    for name, transcripts in write_transcripts(args.demo, args.work, dict(x.split("=", 1) for x in args.model)).items():
        if wanted and name not in wanted:
            continue
        shards = args.work / f"shards-{name}"
        run(
            "build",
            "--corpus",
            "demo",
            "--root",
            str(args.demo),
            "--out",
            str(shards),
            "--transcripts",
            str(transcripts),
        )
        variants[name] = grids.SAVE | {"data_dir": str(shards)}
    process.set_up_process()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    pairs = [(FIRST, name) for name in variants if name != FIRST] if FIRST in variants else []
    config = read_config(args.config)
    config.evaluation.without_modalities = False
    results = runs.run_all(config, str(args.work / "runs"), seeds, variants)
    print(tables.markdown(tables.summarize(results), seeds, pairs))
    if pairs:
        print(significance.markdown(significance.compare(str(args.work / "runs"), seeds, pairs), seeds))


if __name__ == "__main__":
    main()
