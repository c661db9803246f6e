"""Our scoring beside the reference's cached way in PyTorch, on the same embeddings, in turns.

The reference embeds texts and videos once, then, for every batch of texts, multiplies them with all frames of all
videos by broadcasting ([b, 1, 1, d] × [1, v, t, d]), sums over the width, and takes scale, exp, masked sum and log. Its
text batch is its batch of evaluation, 32 here.

    python tests/bench/score_torch.py [--queries 1000] [--videos 1000] [--rounds 3]      (needs torch, see pyproject)
"""

import argparse

import jax
import numpy as np
import torch

from save_jax import sharding
from save_jax.bench import score as bench
from save_jax.bench import timing
from save_jax.evaluation import scoring


def by_broadcasting(texts: torch.Tensor, frames: torch.Tensor, mask: torch.Tensor, batch: int) -> torch.Tensor:
    """float32 [texts, videos]. texts: [q, d]; frames: unit vectors [v, t, d]; mask: float [v, t]."""
    scale = float(np.exp(bench.LOGIT_SCALE))
    means = torch.nn.functional.normalize((frames * mask[..., None]).sum(1) / mask.sum(1)[:, None], dim=-1)
    found = []
    for some in torch.nn.functional.normalize(texts, dim=-1).split(batch):
        by_frame = scale * (some[:, None, None] * frames[None]).sum(-1)
        found.append(0.5 * (scale * some @ means.T + torch.log((torch.exp(by_frame) * mask[None]).sum(-1))))
    return torch.cat(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--batch", type=int, default=32, help="texts at once, of the reference's way")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    machine, mesh = timing.machine(), sharding.make_mesh()
    texts, videos = bench.made(args.queries, args.videos, args.frames, args.dim)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    made = (texts, videos.frames, videos.mask.astype(np.float32))
    texts_here, frames, mask = (torch.from_numpy(x).to(device) for x in made)
    tile = max(bench.BEST, scoring.tile_of(args.queries, args.frames, jax.devices()[0].platform))
    texts_there, on_device = jax.device_put((texts, scoring.pad(videos, tile)), jax.devices()[0])

    def reference() -> np.ndarray:
        with torch.no_grad():
            return by_broadcasting(texts_here, frames, mask, args.batch).cpu().numpy()

    ways = {
        "reference": reference,
        "all_pairs": lambda: scoring.all_pairs(texts, videos, jax.numpy.asarray(bench.LOGIT_SCALE), mesh),
        "top_k": lambda: scoring.top_k(texts_there, on_device, bench.LOGIT_SCALE, bench.BEST, tile),
    }
    difference = np.abs(ways["reference"]() - ways["all_pairs"]()).max()
    times = timing.alternate(ways, args.rounds, budget=600)
    print(f"{timing.describe(machine)}, torch {torch.__version__} on {device}, {torch.get_num_threads()} threads")
    print(f"{args.queries} queries × {args.videos} videos × {args.frames} frames × {args.dim}, float32; seconds")
    for name, t in times.items():
        ratio = times["reference"]["median"] / t["median"]
        print(f"{name:10}{t['median']:9.3f} ({t['min']:.3f}–{t['max']:.3f}, {t['rounds']} rounds)   × {ratio:.1f}")
    print(f"largest difference between the scores: {difference:.1e}")


if __name__ == "__main__":
    main()
