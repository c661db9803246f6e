"""What carried a match: contributions recomputed by hand from the model's own terms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.evaluators import evaluator_and_params

from save_jax.config import model_sizes, resolve
from save_jax.data.pipeline import eval_batches
from save_jax.evaluation.attribution import explain
from save_jax.models.retrieval import Retrieval

NUMBERS = [4, 0, 11]


def explained(config, weights: tuple[float, ...], open_gates: float = 0.05):
    config = config.copy_and_resolve_references().unlock()
    config.model.weights.save = weights
    config = resolve(config)
    evaluator, params = evaluator_and_params(config)
    params = jax.tree.map(lambda x: x + open_gates, params)
    texts = evaluator.embed_texts(params, ["a red car", "a bird sings about bread"])
    return config, evaluator, params, texts, explain(evaluator, params, "test", texts, NUMBERS)


def score_by_hand(text: np.ndarray, tokens: np.ndarray, mask: np.ndarray, params: dict) -> float:
    """METHOD's score of one pair in float64, λ = 1."""
    scale = np.exp(np.float64(params["logit_scale"]))
    text = text / np.linalg.norm(text)
    frames = tokens[mask] / np.linalg.norm(tokens[mask], axis=1, keepdims=True)
    mean = frames.mean(axis=0) / np.linalg.norm(frames.mean(axis=0))
    return 0.5 * scale * (text @ mean) + 0.5 * np.log(np.exp(scale * (frames @ text)).sum())


def test_contributions_are_differences_of_scores_computed_by_hand(config):
    config, evaluator, params, texts, found = explained(config, (1.0, 0.5, 0.25))
    batch = {name: jnp.asarray(x) for name, x in next(eval_batches(evaluator.data, config, "test", NUMBERS)).items()}
    model = Retrieval(model_sizes(config))
    video = jax.jit(lambda p, b: model.apply({"params": p}, b, method=Retrieval.encode_video))(params, batch)
    terms = {
        "vision": np.float64(video.visual),
        "audio": 0.5 * np.float64(video.audio_fused.tokens),
        "speech": 0.25 * np.float64(video.speech_fused.tokens),
    }
    assert found.branches.keys() == terms.keys()
    for query, text in enumerate(np.float64(texts)):
        for column in range(len(NUMBERS)):

            def score(kept, text=text, column=column):
                return score_by_hand(text, sum(kept)[column], np.asarray(batch["frame_mask"][column]), params)

            complete = score(terms.values())
            assert found.scores[query, column] == pytest.approx(complete, abs=2e-4)
            for name, contribution in found.branches.items():
                without = score([term for other, term in terms.items() if other != name])
                assert contribution[query, column] == pytest.approx(complete - without, abs=4e-4)
                assert abs(contribution[query, column]) > 1e-3  # else the comparison says nothing
    np.testing.assert_allclose(found.gates["audio"], abs(video.audio_fused.attention_gates[:3]).mean(1), atol=1e-5)


def test_scores_and_gates_are_those_of_the_evaluation(config):
    _, evaluator, params, texts, found = explained(config, (1.0, 0.5, 0.5))
    evaluation = evaluator.run(params, "test")
    np.testing.assert_allclose(found.scores, evaluator.score(params, texts, evaluation.videos)[:, NUMBERS], atol=1e-4)
    gates = abs(evaluation.gates["speech"]["attention"]).mean(axis=1)[NUMBERS]
    np.testing.assert_allclose(found.gates["speech"], gates, atol=1e-5)


def test_a_branch_of_weight_0_contributes_exactly_0(config):
    *_, found = explained(config, (1.0, 0.0, 0.5))
    assert (found.branches["audio"] == 0).all() and (found.inputs["audio"] == 0).all()
    assert (found.branches["speech"] != 0).all() and (found.branches["vision"] != 0).all()


def test_taking_away_what_is_not_there_changes_exactly_nothing(config):
    _, evaluator, _, _, found = explained(config, (1.0, 0.5, 0.5))
    notes = evaluator.data.info("test")
    for column, number in enumerate(NUMBERS):  # 4: all; 0: neither; 11: all
        assert (found.inputs["audio"][:, column] != 0).all() == notes.sound[number]
        assert (found.inputs["speech"][:, column] != 0).all() == bool(notes.transcripts[number])
    assert {bool(notes.sound[n]) for n in NUMBERS} == {True, False}


def test_a_single_branch_has_nothing_to_be_compared_with(config):
    config = config.copy_and_resolve_references().unlock()
    config.model.branches = "vision"
    evaluator, params = evaluator_and_params(resolve(config))
    texts = evaluator.embed_texts(params, ["a red car"])
    found = explain(evaluator, params, "test", texts, NUMBERS)
    assert dataclasses.asdict(found) | {"scores": None} == {
        "scores": None, "branches": {}, "inputs": {}, "gates": {},
    }  # fmt: skip
