"""A run keeps its tokenizer; another vocabulary under the same name is refused wherever weights are taken up again."""

import shutil
from pathlib import Path

import pytest
from helpers.corpus import WORDS, write_corpus

from save_jax import main
from save_jax.config import resolve
from save_jax.data import tokenizer
from save_jax.data.tokenizer import Tokenizer
from save_jax.inference import runs
from save_jax.methods import run as method_run
from save_jax.weights import description

OTHER = "were trained with another vocabulary"


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> tuple[Path, Path]:
    """The same clips twice; the second corpus learned its tokenizer from other words."""
    folder = tmp_path_factory.mktemp("corpora")
    first = write_corpus(folder / "first", {"train": 16, "val": 8, "test": 8})
    second = folder / "second"
    shutil.copytree(first, second)
    tokenizer.learn([" ".join(word[::-1] for word in WORDS)] * 3, str(second / "tokenizer"), 600)
    return first, second


def made(config, shards: Path, **settings: object):
    config = config.copy_and_resolve_references().unlock()
    config.data_dir = str(shards)
    config.update_from_flattened_dict({"steps": 2, "eval_every": 2, "evaluation.without_modalities": False, **settings})
    return resolve(config)


def test_another_vocabulary_is_refused(config, corpora, tmp_path):
    first, second = corpora
    workdir = str(tmp_path / "run")
    method_run.train(made(config, first), workdir)
    assert Tokenizer(str(tmp_path / "run" / "tokenizer")).digest == Tokenizer(str(first / "tokenizer")).digest
    assert description.stored_digest(workdir) == Tokenizer(str(first / "tokenizer")).digest
    for take_up in (
        lambda: method_run.train(made(config, second, init_from=workdir), str(tmp_path / "new")),
        lambda: main.evaluate(made(config, second), workdir),
        lambda: runs.open_run(workdir, data_dir=str(second)),
    ):
        with pytest.raises(ValueError, match=OTHER):
            take_up()
    assert not (tmp_path / "new" / "checkpoints" / "2").exists()


def test_a_run_that_goes_on_keeps_its_vocabulary(config, corpora, tmp_path):
    """Shards whose clips are the same to the bit, so that nothing but the tokenizer tells them apart."""
    first, second = corpora
    workdir = str(tmp_path / "run")
    method_run.train(made(config, first), workdir)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "2")  # as if it had been stopped before
    with pytest.raises(ValueError, match=OTHER) as error:
        method_run.train(made(config, second), workdir)
    assert workdir in str(error.value) and "set config.data.tokenizer" in str(error.value)


def test_the_same_vocabulary_has_one_digest(corpora, tmp_path):
    own = Tokenizer(str(corpora[0] / "tokenizer"))
    own.save(str(tmp_path / "copy"))
    copy = Tokenizer(str(tmp_path / "copy"))
    assert copy.digest == own.digest != Tokenizer(str(corpora[1] / "tokenizer")).digest
    own.save(str(corpora[0] / "tokenizer"))  # onto itself: nothing is lost
    assert Tokenizer(str(corpora[0] / "tokenizer")).digest == own.digest
