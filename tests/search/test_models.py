"""Models by name: CLIP's towers alone, whole models, and what is neither."""

import os

import numpy as np
import pytest
from helpers import library

from save_jax.models.trees import digest
from save_jax.search.models import CLIP, open_embedder, sentences_of
from save_jax.weights import description, loading


@pytest.fixture(scope="module")
def clip(tmp_path_factory, embedder) -> str:
    """CLIP's towers of the small model, as `save-jax convert --kind clip` leaves them: described, and nothing else."""
    folder, model = str(tmp_path_factory.mktemp("clip") / "weights"), embedder.model
    params = {name: model.params[name] for name in sorted(CLIP)}
    loading.save_params(folder, params)
    told = {"licence": "none", "source": "random", "params_sha256": digest(params)}
    description.write(folder, model.config, list(params), tokenizer=model.tokenizer, **told)
    return folder


def test_clip_alone_ranks_by_pictures_and_words(clip, videos, tmp_path):
    embedder = open_embedder(clip)
    assert embedder.senses == ("vision",) and not np.any(embedder.model.params["frame_position_embedding"])
    opened = library.make_library(tmp_path / "lib", embedder, videos)
    hits = opened.search("a red car").hits
    assert len(hits) >= 3 and set(hits[0].why) == {"vision"}
    assert os.path.basename(hits[0].file) == "red.mp4" and hits[0].quoted == "a red car"  # it was said there
    assert [os.path.basename(hit.file) for hit in opened.search('"doesn\'t bark"').hits] == ["dog.mp4"]


def test_other_weights_than_described_are_refused(clip, tmp_path):
    about = description.read(clip)
    folder = str(tmp_path / "other")
    loading.save_params(folder, {name: loading.read_params(clip)[name] for name in CLIP})
    told = {"licence": "none", "source": "random", "params_sha256": "0" * 64}
    description.write(folder, about.config, sorted(CLIP), tokenizer=about.open_tokenizer(), **told)
    with pytest.raises(ValueError, match=r"other parameters than its description\.json says"):
        open_embedder(folder)


def test_a_file_of_weights_says_what_to_do(tmp_path):
    (tmp_path / "clip.pt").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"convert it first: save-jax convert --from .*clip\.pt"):
        open_embedder(str(tmp_path / "clip.pt"))
    with pytest.raises(ValueError, match="is no folder"):
        open_embedder(str(tmp_path / "nothing"))
    assert sentences_of(str(tmp_path)) == []
