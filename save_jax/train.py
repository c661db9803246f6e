"""Training, in the order things happen: data, mesh, model, state, restore, loop, the final evaluation."""

import os
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import losses, optim, report, sharding, similarity, state, writers
from save_jax.checkpoint import METRIC, Checkpoints
from save_jax.config import differences, method, model_sizes
from save_jax.data import pipeline
from save_jax.evaluate import Evaluator
from save_jax.models.retrieval import Retrieval
from save_jax.state import TrainState

# What may differ when a run goes on: where the data lie, and how fast they are read and reported.
FREE_SETTINGS = ("data_dir", "data.threads", "data.prefetch", "log_every", "keep_last")


class TrainingError(RuntimeError):
    """The run cannot go on; the message says since when and what to do. Checkpoints are whole."""


def loss_and_parts(model: Retrieval, config: ConfigDict, params: dict, batch: dict) -> tuple[jax.Array, dict]:
    """Total loss of a global batch and its parts (METHODS: contrastive with margin, plus early alignment)."""
    texts, video, logit_scale = model.apply({"params": params}, batch)
    index = similarity.index(video.fused, batch["frame_mask"])
    scores = similarity.score(texts, index, logit_scale, config.model.temperature)
    margin = losses.adaptive_margin(texts, video.visual, batch["frame_mask"], config.loss.beta, config.loss.delta)
    parts = {"contrastive": losses.contrastive(scores + jnp.exp(logit_scale) * margin)}
    total = parts["contrastive"]
    albef = config.loss.albef[method(config)]
    if albef != "none":
        student = losses.audio_visual_similarity(video.visual, video.audio)
        teacher = similarity.unit(batch["teacher_video"]) @ similarity.unit(batch["teacher_audio"]).T
        valid = batch["has_audio"] & batch["has_teacher"]
        parts["albef"] = losses.soft_albef(student, teacher, valid, albef)
        total = total + config.loss.albef_weight * parts["albef"]
    return total, parts | {"loss": total}


