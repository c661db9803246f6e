"""Training, in the order things happen: data, state, restore, loop, and the checkpoint that validation picked."""

import dataclasses
import os
from typing import NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.data import pipeline
from save_jax.evaluation.contract import Evaluator
from save_jax.models import trees
from save_jax.training import devices, state
from save_jax.training.contract import Checkpoint, Method
from save_jax.training.feeding import device_batches
from save_jax.training.interrupt import StopSignals
from save_jax.training.metrics_log import MetricsLog
from save_jax.training.monitor import Progress, Watch
from save_jax.training.step import make_train_step
from save_jax.training.workdir import agree_on_shards, check_same_data, claim_workdir, is_begun, keep_tokenizer
from save_jax.weights.checkpoint import METRIC, Checkpoints


class Finished(NamedTuple):
    """A run that reached its last step."""

    evaluator: Evaluator
    picked: Checkpoint  # on validation, never on test
    last: Checkpoint
    params_sha256: str  # of the last parameters


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When a run validates, saves and ends, in steps."""

    total: int
    eval_every: int
    checkpoint_every: int
    log_every: int

    def validates(self, step: int) -> bool:
        return step % self.eval_every == 0 or step == self.total

    def saves(self, step: int) -> bool:
        return self.validates(step) or step % self.checkpoint_every == 0

    def logs(self, step: int) -> bool:
        return self.saves(step) or step % self.log_every == 0


def make_schedule(config: ConfigDict, data: pipeline.Data) -> Schedule:
    """The schedule of a config on its shards. Raises ValueError where they have less than one batch."""
    steps_per_epoch = pipeline.steps_per_epoch(data, config)
    eval_every = config.eval_every or steps_per_epoch
    total = config.steps or config.epochs * steps_per_epoch
    return Schedule(total, eval_every, config.checkpoint_every or eval_every, config.log_every)


def train(method: Method, config: ConfigDict, workdir: str, mesh: Mesh) -> Finished:
    """Trains a model in `workdir`, or continues the run that is in it.

    Args:
        method: of the config, see `methods.run.make_method`.
        config: a resolved config.
        workdir: gets config.json, metrics.jsonl and checkpoints/.
        mesh: of all devices.
    Raises:
        ValueError, ShardError: at start-up, for what cannot work.
        TrainingError: the loss is not finite, or far above the usual.
        Stopped: after SIGTERM or SIGINT. The run is saved, and the same command continues it.
    """
    _check(config, mesh)
    if not is_begun(workdir):
        state.check_start(method.model, config)
    data = pipeline.Data(config, ("train", config.data.val_split, config.data.test_split))
    agree_on_shards(data)
    schedule = make_schedule(config, data)
    optimizer = method.optimizer(schedule.total)
    claim_workdir(config, workdir)
    checkpoints = Checkpoints(workdir, config.keep_last)
    devices.warn_of_training_on_cpu(config, schedule.total - (checkpoints.latest() or 0))
    start, train_state = _start(method, optimizer, config, workdir, mesh, data, checkpoints, schedule.total)
    keep_tokenizer(data.tokenizer, workdir, config.init_from if not start else "")
    data = method.prepare(data, train_state.params)
    evaluator = method.evaluator(data)
    train_step = make_train_step(method.objective, optimizer, config, mesh)
    log = MetricsLog(os.path.join(workdir, "metrics.jsonl"), start)
    progress = Progress(config, start, schedule.total, method.objective.shown)
    watch = Watch(config, data.sources["train"].ids, workdir)

    signals = StopSignals()
    pending, before, logged, stopping = [], None, start, False
    batches = sent = None
    try:
        batches, sent = device_batches(data, config, mesh, start, signals.received)
        for step in range(start + 1, schedule.total + 1):
            batch = progress.wait_for(sent)
            train_state, parts = train_step(train_state, batch)
            if before:
                # Waits for the step before this one. So only one step is dispatched ahead: the host does not pile up
                # batches, and waiting for the device is not counted as waiting for input.
                stopping = bool(before["stop"])
            before = parts
            pending.append(parts)
            if step == start + 1:
                jax.block_until_ready(parts)
                progress.leave_out()  # compiling
            if not schedule.logs(step) and not stopping:
                continue
            means = watch.means(pending, logged + 1)
            log.write(step=step, split="train", **means, **progress.line(step, means))
            pending, logged = [], step
            metric = None
            if schedule.validates(step):
                metric = _validate(
                    method, evaluator, train_state.params, config, log, f"step {step}/{schedule.total}", step
                )
            if schedule.saves(step) or stopping:
                meta = {"step": step, "shards": data.manifest["shards"]}
                checkpoints.save(step, train_state.params, train_state.opt_state, meta, metric)
                progress.leave_out()
            if stopping:
                signals.end(step)
        if sharding.any_process(bool(signals.received)):  # came after the last batch was sent; everything is saved
            signals.end()
        signals.release()  # from here on a signal may end the process at once
        picked = checkpoints.best()
        params = checkpoints.restore_params(picked, train_state.params)
    finally:
        signals.release()
        for iterator in (sent, batches):
            if iterator is not None:
                iterator.close()
        log.close()
        checkpoints.close()
    digest = trees.digest(sharding.whole(train_state.params, mesh))
    return Finished(evaluator, Checkpoint(picked, params), Checkpoint(schedule.total, train_state.params), digest)


def _check(config: ConfigDict, mesh: Mesh) -> None:
    """Refuses what cannot work, before any file is read."""
    if config.data.val_split == config.data.test_split:
        raise ValueError(
            f"config.data.val_split and test_split are both {config.data.test_split!r}: checkpoints are never picked "
            "on test; for the peak there set config.evaluation.peak_on_test=True"
        )
    sharding.check_batch_size(config.batch_size, mesh)
    if config.micro_batch:
        sharding.check_batch_size(config.micro_batch, mesh, "micro_batch")


def _start(
    method: Method,
    optimizer: optax.GradientTransformation,
    config: ConfigDict,
    workdir: str,
    mesh: Mesh,
    data: pipeline.Data,
    checkpoints: Checkpoints,
    total: int,
) -> tuple[int, state.TrainState]:
    """(steps done, state): restored from the last whole checkpoint; else new, from config.init_from or random."""
    if checkpoints.latest() is None:
        return 0, state.start(method.model, optimizer, config, mesh)
    like = state.shapes(method.model, optimizer, config, mesh)
    start, params, optimizer_state, meta = checkpoints.restore_last(like.params, like.opt_state)
    check_same_data(data, meta["shards"], workdir)
    sharding.say(
        f"continuing {workdir} at step {start} of {total}" if start < total else f"{workdir} is trained: evaluating"
    )
    step = jax.device_put(np.int32(start), sharding.replicated(mesh))
    return start, state.TrainState(step, params, optimizer_state)


def _validate(
    method: Method, evaluator: Evaluator, params: dict, config: ConfigDict, log: MetricsLog, where: str, step: int
) -> dict[str, float] | None:
    """Evaluates on validation, and with config.evaluation.peak_on_test on test. Returns what picks the checkpoint."""
    val_split, test_split = config.data.val_split, config.data.test_split
    results = evaluator.run(params, val_split).results
    number, line = method.judge(results, val_split)
    metric = None if number is None else {METRIC: sharding.of_first(number)}
    log.write(step=step, split=val_split, **results)
    sharding.say(f"{where}  {val_split} {line}")
    if config.evaluation.peak_on_test:
        tested = evaluator.run(params, test_split).results
        log.write(step=step, split=test_split, **{name: row for name, row in tested.items() if "2" in name})
    return metric
