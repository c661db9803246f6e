"""The report page: well formed, complete, deaf to markup in captions; which queries it shows and what it counts."""

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from helpers.corpus import make_clip
from helpers.made_run import HOSTILE, STEP, hostile_clip, make_run, plain_clips
from helpers.pages import Page, asks_nobody

from save_jax.data.split_info import SplitInfo
from save_jax.inference import run_page, runs
from save_jax.report import cards, page


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    """A SAVE run whose test clips are hostile, and its page."""
    workdir = make_run(tmp_path_factory.mktemp("hostile"), "vision,audio,speech", [hostile_clip(n) for n in range(9)])
    run_page.main([str(workdir), "--queries", "6"])
    return workdir, Page((workdir / "report.html").read_text())


def test_the_page_is_well_formed_and_asks_nobody(hostile):
    _, found = hostile
    asks_nobody(found)


def test_captions_stay_text(hostile):
    _, found = hostile
    text = re.sub(r"\s+", " ", found.text)
    for caption in HOSTILE:
        assert re.sub(r"\s+", " ", caption).strip() in text
    assert len(found.scripts) == 1 and not found.all("b", "onclick") and not found.all("u") and not found.all("i", "x")
    assert "<u>tag</u>" in text and "'note'<br>" in text


def test_only_the_script_of_the_page_may_run(hostile):
    _, found = hostile
    policy = next(a["content"] for a in found.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(found.scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and policy.startswith("default-src 'none'")


def test_every_section_is_there(hostile):
    _, found = hostile
    for words in (
        "SAVE on made", "made, test split: 9 queries, 9 videos. Checkpoint of step 6, picked on validation",
        "corpus 'made' has no published protocol",
        "1 videos could not be decoded and rank last", "leak test passed on 6 clips", "picked on validation, step 6",
        "text → video", "video → text", "Groups: from the corpus", "sound, no speech", "wrong speech",
        "Post-processed: not comparable", "dual softmax at all queries of the test at once; querybank at all",
        "failed queries about", "0.0–1.2 s", "not decoded: <cut> short", "no frame", "sha256",
    ):  # fmt: skip
        assert words in found.text, words
    assert len(found.all("section", "apart")) == 1
    figures = [a for a in found.all("img") if a["src"].startswith("data:image/svg+xml")]
    assert [a["alt"].split()[0] for a in figures] == ["training", "text", "scores", "how"]


def test_cards_mark_the_right_video_and_show_it_beyond_the_five(hostile):
    workdir, found = hostile
    run = runs.open_run(str(workdir))
    evaluation = run.evaluator.run(run.params, "test")
    made = cards.make(run, evaluation, evaluation.info.groups, 9)
    assert len(found.all("article", "card")) == 6 == len(found.all("li", "right"))
    assert found.text.count("✓ right") == 6
    beyond = 0
    for card in made:
        right = [candidate for candidate in card.candidates if candidate.right]
        assert len(right) == 1 and right[0].rank == card.rank
        assert right[0].clip.captions[0] == card.query
        assert [c.rank for c in card.candidates[:5]] == [1, 2, 3, 4, 5]
        assert len(card.candidates) == 5 + (card.rank > 5)
        beyond += card.rank > 5
        for candidate in card.candidates:
            assert [c.name for c in candidate.carried] == ["picture", "sound", "speech"]
            assert len(candidate.thumbnails) == min(3, len(candidate.clip.frames))
            silent = candidate.carried[1]
            assert silent.there == (candidate.clip.fbank is not None)
            if candidate.score is not None and not silent.there:
                assert silent.taken == 0.0
    assert beyond, "no right video lies beyond the five: this test shows nothing"


def test_a_page_can_be_made_again_and_compares_itself_with_the_results(hostile, tmp_path, capsys):
    workdir, first = hostile
    assert "has left no results.json of this step" in first.text
    run = runs.open_run(str(workdir))
    test = json.loads(json.dumps(run.evaluator.run(run.params, "test").results))
    left = {"split": "test", "picked_step": STEP, "test": test, "params_sha256": "x", "checkpoints": {}}
    left["data"] = {"shards": run.data.manifest["shards"]}
    left["checkpoints"] = {"last": {"step": STEP + 3, "t2v": test["t2v"], "v2t": test["v2t"]}}
    (workdir / "results.json").write_text(json.dumps(left))
    run_page.main([str(workdir), "--queries", "1"])
    again = Page((workdir / "report.html").read_text())
    assert "the same as in results.json" in again.text and f"last, step {STEP + 3}" in again.text
    assert len(again.all("article", "card")) == 1
    assert "one file that needs no network" in capsys.readouterr().out
    test["t2v"]["R@1"] += 1
    assert "R@1" in run_page._agreement(run.evaluator.run(run.params, "test").results, left, "results.json")
    (workdir / "results.json").unlink()


def test_vision_only_without_tags_groups_speech_or_history(tmp_path):
    workdir = make_run(tmp_path, "vision", plain_clips(7))
    (workdir / "metrics.jsonl").unlink()
    (tmp_path / "shards").rename(tmp_path / "moved")
    with pytest.raises(SystemExit, match=r"error: .*shards.*is not there"):
        run_page.main([str(workdir)])
    run_page.main([str(workdir), "--data_dir", str(tmp_path / "moved")])
    found = Page((workdir / "report.html").read_text())
    assert "VISION on made" in found.text and "Groups: automatic, by words of the captions" in found.text
    assert "step 6, the last; metrics.jsonl tells of no validation" in found.text
    assert "With inputs taken away" not in found.text and "Training" not in found.text and "Gates" not in found.text
    assert len(found.all("article", "card")) == 7 and not found.all("table", "carried")
    assert found.text.count("No transcript") == len(found.all("li", "video"))


def test_a_folder_without_a_run_says_what_to_give(tmp_path):
    with pytest.raises(SystemExit, match=r"error: .* is not the folder of a run.*give a --workdir of save_jax.main"):
        run_page.main([str(tmp_path)])
    with pytest.raises(SystemExit):
        run_page.main([str(tmp_path), "--queries", "0"])


def test_choice_of_queries_by_hand():
    found = np.array([1, 9, 1, 2, 30, 1, 1, 1, 7, 1])
    groups = ["b", "b", "b", "b", "b", "a", "a", "a", "b", "a"]
    # Four of each: a has successes alone (all four), b its three worst (30, 9, 7) and one success.
    assert cards.choose(found, groups, 8) == [5, 6, 7, 9, 4, 1, 8, 0]
    assert cards.choose(found, groups, 2) == [5, 4]
    assert sorted(cards.choose(found, groups, 99)) == list(range(10))


def test_confusion_by_hand():
    scores = np.array([[1.0, 2, 0, 0], [0, 1, 3, 0], [0, 5, 5, 0], [0, 0, 9, 1]], np.float32)
    owners, groups = np.array([0, 1, 2, 2]), ["a", "b", "a", "b"]
    names, table = page.confusion(scores, owners, groups)
    # Query 0 prefers video 1 (b), query 1 video 2 (half a, half b), query 2 ties with video 1 (b), query 3 is right.
    assert names == ["a", "b", "no query"]
    assert table == {"a": [0, 2, 0], "b": [0.5, 0.5, 0], "all videos": [1.5, 1.5, 1]}


def test_kinds_without_tags_are_what_clips_have():
    notes = SplitInfo([], [], np.zeros(0), [], [[], []], np.array([True, False]), ["", ""], {})
    assert {name: member.tolist() for name, member in page.kinds(notes).items()} == {
        "sound": [True, False], "no sound": [False, True], "no speech": [True, True],
    }  # fmt: skip
    notes.tags = [["music"], ["speech", "music"]]
    assert {name: m.tolist() for name, m in page.kinds(notes).items()} == {"music": [True] * 2, "speech": [False, True]}


def test_thumbnails_of_raw_frames():
    raw = [np.full((300, 300, 3), 40 * k, np.uint8).tobytes() for k in range(5)]
    clip = make_clip(0, "test", frames=raw, frame_times=np.arange(5, dtype=np.float32))
    found = cards.thumbnails(clip, 300)
    assert [seconds for _, seconds in found] == [0, 2, 4]
    picture = simplejpeg.decode_jpeg(base64.b64decode(found[1][0].split(",")[1]))
    assert picture.shape == (100, 100, 3) and abs(int(picture.mean()) - 80) < 3
    large = simplejpeg.encode_jpeg(np.zeros((224, 224, 3), np.uint8))
    small = cards.thumbnails(make_clip(0, "test", frames=[large], frame_times=np.zeros(1, np.float32)), None)[0][0]
    assert simplejpeg.decode_jpeg(base64.b64decode(small.split(",")[1])).shape == (112, 112, 3)
