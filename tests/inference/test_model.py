"""A trained model on files of one's own: the numbers of shards, files that are none, folders of weights."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import media
from helpers.made_run import make_run, plain_clips

import save_jax
from data_prep import clip as preparation
from data_prep.corpora import Sample
from save_jax.config import method
from save_jax.weights import command, description, loading

BRANCHES = "vision,audio,speech"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three videos with sound, the first with subtitles beside it, and a text file."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for name, seconds in (("a.mp4", 2), ("b.mkv", 3), ("c.mp4", 4)):
        frames = [media.numbered(int(rng.integers(200))) for _ in range(8 * seconds)]
        media.write_media(
            folder / name, frames, fps=8, sound=(0.1 * rng.standard_normal(16000 * seconds)).astype(np.float32)
        )
    (folder / "a.srt").write_text("1\n00:00:00,000 --> 00:00:01,500\nthe red car talks\n")
    (folder / "notes.txt").write_text("no video at all")
    return folder


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, folder) -> Path:
    """A run whose test split are these very videos."""
    settings = {"image_size": 32, "max_frames": 12, "frames": "jpeg"}
    clips = []
    for name in ("a.mp4", "b.mkv", "c.mp4"):
        path = str(folder / name)
        beside = str(folder / "a.srt") if name == "a.mp4" else path
        sample = Sample(name, "test", path, ["a car"], [""], "", [], None, None, None, subtitles=beside)
        clips.append(preparation.prepare(sample, settings))
    assert clips[0].transcript == "the red car talks" and all(one.fbank is not None for one in clips)
    return make_run(tmp_path_factory.mktemp("run"), BRANCHES, clips)


@pytest.fixture(scope="module")
def run(workdir):
    return save_jax.open_run(str(workdir))


@pytest.fixture(scope="module")
def weights(workdir, tmp_path_factory) -> Path:
    """The run's parameters as a folder of weights."""
    folder = tmp_path_factory.mktemp("weights") / "mine"
    assert command.main(["--from", str(workdir), "--kind", "save", "--to", str(folder), "--licence", "mine alone"]) == 0
    return folder


