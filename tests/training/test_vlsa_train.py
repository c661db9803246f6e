"""VLSA from shards to ranks: pre-training, fine-tuning, resume, six directions, bad input."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from helpers.corpus import IMAGE_SIZE, SETTINGS, write_corpus
from helpers.pages import Page, asks_nobody
from helpers.places import REPOSITORY

import save_jax
from save_jax import main, sharding
from save_jax.config import resolve
from save_jax.config.finding import read_config
from save_jax.config.vlsa import NAMES
from save_jax.data import pipeline, records
from save_jax.data.records import Clip, ShardError
from save_jax.data.tokenizer import WordPieces, open_words
from save_jax.data.transforms import ClipToVlsa
from save_jax.evaluation.vlsa import cosines
from save_jax.inference import run_page
from save_jax.judge import metrics
from save_jax.methods import run as method_run
from save_jax.models.similarity import ABSENT
from save_jax.report import vlsa_tables
from save_jax.search import command
from save_jax.sweep import vlsa as sweep_vlsa
from save_jax.training import monitor, tower_cache


def mesh_of(count: int, make=sharding.make_mesh):
    return make(jax.devices()[:count])


@pytest.fixture(scope="module", autouse=True)
def one_device():
    """A program for eight devices takes several times as long to compile; one test compares two with one."""
    mesh = mesh_of(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "make_mesh", lambda devices=None: mesh)
        yield


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """The made corpus with spectrograms."""
    sizes = {"train": 24, "val": 9, "test": 13}
    return write_corpus(tmp_path_factory.mktemp("heard"), sizes, SETTINGS | {"spectrogram": True})


def made(name: str, heard, **changes: object):
    config = read_config(f"vlsa_{name}:smoke")
    config.data_dir, config.data.tokenizer = str(heard), "data"
    config.model.image_size, config.model.patch_size, config.model.vocab_size = IMAGE_SIZE, 16, 600
    config.optim.learning_rate, config.log_every = 1e-3, 1
    config.update_from_flattened_dict(changes)
    return config


def rows_of(workdir: str | Path) -> list[dict]:
    return [json.loads(line) for line in (Path(workdir) / "metrics.jsonl").read_text().splitlines()]


def frames_of(heard: Path) -> int:
    """Frames of the test split, at most two of a clip."""
    source = pipeline.Data(resolve(made("pretrain", heard)), ("test",)).sources["test"]
    return sum(min(len(source[number].frames), 2) for number in range(len(source)))


@pytest.fixture(scope="module")
def pretrained(heard, tmp_path_factory):
    workdir = str(tmp_path_factory.mktemp("pretrained"))
    return workdir, method_run.train(resolve(made("pretrain", heard)), workdir)


def test_pretraining_leaves_what_it_should(pretrained, heard):
    workdir, results = pretrained
    test = results["test"]
    assert set(test) >= {"v2t", "v2a", "t2v", "t2a", "a2v", "a2t", "groups", "gallery", "protocol", "audit", "masked"}
    assert test["gallery"] == test["gallery"] | {"videos": 13, "with_video": 13, "with_audio": 8}
    assert test["t2a"]["queries"] == 13 and test["a2t"]["queries"] == test["a2v"]["queries"] == 8
    assert test["audit"]["captions_changed"] == 0
    assert test["masked"].keys() == {"video", "text", "audio"}
    assert test["masked"]["audio"]["hidden"] == 8 * 12 and test["masked"]["video"]["hidden"] == 3 * frames_of(heard)
    rows = rows_of(workdir)
    assert [row["step"] for row in rows if row["split"] == "train"] == list(range(1, 7))
    assert {"video", "text", "audio", "audio-video", "audio-text", "match video", "match text"} <= rows[0].keys()
    figures = {"loss", "directions", "neighbours", "reconstructions"}
    assert {path.stem for path in (REPOSITORY / workdir / "figures").glob("*.png")} == figures
    # Nothing is picked by retrieval, in which captions have no part: the last checkpoint is the result.
    assert results["picked_step"] == results["checkpoints"]["last"]["step"] == 6


def test_evaluation_again_gives_the_same(pretrained, heard):
    workdir, results = pretrained
    again = main.evaluate(resolve(made("pretrain", heard)), workdir)
    assert again["test"] == results["test"]


def test_finetuning_starts_from_it_and_goes_on_where_it_stopped(pretrained, heard, tmp_path):
    config = made("finetune", heard, init_from=pretrained[0], **{"loss.pairs": ("text-video", "text-audio")})
    whole = method_run.train(resolve(config), str(tmp_path / "whole"))
    half = config.copy_and_resolve_references()
    half.checkpoint_every = 2
    config.checkpoint_every = 2
    stopping = monitor.Progress.line

    def stop(self, step, means):
        if step == 4:
            raise KeyboardInterrupt
        return stopping(self, step, means)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor.Progress, "line", stop)
        with pytest.raises(KeyboardInterrupt):
            method_run.train(resolve(half), str(tmp_path / "half"))
    on = method_run.train(resolve(config), str(tmp_path / "half"))
    assert on["params_sha256"] == whole["params_sha256"]
    assert on["test"] == whole["test"] and "masked" not in on["test"]
    rows = rows_of(tmp_path / "whole")
    assert {"text-video", "text-audio", "loss"} <= rows[0].keys()
    check_page(str(tmp_path / "whole"), whole)


def test_finetuning_reads_inputs_as_pre_training_did(pretrained, heard, tmp_path):
    config = made("finetune", heard, init_from=pretrained[0], **{"model.standardize": True})
    with pytest.raises(ValueError, match=r"are for standardize=False .* set --config\.model\.standardize=False"):
        method_run.train(resolve(config), str(tmp_path))


def test_two_devices_give_the_losses_of_one(pretrained, heard, tmp_path):
    mesh = mesh_of(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "make_mesh", lambda devices=None: mesh)
        method_run.train(resolve(made("pretrain", heard, steps=2, eval_every=2)), str(tmp_path))
    two = [row for row in rows_of(tmp_path) if row["split"] == "train"]
    one = [row for row in rows_of(pretrained[0]) if row["split"] == "train"]
    # The schedule knows how long the run is: only before the first update are both the same.
    for name in ("loss", "video", "text", "audio", "audio-video", "match text"):
        np.testing.assert_allclose(one[0][name], two[0][name], rtol=1e-5, err_msg=name)


def test_the_ablation_is_one_command_and_keeps_what_is_finished(heard, tmp_path, capsys):
    pretrain, finetune = (made(name, heard, steps=2, eval_every=2) for name in ("pretrain", "finetune"))
    finetune.loss.pairs = ("text-video", "text-audio")
    before, after = sweep_vlsa.run_all(pretrain, finetune, str(tmp_path), [0])
    assert capsys.readouterr().out.count("run ") >= 7
    table = sweep_vlsa.summarize(after)
    text = sweep_vlsa.markdown(table, before, [0])
    assert list(table) == ["neither", "masked", "matching", "both"] and "| mean predictor |" in text
    audio = before["both"][0]["test"]["masked"]["audio"]
    assert text.splitlines()[-1].endswith(f" | {audio['mean predictor']:.3f} |")  # under its own heading
    assert "| pre-trained with | video | text | audio |" in text
    zero_shot = before["both"][0]["test"]
    value = zero_shot["v2t"]["SumR"]
    assert f"\n| both, zero-shot | {value:.1f} ({value:.1f}–{value:.1f}) |" in text
    found, gallery = zero_shot["tags"]["related"], zero_shot["gallery"]
    assert gallery["with_audio"] < gallery["with_video"]
    cells = [f"{value:.1f} ({value:.1f}–{value:.1f})" for value in (found["v2a"]["R@10"], found["a2v"]["R@10"])]
    assert "| pre-trained with | video → audio, related | audio → video, related |" in text
    assert f"\n| both | {cells[0]} | {cells[1]} |" in text
    chances = [f"{100 * min(1, 10 / gallery[name]):.1f}" for name in ("with_audio", "with_video")]
    assert f"\n| chance | {chances[0]} | {chances[1]} |" in text
    config = json.loads((tmp_path / "finetune" / "both-seed0" / "config.json").read_text())
    assert config["init_from"] == str(tmp_path / "pretrain" / "both-seed0")
    weights = {name: json.loads((tmp_path / "pretrain" / f"{name}-seed0" / "config.json").read_text())["loss"]
               for name in sweep_vlsa.PRETRAINED}  # fmt: skip
    assert [(w["masked"], w["matching"]) for w in weights.values()] == [(1.0, 0.0), (0.0, 5.0), (1.0, 5.0)]
    for direction, title in (("t2v", "text→video"), ("t2a", "text→audio")):
        told = sweep_vlsa.established(str(tmp_path), [0], direction)
        assert f"Differences of SumR, {title}, with" in told and told.count(" over neither |") == 3
        for variant, cell in re.findall(r"\| (\w+) over neither \| \**([+-][\d.]+)", told):
            difference = table[variant][direction]["SumR"]["median"] - table["neither"][direction]["SumR"]["median"]
            assert float(cell) == pytest.approx(difference, abs=0.06), (variant, direction)
    again = sweep_vlsa.run_all(pretrain, finetune, str(tmp_path), [0])
    assert sweep_vlsa.markdown(sweep_vlsa.summarize(again[1]), again[0], [0]) == text
    assert "run " not in capsys.readouterr().out


def test_order_of_the_ablation():
    def row(value: float) -> dict:
        return {"t2v": {"SumR": {"median": value, "seeds": [value]}}}

    rising = {name: row(value) for value, name in enumerate(sweep_vlsa.VARIANTS)}
    assert sweep_vlsa.ordering(rising, "t2v", "SumR") == (True, "neither < masked < matching < both")
    assert not sweep_vlsa.ordering(rising | {"both": row(1.5)}, "t2v", "SumR")[0]
    tied = sweep_vlsa.ordering(rising | {"both": row(2)}, "t2v", "SumR")
    assert tied == (False, "neither < masked < matching = both")


# ---------------------------------------------------------------- input


def clip_of(frames: int, **changes: object) -> Clip:
    picture = np.arange(2 * 2 * 3, dtype=np.uint8)
    clip = Clip(
        id="a", captions=["x"], groups=[""], frames=[(picture + np.uint8(12 * n)).tobytes() for n in range(frames)],
        frame_times=np.arange(frames, dtype=np.float32), fbank=None, transcript="red bird sings", tags=[],
        teacher_video=None, teacher_audio=None,
    )  # fmt: skip
    for name, value in changes.items():
        setattr(clip, name, value)
    return clip


@pytest.fixture(scope="module")
def words(heard):
    return open_words(str(heard / "tokenizer"))


def test_frames_are_drawn_by_the_draw_alone_and_even_without_one(words):
    read = ClipToVlsa(words, "clips", 8, 3, 2, raw=True)

    def chosen(draw: int | None) -> list[int]:
        frames = np.zeros((3, 2, 2, 3), np.uint8)
        read(clip_of(9), frames, draw=draw)
        return (frames[:, 0, 0, 0] // 12).tolist()

    assert chosen(None) == [0, 4, 8] and chosen(5) == chosen(5) == sorted(chosen(5))
    assert len({tuple(chosen(draw)) for draw in range(20)}) > 5


def test_few_frames_no_sound_and_no_words(words):
    read = ClipToVlsa(words, "clips", 8, 3, 2, raw=True)
    example = read(clip_of(1, transcript=""), np.zeros((3, 2, 2, 3), np.uint8), draw=1)
    assert example["frame_mask"].tolist() == [True, False, False] and not example["frames"][1:].any()
    assert not example["words"].any() and not example["has_audio"] and not example["spectrogram"].any()
    none = read(clip_of(0), np.zeros((3, 2, 2, 3), np.uint8))
    assert not none["frame_mask"].any() and "draw" not in none


def test_draws_are_new_every_epoch_and_the_same_after_a_resume(heard):
    config = resolve(made("pretrain", heard))
    data = pipeline.Data(config, ("train",))
    with_draws = pipeline.train_iterator(data, config)
    batches = [next(with_draws) for _ in range(7)]
    later = next(pipeline.train_iterator(data, config, start=5))
    chex.assert_trees_all_equal(later, batches[5], strict=True)
    draws = {}
    for batch in batches[:6]:  # two epochs of 24 clips
        for clip, draw in zip(batch["clip"], batch["draw"], strict=True):
            draws.setdefault(int(clip), set()).add(int(draw))
    assert len(draws) == 24 and all(len(found) == 2 for found in draws.values())


def test_shards_without_spectrograms_are_refused(shards, heard):
    with pytest.raises(
        (ValueError, ShardError), match=r"split train holds no spectrograms, .*rebuild with --spectrogram"
    ):
        pipeline.Data(resolve(made("pretrain", heard, data_dir=str(shards))), ("train",))


def test_finetuning_reads_what_its_pairs_need_alone(shards, heard, tmp_path):
    """Text and video: shards without spectrograms do. Text and audio: no picture is decoded."""
    config = made("finetune", heard, data_dir=str(shards), init_from="")
    results = method_run.train(resolve(config), str(tmp_path / "seen"))
    assert {"t2v", "v2t"} <= results["test"].keys() and not {"t2a", "v2a"} & results["test"].keys()
    config = made("finetune", heard, **{"loss.pairs": ("text-audio",), "evaluation.pick": "t2a"})
    config.model.image_size = 2 * IMAGE_SIZE  # other than the shards hold: it does not matter
    data = pipeline.Data(resolve(config), ("train",))
    batches = pipeline.train_iterator(data, resolve(config))
    assert next(batches).keys() == {"spectrogram", "has_audio", "text_ids", "clip", "draw"}
    batches.close()


def test_a_checkpoint_is_picked_by_what_is_trained(heard, tmp_path):
    config = made("finetune", heard, **{"loss.pairs": ("text-audio",)})
    with pytest.raises(ValueError, match=r"pick=t2v, and config\.loss\.pairs=.* leave that direction as it was"):
        method_run.train(resolve(config), str(tmp_path / "run"))


def test_fewer_clips_than_a_batch_are_refused(heard, tmp_path):
    config = made("pretrain", heard, batch_size=4096, steps=0, epochs=2)
    with pytest.raises(ValueError, match=r"clips, less than one batch of 4096; lower config\.batch_size"):
        method_run.train(resolve(config), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss.pairs": ("text-video",)}, "holds audio, text alone; set config.loss.pairs"),
        (
            {"loss.pairs": ("text-video", "text-audio")},
            "config.evaluation.pick=t2v: split 'val' holds audio, text alone",
        ),
    ],
)
def test_what_sounds_alone_cannot_train_is_said_at_the_start(changes, message, heard, tmp_path, monkeypatch):
    read = records.ShardSource.__getitem__

    def without_pictures(source, number: int) -> Clip:
        return dataclasses.replace(read(source, number), frames=[], frame_times=np.zeros(0, np.float32))

    monkeypatch.setattr(records.ShardSource, "__getitem__", without_pictures)
    with pytest.raises(ValueError) as caught:
        method_run.train(resolve(made("finetune", heard, **changes)), str(tmp_path / "run"))
    assert message in str(caught.value) and not (tmp_path / "run" / "metrics.jsonl").exists()


def test_there_is_nothing_to_cache(heard):
    with pytest.raises(ValueError, match="--mode=cache stores frozen towers, and vlsa-finetune has none"):
        tower_cache.make(resolve(made("finetune", heard)))


def test_what_knows_no_vlsa_says_what_does(pretrained):
    for opens in (save_jax.open_run, save_jax.load_model):
        with pytest.raises(ValueError, match=r"a run of vlsa-pretrain, not of SAVE.*; save_jax\.open_vlsa opens it"):
            opens(pretrained[0])


def best(names: list[str], scores: np.ndarray) -> list[tuple[str, float]]:
    """Names by falling scores; what is absent is left out."""
    order = np.argsort(-scores, kind="stable")
    return [
        (names[number], pytest.approx(float(scores[number]), abs=1e-6)) for number in order if scores[number] > ABSENT
    ]


def test_a_run_is_searched_in_the_directions_that_it_ranks(pretrained):
    """What is found, in which order and with which score is what the evaluation's matrices say."""
    run = save_jax.open_vlsa(pretrained[0])
    assert run.directions == ("v2a", "t2a", "a2v", "a2t", "v2t", "t2v")  # what pre-training matched comes first
    found = run.evaluate()
    assert found.results["t2v"]["SumR"] > 0 and found.results["tags"]
    assert found.results == {name: pretrained[1]["test"][name] for name in found.results}
    with pytest.raises(ValueError, match="split 'val' is not open, only test; open the run with split='val'"):
        run.evaluate("val")
    ids, captions, own = run.ids, found.info.captions, found.info.caption_to_video
    shown = {name: [id for id, x in zip(ids, found.videos[name], strict=True) if x.any()] for name in found.videos}
    assert set(shown["audio"]) < set(shown["video"])
    for direction in ("t2v", "t2a"):
        for number in (0, 5):
            hits = run.search(captions[number], 99, direction=direction)
            assert [*map(tuple, hits)] == best(ids, found.scores[direction][number])
            assert len(hits) == len(shown[NAMES[direction].split()[-1]])
    for direction, (asked, answer) in {"v2a": ("video", "audio"), "a2v": ("audio", "video")}.items():
        for clip in shown["audio"][:2]:
            vector = found.videos[asked][[ids.index(clip)]]
            hits = run.search(like=clip, top=99, direction=direction)
            assert [*map(tuple, hits)] == best(ids, cosines(vector, found.videos[answer])[0])
    for direction in ("v2t", "a2t"):
        for clip in shown["audio"][:2]:
            column = found.scores[f"t2{direction[0]}"][:, ids.index(clip)]
            hits = run.search(like=clip, top=99, direction=direction)
            assert [*map(tuple, hits)] == best(captions, column)
    assert own.tolist() == [*range(len(ids))]  # a caption for each: what is shared is tested below
    assert run.search(captions[0], 3) == run.search(captions[0], 3, direction="t2a")
    assert run.search(like=ids[0], top=3) == run.search(like=ids[0], top=3, direction="v2a")


