"""The papers' table of cost: what a query needs of 1,000 videos, what a video takes to keep, how large the models are.

A video's embedding never depends on a query, so a branch costs nothing when a sentence is searched: methods differ in
parameters, and in what embedding a video offline takes. Sizes are those of `config.base`: ViT-B/32, AST-base, 12 frames
of width 512.
"""

import argparse
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from save_jax import config as config_lib
from save_jax import sharding
from save_jax.bench import timing
from save_jax.models import similarity
from save_jax.models.retrieval import Retrieval, make_model
from save_jax.training import state

METHODS = {  # row → (branches, grains of the score)
    "vision": ("vision", "both"),
    "AVIGATE": ("vision,audio", "both"),
    "SAVE": ("vision,audio,speech", "both"),
    "SAVE, one vector": ("vision,audio,speech", "global"),
}
COMPLEXITY = {"both": "O(q·v·F·D)", "global": "O(q·v·D)"}  # of scoring q texts against v videos embedded offline


def of_branches(config: ConfigDict, branches: str) -> ConfigDict:
    """The resolved config of a method."""
    config = config.copy_and_resolve_references().unlock()
    config.model.branches = branches
    return config_lib.resolve(config)


def parameter_shapes(config: ConfigDict) -> dict:
    """Shapes of all parameters of a model; nothing is computed or allocated."""
    model = Retrieval(config_lib.model_sizes(config))
    return jax.eval_shape(lambda: state.init_params(model, config, jax.random.key(0)))


def count(shapes: dict) -> int:
    """Parameters of a tree of shapes."""
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes))


def bytes_stored(config: ConfigDict, grains: str, dtype: str) -> int:
    """Bytes of one video in the index: its mean vector and, for both grains, its frames and which of them are real."""
    frames, dim, size = config.data.max_frames, config.model.embed_dim, jnp.dtype(dtype).itemsize
    return dim * size + (frames * dim * size + frames if grains == "both" else 0)


def text_encoder(config: ConfigDict) -> Callable[[], jax.Array]:
    """A function that embeds one query: the text tower of the config's size with random weights, compiled."""
    config = of_branches(config, "vision")
    shapes = parameter_shapes(config)
    shapes = {name: shapes[name] for name in ("text", "logit_scale", "frame_position_embedding")}
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: jnp.asarray(0.02 * rng.standard_normal(x.shape, np.float32)), shapes)
    model = make_model(config, sharding.make_mesh())
    encode = jax.jit(lambda params, ids: model.apply({"params": params}, ids, method=Retrieval.encode_text))
    ids = jnp.asarray(rng.integers(1, config.model.vocab_size, (1, config.data.max_words)), jnp.int32)
    return lambda: encode(params, ids)


def scorers(config: ConfigDict, videos: int) -> dict[str, Callable[[], jax.Array]]:
    """Grains → a function that scores one query against an index on the device, compiled."""
    keys = jax.random.split(jax.random.key(0))
    tokens = jax.random.normal(keys[0], (videos, config.data.max_frames, config.model.embed_dim))
    index = jax.jit(similarity.index)(tokens, jnp.ones(tokens.shape[:2], bool))
    text, scale = jax.random.normal(keys[1], (1, config.model.embed_dim)), jnp.log(100.0)
    score = jax.jit(similarity.score, static_argnames=("temperature", "grains"))
    return {grains: lambda grains=grains: score(text, index, scale, grains=grains) for grains in COMPLEXITY}


def measure(config: ConfigDict, videos: int, rounds: int) -> dict:
    """Everything in the table: {"times": of "text" and of each grain, "rows": {method: …}}."""
    times = timing.alternate({"text": text_encoder(config), **scorers(config, videos)}, rounds, budget=600)
    rows = {}
    for name, (branches, grains) in METHODS.items():
        rows[name] = {
            "complexity": COMPLEXITY[grains],
            "text_seconds": times["text"]["median"],
            "score_seconds": times[grains]["median"],
            "bytes": {dtype: bytes_stored(config, grains, dtype) for dtype in ("float32", "float16")},
            "parameters": count(parameter_shapes(of_branches(config, branches))),
        }
    return {"times": times, "rows": rows}


def markdown(figures: dict, config: ConfigDict, videos: int, machine: dict) -> str:
    """The table of docs/results.md, with what it was measured on."""
    lines = [
        f"| | scoring | embed a query, ms | score it against {videos:,} videos, ms | bytes a video, float32 | float16 "
        "| parameters, M |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in figures["rows"].items():
        lines.append(
            f"| {name} | {row['complexity']} | {1e3 * row['text_seconds']:.1f} | {1e3 * row['score_seconds']:.2f} "
            f"| {row['bytes']['float32']:,} | {row['bytes']['float16']:,} | {row['parameters'] / 1e6:.1f} |"
        )
    ranges = "; ".join(f"{name} {1e3 * t['min']:.2f}–{1e3 * t['max']:.2f}" for name, t in figures["times"].items())
    m = config.model
    lines += [
        "",
        f"q queries, v videos embedded offline (in O(v), whatever is asked), F = {config.data.max_frames} frames, "
        f"D = {m.embed_dim}. Rows with one complexity run one program, measured once. Median of "
        f"{figures['times']['text']['rounds']} rounds, float32; smallest to largest ms: {ranges}. Random weights of "
        f"the real sizes ({m.text_layers}-layer text tower of width {m.text_width}, {config.data.max_words} words). "
        f"{timing.describe(machine)}.",
    ]
    return "\n".join(lines)


def table(args: argparse.Namespace) -> dict:
    """`python -m save_jax.bench efficiency`: prints the table and returns its figures."""
    config, machine = config_lib.resolve(config_lib.base()), timing.machine()
    figures = measure(config, args.videos, args.rounds)
    print(markdown(figures, config, args.videos, machine))
    return {
        "bench": "efficiency",
        "machine": machine,
        "settings": {"videos": args.videos, "rounds": args.rounds},
        **figures,
    }
