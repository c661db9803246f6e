"""What rounded products would do to scores: golden SAVE with the operands of every float32 product rounded.

    python tests/bench/products.py

GPUs round operands of float32 products to TF32 (10 bits), TPUs to bfloat16 (7 bits), unless config.model.precision is
"highest". Here the rounding is emulated on whatever computes, so that the reason for that setting can be measured
without an accelerator. Errors are to the authors' own numbers. The score itself is always exact, see models.similarity.
"""

import sys
from pathlib import Path

import jax
import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for helpers
from helpers.places import GOLDEN
from helpers.rounding import BFLOAT16, TF32, with_rounded_products

from save_jax.models.apply import apply
from save_jax.models.retrieval import Retrieval
from save_jax.models.similarity import index, score
from save_jax.parity import fixtures
from save_jax.training import losses


def main() -> None:
    """The command line."""
    fixture = fixtures.load(GOLDEN / "save_tiny_train.npz")
    twin = fixtures.twin(fixture, "float32", "default")

    def towers(params: dict) -> tuple:
        text, video, _ = apply(Retrieval.__call__, twin.model, params, twin.batch)
        return text, video.fused, video.visual, video.audio

    for name, bits in (("float32", 23), ("TF32", TF32), ("bfloat16", BFLOAT16)):
        with jax.default_matmul_precision("highest"):  # of what is not the model's
            text, fused, visual, audio = with_rounded_products(towers, bits)(twin.params)
        logits = score(text, index(fused, twin.batch["frame_mask"]), twin.params["logit_scale"])
        student = losses.audio_visual_similarity(visual, audio)
        teacher = losses.cosines(twin.batch["teacher_video"], twin.batch["teacher_audio"])
        albef = losses.soft_albef(student, teacher, twin.batch["has_audio"])
        told = fixture.under("out/")
        worst = np.abs(logits - told["logits_no_margin"]).max()
        print(
            f"{name:9} logits {worst:.1e}, of {np.ptp(told['logits_no_margin']):.1f} from lowest to highest;", end=" "
        )
        print(f"soft-ALBEF {abs(albef - told['loss_pearson']):.1e} of {told['loss_pearson']:.2f}")


if __name__ == "__main__":
    main()
