"""Softmax attention, and the kernel that computes it: by what the model runs on, the shapes and the dtype."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float
from ml_collections import ConfigDict

LONG = 1 << 18  # queries × keys of a head from which heads are computed one at a time


def kernel_for(config: ConfigDict, mesh: Mesh) -> str:
    """The kernel of config.model.attention on the devices of a mesh, which need not be in this machine.

    Returns:
        "cpu", "tpu", "xla" or "cudnn", see `attend`. "auto" takes NVIDIA's fused attention on GPUs in bfloat16, where
        cuDNN has it.
    Raises:
        ValueError where these devices cannot compute in config.model.dtype, or not with cuDNN as asked for.
    """
    kind, dtype, device = config.model.attention, config.model.dtype, mesh.devices.flat[0]
    capability = getattr(device, "compute_capability", "")
    if dtype != "float32" and capability.replace(".", "").isdigit() and float(capability) < 8:
        raise ValueError(
            f"config.model.dtype={dtype} needs an NVIDIA GPU of compute capability 8.0, this has {capability} "
            f"({device.device_kind}); set config.model.dtype=float32"
        )
    if kind == "cudnn" and device.platform != "gpu":
        raise ValueError(
            f"config.model.attention=cudnn needs an NVIDIA GPU, and the model runs on {device.platform} here; set "
            "config.model.attention=auto"
        )
    if kind == "cudnn" and dtype == "float32":
        raise ValueError(
            "config.model.attention=cudnn computes in bfloat16, and config.model.dtype is float32; set "
            "config.model.dtype=bfloat16 or config.model.attention=auto"
        )
    if device.platform == "tpu":
        # By the compiler for v5e, a head at a time takes 0.68 of the cycles for AST, frozen and so without a gradient,
        # and 1.2 times as many for the decoder of VLSA, which has one.
        return "tpu" if config.task == "retrieval" and kind == "auto" else "xla"
    if device.platform != "gpu":
        return "cpu" if device.platform == "cpu" else "xla"
    if kind == "xla" or dtype == "float32":
        return "xla"
    if problem := cudnn_problem():
        if kind == "cudnn":
            raise ValueError(
                f"config.model.attention=cudnn: JAX cannot use cuDNN's attention ({problem}); install save_jax with "
                "the extra cuda12 or cuda13, or set config.model.attention=auto"
            )
        return "xla"
    return "cudnn"


@functools.cache
def cudnn_problem() -> str:
    """Why JAX cannot use cuDNN's attention on this machine; "" if it can."""
    x = jax.ShapeDtypeStruct((1, 64, 1, 64), jnp.bfloat16)
    try:
        jax.eval_shape(functools.partial(jax.nn.dot_product_attention, implementation="cudnn"), x, x, x)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        return str(error).splitlines()[0]
    return ""


def attend(
    query: Float[Array, "b q h d"],
    key: Float[Array, "b k h d"],
    value: Float[Array, "b k h d"],
    kernel: str,
    causal: bool,
    mask: Bool[Array, "b k"] | None = None,
) -> Float[Array, "b q h d"]:
    """Softmax attention, summed in float32.

    Args:
        kernel: "xla", JAX's own function; "cudnn", NVIDIA's fused attention where dtype and width of a head fit it,
            else as "xla"; "tpu", as "xla" but for long sequences, one head at a time; "cpu", heads first throughout.
        mask: True for the keys to attend to; None means all. A sample without any gets finite numbers that mean
            nothing.
    """
    if kernel == "cudnn" and query.dtype in (jnp.bfloat16, jnp.float16) and query.shape[-1] in range(8, 129, 8):
        return _fused(query, key, value, causal, mask)
    if kernel in ("xla", "cudnn") or (kernel == "tpu" and not _is_long(query, key)):
        bias = None if mask is None else mask[:, None, None, :]
        return jax.nn.dot_product_attention(query, key, value, mask=bias, is_causal=causal, implementation="xla")
    return _by_heads(query, key, value, causal, mask)


def _by_heads(query: Array, key: Array, value: Array, causal: bool, mask: Array | None) -> Array:
    """Heads first. On two cores JAX's function takes 1.3 times as long at 50 tokens, and 3 times at AST's 1,214.

    There one head at a time stays in the cache, of a CPU as of a TPU.
    """
    dtype, size = query.dtype, query.shape[-1]

    def rows(qkv: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        q, k, v = qkv
        scores = size**-0.5 * jnp.matmul(q, k.swapaxes(-1, -2), **summed_in_float32(dtype))
        if causal:
            scores = jnp.where(jnp.tri(*scores.shape[-2:], dtype=bool), scores, -jnp.inf)
        if mask is not None:  # not -inf: a row with nothing else would become NaN
            scores = jnp.where(mask[:, None, :], scores, -1e30)
        return jax.nn.softmax(scores).astype(dtype) @ v

    heads_first = (query.transpose(2, 0, 1, 3), key.transpose(2, 0, 1, 3), value.transpose(2, 0, 1, 3))
    return (jax.lax.map(rows, heads_first) if _is_long(query, key) else rows(heads_first)).transpose(1, 2, 0, 3)


def _is_long(query: Array, key: Array) -> bool:
    return query.shape[1] * key.shape[1] > LONG


def _fused(query: Array, key: Array, value: Array, causal: bool, mask: Array | None) -> Array:
    """cuDNN's kernel. It trains on even lengths alone, so a token is added to odd ones, which nothing attends to."""
    batch, queries, keys = len(query), query.shape[1], key.shape[1]
    query, key, value = (_even(x) for x in (query, key, value))
    lengths = None
    if mask is not None:  # as a bias: one row for every query
        mask = jnp.broadcast_to(_even(mask)[:, None, None, :], (batch, 1, query.shape[1], key.shape[1]))
    elif keys % 2 and not causal:  # a causal query never sees what comes after it
        lengths = jnp.full(batch, keys, jnp.int32)
    out = jax.nn.dot_product_attention(
        query, key, value, mask=mask, is_causal=causal, key_value_seq_lengths=lengths, implementation="cudnn"
    )
    return out[:, :queries]


def _even(x: Array) -> Array:
    return jnp.pad(x, [(0, 0), (0, x.shape[1] % 2)] + [(0, 0)] * (x.ndim - 2))


def summed_in_float32(dtype: jnp.dtype) -> dict:
    """Arguments for a product of `dtype` that is summed in float32, and whose gradients are products of `dtype`, too.

    With the type of the result alone the gradients would be products of float32, which are slow on a GPU.
    """
    precision = jax.lax.DotAlgorithmPreset.BF16_BF16_F32 if dtype == jnp.bfloat16 else None
    return {"precision": precision, "preferred_element_type": jnp.float32}
