"""Input: tokens, frame choice, a global seeded shuffle, an exact resume, batches shared by several hosts."""

import numpy as np
import pytest
from conftest import GOLDEN, make_clip

from save_jax.data import pipeline
from save_jax.data.tokenizer import Tokenizer, learn


def take(config, count: int, **options) -> list[dict]:
    iterator = pipeline.train_iterator(pipeline.Data(config, ("train",)), config, **options)
    batches = [next(iterator) for _ in range(count)]
    iterator.close()
    return batches


def equal(one: dict, other: dict) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_same_seed_same_batches_and_every_pair_once_an_epoch(config):
    batches = take(config, 6)  # 24 clips with 2 captions: 6 batches of 8
    assert all(equal(a, b) for a, b in zip(batches, take(config, 6), strict=True))
    clips = np.concatenate([batch["clip"] for batch in batches])
    np.testing.assert_array_equal(np.bincount(clips), np.full(24, 2))
    assert not np.array_equal(clips, np.sort(clips))
    other = config.copy_and_resolve_references()
    other.seed = 1
    assert not equal(batches[0], take(other, 1)[0])


def test_epochs_are_shuffled_anew(config):
    batches = take(config, 12)
    assert not np.array_equal(batches[0]["clip"], batches[6]["clip"])


def test_starting_at_a_batch_gives_what_an_unstopped_run_sees(config):
    straight = take(config, 9)
    assert all(equal(a, b) for a, b in zip(straight[5:], take(config, 4, start=5), strict=True))


def test_hosts_share_the_batches_of_one(config):
    whole = take(config, 3)
    parts = [take(config, 3, process=p, processes=2) for p in range(2)]
    for step, batch in enumerate(whole):
        for p in range(2):
            np.testing.assert_array_equal(parts[p][step]["clip"], batch["clip"][p::2])


def test_eval_batches_hold_every_clip_in_order(config):
    data = pipeline.Data(config, ("test",))
    batches = list(pipeline.eval_batches(data, config, "test"))
    assert [len(batch["frames"]) for batch in batches] == [8, 8]
    sound = np.concatenate([batch["has_audio"] for batch in batches])[:13]
    np.testing.assert_array_equal(sound, [data.sources["test"][i].fbank is not None for i in range(13)])


def test_absent_sound_and_speech_are_zeros_with_a_flag(config):
    to_arrays = pipeline.Data(config, ("train",)).clip_to_arrays
    arrays = to_arrays(make_clip(0, "train", transcript="abc"))
    assert not arrays["has_audio"] and not arrays["has_teacher"] and not arrays["fbank"].any()
    assert not arrays["speech_ids"].any()  # under five characters: missing
    assert to_arrays(make_clip(1, "train"))["has_audio"]


def test_frames_are_chosen_evenly_and_padded(config):
    to_arrays = pipeline.Data(config, ("train",)).clip_to_arrays  # wants 2 frames
    clip = make_clip(1, "train")
    clip.frames = [clip.frames[0]] * 5 + [make_clip(2, "train").frames[0]]
    arrays = to_arrays(clip)
    assert arrays["frame_mask"].tolist() == [True, True]
    assert not np.array_equal(arrays["frames"][0], arrays["frames"][1])  # first and last
    clip.frames = clip.frames[:1]
    arrays = to_arrays(clip)
    assert arrays["frame_mask"].tolist() == [True, False] and not arrays["frames"][1].any()


def test_too_few_pairs_for_a_batch_are_refused(config):
    config = config.copy_and_resolve_references().unlock()
    config.batch_size = 64
    with pytest.raises(ValueError, match="has 48 pairs, less than one batch of 64"):
        pipeline.train_iterator(pipeline.Data(config, ("train",)), config)


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> Tokenizer:
    directory = str(tmp_path_factory.mktemp("tokenizer"))
    learn(["a red car sings on the beach", "the red bird talks about bread, it's good"] * 2, directory, 600)
    return Tokenizer(directory)


def test_tokens_have_start_end_and_padding(learned):
    ids = learned("A  RED&amp;amp; car", 10)
    assert ids[0] == learned.start and learned.end == learned.vocab_size - 1
    end = int(np.argmax(ids))
    assert ids[end] == learned.end and not ids[end + 1 :].any()
    np.testing.assert_array_equal(ids, learned("a red& car", 10))


@pytest.mark.parametrize("text", ["🎉🙂 party 日本", "word " * 500, "", "dog", "ab"])
def test_odd_queries_keep_their_end(learned, text):
    """Emoji, 500 words, nothing, short ones: all fit, and the end of text is found. The reference blanks short ones."""
    ids = learned(text, 12)
    assert ids.shape == (12,) and ids.max() == learned.end and ids[0] == learned.start
    assert (ids[1] != learned.end) == bool(text)


def test_learning_is_deterministic(tmp_path):
    texts = ["a red car sings on the beach", "the red bird talks about bread, it's good"] * 2
    for name in ("one", "other"):
        learn(texts, str(tmp_path / name), 600)
    for file in ("vocab.json", "merges.txt"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
    assert len(Tokenizer(str(tmp_path / "one")).bpe("red bird")) == 2  # whole words were learned


def test_clip_ids(tmp_path):
    """Ids of the reference's own tokenizer for odd strings, on the part of CLIP's merge table that they need."""
    import json

    reference = json.loads((GOLDEN / "clip_tokens.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps(reference["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(reference["merges"]) + "\n")
    tokenizer = Tokenizer(str(tmp_path))
    inverse = reference["ids"]  # of the reduced table → CLIP's
    for case in reference["cases"]:
        assert [inverse[i] for i in tokenizer.bpe(case["text"])] == case["bpe_ids"], case["text"]
