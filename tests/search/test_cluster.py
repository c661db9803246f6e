"""Files embedded on a Ray cluster: the rows of an index made here."""

import logging
import os

import pytest
from helpers import library

ray = pytest.importorskip("ray", reason="an extra: pip install -c constraints.txt -e '.[prep,ray]'")

from data_prep import runners  # noqa: E402
from save_jax.models.trees import digest  # noqa: E402
from save_jax.search import cluster, indexing  # noqa: E402
from save_jax.search.embedder import Embedder  # noqa: E402
from save_jax.search.models import open_embedder  # noqa: E402
from save_jax.search.store import Store  # noqa: E402
from save_jax.weights import description, loading  # noqa: E402


@pytest.fixture(scope="module")
def weights(tmp_path_factory, embedder: Embedder) -> str:
    """A folder that workers can open."""
    folder, model = str(tmp_path_factory.mktemp("weights") / "random"), embedder.model
    loading.save_params(folder, model.params)
    told = {"licence": "none", "source": "random", "params_sha256": digest(model.params)}
    description.write(folder, model.config, list(model.params), tokenizer=model.tokenizer, **told)
    return folder


@pytest.fixture(scope="module")
def ray_here():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


def rows(store: Store) -> list[dict]:
    return sorted(store.windows.to_arrow().to_pylist(), key=lambda row: (row["content"], row["number"]))


def test_a_cluster_makes_the_same_rows(weights, ray_here, videos, tmp_path):
    embedder = open_embedder(weights)
    here = library.make_library(tmp_path / "here", embedder, videos).store
    there = Store.create(str(tmp_path / "there"), embedder, library.CUT)
    task = cluster.Task(weights, embedder.digest, library.CUT)
    with runners.Ray(1, None) as runner:
        embed, change = cluster.embed_on(runner, task), indexing.with_folders([str(videos)])
        summary = indexing.update(there, embedder, library.SILENT, 1, False, embed, change)
    assert (summary.embedded, summary.failed) == (3, {})
    assert rows(there) == rows(here)


def test_a_worker_with_other_weights_costs_no_index(weights, videos, tmp_path):
    embedder = open_embedder(weights)
    store = Store.create(str(tmp_path / "lib"), embedder, library.CUT)
    task = cluster.Task(weights, "f" * 64, library.CUT)
    embed = cluster.embed_on(runners.Here(), task)
    change = indexing.with_folders([str(videos)])
    summary = indexing.update(store, embedder, library.SILENT, 1, False, embed, change)
    assert len(summary.failed) == 3 and store.windows.count_rows() == 0
    assert all("other parameters on a worker" in reason for reason in summary.failed.values())
