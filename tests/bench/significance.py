"""How often the tests of `save_jax.judge.comparison` say "different": of equal systems, and of others.

    python tests/bench/significance.py [--pairs 1000]

Systems are made: videos are hard for both and for each in its own way, queries of a video share that, and seeds move
all of a system's ranks.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from save_jax.judge import comparison, metrics

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.systems import simulated

CASES = (  # videos, seeds a side, deviation between seeds
    (200, 1, 0.0), (200, 3, 0.0), (200, 3, 0.1), (200, 3, 0.3), (200, 5, 0.1), (200, 2, 0.3), (1000, 1, 0.0),
    (1000, 3, 0.1),
)  # fmt: skip
GAINS = (0.0, 0.05, 0.1, 0.2, 0.4)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pairs", type=int, default=1000)
    pairs = parser.parse_args().pairs
    print("| videos | seeds a side | deviation between seeds | " + " | ".join(_of(gain) for gain in GAINS) + " |")
    print("|---" * (3 + len(GAINS)) + "|")
    for videos, seeds, deviation in CASES:
        cells = []
        for gain in GAINS:
            rng, told, values = np.random.default_rng(0), 0, []
            for pair in tqdm(range(pairs), f"{videos} videos, {seeds} seeds, {gain}", delay=5, leave=False):
                first, second, video = simulated(rng, videos, gain, seeds, deviation)
                found = comparison.compare(first, second, video, "SumR", resamples=399, seed=pair)
                told += found.p < comparison.LEVEL
                values.append(metrics.summary(first[0])["SumR"] - metrics.summary(second[0])["SumR"])
            cells.append(f"{100 * told / pairs:.1f} ({np.mean(values):+.1f})")
        print(f"| {videos} | {seeds} | {deviation} | " + " | ".join(cells) + " |", flush=True)


def _of(gain: float) -> str:
    return "equal" if not gain else f"gain {gain}"


if __name__ == "__main__":
    main()