def test_captions_that_clips_share_are_found_once(pretrained, monkeypatch):
    run = save_jax.open_vlsa(pretrained[0])
    info = run.data.info("test")
    twice = dataclasses.replace(info, captions=[info.captions[0], *info.captions[:-1]])
    monkeypatch.setattr(run.data, "info", lambda split: twice)
    names = [hit.id for hit in run.search(like=run.ids[0], top=99, direction="v2t")]
    assert sorted(names) == sorted(info.captions[:-1])


def test_what_cannot_be_asked_is_said(pretrained):
    run = save_jax.open_vlsa(pretrained[0])
    silent = next(id for id, x in zip(run.ids, run.clips["audio"], strict=True) if not x.any())
    for asked, message in (
        ({"like": silent, "direction": "a2v"}, f"clip {silent} has no sound to ask with"),
        ({"like": "x"}, "no clip 'x' in split 'test' of "),
        ({"sentence": "x", "direction": "t2x"}, "direction 't2x' is none of v2t, "),
        ({"sentence": "x", "direction": "v2a"}, "direction v2a asks with a clip of the split, by its id (like, "),
        ({"like": "x", "direction": "t2a"}, "direction t2a asks with a sentence, and finds sounds"),
        (
            {"sentence": "x", "like": "x"},
            "give a sentence, or the id of a clip (like, in the shell --like), and not both",
        ),
        ({"sentence": " "}, "give a sentence, or"),
        ({"sentence": "x", "top": 0}, "top is 0; ask for at least one"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            run.search(**asked)
    with pytest.raises(ValueError, match="has no words"):
        run.search("&nbsp;")


def test_without_captions_sentences_ask_and_are_not_found(pretrained, monkeypatch):
    run = save_jax.open_vlsa(pretrained[0])
    monkeypatch.setattr(run.data.sources["test"], "caption_counts", np.zeros(13, int))
    assert run.directions == ("v2a", "t2a", "a2v", "t2v")
    with pytest.raises(ValueError, match="direction v2t: split 'test' has no captions to find; this run ranks v2a"):
        run.search(like=run.ids[0], direction="v2t")


def test_a_run_of_text_and_sound_finds_sounds(heard, tmp_path):
    config = resolve(made("finetune", heard, steps=1, **{"loss.pairs": ("text-audio",), "evaluation.pick": "t2a"}))
    method_run.train(config, str(tmp_path))
    run = save_jax.open_vlsa(str(tmp_path))
    assert run.directions == ("t2a", "a2t")
    assert run.search("a bird", 2) == run.search("a bird", 2, direction="t2a")
    with pytest.raises(ValueError, match=r"direction t2v: config\.loss\.pairs=\('text-audio',\) left pictures out"):
        run.search("a bird", direction="t2v")


def test_a_run_is_asked_from_the_shell(pretrained, capsys):
    workdir, run = pretrained[0], save_jax.open_vlsa(pretrained[0])
    clip, [hit] = run.ids[0], run.search("a bird", 1, direction="t2v")
    assert command.main(["query", workdir, "a bird", "--top", "1", "--direction", "T2V"]) == 0
    told = capsys.readouterr()
    assert told.out == f"{hit.score:8.3f}  {hit.id}\n" and "(text → video; this run ranks " in told.err
    assert command.main(["query", workdir, "--like", clip, "--top", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [hit._asdict() for hit in run.search(like=clip, top=2)]
    for words, said in {
        ("--like", clip, "--direction", "t2a"): "asks with a sentence",
        ("a bird", "--like", clip): "give a sentence, or the id of a clip (like, in the shell --like), and not both",
        ("a bird", "--cut", "x", "--shorter", "1"): "is a run, of which --shorter, --cut cannot be asked; leave it out",
    }.items():
        assert command.main(["query", workdir, *words]) == 1
        assert said in capsys.readouterr().err


def test_a_page_whose_captions_are_of_silent_clips_alone(pretrained):
    """No caption finds a sound: its queries go to the other directions."""
    workdir, results = pretrained
    method, run = run_page.open_trained(workdir, None, None)
    evaluation = run.evaluator.run(run.params, "test")
    silent = np.flatnonzero(~evaluation.info.sound)
    captions = [evaluation.info.captions[number] for number in silent]
    evaluation.info = dataclasses.replace(evaluation.info, captions=captions, caption_to_video=silent)
    evaluation.scores = {direction: scores[silent] for direction, scores in evaluation.scores.items()}
    shown = method.page(run, evaluation, results, rows_of(workdir), 7, "")
    assert len(Page(shown).all("article", "card")) == 7
    badges = re.findall(r'<li class="badge">(\w+ → \w+)</li>', shown)
    assert set(badges) == {"text → video", "video → audio", "audio → video"}


def check_page(workdir: str, results: dict) -> None:
    """The report of a run shows its directions, clips for each of them, and the same numbers again."""
    test, shown = results["test"], run_page.write_page(workdir, queries=8).read_text()
    page = Page(shown)
    asks_nobody(page)
    assert "Evaluated anew for this page: the same as in results.json, to the last digit" in shown
    for direction, name in NAMES.items():
        row = f'<tr><th scope="row">{name}</th>\n<td>' + (f"{test[direction]['R@1']:.1f}" if direction in test else "")
        assert (row in shown) == (direction in test), name
        carded = direction in test and not direction.endswith("t")
        assert (f'<li class="badge">{name}</li>' in shown) == carded, name
    assert len(page.all("article", "card")) == 8 == len(page.all("li", "right"))
    right = re.findall(r'<li class="video right">.*?class="score">([^<]*)<', shown, re.DOTALL)
    assert len(right) == 8 and all(score.startswith("cosine") for score in right), "no query without an answer is shown"
    assert ("Predictions of masked tokens" in shown) == ("masked" in test)


def test_the_page_of_pre_training(pretrained):
    check_page(*pretrained)


def test_the_page_says_what_has_changed_since(pretrained, tmp_path):
    workdir = shutil.copytree(pretrained[0], tmp_path / "run")
    results = json.loads((workdir / "results.json").read_text())
    results["test"]["masked"]["audio"]["model"] = 7.0
    results["test"]["v2a"]["R@5"] = 99.0
    del results["test"]["a2v"]
    (workdir / "results.json").write_text(json.dumps(results))
    shown = run_page.write_page(str(workdir)).read_text()
    for words in ("v2a R@5 99 there, ", "a2v is new", "masked audio 7.0 there, "):
        assert words in shown


def test_word_pieces(tmp_path):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "bird", "sing", "##s"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    found = open_words(str(tmp_path))
    assert isinstance(found, WordPieces) and found.vocab_size == 9
    read = ClipToVlsa(found, "clips", 6, 3, 2, raw=True)
    assert read.text("Red bird SINGS").tolist() == [5, 6, 7, 8, 0, 0]
    assert read.text("red " * 9).tolist() == [5] * 6 and not read.text("").any()
    frames = np.zeros((3, 2, 2, 3), np.uint8)
    assert read(clip_of(1, transcript="red bird"), frames)["words"].tolist() == [5, 6, 0, 0, 0, 0]
    assert not read(clip_of(1, transcript="red"), frames)["words"].any()  # too short to count
    (tmp_path / "vocab.txt").write_text("\n".join(pieces[1:]))
    with pytest.raises(ValueError, match=r"vocab.txt is not BERT's"):
        WordPieces(str(tmp_path))


# ---------------------------------------------------------------- ranks


def test_directions_by_hand(heard):
    """Three clips, the second silent: a caption of it cannot find a sound; sounds and pictures find what is there."""
    config = resolve(made("finetune", heard))
    data = pipeline.Data(config, ("test",))
    evaluator = method_run.make_method(config, sharding.make_mesh()).evaluator(data)
    notes = evaluator.data.info("test")
    notes.caption_to_video, notes.captions = np.array([0, 0, 1, 2]), ["a", "b", "c", "d"]
    notes.groups = ["g", "", "g", "g"]
    notes.tags = [[], ["quiet"], ["music", "loud"]]
    e = np.eye(4, dtype=np.float32)
    texts = np.stack([e[0], e[1], e[1], e[2]])
    clips = {"video": np.stack([e[0], e[1], e[2]]), "audio": np.stack([e[1], 0 * e[0], e[0]])}
    evaluator.embed_videos = lambda params, split: clips
    evaluator.embed_texts = lambda params, captions: texts
    results = evaluator.run({}, "test").results
    ranks = {
        "t2v": [1, 3, 1, 1],  # b asks for clip 0 and looks like clip 1: the others tie against it
        "t2a": [2, 1, 3, 2],  # a ties with nothing it owns: sound 2 is nearer; c's sound is not there
        "v2a": [2, 3, 2],
        "a2v": [3, 3],
        "v2t": [1, 2, 1],  # clip 1 is asked for by c as much as by b, which is another's
        "a2t": [2, 3],
    }
    for name, found in ranks.items():
        assert results[name] == metrics.summary(np.array(found)), name
    assert results["groups"]["g"]["t2v"] == metrics.summary(np.array([1, 1, 1]))
    last = {"v2a": metrics.summary(np.array([2])), "a2v": metrics.summary(np.array([3]))}
    assert results["tags"] == {"loud": last, "music": last}  # the quiet clip's sound cannot be found
    text = vlsa_tables.whole({"test": results | {"groups": {}}, "split": "test", "picked_step": 1})
    assert "video → audio, clips: music" in text and "audio → video, clips: loud" in text and "quiet" not in text
    assert cosines(texts, clips["audio"])[:, 1].max() == np.float32(ABSENT)


def test_the_command_lines(heard, tmp_path):
    command = [
        sys.executable,
        "-m",
        "save_jax.sweep_vlsa",
        "--config=configs/vlsa_pretrain.py:smoke",
        f"--workdir={tmp_path}",
    ]
    found = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert found.returncode and "--finetune is missing" in found.stdout + found.stderr
