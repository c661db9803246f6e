"""Runs on a made corpus, killed with SIGKILL at random moments and started again, against one that never stopped.

    python tests/bench/kill.py --kills 20 --seed 0

Prints a line for every kill (the moment, the step that the process had gone on from, the last one that it had printed,
checkpoints left half written; "-": none) and for every run whether it ended with the same parameters and results.
Exits with 1 if one did not.
"""

import argparse
import pathlib
import random
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from helpers import corpus, killing


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    moments = [killing.MOMENTS[number % len(killing.MOMENTS)] for number in range(args.kills)]
    rng.shuffle(moments)
    wrong = runs = done = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        shards = corpus.write_corpus(folder / "shards", {"train": 24, "val": 9, "test": 13})
        straight, _ = killing.finish(folder / "straight", shards)
        print("| run | moment | went on from | reached | left half written |\n|---|---|---|---|---|", flush=True)
        while done < args.kills:
            runs += 1
            workdir = folder / f"run{runs}"
            for kill in killing.kills(workdir, shards, moments[done:], rng):
                if kill.ended:
                    continue
                done += 1
                left = ", ".join(map(str, kill.unfinished)) or "-"
                resumed = "-" if kill.resumed is None else kill.resumed
                print(f"| {runs} | {kill.moment} | {resumed} | {kill.reached or '-'} | {left} |", flush=True)
            results, _ = killing.finish(workdir, shards)
            same = all(results[part] == straight[part] for part in ("params_sha256", "test"))
            wrong += not same
            print(f"| {runs} | {'the same result, bit for bit' if same else 'ANOTHER RESULT'} | | | |", flush=True)
    print(f"{done} kills, {runs} runs, {wrong} of them with another result")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
