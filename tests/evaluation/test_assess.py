"""The final evaluation: leaks are found, departures are named, breakdowns add up."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers.evaluators import evaluator_and_params

from save_jax.config import resolve
from save_jax.data import transforms
from save_jax.data.transforms import ClipToArrays
from save_jax.evaluation import assessment, audit, breakdown
from save_jax.judge import protocols
from save_jax.methods import run as method_run


def test_the_audit_passes_for_the_model_and_has_looked(config):
    evaluator, params = evaluator_and_params(config)
    found = audit.audit(evaluator, params, "test", evaluator.embed_videos(params, "test"))
    assert found["clips"] == 6 and found["captions_changed"] == 0.0 and found["order_and_batch"] < 1e-4


class Leaking(ClipToArrays):
    """Puts a clip's first caption in place of its transcript."""

    def __call__(self, clip, frames=None, stored=()):
        return super().__call__(dataclasses.replace(clip, transcript=clip.captions[0]), frames, stored)


def test_a_leak_of_captions_into_videos_is_found(config, monkeypatch):
    """An input path that appends the first caption to the transcript, as one bug of real code did."""
    evaluator, params = evaluator_and_params(config)
    params = jax.tree.map(lambda x: x + 0.02, params)  # gates that are open
    monkeypatch.setattr(evaluator.data, "clip_to_arrays", Leaking(**vars(evaluator.data.clip_to_arrays)))
    with pytest.raises(audit.LeakError, match="captions leak into videos"):
        audit.audit(evaluator, params, "test", evaluator.embed_videos(params, "test"))


def test_what_rounding_explains_by_hand():
    """2.5 of the numbers that are 2^-bits apart, and of 23 bits the sums' own error."""
    assert audit.tolerance("float32", "cpu", "default") == audit.tolerance("float32", "gpu", "highest") == 1e-4
    assert audit.tolerance("float32", "gpu", "default") == audit.tolerance("float32", "tpu", "high") == 2.5 / 1024
    assert audit.tolerance("bfloat16", "gpu", "default") == audit.tolerance("float32", "tpu", "default") == 2.5 / 128


def test_a_device_that_adds_in_another_order_each_time_is_no_leak(config, monkeypatch):
    """Captions are compared where nothing is rounded; order and batch within rounding, and no further."""
    evaluator, params = evaluator_and_params(config)
    encoders, rng, size = evaluator._encoders, np.random.default_rng(0), [1e-6]

    def restless(params: dict, tokens) -> tuple:
        index, gates = encoders.fuse(params, tokens)
        return index.replace(mean=index.mean + size[0] * rng.choice([-1, 1], index.mean.shape)), gates

    monkeypatch.setattr(evaluator, "_encoders", encoders._replace(fuse=restless))
    found = audit.audit(evaluator, params, "test", evaluator.embed_videos(params, "test"))
    assert found["captions_changed"] == 0 < found["order_and_batch"] < 1e-5
    size[0] = 0.01
    with pytest.raises(audit.LeakError, match="with order and batch"):
        audit.audit(evaluator, params, "test", evaluator.embed_videos(params, "test"))


def test_an_embedding_that_depends_on_its_neighbours_is_found(config, monkeypatch):
    evaluator, params = evaluator_and_params(config)
    encoders = evaluator._encoders

    def normalised_over_the_batch(params: dict, tokens) -> tuple:
        index, gates = encoders.fuse(params, tokens)
        return index.replace(mean=index.mean - index.mean.mean(axis=0)), gates

    monkeypatch.setattr(evaluator, "_encoders", encoders._replace(fuse=normalised_over_the_batch))
    with pytest.raises(audit.LeakError, match="with order and batch"):
        audit.audit(evaluator, params, "test", evaluator.embed_videos(params, "test"))


