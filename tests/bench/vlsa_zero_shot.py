"""What VLSA's pre-training alone finds, between pictures and sounds: is one objective better than another?

    python tests/bench/vlsa_zero_shot.py WORKDIR --seeds 0,1,2,3,4 [--data FOLDER] [--tag related]

Over the runs of `save_jax.sweep_vlsa` in WORKDIR/pretrain: R@10 of the test clips with the tag among all that have what
is looked for, by seed, and paired differences over clips and seeds (`save_jax.judge.comparison`), p corrected for all.
"""

import argparse
import itertools

import numpy as np

import save_jax
from save_jax.data import split_info
from save_jax.evaluation.vlsa import cosines
from save_jax.judge import comparison, metrics

PRETRAINED = ("masked", "matching", "both")
ASKED = {"video → audio": ("video", "audio"), "audio → video": ("audio", "video")}


def ranks(folder: str, data: str | None, tag: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By direction: the clips that ask, int [n], and at which place each finds its own."""
    run = save_jax.open_vlsa(folder, data)
    info = run.data.info(run.split)
    has = {name: np.abs(of_clips).max(axis=1) > 0 for name, of_clips in run.clips.items()}
    asking = np.flatnonzero(split_info.members(info.tags)[tag] & has["video"] & has["audio"])
    return {
        direction: (asking, metrics.ranks(cosines(run.clips[by][asking], run.clips[found]), asking))
        for direction, (by, found) in ASKED.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("workdir")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--data", help="folder of the shards (default: the run's)")
    parser.add_argument("--tag", default="related")
    args = parser.parse_args()
    found = {
        name: [
            ranks(f"{args.workdir}/pretrain/{name}-seed{seed}", args.data, args.tag) for seed in args.seeds.split(",")
        ]
        for name in PRETRAINED
    }
    print(f"R@10, clips with {args.tag!r}\n\n| | " + " | ".join(ASKED) + " |\n|---|---|---|")
    for name, seeds in found.items():
        cells = [", ".join(f"{100 * (of[direction][1] <= 10).mean():.1f}" for of in seeds) for direction in ASKED]
        print(f"| {name} | " + " | ".join(cells) + " |")
    differences = {
        (first, second, direction): comparison.compare(
            [of[direction][1] for of in found[second]],
            [of[direction][1] for of in found[first]],
            found[first][0][direction][0],
            "R@10",
        )
        for first, second in itertools.combinations(PRETRAINED, 2)
        for direction in ASKED
    }
    print()
    for (first, second, direction), one in zip(differences, comparison.corrected([*differences.values()]), strict=True):
        print(f"- {second} over {first}, {direction}: {one}")


if __name__ == "__main__":
    main()