def test_files_have_the_numbers_of_shards(run, folder, capsys):
    """Decoded here and scored, they are what the evaluator made of the same videos in shards."""
    texts = ["a red car", "a bird sings"]
    videos = run.embed_videos([folder / name for name in ("a.mp4", "b.mkv", "c.mp4")], progress=False)
    assert videos.transcripts == ["the red car talks", "", ""] and not videos.failed
    expected = run.evaluator.score(run.params, run.evaluator.embed_texts(run.params, texts), run.index)
    np.testing.assert_allclose(run.model.score(texts, videos), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(run.embed_texts(texts), run.evaluator.embed_texts(run.params, texts))
    assert capsys.readouterr().err == ""


def test_a_file_that_is_no_video_is_named_and_the_others_go_on(run, folder, tmp_path):
    paths = [str(folder / "b.mkv"), str(folder / "notes.txt"), str(tmp_path / "gone.mp4"), str(folder / "a.mp4")]
    videos = run.embed_videos(paths, progress=False)
    assert videos.failed.keys() == set(paths[1:3])
    assert "no such file" in videos.failed[paths[2]] and "not a readable media file" in videos.failed[paths[1]]
    assert [video.file for video in videos] == paths and len(videos) == 4
    np.testing.assert_array_equal(np.abs(videos.mean).max(axis=1) > 0, [True, False, False, True])
    scores = run.model.score(["a car"], videos)[0]
    assert max(scores[1:3]) < min(scores[0], scores[3])
    with pytest.raises(ValueError, match=r"gone\.mp4: no such file"):
        run.model.why("a car", videos[2])


def test_transcripts_are_those_given(run, folder):
    """By order or by name; a text in place of subtitles, and "" for a video in which nothing is said."""
    paths = [str(folder / "a.mp4"), str(folder / "b.mkv")]
    by_order = run.embed_videos(paths, ["", "a bird sings about bread"], progress=False)
    by_name = run.embed_videos(paths, {paths[1]: "a bird sings about bread", paths[0]: ""}, progress=False)
    plain = run.embed_videos(paths, progress=False)
    assert by_order.transcripts == ["", "a bird sings about bread"] == by_name.transcripts
    np.testing.assert_array_equal(by_order.mean, by_name.mean)
    assert (np.abs(by_order.mean - plain.mean).max(axis=1) > 1e-6).all()
    for transcripts, message in (
        (["one"], "1 transcripts for 2 videos"),
        ({"other.mp4": "x"}, "not among the videos: other.mp4"),
        ("one text", "8 transcripts for 2 videos"),
    ):
        with pytest.raises(ValueError, match=message):
            run.embed_videos(paths, transcripts, progress=False)
    for nothing in (run.embed_videos, run.embed_texts, run.model.embed_clips):
        with pytest.raises(ValueError, match="give at least one"):
            nothing([])


def test_why_explains_the_input_that_was_scored(run, folder):
    """A video embedded as one in which nothing is said, whatever its subtitles say."""
    videos = run.embed_videos([folder / "a.mp4"], [""], progress=False)
    why = run.model.why("a red car", videos[0])
    assert why.score == pytest.approx(run.model.score(["a red car"], videos)[0, 0], abs=1e-4)
    assert why.inputs["speech"] == 0


def test_videos_are_sliced_and_scores_refuse_what_is_neither(run, folder, tmp_path):
    videos = run.embed_videos([folder / name for name in ("a.mp4", "b.mkv", "c.mp4")], progress=False)
    texts = run.embed_texts(["a red car", "a bird"])
    np.testing.assert_array_equal(run.model.score(texts, videos[1:]), run.model.score(texts, videos)[:, 1:])
    np.testing.assert_array_equal(run.model.score("a red car", videos), run.model.score(["a red car"], videos))
    for wrong, rows, message in (
        (texts[0], videos, r"texts have shape \[32\], not \[texts, 32\]"),
        (texts[:, :5], videos, r"\[2, 5\]"),
        (texts, videos[0], "videos is Video; give Videos"),
    ):
        with pytest.raises(ValueError, match=message):
            run.model.score(wrong, rows)
    with pytest.raises(ValueError, match="split 'train' is not open, only"):
        run.evaluate("train")


def test_sound_that_cannot_be_decoded_is_told(run, tmp_path, capsys):
    """The video stays; a note says what was left out."""
    path = tmp_path / "sub.mp4"
    media.write_media(path, [media.numbered(k) for k in range(16)], fps=8)
    (tmp_path / "sub.srt").write_bytes(b"\xff\xfe\x00 no subtitles at all")
    videos = run.embed_videos([path], progress=False)
    assert (
        not videos.failed and list(videos.notes) == [str(path)] and videos.notes[str(path)][0].startswith("subtitles:")
    )
    captured = capsys.readouterr()
    assert captured.out == "" and "sub.mp4: left out: subtitles:" in captured.err


def test_other_shards_are_searched_with_the_runs_own_tokenizer(workdir, run, folder, tmp_path):
    """Shards of a folder of videos bring no tokenizer."""
    other = tmp_path / "shards"
    shutil.copytree(run.config.data_dir, other, ignore=shutil.ignore_patterns("tokenizer"))
    again = save_jax.open_run(str(workdir), data_dir=str(other))
    assert again.search("a red car") == run.search("a red car")


def test_why_says_what_each_branch_did(run, folder):
    videos = run.embed_videos([folder / "a.mp4", folder / "b.mkv"], progress=False)
    scores = run.model.score(["a red car"], videos)[0]
    spoken, silent = (run.model.why("a red car", video) for video in videos)
    assert (spoken.score, silent.score) == pytest.approx(tuple(scores), abs=1e-4)
    assert spoken.branches.keys() == {"vision", "audio", "speech"} and spoken.gates.keys() == {"audio", "speech"}
    assert spoken.inputs["speech"] != 0 and silent.inputs["speech"] == 0  # nothing is said in b.mkv
    assert spoken.inputs["audio"] != 0
    lines = str(spoken).splitlines()
    assert lines[0] == f"score {spoken.score:.2f}" and lines[2].startswith("vision") and "–" in lines[2]


def test_a_model_needs_no_data_set(run, workdir, weights, folder, tmp_path):
    """A run without its shards and a folder of weights give the run's own numbers."""
    alone = tmp_path / "alone"
    shutil.copytree(workdir, alone)
    settings = json.loads((alone / "config.json").read_text())
    (alone / "config.json").write_text(json.dumps(settings | {"data_dir": str(tmp_path / "gone")}))
    paths = [folder / "a.mp4", folder / "c.mp4"]
    expected = run.model.score(["a red car"], run.embed_videos(paths, progress=False))
    for path in (alone, weights):
        model = save_jax.load_model(path)
        np.testing.assert_array_equal(model.score(["a red car"], model.embed_videos(paths, progress=False)), expected)


def test_weights_say_what_they_are_for(weights, run):
    about = description.read(str(weights))
    assert (about.method, about.licence) == ("save", "mine alone")
    assert set(about.modules) == set(run.params)
    assert about.tokenizer["digest"] == run.data.tokenizer.digest == about.open_tokenizer().digest
    assert about.tokenizer["source"] is None and "/" not in about.source  # no path of this machine travels with them
    stored = json.loads((weights / "description.json").read_text())
    assert stored["preprocessing"]["image_size"] == 32 and stored["params_sha256"] == about.params_sha256


def test_what_cannot_be_opened_says_what_to_do(weights, workdir, tmp_path, capsys):
    with pytest.raises(ValueError, match="is no folder; give a run's workdir"):
        save_jax.load_model(tmp_path / "nothing")
    bare = tmp_path / "bare"
    shutil.copytree(weights, bare)
    (bare / "description.json").unlink()
    with pytest.raises(ValueError, match=r"has no description\.json.*save_jax\.convert --describe"):
        save_jax.load_model(bare)
    part = tmp_path / "part"
    params = loading.read_params(str(weights))
    loading.save_params(str(part), {name: params[name] for name in ("vision", "text")})
    about = description.read(str(weights))
    description.write(
        str(part), about.config, ["vision", "text"], tokenizer=None, licence="", source="", params_sha256=""
    )
    with pytest.raises(ValueError, match=r"holds text, vision, and save also has ast, .*config\.init_from="):
        save_jax.load_model(part)
    other = tmp_path / "other"
    shutil.copytree(weights, other)
    merges = other / "tokenizer" / "merges.txt"
    merges.write_text("\n".join(merges.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ValueError, match="were trained with another vocabulary"):
        save_jax.load_model(other)


def test_describe_makes_a_description(weights, tmp_path, capsys):
    """For a folder of 0.1: --config says the model, and weights that do not fit it are refused."""
    bare, config = tmp_path / "bare", tmp_path / "mine.py"
    shutil.copytree(weights, bare)
    (bare / "description.json").unlink()
    shutil.move(bare / "tokenizer", tmp_path / "tokenizer")
    settings = json.loads((weights / "description.json").read_text())["config"]
    config.write_text(
        "from save_jax.config import base\n\n\ndef get_config(arg=''):\n    config = base()\n"
        f"    config.model.update({settings['model']!r})\n    config.data.update({settings['data']!r})\n"
        "    return config\n"
    )
    arguments = ["--describe", str(bare), "--config", str(config), "--tokenizer", str(tmp_path / "tokenizer")]
    assert command.main(arguments) == 0
    assert save_jax.load_model(bare).config.model.to_dict() == save_jax.load_model(weights).config.model.to_dict()
    capsys.readouterr()
    assert command.main(["--describe", str(bare), "--config", "demo"]) == 1
    assert "does not fit config.model" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["--describe", str(bare)])
    assert "missing --config" in capsys.readouterr().err


def test_the_folder_of_another_shape_is_refused(weights, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(weights, changed)
    stored = json.loads((changed / "description.json").read_text())
    stored["config"]["model"]["embed_dim"] *= 2
    (changed / "description.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="does not fit this model"):
        save_jax.load_model(changed)
    (changed / "description.json").write_text(json.dumps(stored | {"format": 99}))
    with pytest.raises(ValueError, match="has format 99, this version reads 1"):
        save_jax.load_model(changed)


def test_vision_alone_has_nothing_to_hear(tmp_path, folder):
    run = save_jax.open_run(str(make_run(tmp_path, "vision", plain_clips(8))))
    assert method(run.config) == "vision"
    why = run.model.why("a red car", str(folder / "a.mp4"))
    assert why.branches == why.inputs == why.gates == {} and "vision" in str(why)
    assert run.evaluate().results["t2v"]["queries"] == 8


def test_a_description_that_cannot_be_trusted_is_refused(weights, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(weights, changed)
    path = changed / "description.json"
    stored = json.loads(path.read_text())
    newer = stored["config"] | {"model": stored["config"]["model"] | {"newer": 1}}
    for text, message in (
        (json.dumps(stored | {"params_sha256": "0" * 64}), r"holds other parameters than its description\.json says"),
        (json.dumps(stored | {"config": newer}), "cannot be used .*newer"),
        (json.dumps({name: x for name, x in stored.items() if name != "licence"}), "cannot be used .*licence"),
        (path.read_text()[:100], r"description\.json cannot be used"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            save_jax.load_model(changed)


def test_nothing_is_written_before_it_is_checked(workdir, weights, tmp_path, capsys):
    out = tmp_path / "out"
    assert command.main(["--from", str(workdir), "--to", str(out), "--tokenizer", str(tmp_path / "none")]) == 1
    assert not out.exists() and "is neither a folder" in capsys.readouterr().err
    old = tmp_path / "old"  # as version 0.1 left it, with shards that are elsewhere now
    shutil.copytree(workdir, old, ignore=shutil.ignore_patterns("tokenizer"))
    settings = json.loads((old / "config.json").read_text())
    (old / "config.json").write_text(json.dumps(settings | {"data_dir": str(tmp_path / "gone")}))
    assert command.main(["--from", str(old), "--to", str(out)]) == 1
    assert not out.exists() and "give --tokenizer FOLDER" in capsys.readouterr().err
    with pytest.raises(ValueError, match="pass tokenizer=FOLDER, or copy it to"):
        save_jax.load_model(old)
    assert save_jax.load_model(old, tokenizer=str(weights / "tokenizer")).embed_texts("a car").shape == (1, 32)
    assert command.main(["--describe", str(workdir), "--config", "demo"]) == 1
    assert "is the workdir of a run" in capsys.readouterr().err
    assert command.main(["--from", str(weights), "--to", str(out)]) == 0
    assert description.read(str(out)).licence == "mine alone"