def test_departures_from_a_protocol_are_named():
    ids, caption_to_video = [f"video{k}" for k in range(1000)], np.arange(1000)
    strangers = protocols.describe("msrvtt-9k", "test", 1000, caption_to_video, ids=ids)["departures"]
    assert strangers == ["the gallery's ids are not the official list's (digest 0b5f702ea4dc, not 49a09fb68f7e)"]
    full = [f"video{number}" for number in range(7010, 10000)]  # the published split, in any order
    assert not protocols.describe("msrvtt-7k", "test", 2990, np.repeat(np.arange(2990), 20), ids=full[::-1])[
        "departures"
    ]
    assert protocols.describe("msrvtt-9k", "test", 1000, caption_to_video)["departures"] == []
    assert protocols.describe("msrvtt-7k", "test", 1000, caption_to_video, ids=ids, failed=["video3"])[
        "departures"
    ] == [
        "the gallery has 1000 videos, the protocol 2990",
        "1000 videos do not have 20 caption(s)",
        "1 videos could not be decoded and rank last",
    ]
    twice = protocols.describe("msrvtt-9k", "test", 1000, caption_to_video, ids=[*ids[:-1], "video0"])
    assert twice["departures"][1:] == ["1 ids occur more than once, such as video0"]
    assert protocols.describe("vatex", "val", 1000, caption_to_video, ids=ids)["departures"] == [
        "split 'val' is not the test split"
    ]
    assert (
        "no published protocol" in protocols.describe("mine", "test", 1000, caption_to_video, ids=ids)["departures"][0]
    )


@pytest.mark.parametrize(
    ("caption", "group"),
    [
        ("a man sings a song", "sound"),
        ("a woman is talking about cars", "speech"),
        ("two people are singing while a reporter speaks", "sound+speech"),
        ("a man is describing a car", "speech"),
        ("the results are announced", "speech"),
        ("people are clapping and humming", "sound"),
        ("a red car turns left", "vision"),
        ("the singularity of spring", "vision"),  # parts of words do not count
    ],
)
def test_automatic_groups(caption, group):
    assert breakdown.automatic_groups([caption]) == [group]


def test_what_is_taken_away_and_exchanged(config):
    evaluator, _ = evaluator_and_params(config)
    notes = evaluator.data.info("test")
    exchanges = breakdown.exchanges(notes, ["vision", "audio", "speech"])
    assert list(exchanges) == ["no sound", "wrong sound", "no speech", "wrong speech", "vision only"]
    assert breakdown.exchanges(notes, ["vision"]) == {}
    assert exchanges["vision only"] == exchanges["no sound"] | exchanges["no speech"]
    has = {"sound": notes.sound, "speech": np.array([bool(text) for text in notes.transcripts])}
    own = np.arange(len(notes.ids))
    for branch, kind in (("audio", "sound"), ("speech", "speech")):
        none, wrong = exchanges[f"no {kind}"][branch], exchanges[f"wrong {kind}"][branch]
        np.testing.assert_array_equal(none, np.where(has[kind], breakdown.NOTHING, own))
        assert has[kind].any() and not has[kind].all()
        np.testing.assert_array_equal(wrong != own, has[kind])  # of those that have some, everyone gets another's
        assert has[kind][wrong[has[kind]]].all() and len(set(wrong)) == len(own)


def test_exchanged_inputs_give_what_reading_other_clips_gives(config):
    """Tokens of one pass, exchanged, against whole passes over changed clips: sound and speech come apart cleanly."""
    evaluator, params = evaluator_and_params(config)
    params = jax.tree.map(lambda x: x + 0.02, params)  # gates that are open
    source, notes = evaluator.data.sources["test"], evaluator.data.info("test")
    tokens, nothing = evaluator.tokens(params, "test"), evaluator.nothing(params)
    for rows in breakdown.exchanges(notes, ["vision", "audio", "speech"]).values():

        def changed(clip, number, rows=rows):
            fields = {}
            for branch, field in (("audio", "fbank"), ("speech", "transcript")):
                if branch in rows:
                    taken, none = rows[branch][number], None if branch == "audio" else ""
                    fields[field] = none if taken < 0 else getattr(source[taken], field)
            return dataclasses.replace(clip, **fields)

        expected = evaluator.embed_videos(params, "test", change=changed)
        ours, _ = evaluator.fuse(params, breakdown.exchange(tokens, nothing, rows))
        np.testing.assert_allclose(ours.frames, expected.frames, atol=1e-5)
        np.testing.assert_allclose(ours.mean, expected.mean, atol=1e-5)


