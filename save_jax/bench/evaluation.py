"""`bench evaluation`: what a run's final evaluation costs beside one pass over its test split.

The pass embeds every clip and caption of the split and scores all pairs. The final evaluation also checks the numbers,
takes sound and speech away, exchanges them, and draws confidence intervals.
"""

import argparse

from save_jax.bench import timing
from save_jax.bench.step import settings_of
from save_jax.data import transforms
from save_jax.data.records import Clip
from save_jax.evaluation import assessment
from save_jax.evaluation.contract import bank_split
from save_jax.inference.runs import open_run


def evaluation(args: argparse.Namespace) -> dict:
    """Prints and returns both times, their ratio, and how often each clip's frames are decoded."""
    run = open_run(args.workdir, args.data_dir)
    evaluator, split = run.evaluator, run.config.data.test_split
    config = evaluator.config.copy_and_resolve_references().unlock()
    config.evaluation.without_modalities = True  # all that a final evaluation may do
    evaluator.config = config.lock()
    machine, bank = timing.machine(), bank_split(run.data, run.config)
    decoded = []
    decode = transforms.decode_frames

    def counted(clip: Clip, *rest: object) -> None:
        decoded.append(clip.id)
        decode(clip, *rest)  # pyright: ignore[reportArgumentType] — the rest of its arguments, whatever they are

    transforms.decode_frames = counted
    try:
        assessment.assess(evaluator, run.params, split, bank)  # compiles everything, too
    finally:
        transforms.decode_frames = decode
    ways = {
        "pass": lambda: evaluator.run(run.params, split).videos.mean,
        "evaluation": lambda: assessment.assess(evaluator, run.params, split, bank).videos.mean,
    }
    times = timing.alternate(ways, args.rounds, args.budget)
    clips = len(evaluator.data.sources[split])
    ratio = times["evaluation"]["median"] / times["pass"]["median"]
    print(
        f"{clips} clips: one pass and scoring {times['pass']['median']:.2f} s, the final evaluation "
        f"{times['evaluation']['median']:.2f} s, {ratio:.2f} times as long; frames decoded {len(decoded) / clips:.2f} "
        "times a clip",
        flush=True,
    )
    row = {"clips": clips, "ratio": ratio, "decoded_per_clip": len(decoded) / clips, **times}
    return {"bench": "evaluation", "machine": machine, "settings": settings_of(args), "rows": [row]}
