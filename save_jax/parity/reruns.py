"""Runs our model on a golden file's weights and inputs as its authors ran theirs: outputs, gradients, optimiser steps,
hidden states, all under the golden files' names. `command.py` compares them.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from save_jax.models import similarity, trees
from save_jax.models.apply import apply
from save_jax.models.retrieval import Retrieval
from save_jax.models.trees import unflatten
from save_jax.parity import fixtures
from save_jax.parity.fixtures import Twin
from save_jax.training import losses, objectives, optim, step
from save_jax.weights import convert

Arrays = dict[str, np.ndarray]
Step = Callable[[trees.Flat, trees.Flat], tuple[dict, trees.Flat]]  # (trained, frozen) → (outputs, gradients)


def _cross_entropy(logits: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.arange(len(logits))).mean()


def _towers(model: Retrieval, batch: dict) -> dict[str, jax.Array]:
    outputs = model.towers(batch)
    speech = {"speech_tokens": outputs["speech"]} if "speech" in outputs else {}
    return {"frame_embeddings": outputs["visual"]} | speech | {"audio_tokens": model.encode_audio(batch)}


def _apply(twin: Twin, params: dict, inputs: Any, method: Callable | None = None) -> Any:
    """What the model gives: of what type, Flax cannot say."""
    return apply(method or Retrieval.__call__, twin.model, params, inputs)


def _outputs(twin: Twin, params: dict, temperatures: Sequence[float]) -> dict[str, jax.Array]:
    """Every forward quantity under the golden files' names."""
    batch, mask, loss = twin.batch, twin.batch["frame_mask"], twin.config.loss
    texts, video, logit_scale = _apply(twin, params, batch)
    index = similarity.index(video.fused, mask)
    scores = {t: similarity.score(texts, index, logit_scale, t) for t in (twin.config.model.temperature, *temperatures)}
    logits = scores[twin.config.model.temperature]
    margin = losses.adaptive_margin(texts, video.visual, mask, loss.beta, loss.delta)
    with_margin = logits + jnp.exp(logit_scale) * margin
    out = _apply(twin, params, batch, _towers) | {
        "text_embedding": texts,
        "resampled_audio_tokens": video.audio,
        "visual_with_position": video.visual,
        "audio_fused": video.audio_fused.tokens,
        "audio_attn_gates": video.audio_fused.attention_gates,
        "audio_ffn_gates": video.audio_fused.mlp_gates,
        "fused_tokens": video.fused,
        "fused_global": index.mean,
        "visual_global": similarity.index(video.visual, mask).mean,
        "logits_no_margin": logits,
        "margin": margin,
        "logits_with_margin": with_margin,
        "loss_t2v": _cross_entropy(with_margin),
        "loss_v2t": _cross_entropy(with_margin.T),
        "loss_contrastive": losses.contrastive(with_margin),
    }
    out |= {f"logits_no_margin_lambda{t:g}": scores[t] for t in temperatures}
    if twin.kind == "save":
        student = losses.audio_visual_similarity(video.visual, video.audio)
        teacher = similarity.unit(batch["teacher_video"]) @ similarity.unit(batch["teacher_audio"]).T
        out |= {
            "speech_fused": video.speech_fused.tokens,
            "speech_attn_gates": video.speech_fused.attention_gates,
            "speech_ffn_gates": video.speech_fused.mlp_gates,
            "v2a_sim": student,
            "teacher_sim_x5": losses.TEACHER_SCALE * teacher,
            "pearson_dist_rows": losses.row_distances(student, teacher, batch["has_audio"]),
            "pearson_dist_cols": losses.row_distances(student.T, teacher.T, batch["has_audio"]),
            "loss_pearson": losses.soft_albef(student, teacher, batch["has_audio"]),
        }
    if "eval_text_ids" in twin.inputs:
        ids = jnp.asarray(twin.inputs["eval_text_ids"])
        texts = _apply(twin, params, ids, Retrieval.encode_text)
        out |= {"eval_text_embedding": texts, "eval_logits": similarity.score(texts, index, logit_scale)}
    return out


