"""The tokenizer: how far texts are read, and how often."""

import numpy as np
import pytest
from helpers.corpus import WORDS

from save_jax.data.tokenizer import Tokenizer, learn


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    folder = str(tmp_path_factory.mktemp("tokenizer"))
    learn([" ".join(WORDS), "the red car turns left and the bird sings"] * 3, folder, 600)
    return Tokenizer(folder)


def test_a_long_transcript_is_encoded_as_far_as_it_is_read(tokenizer, monkeypatch):
    """The same ids as of the whole text, and once, however often it is read."""
    words = ["a red car", "it's 12 o'clock", "ééé", "&amp;", "x" * 300, "the   bird\n sings", "", "naïve cafÃ©"]
    for seed in range(40):
        text = " ".join(words[k] for k in np.random.default_rng(seed).integers(0, len(words), 400))
        whole = tokenizer.pieces(text)
        for length in (2, 3, 12, 77):
            expected = [tokenizer.start, *whole[: length - 2], tokenizer.end]
            assert tokenizer(text, length).tolist() == expected
    encoded = []
    ids = tokenizer._ids
    monkeypatch.setattr(tokenizer, "_ids", lambda text: (encoded.append(len(text)), ids(text))[1])
    speech = "a red car turns left and the bird sings " * 5000
    first = tokenizer.transcript(speech, 32)
    first[:] = 0  # what the caller does with its array is its own
    assert tokenizer.transcript(speech, 32).tolist() == tokenizer(speech, 32).tolist()
    assert len(encoded) == 2 and sum(encoded) < 1000
