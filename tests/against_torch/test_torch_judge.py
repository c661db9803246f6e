"""Judged numbers against those of torchmetrics and scikit-learn, where they define the same; tensors from torch."""

import numpy as np
import pytest

import save_jax

torch = pytest.importorskip("torch", reason="needs the torch extra")
sklearn = pytest.importorskip("sklearn.metrics", reason="needs tests/against_torch/requirements.txt")
retrieval = pytest.importorskip("torchmetrics.retrieval", reason="needs tests/against_torch/requirements.txt")


@pytest.fixture(scope="module")
def scores() -> np.ndarray:
    """300 queries for 300 videos, where torchmetrics means the same: no ties, of which its sort takes any, and all
    above 0, for it finds nothing where the right one's score is not."""
    return 10 + np.random.default_rng(0).normal(size=(300, 300)) + 2 * np.eye(300)


@pytest.mark.parametrize("direction", ["t2v", "v2t"])
def test_recall_and_reciprocal_rank_are_those_of_others(scores, direction):
    ours = save_jax.evaluate_scores(scores)[direction]
    theirs = scores if direction == "t2v" else scores.T
    flat = torch.tensor(theirs).flatten(), torch.eye(300, dtype=torch.long).flatten()
    queries = torch.arange(300).repeat_interleave(300)
    for k in (1, 5, 10, 50):
        assert ours[f"R@{k}"] == pytest.approx(
            100 * float(retrieval.RetrievalHitRate(top_k=k)(*flat, indexes=queries)), abs=1e-4
        )
        assert ours[f"R@{k}"] == pytest.approx(100 * sklearn.top_k_accuracy_score(np.arange(300), theirs, k=k))
    assert ours["MRR"] == pytest.approx(float(retrieval.RetrievalMRR()(*flat, indexes=queries)), abs=1e-5)


def test_ties_count_as_in_scikit_learn():
    """Its label ranking counts all labels scored as high as the right one, as ours does."""
    scores = np.random.default_rng(0).integers(0, 6, (200, 40)).astype(float)
    right = np.random.default_rng(1).integers(0, 40, 200)
    ours = save_jax.evaluate_scores(scores, caption_to_video=right)["t2v"]["MRR"]
    assert ours == pytest.approx(sklearn.label_ranking_average_precision_score(np.eye(40)[right], scores))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("named", [False, True])
def test_what_torch_saved_is_read(scores, dtype, named, tmp_path):
    tensor = torch.tensor(scores).to(dtype)
    torch.save({"scores": tensor, "epoch": torch.tensor(3)} if named else tensor, tmp_path / "s.pt")
    expected = save_jax.evaluate_scores(tensor.double().numpy())
    assert save_jax.evaluate_scores(tmp_path / "s.pt")["t2v"] == expected["t2v"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int32])
def test_tensors_in_memory_are_taken(scores, dtype):
    tensor = torch.tensor(scores * 10).to(dtype).requires_grad_(dtype.is_floating_point)
    right = torch.arange(300)
    expected = save_jax.evaluate_scores(tensor.detach().double().numpy())
    assert save_jax.evaluate_scores(tensor, caption_to_video=right)["t2v"] == expected["t2v"]
    assert save_jax.evaluate_scores([tensor, tensor])["t2v"] == expected["t2v"]