def test_a_final_evaluation_decodes_the_frames_of_a_clip_once(config, monkeypatch):
    """But for the few that the audit looks at again."""
    evaluator, params = evaluator_and_params(config)
    decoded = []
    decode = transforms.decode_frames
    monkeypatch.setattr(transforms, "decode_frames", lambda clip, *rest: (decoded.append(clip.id), decode(clip, *rest)))
    found = assessment.assess(evaluator, params, "test")
    clips, size, audited = found.results["gallery"]["videos"], config.batch_size, 3
    assert len(found.results["without_modalities"]) == 5
    assert len(decoded) <= -(-clips // size) * size + audited * size


def test_a_training_run_ends_with_the_whole_assessment(config, tmp_path):
    """The sections agree with each other, and the peak on test is there only under its own name."""
    config = config.copy_and_resolve_references().unlock()
    config.evaluation.peak_on_test = True
    results = method_run.train(resolve(config), str(tmp_path))
    test = results["test"]
    assert test["protocol"]["queries"] == test["t2v"]["queries"] == 13
    low, high = test["intervals"]["t2v"]["R@10"]
    assert low <= test["t2v"]["R@10"] <= high
    queries = {name: found["queries"] for name, found in test["by_video"].items()}
    assert sum(n for name, n in queries.items() if name.startswith("transcript")) == 13
    assert sum(n for name, n in queries.items() if not name.startswith("transcript")) == 13
    assert list(test["without_modalities"]) == ["no sound", "wrong sound", "no speech", "wrong speech", "vision only"]
    assert all("uses" in found for found in test["post_processed"].values())
    assert results["checkpoints"]["picked on validation"]["step"] == results["picked_step"]
    peak = results["checkpoints"]["peak on test"]["t2v"]["SumR"]
    assert peak >= max(c["t2v"]["SumR"] for c in results["checkpoints"].values())
    assert results["checkpoints"]["picked on validation"]["t2v"] == test["t2v"]
    config.evaluation.peak_on_test = False
    assert "peak on test" not in method_run.train(resolve(config), str(tmp_path))["checkpoints"]


def test_a_model_that_ignores_sound_is_not_hurt_by_its_absence(config):
    """Zero fusion weights: the table of modalities must be flat."""
    config = config.copy_and_resolve_references().unlock()
    config.model.weights.save = (1.0, 0.0, 0.0)
    evaluator, params = evaluator_and_params(resolve(config))
    found = assessment.assess(evaluator, params, "test").results
    assert all(change["t2v"] == found["t2v"] for change in found["without_modalities"].values())


def test_taking_sound_away_changes_the_videos_that_have_it(config):
    evaluator, params = evaluator_and_params(config)
    params = jax.tree.map(lambda x: x + 0.02, params)  # gates that are open
    notes, tokens = evaluator.data.info("test"), evaluator.tokens(params, "test")
    rows = breakdown.exchanges(notes, ["vision", "audio"])["no sound"]
    less = breakdown.exchange(tokens, evaluator.nothing(params), rows)
    whole, less = (evaluator.fuse(params, x)[0].mean for x in (tokens, less))
    np.testing.assert_array_equal((whole != less).any(axis=1), notes.sound)


def test_nothing_is_exchanged_where_one_clip_alone_has_sound():
    assert breakdown._donors([False, True, False]) == {}


def test_global_score_alone_is_one_vector_per_video(config):
    config = config.copy_and_resolve_references().unlock()
    config.model.score = "global"
    evaluator, params = evaluator_and_params(resolve(config))
    found = evaluator.run(params, "test")
    texts = found.texts / np.linalg.norm(found.texts, axis=1, keepdims=True)
    expected = np.exp(float(params["logit_scale"])) * texts @ found.videos.mean.T
    np.testing.assert_allclose(found.scores["t2v"], expected, rtol=1e-4, atol=1e-5)
