"""The table of a sweep by hand, and a sweep that keeps what is finished."""

import json

import pytest

from save_jax import plots, sweep
from save_jax.config import base, resolve


def results(sumr: float, by_group: dict[str, float]) -> dict:
    def direction(value: float) -> dict:
        return {"t2v": {"R@1": 1.0, "R@5": 2.0, "R@10": 3.0, "MedR": 4.0, "MeanR": 5.0, "SumR": value}}

    return {"test": direction(sumr) | {"groups": {name: direction(value) for name, value in by_group.items()}}}


def test_medians_spreads_and_gains_by_hand(tmp_path):
    found = {
        "vision": [results(s, {"sound": 10.0, "vision": 90.0}) for s in (100.0, 104.0, 101.0)],
        "avigate": [results(s, {"sound": 50.0, "vision": 95.0}) for s in (120.0, 121.0, 127.0)],
    }
    table = sweep.summarize(found)
    assert table["vision"]["all"]["SumR"] == {
        "median": 101.0,
        "min": 100.0,
        "max": 104.0,
        "seeds": [100.0, 104.0, 101.0],
    }
    text = sweep.markdown(table, [0, 1, 2], [("vision", "avigate")])
    assert (
        "| avigate | 1.0 (1.0–1.0) | 2.0 (2.0–2.0) | 3.0 (3.0–3.0) | 121.0 (120.0–127.0) | 50.0 (50.0–50.0) |" in text
    )
    assert (
        "avigate over vision: +20.0 SumR, spread between seeds 7.0; by group sound +40.0, vision +5.0; largest for"
        in text
    )
    plots.save(plots.sweep(table), str(tmp_path / "sweep.png"))
    assert (tmp_path / "sweep.png").stat().st_size > 5_000


def test_gates_are_medians_over_seeds():
    runs = [
        {"test": {"gates": {"audio": {"music": {"attention": a, "mlp": 0.5, "clips": 7}}}}} for a in (0.1, 0.9, 0.2)
    ]
    assert sweep.gates_markdown(runs).splitlines()[2] == "| music | 7 | 0.20 | 0.50 |"


@pytest.mark.parametrize("grid", sweep.GRIDS)
def test_every_variant_is_a_valid_configuration_of_its_own(grid):
    """In the paper's own setting, and no two variants of a grid are the same experiment."""
    found = []
    for changes in sweep.GRIDS[grid].values():
        config = base()
        config.update_from_flattened_dict(changes)
        found.append(resolve(config).to_json())
    assert len(set(found)) == len(found)


def test_a_finished_run_is_kept_and_one_of_another_config_refused(config, tmp_path):
    config = config.copy_and_resolve_references().unlock()
    config.steps = 2
    variants = {"vision": sweep.VISION}
    first = sweep.run_all(config, str(tmp_path), [0], variants)
    path = tmp_path / "vision-seed0" / "results.json"
    written = path.stat().st_mtime_ns
    assert sweep.run_all(config, str(tmp_path), [0], variants) == {"vision": [json.loads(path.read_text())]}
    assert path.stat().st_mtime_ns == written and first["vision"][0]["config"]["model"]["branches"] == "vision"
    config.batch_size = 16
    with pytest.raises(ValueError, match="batch_size: 16 here, 8 there"):
        sweep.run_all(config, str(tmp_path), [0], variants)
