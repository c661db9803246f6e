"""The train state: parameters, optimiser and step, created on the mesh."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.config import frozen_patterns
from save_jax.config.retrieval import RANDOM
from save_jax.config.vlsa import FINETUNED_WITHOUT
from save_jax.models.trees import Flat, flatten, unflatten
from save_jax.training import optim
from save_jax.weights import description, loading


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes."""

    step: jax.Array
    params: dict
    opt_state: optax.OptState


def init_params(model: nn.Module, config: ConfigDict, key: jax.Array) -> dict:
    """Random parameters. Some may start as copies of others (`model.complete`)."""
    return model.complete(_drawn(model, config, key))


def check_start(model: nn.Module, config: ConfigDict) -> None:
    """Says which modules a run starts with random numbers that it hardly changes.

    Raises ValueError where that is not said to be meant: such a run would train, and mean nothing; and for weights that
    were made for another function. Reads no data, and of checkpoints only names and settings.
    """
    description.check_function(config, config.init_from)
    unused = FINETUNED_WITHOUT if config.task == "vlsa-finetune" else ()
    frozen = tuple(pattern for pattern in frozen_patterns(config) if pattern not in unused)
    multipliers = config.optim.get("multipliers", ())
    params = jax.eval_shape(lambda: init_params(model, config, jax.random.key(0)))
    trained, held = optim.split_frozen(params, frozen)
    held = [*held, *(name for name in trained if optim.multiplier(name, multipliers) < 1)]
    loaded = loading.modules_of(config.init_from)
    if not (random := sorted({name.split("/")[0] for name in held} - loaded)):
        return
    if RANDOM in config.init_from.split(","):
        sharding.say(f"random, of config.seed={config.seed}, and hardly trained or not at all: {', '.join(random)}")
        return
    given = f"config.init_from={config.init_from} has none of them" if loaded else "config.init_from is empty"
    raise ValueError(
        f"{', '.join(random)} would start as random numbers and stay so: they are frozen or learn slower than the rest "
        f"(config.optim.frozen, config.optim.multipliers, config.cache), and {given}; give converted weights, such as "
        "--config.init_from=weights/clip,weights/ast (docs/weights.md makes them), or --config.init_from=random if "
        "that is meant"
    )


def shapes(model: nn.Module, optimizer: optax.GradientTransformation, config: ConfigDict, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings (config.sharding) of a state on a mesh; nothing is computed or allocated."""
    made = jax.eval_shape(lambda: _state(init_params(model, config, jax.random.key(0)), optimizer, config))

    def laid_out(x: jax.ShapeDtypeStruct, where: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)

    return jax.tree.map(laid_out, made, sharding.of_state(made, mesh, config.sharding))


def start(model: nn.Module, optimizer: optax.GradientTransformation, config: ConfigDict, mesh: Mesh) -> TrainState:
    """The state that a run begins with: modules of config.init_from, and the rest new, see `create`.

    Raises ValueError where the checkpoints do not fit the model, see `loading.load_modules`.
    """
    modules = loading.load_modules(config.init_from, shapes(model, optimizer, config, mesh).params)
    return create(model, optimizer, config, mesh, modules)


def create(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    config: ConfigDict,
    mesh: Mesh,
    modules: dict[str, dict],
) -> TrainState:
    """A new state: the given modules, such as `loading.load_modules` gives, and the rest random from `config.seed`.

    In SAVE and AVIGATE the fusion, the resampler and the frame positions that are not given start as copies of the text
    tower. No random number is computed, and no program for it compiled, in whose place something else comes: that would
    take half a minute. They are drawn on the host: an H200's compiler took 87 s for the program that draws them, and
    every accelerator starts from the same ones.

    Args:
        model: has `example(config)`, a batch to initialise with, and `complete(params, keep)`. That one copies
            parameters to others, except for the modules named in `keep`.
        modules: on the mesh, laid out as `shapes` says. Their memory is taken over.
    """
    layout = jax.tree.map(lambda x: x.sharding, shapes(model, optimizer, config, mesh))
    like = jax.eval_shape(lambda: _drawn(model, config, jax.random.key(0)))

    def completed(random: dict, modules: dict) -> dict:
        return model.complete({**random, **modules}, keep=tuple(modules))

    # What is copied over, or given, is not drawn.
    used = {id(x) for x in jax.tree.leaves(completed(like, modules))}
    names = {name for name, x in flatten(like).items() if id(x) in used}

    def draw(key: jax.Array) -> Flat:
        return {name: x for name, x in flatten(_drawn(model, config, key)).items() if name in names}

    with sharding.on_host():
        numbers = jax.jit(draw)(jax.random.key(config.seed))
    places: dict[str, Any] = flatten(layout.params)
    numbers = {name: sharding.from_host(x, places[name]) for name, x in numbers.items()}

    def finished(numbers: Flat, modules: dict) -> TrainState:
        return _state(completed(unflatten({**flatten(like), **numbers}), modules), optimizer, config)

    return jax.jit(finished, out_shardings=layout, donate_argnums=(0, 1))(numbers, modules)


def _drawn(model: nn.Module, config: ConfigDict, key: jax.Array) -> dict:
    return dict(model.init(key, model.example(config))["params"])


def _state(params: dict, optimizer: optax.GradientTransformation, config: ConfigDict) -> TrainState:
    trained, _ = optim.split_frozen(params, frozen_patterns(config))
    return TrainState(step=jnp.zeros([], jnp.int32), params=params, opt_state=optimizer.init(trained))
