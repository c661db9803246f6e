"""What rounded products would do to scores: golden SAVE with the operands of every float32 product rounded.

    python tests/bench/products.py

GPUs round operands of float32 products to TF32 (10 bits), TPUs to bfloat16 (7 bits), unless config.model.precision is
"highest". Here the rounding is emulated on whatever computes, so that the reason for that setting can be measured
without an accelerator. Errors are to the authors' own numbers. The score itself is always exact, see models.similarity.
"""

import jax
import numpy as np
from helpers.jaxprs import PRODUCTS
from helpers.places import GOLDEN
from jax.extend.core import Literal

from save_jax.models.apply import apply
from save_jax.models.retrieval import Retrieval
from save_jax.models.similarity import index, score
from save_jax.parity import fixtures
from save_jax.training import losses

CALLS = ("jit", "pjit", "closed_call", "remat", "custom_jvp_call", "custom_vjp_call")


def rounded(jaxpr, constants: list, inputs: list, bits: int) -> list:
    """Evaluates a jaxpr without loops; operands of products keep `bits` bits of mantissa."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))
    for equation in jaxpr.eqns:
        operands = [x.val if isinstance(x, Literal) else values[x] for x in equation.invars]
        name, params = equation.primitive.name, equation.params
        if name in CALLS:
            inner = params.get("jaxpr", params.get("call_jaxpr"))
            results = rounded(inner.jaxpr, inner.consts, operands, bits)
        else:
            if name in PRODUCTS:
                operands = [jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=bits) for x in operands]
            results = equation.primitive.bind(*operands, **params)
            results = results if equation.primitive.multiple_results else [results]
        values |= dict(zip(equation.outvars, results, strict=True))
    return [x.val if isinstance(x, Literal) else values[x] for x in jaxpr.outvars]


def main() -> None:
    """The command line."""
    fixture = fixtures.load(GOLDEN / "save_tiny_train.npz")
    twin = fixtures.twin(fixture, "float32")

    def towers(params: dict) -> tuple:
        text, video, _ = apply(Retrieval.__call__, twin.model, params, twin.batch)
        return text, video.fused, video.visual, video.audio

    program = jax.make_jaxpr(towers)(twin.params)
    for name, bits in (("float32", 23), ("TF32", 10), ("bfloat16", 7)):
        run = jax.jit(lambda params, bits=bits: rounded(program.jaxpr, program.consts, jax.tree.leaves(params), bits))
        text, fused, visual, audio = run(twin.params)
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
