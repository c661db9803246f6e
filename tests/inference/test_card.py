"""A run as a folder for the hub: its card, and the way there and back to the same scores."""

import json
import os
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from helpers import hub as hubs
from helpers import media

import save_jax
from save_jax.inference import card_command
from save_jax.inference.model import Model
from save_jax.methods import run as method_run
from save_jax.report import model_card
from save_jax.weights import command, description, loading

NAME = "anna/birds"
TEXTS = ["a red car", "a bird sings about bread"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def trained(config, place) -> Path:
    """A run of six steps, trained once, and its card in a folder."""
    workdir = place / "birds"
    if not workdir.exists():
        method_run.train(config, str(workdir))
        card_command.write_card(str(workdir), license="cc-by-nc-4.0", datasets=["anna/clips"])
    return workdir


@pytest.fixture
def folder(trained) -> Path:
    return trained / "card"


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of the run, to change."""
    shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("card"))
    return tmp_path / "run"


@pytest.fixture
def served(tmp_path, monkeypatch):
    with hubs.serve() as served:
        hubs.ask(monkeypatch, served.address, tmp_path / "cache")
        yield served


def results_of(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())


@pytest.fixture(scope="module")
def videos(place) -> list[str]:
    """Two files with sound, the second with subtitles beside it."""
    rng = np.random.default_rng(0)
    for name, seconds in (("a.mp4", 2), ("b.mp4", 3)):
        frames = [media.numbered(int(rng.integers(200))) for _ in range(8 * seconds)]
        sound = (0.1 * rng.standard_normal(16000 * seconds)).astype(np.float32)
        media.write_media(place / name, frames, fps=8, sound=sound)
    (place / "b.srt").write_text("1\n00:00:00,000 --> 00:00:01,500\nthe red car talks\n")
    return [str(place / name) for name in ("a.mp4", "b.mp4")]


def scores(model: Model, videos: list[str]) -> np.ndarray:
    """Of sentences with files, from decoding to the last sum."""
    return model.score(TEXTS, model.embed_videos(videos, progress=False))


def test_a_folder_is_opened_as_its_run(trained, folder, videos):
    """By load_model, as weights to start from, and by convert; to the bit."""
    run = save_jax.open_run(str(trained))
    np.testing.assert_array_equal(scores(save_jax.load_model(folder), videos), scores(run.model, videos))
    assert sorted(os.listdir(folder)) == ["README.md", "description.json", "model.safetensors", "tokenizer"]
    assert loading.modules_of(str(folder)) == set(run.params)
    loaded = loading.load_modules(str(folder), run.params)
    np.testing.assert_array_equal(loaded["text"]["token_embedding"], run.params["text"]["token_embedding"])
    np.testing.assert_array_equal(loading.read_params(str(folder))["logit_scale"], run.params["logit_scale"])
    assert description.stored_digest(str(folder)) == run.data.tokenizer.digest
    assert (folder / "model.safetensors").stat().st_mode == (folder / "README.md").stat().st_mode


def test_the_way_to_a_hub_and_back(folder, videos, served, tmp_path):
    commit = served.push(NAME, folder)
    here = scores(save_jax.load_model(folder), videos)
    assert np.ptp(here) > 0
    digest = description.read(str(folder)).params_sha256
    for address in (f"hf://{NAME}", f"hf://{NAME}@{commit}#sha256={digest[:16]}"):
        np.testing.assert_array_equal(scores(save_jax.load_model(address), videos), here)
    assert command.main(["--from", str(folder), "--to", str(tmp_path / "orbax")]) == 0
    np.testing.assert_array_equal(scores(save_jax.load_model(tmp_path / "orbax"), videos), here)


def test_a_damaged_file_is_refused_and_can_be_fetched_again(folder, served, tmp_path):
    commit = served.push(NAME, folder)
    whole = (folder / "model.safetensors").read_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    cached = tmp_path / "cache" / "models--anna--birds"
    for damaged, message in (
        (bytes(flipped), rf"^hf://{NAME}: .* holds other parameters than its description\.json says: damaged"),
        (b"\0" * len(whole), rf"^hf://{NAME}: .*model\.safetensors is damaged or no safetensors file"),
    ):
        served.replace(NAME, commit, "model.safetensors", damaged)
        with pytest.raises(ValueError, match=message) as said:
            save_jax.load_model(f"hf://{NAME}")
        assert str(said.value).endswith(f"(delete {cached} to download it again)")
        shutil.rmtree(cached)
    served.replace(NAME, commit, "model.safetensors", whole)
    assert save_jax.load_model(f"hf://{NAME}").config.model.branches == "vision,audio,speech"


def test_other_parameters_under_the_same_name_are_refused_by_a_pin(folder, served, tmp_path):
    """The description fits them, so that only who knows the digest can tell."""
    digest = description.read(str(folder)).params_sha256
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    params = loading.read_params(str(other))
    params["logit_scale"] = params["logit_scale"] + 1
    os.remove(other / "model.safetensors")
    loading.save_file(str(other), params)
    about = command.about_folder(str(other))
    about.write(params, str(other))
    served.push(NAME, other)
    assert save_jax.load_model(f"hf://{NAME}").params["logit_scale"] == params["logit_scale"]
    with pytest.raises(ValueError, match="the address asks for " + digest[:16]):
        save_jax.load_model(f"hf://{NAME}#sha256={digest[:16]}")


def test_the_hub_reads_the_front_matter(trained, folder):
    """By its own library: what it is, and every number of results.json under the test that it is of."""
    card = huggingface_hub.ModelCard.load(folder / "README.md")
    data, results = card.data, results_of(trained)
    assert (data.license, data.library_name, data.datasets) == ("cc-by-nc-4.0", "save_jax", ["anna/clips"])
    assert data.model_name == "birds" and {"save", "text-video-retrieval", "jax"} <= set(data.tags)
    numbers = {(result.task_type, result.metric_type): result for result in data.eval_results}
    assert len(numbers) == 10 == len(data.eval_results)
    for direction, task in (("t2v", "text-to-video-retrieval"), ("v2t", "video-to-text-retrieval")):
        for metric, kind in model_card.METRICS.items():
            result = numbers[task, kind]
            assert result.metric_value == round(results["test"][direction][metric], 2)
            assert (result.dataset_type, result.dataset_split) == ("made", "test")
            assert "departures" in result.dataset_name


def test_the_card_says_what_was_measured_and_on_what(trained, folder):
    text, test = (folder / "README.md").read_text(), results_of(trained)["test"]
    low, high = test["intervals"]["t2v"]["R@1"]
    assert f"| text → video | {test['t2v']['R@1']:.1f} ({low:.1f}–{high:.1f}) |" in text
    assert "| video → text | " in text and "13 videos, 13 queries" in text
    assert "- corpus 'made' has no published protocol" in text and "not comparable with published ones" in text
    digest = description.read(str(folder)).params_sha256
    assert f"#sha256={digest[:16]}" in text and digest in text
    assert model_card.config_digest(results_of(trained)["config"]) in text
    assert "**These weights**: cc-by-nc-4.0" in text and "the training began random" in text
    assert "the shards do not say which teacher made them" in text  # the config asks for early alignment
    assert str(trained.parent) not in text + (folder / "description.json").read_text()  # no path of this machine


def changed(run: Path, change) -> str:
    """The card of a run after a change of its results."""
    results = results_of(run)
    change(results)
    (run / "results.json").write_text(json.dumps(results))
    shutil.rmtree(run / "card", ignore_errors=True)
    return Path(card_command.write_card(str(run)), "README.md").read_text()


def test_the_signature_of_the_evaluation(run):
    def without(results: dict) -> None:
        results["test"]["protocol"].pop("signature", None)

    assert "Signature of the evaluation: evaluated before signatures; run save-jax eval again" in changed(run, without)
    signature = "save_jax:0.2.0|corpus:made|ties:against"
    text = changed(run, lambda results: results["test"]["protocol"].update(signature=signature))
    assert f"Signature of the evaluation: `{signature}`" in text


def test_what_a_run_says_cannot_change_the_card(run):
    hostile = "x |\n\n# <script>alert(1)</script> [a](http://evil.example) `b`"
    text = changed(run, lambda results: results["test"]["protocol"].update(departures=[hostile]))
    assert r"- x \| \# \<script\>alert(1)\</script\> \[a\](http://evil.example) \`b\`" in text
    assert "**These weights**: Not stated yet. Ask" in text and "\nlicense: other\n" in text


def test_licences_of_what_it_started_from(run, folder, tmp_path):
    """As far as what lies there says them: names, no paths."""
    config = json.loads((run / "config.json").read_text())
    config["init_from"] = f"{folder},{run},{tmp_path / 'gone'}"
    (run / "config.json").write_text(json.dumps(config))
    text = Path(card_command.write_card(str(run)), "README.md").read_text()
    assert "- **Started from** card, run birds: cc-by-nc-4.0\n" in text
    assert "- **Started from** run: another run, under the licences of what that one started from\n" in text
    assert r"- **Started from** gone: not known: no description.json of it lay here" in text
    assert str(tmp_path) not in text


def test_the_teacher_is_named_where_there_was_one(run):
    """The demo's vectors come from its generator; without early alignment there are none."""
    assert "made by the demo's generator" in changed(run, lambda results: results["data"].update(corpus="demo"))
    config = json.loads((run / "config.json").read_text())
    config["loss"]["albef"]["save"] = "none"
    (run / "config.json").write_text(json.dumps(config))
    assert "Teacher" not in changed(run, lambda results: None)


def test_what_has_no_card_says_what_to_do(run, folder, tmp_path):
    def refused(message: str, **more: str) -> None:
        with pytest.raises(ValueError, match=message):
            card_command.write_card(str(run), **more)
        assert not [name for name in os.listdir(run) if "card" in name]

    refused("is no name of a licence on the hub, such as apache-2.0", license="Apache 2.0")
    refused("is an address, and a card is written", to="gs://bucket/card")
    refused("exists already; choose another folder", to=str(folder))
    path = run / "results.json"
    results = results_of(run)
    path.write_text(json.dumps(results | {"picked_step": results["picked_step"] + 1}))
    refused("results.json is of step .* best checkpoint is that of step .*: save-jax eval --config NAME --workdir")
    path.write_text(json.dumps(results | {"test": {}}))
    refused("results.json lacks 'protocol'; it is of another version: save-jax eval")
    path.write_text(json.dumps(results)[:50])
    refused("results.json cannot be read .*: save-jax eval")
    path.unlink()
    refused("has no results.json, and a card shows what was measured: save-jax eval --config NAME --workdir")
    path.write_text(json.dumps(results))
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").unlink()
    refused("is not the folder of a run")
    (run / "config.json").write_text(json.dumps(config))
    shutil.rmtree(run / "checkpoints")
    refused("no checkpoint in .*; train first")


def test_a_card_that_fails_leaves_nothing(run, tmp_path, monkeypatch):
    """Here the disk is full when the last file is written."""
    out = tmp_path / "out"
    out.mkdir()
    original = command.About.write

    def full(self, params: dict, folder: str) -> str:
        original(self, params, folder)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(command.About, "write", full)
        card_command.write_card(str(run), str(out))
    assert os.listdir(out) == [] and not [name for name in os.listdir(tmp_path) if name.startswith(".")]
    assert card_command.write_card(str(run), str(out)) == str(out)  # an empty folder is taken
    assert len(os.listdir(out)) == 4


def test_the_command(run, capsys):
    card_command.main([str(run), "--license", "mit", "--dataset", "anna/clips", "--dataset", "anna/more"])
    assert capsys.readouterr().out.splitlines()[1] == f"read README.md, then: hf upload OWNER/NAME {run / 'card'}"
    data = huggingface_hub.ModelCard.load(run / "card" / "README.md").data
    assert data.license == "mit" and data.datasets == ["anna/clips", "anna/more"]
    with pytest.raises(SystemExit, match=r"^error: .* exists already"):
        card_command.main([str(run)])
