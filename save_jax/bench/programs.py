"""The programs of this project on any mesh, lowered and not run: recipes name them with their settings."""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, SingleDeviceSharding
from ml_collections import ConfigDict

from save_jax import config as config_lib
from save_jax import sharding
from save_jax.bench import step as bench_step
from save_jax.bench import vlsa as bench_vlsa
from save_jax.config import recipe
from save_jax.evaluation import scoring
from save_jax.evaluation.retrieval import VIDEO_INPUTS, encoders
from save_jax.models import operations, retrieval, similarity, vlsa
from save_jax.models.similarity import VideoIndex
from save_jax.training import optim, resident, state
from save_jax.training.objectives import RetrievalObjective
from save_jax.training.vlsa_objectives import Pretraining

PROGRAMS = ("step", "video", "text", "score", "top_k", "gather", "vlsa")  # a recipe names one, else "step"
SETTINGS = {
    "live": {},
    "ast": {"cache": "ast"},
    "towers": {"cache": "towers"},
    "fsdp": {"sharding": "fsdp"},
    "remat": {"model.remat": "blocks"},
    "dots": {"model.remat": "dots"},
    "float32": {"model.dtype": "float32"},
    "micro": {},  # a quarter of the batch at a time
    "xla": {"model.attention": "xla"},
    **{name: {} for name in recipe.BACKBONES},
}
LAYERS = ("vision_layers", "text_layers", "ast_layers", "resampler_layers", "fusion_layers", "layers", "decoder_layers")
QUERIES, GALLERY, TABLE = 512, 100_000, 1024  # of a score tile; of top_k; clips of resident tables


def words_of(name: str) -> list[str]:
    """`B/16+fsdp+micro` → its words. Raises ValueError for one that does not exist, with those that do."""
    words = name.split("+")
    if unknown := [word for word in words if word not in PROGRAMS and word not in SETTINGS]:
        raise ValueError(
            f"recipe {name!r}: {unknown[0]!r} is none of the programs {', '.join(PROGRAMS)} and none of the settings "
            f"{', '.join(SETTINGS)}; join them with +"
        )
    return words


def program_of(name: str) -> str:
    """The program of a recipe, "step" where it names none."""
    return next((word for word in words_of(name) if word in PROGRAMS), "step")


def config_of(name: str, batch: int, layers: int = 0) -> ConfigDict:
    """The resolved config of a recipe, in bfloat16 unless it says float32.

    Args:
        batch: over all devices.
        layers: at most so many in each tower, to be quick; 0: all.
    """
    words = words_of(name)
    if program_of(name) == "vlsa":
        config = config_lib.vlsa_base("vlsa-pretrain")
    else:
        backbones = ",".join(f"backbone={word}" for word in words if word in recipe.BACKBONES)
        config = recipe.apply(config_lib.base(), backbones)
    config.batch_size, config.model.dtype = batch, "bfloat16"
    for word in words:
        config.update_from_flattened_dict(SETTINGS.get(word, {}))
    if "micro" in words:
        config.micro_batch = batch // 4
    for field in LAYERS:
        if layers and field in config.model:
            config.model[field] = min(layers, config.model[field])
    return config_lib.resolve(config)


def lower(name: str, config: ConfigDict, mesh: Mesh) -> jax.stages.Lowered:
    """The program of a recipe, traced and lowered for the devices of a mesh, with the shardings of training."""
    program = program_of(name)
    if program in ("score", "top_k"):
        return _scoring(program, config, mesh)
    shapes = (bench_vlsa if program == "vlsa" else bench_step).batch_shapes(config)
    if program == "gather":
        return _gather(shapes, config, mesh)
    if program == "vlsa":
        pretraining = Pretraining(vlsa.make_model(config, mesh), config)
        return bench_step.lower(pretraining, optim.adamw(config.optim, config.steps), shapes, config, mesh)
    model, optimizer = retrieval.make_model(config, mesh), optim.make_optimizer(config.optim, bench_step.TOTAL_STEPS)
    if program == "step":
        return bench_step.lower(RetrievalObjective(model, config), optimizer, shapes, config, mesh)
    encode, params = encoders(model, mesh), state.shapes(model, optimizer, config, mesh).params
    batch = {field: _shape(shape, dtype, sharding.by_sample(mesh)) for field, (shape, dtype) in shapes.items()}
    if program == "text":
        return encode.text.lower(params, batch["text_ids"])
    return encode.modalities.lower(params, {field: batch[field] for field in VIDEO_INPUTS if field in batch})


def counted(name: str, config: ConfigDict) -> int | None:
    """Operations of a training step as the method is written; None for other programs."""
    program = program_of(name)
    if program == "vlsa":
        return sum(operations.of_pretraining(config).values())
    return sum(operations.of_step(config).values()) if program == "step" else None


def _shape(shape: tuple[int, ...], dtype: str, where: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype), sharding=where)


def _index(videos: int, config: ConfigDict, where: jax.sharding.Sharding) -> VideoIndex:
    frames, dim = config.data.max_frames, config.model.embed_dim
    made = jax.eval_shape(lambda: similarity.index(jnp.zeros((videos, frames, dim)), jnp.ones((videos, frames), bool)))
    return jax.tree.map(lambda x: _shape(x.shape, x.dtype, where), made)


def _scoring(program: str, config: ConfigDict, mesh: Mesh) -> jax.stages.Lowered:
    """A tile of the matrix of all pairs over all devices; or the best of a gallery on one."""
    where = sharding.replicated(mesh) if program == "score" else SingleDeviceSharding(mesh.devices.flat[0])
    texts, scale = _shape((QUERIES, config.model.embed_dim), "float32", where), _shape((), "float32", where)
    tile = scoring.tile_of(QUERIES, config.data.max_frames, sharding.platform(mesh))
    if program == "score":
        videos = _index(tile // mesh.size * mesh.size, config, sharding.by_sample(mesh))
        return scoring._score.lower(texts, videos, scale, config.model.temperature, config.model.score)
    return scoring.top_k.lower(texts, _index(-(-GALLERY // tile) * tile, config, where), scale, k=10, tile=tile)


def _gather(shapes: dict, config: ConfigDict, mesh: Mesh) -> jax.stages.Lowered:
    """A batch out of tables that every device holds."""
    whole = sharding.replicated(mesh)
    rows = {"pair": _shape((config.batch_size,), "int32", sharding.by_sample(mesh))}
    tables = {
        field: _shape(resident.pieces_shape((TABLE, *shape[1:])), dtype, whole)
        for field, (shape, dtype) in shapes.items()
    }
    tables |= {"clip": _shape((4 * TABLE,), "int32", whole)}
    gather = resident.make_gather({field: shape[1:] for field, (shape, _) in shapes.items()}, mesh)
    return gather.lower(tables, rows)
