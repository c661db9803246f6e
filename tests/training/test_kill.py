"""A run killed with SIGKILL, also in the middle of a checkpoint, and damaged besides ends as one never stopped."""

import json
import random

from helpers import killing


def test_a_killed_run_ends_as_one_never_stopped(shards, tmp_path):
    straight, _ = killing.finish(tmp_path / "straight", shards)
    workdir, seen, damaged = tmp_path / "killed", [], 0
    for kill in killing.kills(workdir, shards, ["writing", "step"], random.Random(1)):
        seen.append(kill)
        steps = killing.whole(workdir)
        if len(seen) == 2 and len(steps) > 1:  # besides, the disk has lost a bit
            damaged = steps[-1]
            params = workdir / "checkpoints" / str(damaged) / "params"
            arrays = max(params.rglob("*"), key=lambda path: path.stat().st_size)
            data = bytearray(arrays.read_bytes())
            data[len(data) // 2] ^= 1
            arrays.write_bytes(data)
    results, said = killing.finish(workdir, shards)
    assert any(kill.unfinished for kill in seen), seen
    assert damaged and f"checkpoint {damaged} is damaged" in said, (seen, said)
    assert "continuing" in said
    assert results["params_sha256"] == straight["params_sha256"]
    assert results["test"] == straight["test"]
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["split"] == "train"] == list(range(1, killing.STEPS + 1))
    assert killing.whole(workdir)[-2:] == [35, 40] and not killing.unfinished(workdir)
    assert (workdir / "checkpoints" / f"{damaged}.damaged").exists()