def compile_step(twin: Twin, temperatures: Sequence[float] = ()) -> Step:
    """Parameters → (outputs, gradients of the training objective before clipping), both in our names."""

    @jax.jit
    def run(trained: trees.Flat, frozen: trees.Flat) -> tuple[dict, trees.Flat]:
        def objective(trained: trees.Flat) -> tuple[jax.Array, dict]:
            params = unflatten(trained | frozen)
            total, _ = step.loss_of_batch(objectives.RetrievalObjective(twin.model, twin.config), params, twin.batch)
            return total, _outputs(twin, params, temperatures)

        (total, out), grads = jax.value_and_grad(objective, has_aux=True)(trained)
        return out | {"loss_total": total, "grad_global_norm": optax.tree.norm(grads)}, grads

    return run


def outputs(twin: Twin, temperatures: Sequence[float] = ()) -> Arrays:
    """What the model gives for the twin's batch, and the training objective."""

    @jax.jit
    def run(params: dict) -> dict:
        total, _ = step.loss_of_batch(objectives.RetrievalObjective(twin.model, twin.config), params, twin.batch)
        return _outputs(twin, params, temperatures) | {"loss_total": total}

    return of_valid(jax.device_get(run(twin.params)), twin)


def of_valid(out: Arrays, twin: Twin) -> Arrays:
    """Golden files hold the distances of clips with sound alone."""
    valid = np.asarray(twin.batch["has_audio"])
    return out | {name: out[name][valid] for name in ("pearson_dist_rows", "pearson_dist_cols") if name in out}


def outputs_and_gradients(twin: Twin, step: Step) -> tuple[Arrays, Arrays]:
    """Both under the golden files' names."""
    out, grads = jax.device_get(step(*optim.split_frozen(twin.params, twin.config.optim.frozen)))
    return of_valid(out, twin), convert.to_official(unflatten(grads), twin.rules)


def optimizer_steps(twin: Twin, step: Step, settings: dict, count: int) -> tuple[list[Arrays], list, list]:
    """(parameters after 0, 1, … steps, losses before each step and after the last, gradient norms before clipping).

    The optimiser is the one of training, with its labelled rates, decay, clipping and frozen parts.
    """
    config = fixtures.apply_settings(twin.config, settings)
    optimizer = optim.make_optimizer(config.optim, settings["t_total"])
    trained, frozen = optim.split_frozen(jax.tree.map(jnp.asarray, twin.params), config.optim.frozen)

    @jax.jit
    def update(trained: trees.Flat, state: optax.OptState, grads: trees.Flat) -> tuple[trees.Flat, optax.OptState]:
        updates, state = optimizer.update(grads, state, trained)
        return optim.limit_logit_scale(optax.apply_updates(trained, updates), config.optim.max_logit_scale), state

    state, parameters, values, norms = optimizer.init(trained), [], [], []
    for k in range(count + 1):
        parameters.append(convert.to_official(unflatten(jax.device_get(trained | frozen)), twin.rules))
        out, grads = step(trained, frozen)
        values.append(float(out["loss_total"]))
        if k < count:
            norms.append(float(out["grad_global_norm"]))
            trained, state = update(trained, state, grads)
    return parameters, values, norms


def hidden_states(twin: Twin) -> Arrays:
    """What flows between blocks, under the debug files' names."""

    @jax.jit
    def run(params: dict) -> dict:
        calls: dict[str, list] = {}

        def record(next_call, args, kwargs, context):
            out = next_call(*args, **kwargs)
            path = "/".join(context.module.path)
            if context.method_name == "__call__" and re.search(r"/(block_\d+|norm)$", path):
                calls.setdefault(path, []).append((args[0], out[0] if isinstance(out, tuple) else out))
            return out

        with nn.intercept_methods(record):
            _apply(twin, params, twin.batch)
        return calls

    states = {}
    for path, calls in jax.device_get(run(twin.params)).items():
        module, part = path.split("/")
        (first_input, _), (_, last_output) = calls[0], calls[-1]
        if path == "ast/norm":
            states["ast_out_before_norm"] = first_input
        elif module == "ast":
            states[f"ast_{part.replace('_', '')}_input"] = first_input
        elif module == "text" and "speech_ids" in twin.batch:  # transcript and query go through it side by side
            states[f"speech_{part.replace('_', '')}"] = last_output[::2]
            states[f"text_{part.replace('_', '')}"] = last_output[1::2]
        else:
            states[f"{module}_{part.replace('_', '')}"] = last_output
    return states
