"""Comparing systems: by hand, against simulated systems that are equal, and what several seeds change."""

import dataclasses
import json

import numpy as np
import pytest
from helpers.systems import simulated

import save_jax
from save_jax.judge import command, comparison, metrics


def test_by_hand():
    """Two videos of two queries, one of one. Only the second differs, and three videos tell nothing apart."""
    first, second = [np.array([1, 1, 1, 1, 7])], [np.array([1, 1, 9, 9, 7])]
    found = comparison.compare(first, second, np.array([0, 0, 1, 1, 2]), "R@1", resamples=999)
    assert found.value == pytest.approx(40) and found.p == 1 and not found.established
    assert found.interval[0] == 0 and found.interval[1] == pytest.approx(200 / 3, abs=35)
    assert comparison.compare(first, first, np.array([0, 0, 1, 1, 2])).p == 1
    assert str(found).startswith("R@1 +40.0 [+0.0, ") and str(found).endswith("p = 1: not established")
    with pytest.raises(ValueError, match="5 and 3 queries; compare them on the same ones"):
        comparison.compare(first, second, np.array([0, 0, 1]))
    with pytest.raises(ValueError, match="metric 'MedR' is no mean over queries; choose one of R@1"):
        comparison.points(first[0], "MedR")


def test_permutation_is_exact_where_all_exchanges_can_be_counted():
    """Eight videos, all better by as much: 2 of 256 exchanges are as extreme, p = 0.0078."""
    found = comparison.compare([np.ones(8, int)], [np.full(8, 20)], np.arange(8), "R@1", resamples=100_000)
    assert found.p == pytest.approx(2 / 256, rel=0.1)


def test_points_add_up_to_the_metrics():
    ranks = np.random.default_rng(0).integers(1, 80, 300)
    whole = metrics.summary(ranks)
    for metric in comparison.METRICS:
        assert comparison.points(ranks, metric).mean() == pytest.approx(whole[metric])


def test_holm_by_hand():
    of = comparison.Difference("R@1", 1.0, (0, 2), 0.0, (1, 1), 1.0, None)
    made = [dataclasses.replace(of, p=p) for p in (0.03, 0.01, 0.04, 0.5)]
    assert [d.p_corrected for d in comparison.corrected(made)] == pytest.approx([0.09, 0.04, 0.09, 0.5])


@pytest.mark.parametrize(("seeds", "of_seeds"), [((1, 1), 0.0), ((3, 3), 0.0), ((3, 3), 0.3), ((3, 1), 0.3)])
def test_equal_systems_are_told_apart_in_five_cases_of_a_hundred(seeds, of_seeds):
    """1,000 pairs: 5 % ± 1.5. Seeds of one system differ by 0 and by 0.3, which is more than other videos change."""
    rng, tests, intervals = np.random.default_rng(0), 0, 0
    for pair in range(1000):
        first, second, video = simulated(rng, seeds=max(seeds), of_seeds=of_seeds)
        first, second = first[: seeds[0]], second[: seeds[1]]
        found = comparison.compare(first, second, video, "SumR", resamples=399, seed=pair)
        tests += found.p < 0.05
        intervals += not found.interval[0] <= 0 <= found.interval[1]
    fewest = 35 if min(seeds) != 1 or max(seeds) == 1 else 0  # few seeds are held to a stricter rule
    assert fewest <= tests <= 65, tests
    assert fewest <= intervals <= 70, intervals  # a percentile interval of 399 draws is a little short


def test_queries_of_a_video_stay_together():
    """Ten copies of every query add nothing: the p-value is that of one."""
    rng = np.random.default_rng(0)
    first, second = ([rng.integers(1, 30, 60)] for _ in range(2))
    once = comparison.compare(first, second, np.arange(60))
    copies = comparison.compare([np.repeat(first[0], 10)], [np.repeat(second[0], 10)], np.repeat(np.arange(60), 10))
    assert copies.p == pytest.approx(once.p, abs=0.02) and copies.interval == pytest.approx(once.interval, abs=5)


def test_seeds_that_differ_widely_establish_less():
    """The same mean difference: clear between checkpoints, and not between methods whose seeds differ as much."""
    rng = np.random.default_rng(0)
    videos, better = np.arange(400), rng.random(400)
    ranks = [np.where(better < share, 1, 100) for share in (0.70, 0.50, 0.45, 0.55, 0.40, 0.47)]
    clear = comparison.compare(ranks[:1], ranks[4:5], videos, "R@1")
    assert clear.established and clear.deviation_seeds is None
    of_methods = comparison.compare([ranks[0], ranks[2], ranks[1]], [ranks[3], ranks[4], ranks[5]], videos, "R@1")
    assert not of_methods.established and of_methods.deviation_seeds > of_methods.deviation_videos


def test_several_systems_and_groups_by_the_command(tmp_path, capsys):
    rng = np.random.default_rng(0)
    truth = np.eye(60, dtype=np.float32)
    for name, strength in [(f"good{n}", 3) for n in "012"] + [(f"bad{n}", 0.5) for n in "012"] + [("same0", 3)]:
        np.save(tmp_path / f"{name}.npy", strength * truth + rng.normal(size=(60, 60)))
    (tmp_path / "queries.csv").write_text(
        "query,video,group\n" + "\n".join(f"q{i},v{i},{'odd' if i % 2 else 'even'}" for i in range(60))
    )
    files = [f"{tmp_path}/{name}.npy" for name in ("good0", "good1", "good2", "bad0", "bad1", "bad2", "same0")]
    command.main(
        [
            *(*files[:3], "--queries", f"{tmp_path}/queries.csv", "--against", *files[3:6], "--against", files[6]),
            *("--metric", "R@10", "--json", f"{tmp_path}/out.json"),
        ]
    )
    said = capsys.readouterr().out
    assert "against bad0.npy, … (3 seeds) (p corrected for 8 comparisons)" in said and "mean of 3 seeds" in said
    assert "Several seeds: videos and seeds both vary." in said
    assert "One seed on a side: it is taken to vary as the other side's seeds do." in said
    found = json.loads((tmp_path / "out.json").read_text())["comparisons"]
    bad = "bad0.npy, … (3 seeds)"
    assert found[bad]["t2v"]["established"] and not found["same0.npy"]["t2v"]["established"]
    assert found[bad].keys() == {"t2v", "v2t", "groups"} and found[bad]["groups"].keys() == {"even", "odd"}
    one = save_jax.evaluate_scores(files[0], against={"bad": files[3]}, metric="R@10")["comparisons"]["bad"]["t2v"]
    assert one.seeds == (1, 1) and one.established


def test_other_queries_or_shapes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"b and the first scores have shapes \[2, 2\] and \[3, 3\]; compare them"):
        save_jax.evaluate_scores(np.eye(3), against={"b": [np.eye(2)]})
    for name, queries in (("a", ["v", "w"]), ("b", ["v", "s"])):
        np.savez(tmp_path / f"{name}.npz", scores=np.eye(2), queries=queries, videos=["v", "w"])
    with pytest.raises(ValueError, match="b lacks 1 of the first scores' 2 queries, such as 'w'"):
        save_jax.evaluate_scores(tmp_path / "a.npz", against={"b": [tmp_path / "b.npz"]})
