"""Time and memory of `save-jax judge` for a matrix of MSR-VTT's full test, with intervals and a comparison.

python tests/bench/judge.py [--queries 59800] [--videos 2990] [--against]
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

import save_jax


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--queries", type=int, default=59_800)
    parser.add_argument("--videos", type=int, default=2_990)
    parser.add_argument("--against", action="store_true", help="also compare with another system")
    parser.add_argument("--habits", action="store_true", help="also the field's habits")
    args = parser.parse_args()
    right = np.sort(np.arange(args.queries) % args.videos)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{name}.npy" for name in ("first", "second")]
        for seed, file in enumerate(files[: 1 + args.against]):
            rng = np.random.default_rng(seed)
            scores = np.lib.format.open_memmap(file, "w+", np.float32, (args.queries, args.videos))
            for at in range(0, args.queries, 1000):
                block = rng.standard_normal((min(1000, args.queries - at), args.videos), np.float32)
                block[np.arange(len(block)), right[at : at + len(block)]] += 3
                scores[at : at + len(block)] = block
            del scores
        against = {"second": files[1]} if args.against else None
        begin = time.perf_counter()
        results = save_jax.evaluate_scores(files[0], caption_to_video=right, against=against, with_habits=args.habits)
        seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{args.queries:,} × {args.videos:,}: {seconds:.1f} s, peak {peak:.2f} GiB (the file's pages among it)")
    print(f"SumR {results['t2v']['SumR']:.1f}, {results['v2t']['SumR']:.1f}")


if __name__ == "__main__":
    main()
