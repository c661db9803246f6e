"""Golden numbers with products as accelerators compute them, emulated here: what tolerances allow, and what they see.

A GPU multiplies float32 as TF32 and a TPU as bfloat16, unless more is asked for. A tolerance that such a device would
not keep should be known before the device is; and float32's must not be so wide that it hides them.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.jaxprs import precisions
from helpers.places import GOLDEN, REPOSITORY
from helpers.rounding import BFLOAT16, TF32, with_rounded_products

from save_jax.parity import command, fixtures, reruns
from save_jax.parity.comparison import COMPUTATIONS, TOLERANCES, arithmetic
from save_jax.training import optim


def computed(name: str, bits: int) -> tuple:
    """(golden file, outputs, gradients) of products that devices may round, rounded to `bits`."""
    fixture = fixtures.load(GOLDEN / f"{name}.npz")
    with jax.default_matmul_precision("highest"):  # as the command: of what is not the model's
        twin = fixtures.twin(fixture, *COMPUTATIONS["default"])
        step = reruns.compile_step(twin, command._temperatures(fixture))
        return fixture, *reruns.outputs_and_gradients(twin, with_rounded_products(step, bits))


def failed(computed: tuple, allowed: str) -> set[str]:
    """Quantities beyond what `allowed`, of TOLERANCES, grants."""
    fixture, ours, gradients = computed
    rows = [*command.forward_rows(fixture, ours, TOLERANCES[allowed])]
    rows += command.gradient_rows(fixture, gradients, TOLERANCES[allowed])
    assert len(rows) > 250
    return {row.quantity for row in rows if row.failed}


def test_tf32_stays_within_its_tolerances_and_not_within_float32_s():
    found = computed("save_tiny_train", TF32)
    assert not failed(found, "tf32")
    beyond = failed(found, "float32")
    assert beyond >= {"frame_embeddings", "fused_tokens", "logits_no_margin", "loss_total", "grad/query_tokens"}


def test_bfloat16_products_stay_within_their_tolerances_and_not_within_tf32_s():
    found = computed("avigate_tiny", BFLOAT16)
    assert not failed(found, "bfloat16 products")
    assert failed(found, "tf32") >= {"audio_ffn_gates", "audio_fused"}


def test_bfloat16_stays_within_its_tolerances():
    """No emulation: any device computes it."""
    fixture = fixtures.load(GOLDEN / "avigate_tiny.npz")
    ours = reruns.outputs(fixtures.twin(fixture, *COMPUTATIONS["bfloat16"]))
    arrays = {name: x for name, x in fixture.arrays.items() if not name.startswith("out/grad_")}
    outputs = fixtures.Fixture(fixture.path, arrays)
    wrong = {
        allowed: {row.quantity for row in command.forward_rows(outputs, ours, TOLERANCES[allowed]) if row.failed}
        for allowed in ("bfloat16", "tf32")
    }
    assert not wrong["bfloat16"] and wrong["tf32"] >= {"audio_ffn_gates", "audio_fused"}


@pytest.mark.parametrize(("computation", "expected"), [("float32", 1), ("default", 2)])
def test_float32_asks_every_device_for_exact_products(computation, expected):
    """So its tolerances hold there, too: the emulation above would not round any."""
    fixture = fixtures.load(GOLDEN / "save_tiny_train.npz")
    twin = fixtures.twin(fixture, *COMPUTATIONS[computation])
    with jax.default_matmul_precision("highest"):
        arguments = optim.split_frozen(twin.params, twin.config.optim.frozen)
        asked = precisions(jax.make_jaxpr(reruns.compile_step(twin))(*arguments).jaxpr)
    assert len(asked) == expected and "(Precision.HIGHEST, Precision.HIGHEST)" in asked


def test_what_is_allowed_depends_on_the_device():
    found = {pair: arithmetic(*pair) for pair in itertools.product(COMPUTATIONS, ("cpu", "gpu", "tpu"))}
    of_float32 = dict.fromkeys((("float32", "cpu"), ("float32", "gpu"), ("float32", "tpu"), ("high", "cpu")), "float32")
    of_tf32 = dict.fromkeys((("high", "gpu"), ("default", "gpu"), ("high", "tpu")), "tf32")
    of_bfloat16 = {("bfloat16", platform): "bfloat16" for platform in ("cpu", "gpu", "tpu")}
    others = {("default", "cpu"): "float32", ("default", "tpu"): "bfloat16 products"}
    assert found == of_float32 | of_tf32 | of_bfloat16 | others
    sizes = [[getattr(t, name) for name in ("outputs", "losses", "gradients", "probes")] for t in TOLERANCES.values()]
    assert (np.diff(sizes, axis=0) > 0).all()  # from the most exact to the least


def test_the_docs_show_the_same_tolerances():
    text = (REPOSITORY / "docs" / "scaling.md").read_text().partition("### How far numbers may be off")[2]
    text = text.partition("\n## ")[0]
    rows = [line.split("|")[3:7] for line in text.splitlines() if line.startswith("| ")][1:]
    told = [[float(cell) for cell in row] for row in rows]
    assert told == [[t.outputs, t.losses, t.gradients, t.probes] for t in TOLERANCES.values()]


# ---------------------------------------------------------------- the emulation itself


@pytest.mark.parametrize(("bits", "kept"), [(23, 1 + 2**-11), (TF32, 1.0), (BFLOAT16, 1.0)])
def test_operands_are_rounded_to_the_nearest(bits, kept):
    a = jnp.full((1, 1), 1 + 2**-11)
    one, exact = jnp.ones((1, 1)), jax.lax.Precision.HIGHEST
    with jax.default_matmul_precision("default"):
        assert with_rounded_products(lambda a: a @ one, bits)(a) == kept
    assert with_rounded_products(lambda a: a * one, bits)(a) == a  # no product of matrices
    assert with_rounded_products(lambda a: jnp.matmul(a, one, precision=exact), bits)(a) == a


def test_products_in_loops_branches_calls_and_gradients_are_rounded():
    a = jnp.full((1, 1), 1 + 2**-11)

    def product(a: jax.Array) -> jax.Array:
        return jax.jit(jax.checkpoint(lambda a: a @ jnp.ones((1, 1))))(a)

    programs = {
        "call": product,
        "scan": lambda a: jax.lax.scan(lambda carry, x: (carry, product(x)), 0.0, a[None])[1],
        "loop": lambda a: jax.lax.fori_loop(0, 1, lambda _, x: product(x), a),
        "branch": lambda a: jax.lax.cond(a[0, 0] > 0, product, lambda a: a, a),
        "gradient": lambda a: jax.grad(lambda b: (b @ a).sum())(jnp.ones((1, 1))),
    }
    with jax.default_matmul_precision("default"):
        for name, program in programs.items():
            assert float(with_rounded_products(program, TF32)(a).ravel()[0]) == 1.0, name
            assert float(with_rounded_products(program, 23)(a).ravel()[0]) == 1 + 2**-11, name
