"""`bench all`: it runs on a CPU, keeps what it measured, names what it did not, and compares with what is asked for."""

import json
import os
import time
from argparse import Namespace

import pytest
from helpers.places import COMPILE_FASTEST, GOLDEN

from save_jax.bench import all as bench_all
from save_jax.bench import command as bench
from save_jax.bench import summary


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `bench all` on a CPU with these options; gives what it wrote."""
    monkeypatch.setenv("XLA_FLAGS", COMPILE_FASTEST)  # one device
    path = tmp_path / "all.json"

    def run(options: str, failed: str = "") -> dict:
        command = f"all --device cpu --rounds 2 --json {path} {options}".split()
        if failed:
            with pytest.raises(SystemExit, match=failed):
                bench.main(command)
        else:
            bench.main(command)
        return json.loads(path.read_text())

    return run


def by_name(found: dict) -> dict[str, dict]:
    return {row["what"]: row for row in found["summary"]}


def test_it_runs_here_in_small(run, capfd):
    # Stored towers of the vision model are one small program.
    found = run(f"--model vision --only towers,parity,top_k --golden {GOLDEN / 'metrics.npz'}")
    parts = ["top_k", "step towers xla", "start towers xla", "twin towers", "parity float32", "parity bfloat16"]
    assert list(found["parts"]) == parts
    assert found["machine"]["device_kind"] == "cpu"
    [step] = found["parts"]["step towers xla"]["figures"]["rows"]
    cold, warm = step["first_step"], found["parts"]["start towers xla"]["figures"]["first_step"]
    assert 0 < cold <= found["parts"]["step towers xla"]["seconds"] and warm > 0
    rows = by_name(found)
    assert rows["first step, heads only, xla"]["measured"] == f"cold {cold:.1f} s, warm {warm:.1f} s"
    assert rows["beside the twin, heads only"]["measured"] == "not measured: the twin is of save, and --model is vision"
    assert rows["parity bfloat16"] | {"measured": "", "what": ""} == {
        "what": "", "measured": "", "asked": "all", "reached": "yes"
    }  # fmt: skip
    assert rows["parity float32"]["measured"] == "108 of 108 hold, in metrics.npz"
    assert "times its floor" in rows["top_k, 2,000 videos"]["measured"]
    assert rows["top_k, 2,000 videos"]["reached"] == "not judged"  # goals are an H200's
    out = capfd.readouterr().out
    assert "asked of an H200" in out and "108 of 108 hold" in out


def test_a_part_that_fails_says_so_and_the_others_go_on(run, tmp_path):
    (tmp_path / "broken.npz").write_text("no numbers")
    options = f"--only float32,top_k --golden {tmp_path / 'broken.npz'}"
    found = run(options, failed="1 of 2 parts failed: parity float32")
    assert "broken.npz" in found["parts"]["parity float32"]["failed"]
    assert found["parts"]["top_k"]["figures"]["rows"][0]["videos"] == 2000
    assert by_name(found)["parity float32"]["measured"].startswith("not measured: error: ")


def test_what_does_not_fit_or_is_not_there_is_named(run, tmp_path):
    found = run(f"--minutes 0.01 --golden {tmp_path / 'none.npz'} --peer {tmp_path / 'none.py'}")
    assert all("left_out" in part for part in found["parts"].values())
    rows = by_name(found)
    assert len(rows) == 3 + 3 + 3 + 1 + 2 + 1
    assert rows["step, live, xla"]["measured"].startswith("not measured: 0 s of 0.01 minutes were left for it")
    assert rows["beside the twin, live"]["measured"].endswith("none.py; --peer names the twin's script")
    assert rows["parity float32"]["measured"].endswith("none.npz; --golden names such files")


def test_it_alone_writes_a_file_that_nobody_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bench.main(["score", "--queries", "2", "--videos", "4", "--frames", "3", "--dim", "8", "--rounds", "1"])
    assert not list(tmp_path.iterdir())
    bench.main(["all", "--device", "cpu", "--minutes", "0.01", "--only", "top_k"])
    assert json.loads((tmp_path / "bench-all.json").read_text())["parts"].keys() == {"top_k"}


def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="--device gpu, but JAX finds no GPU and computes on cpu"):
        bench.main(f"all --device gpu --json {tmp_path / 'all.json'}".split())
    assert not (tmp_path / "all.json").exists()
    with pytest.raises(SystemExit, match=r"there is no folder .*nowhere; make it first"):
        bench.main(f"all --device cpu --json {tmp_path / 'nowhere' / 'all.json'}".split())
    with pytest.raises(SystemExit, match="--only mood fits none of top_k, step none xla"):
        bench.main(f"all --device cpu --only mood --json {tmp_path / 'all.json'}".split())


def test_the_sure_and_the_important_come_first():
    options = {"device": "gpu", "small": False, "rounds": 5, "model": "save", "peer": None, "golden": None}
    names = [part.name for part in bench_all.parts(Namespace(**options, only=None))]
    first = [f"{what} {cache} cudnn" for cache in ("none", "ast", "towers") for what in ("step", "start")]
    assert names[:7] == ["top_k", *first]
    later = ["memory", "step none xla", "parity default", "twin none compiled"]
    assert [names.index(name) for name in later] == sorted(names.index(name) for name in later)
    assert names.index("parity bfloat16") < names.index("memory")


def test_a_part_that_is_begun_has_all_the_time_that_is_left(run, monkeypatch):
    limits = []
    monkeypatch.setattr(bench_all, "run_part", lambda part, folder, env, limit: limits.append(limit) or {"figures": {}})
    run("--minutes 5 --only towers,top_k")
    assert len(limits) > 3 and min(limits[1:]) > 290  # the first is of the machine's own question


def test_a_part_is_stopped_with_all_that_it_started(tmp_path):
    ticks = tmp_path / "ticks"
    child = f"import time\nwhile True:\n  open({str(ticks)!r}, 'a').write('x'); time.sleep(0.05)"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    done = bench_all.run_part(bench_all.Part("slow", ["-c", code], 0), str(tmp_path), dict(os.environ), 3.0)
    assert done["failed"] == "it was stopped after 3 s, when time was up" and "figures" not in done
    size = ticks.stat().st_size
    time.sleep(0.5)
    assert size and ticks.stat().st_size == size


def test_the_last_error_of_a_log_is_told():
    log = (
        "Traceback …\njax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: out of memory\n----\nFor simplicity, JAX has …\n"
    )
    assert bench_all.last_words(log) == "jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: out of memory"
    assert bench_all.last_words("error: no such file\n") == "error: no such file"
    assert bench_all.last_words("killed\n") == "killed" and bench_all.last_words("") == ""


def figures_of_a_gpu() -> dict:
    def times(milliseconds: float) -> dict:
        return {name: milliseconds / 1e3 for name in ("median", "min", "max")}

    def step(milliseconds: float) -> dict:
        row = {"step": times(milliseconds), "share_of_matrix_rate": 0.6, "bytes": 2**30, "first_step": 50.0}
        return {"figures": {"rows": [row]}}

    gallery = {"videos": 10**6, "top_k": times(300), "over_floor": 1.6, "floors": {"read": 0.006, "products": 0.19}}
    return {
        "machine": {"device_kind": "NVIDIA H200"},
        "parts": {
            "step none xla": step(160),
            "step none cudnn": step(140),
            "step towers xla": {"failed": "out of memory"},
            "start none xla": {"figures": {"first_step": 16.0}},
            "twin none": {"figures": {"rows": [{"sides": {"twin, whole": {"median": 0.168}}}]}},
            "twin towers": {"failed": "it ended with 1", "figures": {"rows": [{"sides": {"twin": {"failed": "no"}}}]}},
            "parity float32": {"figures": {"files": [{"file": "a.npz", "lines": 9, "failed": 1}]}},
            "top_k": {"figures": {"rows": [gallery]}},
        },
    }


def test_figures_stand_beside_what_is_asked_for():
    found = figures_of_a_gpu()
    rows = {row["what"]: row for row in summary.of_parts(found, goals=True)}
    verdicts = {name: row["reached"] for name, row in rows.items()}
    assert verdicts == {
        "step, live, xla": "NO",  # 160 of 150 ms
        "first step, live, xla": "NO",  # 50 of 60 s, and 16 of 15
        "step, live, cudnn": "yes",
        "first step, live, cudnn": "",
        "step, heads only, xla": "",
        "first step, heads only, xla": "",
        "beside the twin, live": "yes",  # 168 / 140
        "beside the twin, heads only": "",
        "parity float32": "NO",
        "top_k, 1,000,000 videos": "NO",
    }
    assert rows["beside the twin, live"]["measured"] == "twin, whole 168.0 ms: ours is 1.20 times as fast"
    assert rows["beside the twin, heads only"]["measured"] == "not measured: twin failed: no"
    assert rows["step, heads only, xla"]["measured"] == "not measured: out of memory"
    assert rows["parity float32"]["measured"] == "8 of 9 hold, in a.npz"
    found["machine"]["device_kind"] = "NVIDIA L4"
    judged = {row["what"] for row in summary.of_parts(found, goals=True) if row["reached"] in ("yes", "NO")}
    assert judged == {"parity float32"}
    assert "asked of an H200" in summary.as_text(list(rows.values()))