def make_train_step(model: Retrieval, optimizer: optax.GradientTransformation, config: ConfigDict, mesh: Mesh):
    """The jitted step (state, batch) → (state, metrics). The state is donated."""

    def train_step(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        trained, frozen = optim.split_frozen(state.params, config.optim.frozen)

        def objective(trained: optim.Flat) -> tuple[jax.Array, dict]:
            return loss_and_parts(model, config, optim.unflatten(trained | frozen), batch)

        (_, parts), grads = jax.value_and_grad(objective, has_aux=True)(trained)
        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        trained = optim.limit_logit_scale(optax.apply_updates(trained, updates), config.optim.max_logit_scale)
        parts |= {"grad_norm": optax.tree.norm(grads), "logit_scale": jnp.exp(trained["logit_scale"])}
        return TrainState(state.step + 1, optim.unflatten(trained | frozen), opt_state), parts

    whole, rows = sharding.replicated(mesh), sharding.by_sample(mesh)
    return jax.jit(train_step, in_shardings=(whole, rows), out_shardings=(whole, whole), donate_argnums=0)


def claim_workdir(config: ConfigDict, workdir: str) -> None:
    """Writes config.json, or checks that the one in the workdir is this run's. Raises ValueError naming both sides."""
    os.makedirs(workdir, exist_ok=True)
    path, ours = os.path.join(workdir, "config.json"), config.to_dict()
    if os.path.exists(path):
        lines = [line for line in differences(ours, writers.read_json(path)) if line.split(":")[0] not in FREE_SETTINGS]
        if lines:
            raise ValueError(
                f"{workdir} belongs to a run of another configuration:\n  "
                + "\n  ".join(lines)
                + "\nchoose another --workdir, delete that one, or go back to its settings"
            )
    writers.write_json(path, ours)


class Progress:
    """The progress line: averages since the last one, and the time left."""

    def __init__(self, config: ConfigDict, start: int, total: int):
        self._batch, self._start, self._total = config.batch_size, start, total
        self._begin = self._last = time.monotonic()
        self._last_step, self.waited = start, 0.0

    def line(self, step: int, means: dict[str, float]) -> dict[str, float]:
        """Prints the line of `step` and returns its numbers."""
        now = time.monotonic()
        seconds = now - self._last
        rates = {
            "pairs_per_second": self._batch * (step - self._last_step) / seconds,
            "input_wait": self.waited / seconds,
        }
        left = (now - self._begin) / (step - self._start) * (self._total - step)
        parts = " ".join(f"{name} {means[name]:.3f}" for name in ("loss", "contrastive", "albef") if name in means)
        print(
            f"step {step}/{self._total}  {parts}  {rates['pairs_per_second']:.0f} pairs/s  "
            f"input {rates['input_wait']:.0%}  {int(left) // 60}:{int(left) % 60:02d} left",
            flush=True,
        )
        self._last, self._last_step, self.waited = now, step, 0.0
        return rates


def _mean_of(rows: list[dict], steps: range, clips: list[np.ndarray], ids: list[str]) -> dict[str, float]:
    """Means of the fetched metrics of some steps. A loss that is not finite ends the run, naming step and clips."""
    rows = jax.device_get(rows)
    for step, row, numbers in zip(steps, rows, clips, strict=True):
        if not np.isfinite(row["loss"]) or not np.isfinite(row["grad_norm"]):
            names = ", ".join(ids[number] for number in numbers[:8])
            raise TrainingError(
                f"step {step}: loss {row['loss']}, gradient norm {row['grad_norm']}; it began with clips {names}. "
                "Nothing after the last checkpoint was saved. Lower config.optim.learning_rate, or look at these clips."
            )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def train(config: ConfigDict, workdir: str) -> dict:
    """Trains (or goes on training) in `workdir`, then evaluates the checkpoint picked on validation on test.

    Args:
        config: a resolved config.
        workdir: gets config.json, metrics.jsonl, checkpoints/ and, at the end, results.json.
    Returns:
        What results.json holds; {} if a signal stopped the run, which the same command continues.
    Raises:
        ValueError, ShardError at start-up for what cannot work; TrainingError for a loss that is not finite.
    """
    mesh = sharding.make_mesh()
    sharding.check_batch_size(config.batch_size, mesh)
    data = pipeline.Data(config, ("train", config.data.val_split, config.data.test_split))
    claim_workdir(config, workdir)
    steps_per_epoch = pipeline.steps_per_epoch(data, config)
    total = config.steps or config.epochs * steps_per_epoch
    eval_every = config.eval_every or max(steps_per_epoch, 1)
    checkpoint_every = config.checkpoint_every or eval_every

    model = Retrieval(model_sizes(config))
    optimizer = optim.make_optimizer(config.optim, total)
    train_state = state.create(model, optimizer, config, mesh)
    train_step = make_train_step(model, optimizer, config, mesh)
    evaluator = Evaluator(model, data, config, mesh)

    checkpoints = Checkpoints(workdir, config.keep_last)
    start = checkpoints.latest() or 0
    if start:
        params, optimizer_state, meta = checkpoints.restore(start, train_state.params, train_state.opt_state)
        train_state = TrainState(jnp.asarray(meta["step"], jnp.int32), params, optimizer_state)
        print(f"continuing {workdir} at step {start} of {total}")
    train_state = jax.device_put(train_state, sharding.replicated(mesh))
    writer = writers.MetricsWriter(os.path.join(workdir, "metrics.jsonl"), start)
    batches = pipeline.train_iterator(data, config, start=start)
    progress = Progress(config, start, total)

    stopped = []
    handlers = {sig: signal.signal(sig, lambda sig, _: stopped.append(sig)) for sig in (signal.SIGTERM, signal.SIGINT)}
    pending, clips, logged = [], [], start
    try:
        for step in range(start + 1, total + 1):
            waiting = time.monotonic()
            batch = next(batches)
            progress.waited += time.monotonic() - waiting
            clips.append(batch.pop("clip"))
            train_state, parts = train_step(train_state, sharding.to_devices(batch, mesh))
            pending.append(parts)
            if (
                step % config.log_every
                and step % eval_every
                and step % checkpoint_every
                and step < total
                and not stopped
            ):
                continue
            means = _mean_of(pending, range(logged + 1, step + 1), clips, data.sources["train"].ids)
            writer.write(step=step, split="train", **means, **progress.line(step, means))
            pending, clips, logged = [], [], step
            val = None
            if step % eval_every == 0 or step == total:
                evaluation = evaluator.run(train_state.params, config.data.val_split)
                val = evaluation.results["t2v"]
                writer.write(step=step, split=config.data.val_split, **evaluation.results)
                print(f"step {step}/{total}  {config.data.val_split} text→video {report.one_line(val)}", flush=True)
            if val or step % checkpoint_every == 0 or stopped:
                metric = val and {METRIC: val[METRIC]}
                checkpoints.save(step, train_state.params, train_state.opt_state, {"step": step}, metric)
            if stopped:
                print(
                    f"stopped by {signal.Signals(stopped[0]).name} at step {step}; the same command goes on from here"
                )
                return {}
        best = checkpoints.best()
        params_sha256 = state.digest(train_state.params)
        params = checkpoints.restore_params(best, train_state.params)
        evaluation = evaluator.run(params, config.data.test_split)
    finally:
        for sig, handler in handlers.items():
            signal.signal(sig, handler)
        batches.close()
        writer.close()
        checkpoints.close()
    results = report.results(config, evaluation, picked_step=best, params_sha256=params_sha256, data=data)
    report.write(results, evaluation, data, workdir)
    return results
