"""mteb runs our model and gets our evaluator's figures; any encoder of its form gives a score matrix.

In an environment with mteb: see README.md beside this file.
"""

import copy
import dataclasses
import json
import os
import sys
from pathlib import Path

import datasets
import mteb
import numpy as np
import pytest
import torch
from helpers.made_run import make_run
from mteb.abstasks import AbsTaskClassification, AbsTaskRetrieval, AbsTaskZeroShotClassification
from mteb.models import EncoderProtocol
from mteb.types import PromptType
from PIL import Image

import save_jax
from data_prep.demo.make import make_corpus
from save_jax.inference import media
from save_jax.inference.mteb import Encoder
from save_jax.judge import metrics
from save_jax.judge.encoders import encoded_scores

SILENT, HEARD = ["video"], ["video", "audio"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> tuple[list[str], list[str]]:
    """The demo's videos, and a caption of each, none like another."""
    root = tmp_path_factory.mktemp("demo") / "corpus"
    make_corpus(root, 24, 3, jobs=1)
    captions: dict[str, str] = {}
    for one in json.loads((root / "Annotations" / "MSRVTT_data.json").read_text())["sentences"]:
        captions.setdefault(one["video_id"], one["caption"])
    # Of texts that read the same mteb ranks one first; we count ties as wrong. A number makes all of them different.
    captions = {name: f"{k} {text}" for k, (name, text) in enumerate(captions.items())}
    return [str(root / "VideoData" / f"{name}.mp4") for name in captions], list(captions.values())


def read(files: list[str], sounds: list[str] | None = None) -> list:
    """Clips in which nothing is said."""
    return list(media.read_clips(files, [""] * len(files), 32, 12, sounds))


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A tiny SAVE with random parameters and open gates; its test split are these videos."""
    files, captions = corpus
    pairs = zip(read(files), captions, strict=True)
    clips = [dataclasses.replace(clip, captions=[text], groups=[""]) for clip, text in pairs]
    return save_jax.open_run(str(make_run(tmp_path_factory.mktemp("run"), "vision,audio,speech", clips)))


@pytest.fixture(scope="module")
def encoder(run) -> Encoder:
    return Encoder(run.model)


def task(category: str, files: list, captions: list[str], **settings: object) -> AbsTaskRetrieval:
    """A retrieval task of mteb's, with its data."""
    letters = {"t": "text", "v": "video", "a": "audio"}
    sides = [[letters[letter] for letter in side] for side in category.split("2")]

    class Demo(AbsTaskRetrieval):
        metadata = metadata_of(f"Demo{category}", "Any2AnyRetrieval", category, sides[0] + sides[1])

        def load_data(self, num_proc: int | None = None, **kwargs: object) -> None:
            queries, corpus = (table(names, files, captions) for names in sides)
            relevant = {str(k): {str(k): 1} for k in range(len(files))}
            split = {"queries": queries, "corpus": corpus, "relevant_docs": relevant, "top_ranked": None}
            self.dataset, self.data_loaded = {"default": {"test": split}}, True

    return Demo()


def metadata_of(name: str, kind: str, category: str, modalities: list[str]) -> mteb.TaskMetadata:
    return mteb.TaskMetadata(
        name=name, description="The demo's clips.", dataset={"path": "demo", "revision": "1"}, type=kind,
        category=category, modalities=modalities, eval_langs=["eng-Latn"], eval_splits=["test"],
        main_score="accuracy" if "lassification" in kind else "ndcg_at_10",
    )  # fmt: skip


def table(names: list[str], files: list, captions: list[str]) -> datasets.Dataset:
    columns = {"id": [str(k) for k in range(len(files))]} | {n: captions if n == "text" else files for n in names}
    made = datasets.Dataset.from_dict(columns)
    for name, kind in (("video", datasets.Video()), ("audio", datasets.Audio())):
        made = made.cast_column(name, kind) if name in names else made
    return made


def evaluated(encoder: object, task: object, predictions: Path | None = None) -> dict[str, float]:
    results = mteb.evaluate(encoder, task, cache=None, show_progress_bar=False, prediction_folder=predictions)
    return results.task_results[0].scores["test"][0]


def check(figures: dict[str, float], scores: np.ndarray) -> None:
    """mteb's figures are those of our ranks."""
    ranks = metrics.ranks(scores, np.arange(len(scores)))
    assert len(set(ranks)) > 5  # else any order would do
    for k in (1, 5, 10):
        assert figures[f"recall_at_{k}"] == pytest.approx((ranks <= k).mean(), abs=1e-5)
    assert figures["ndcg_at_10"] == pytest.approx(((ranks <= 10) / np.log2(1 + ranks)).mean(), abs=1e-5)
    assert figures["mrr_at_100"] == pytest.approx((1 / ranks).mean(), abs=1e-5)


def test_mteb_gets_the_figures_of_our_evaluator(run, encoder, corpus):
    evaluation = run.evaluate()
    t2v = evaluated(encoder, task("t2va", *corpus))
    check(t2v, evaluation.scores["t2v"])
    v2t = evaluated(encoder, task("va2t", *corpus))
    check(v2t, evaluation.scores["t2v"].T)
    for figures, direction in ((t2v, "t2v"), (v2t, "v2t")):
        for k in (1, 5, 10):
            assert 100 * figures[f"recall_at_{k}"] == pytest.approx(evaluation.results[direction][f"R@{k}"], abs=1e-3)


def test_videos_alone_are_silent(run, encoder, corpus):
    files, captions = corpus
    silent = run.model.score(captions, run.model.embed_clips(read(files, [""] * len(files))))
    check(evaluated(encoder, task("t2v", files, captions)), silent)
    assert np.abs(silent - run.evaluate().scores["t2v"]).max() > 1e-3


def test_every_score_is_that_of_both_grains(run, encoder, corpus, tmp_path):
    """Not of the figures alone: a plain cosine of two vectors ranks some models' videos much like both grains do."""
    ours = run.evaluate()
    evaluated(encoder, task("t2va", *corpus), tmp_path)
    (file,) = tmp_path.glob("*_predictions.json")
    rows = json.loads(file.read_text())["default"]["test"]
    count = len(rows)
    theirs = np.array([[rows[str(text)][str(video)] for video in range(count)] for text in range(count)])
    np.testing.assert_allclose(theirs, ours.scores["t2v"], atol=1e-4)
    cosines = ours.texts / np.linalg.norm(ours.texts, axis=1, keepdims=True) @ ours.videos.mean.T
    assert (np.argsort(theirs, axis=1) != np.argsort(cosines, axis=1)).any()


def test_what_mteb_is_told(encoder):
    meta = encoder.mteb_model_meta
    assert isinstance(encoder, EncoderProtocol)
    assert meta.name == "save_jax/save" and meta.modalities == ["text", "video", "audio"] and meta.framework == ["JAX"]
    assert meta.similarity_fn_name == "custom" and meta.model_type == ["late-interaction"] and len(meta.revision) == 64
    plain = copy.copy(encoder.model)
    with (config := plain.config.copy_and_resolve_references()).unlocked():
        config.model.score, config.model.branches = "global", "vision"
    plain.config = config
    meta = Encoder(plain, "somebody/vision").mteb_model_meta
    assert meta.name == "somebody/vision" and meta.modalities == ["text", "video"]
    assert meta.similarity_fn_name == "cosine" and meta.model_type == ["dense"]


def test_classification_gets_one_vector_of_a_video(run, encoder, corpus):
    files = corpus[0]

    class Kinds(AbsTaskClassification):
        metadata = metadata_of("DemoKinds", "VideoClassification", "va2c", HEARD)
        input_column_name = ("video", "audio")
        n_experiments, samples_per_label = 2, 4

        def load_data(self, num_proc: int | None = None, **kwargs: object) -> None:
            labelled = table(HEARD, files, []).add_column("label", [k % 2 for k in range(len(files))])
            self.dataset, self.data_loaded = datasets.DatasetDict(train=labelled, test=labelled), True

    assert 0 <= evaluated(encoder, Kinds())["accuracy"] <= 1
    batch = [{"video": files[:2], "audio": files[:2]}]
    vectors = encoder.encode(batch, task_metadata=Kinds.metadata, show_progress_bar=False)
    np.testing.assert_allclose(vectors, run.model.embed_clips(read(files[:2])).mean, atol=1e-5)
    assert encoder.similarity(vectors, vectors)[0, 0] == pytest.approx(1, abs=1e-5)
    pairs = encoder.similarity_pairwise(torch.as_tensor(vectors), vectors[::-1])
    np.testing.assert_allclose(pairs, encoder.similarity(vectors, vectors)[[0, 1], [1, 0]], atol=1e-6)


def test_reranking_and_zero_shot_use_the_score(run, encoder, corpus):
    files, captions = corpus
    scores = run.evaluate().scores["t2v"]
    reranking = task("t2va", files, captions)
    reranking.metadata = reranking.metadata.model_copy(update={"type": "Any2AnyReranking"})
    reranking.load_data()
    candidates = [[k, (k + 1) % 24, (k + 5) % 24] for k in range(24)]
    split = reranking.dataset["default"]["test"]
    split["top_ranked"] = {str(k): [str(video) for video in some] for k, some in enumerate(candidates)}
    right = [scores[k, some].argmax() == 0 for k, some in enumerate(candidates)]
    assert evaluated(encoder, reranking)["recall_at_1"] == pytest.approx(np.mean(right), abs=1e-5)

    class Kinds(AbsTaskZeroShotClassification):
        metadata = metadata_of("DemoLabels", "VideoZeroshotClassification", "va2t", [*HEARD, "text"])
        input_column_name, label_column_name = ("video", "audio"), "label"

        def load_data(self, num_proc: int | None = None, **kwargs: object) -> None:
            labelled = table(HEARD, files, []).add_column("label", list(range(24)))
            self.dataset, self.data_loaded = datasets.DatasetDict(test=labelled), True

        def get_candidate_labels(self) -> list[str]:
            return captions

    accuracy = (scores.argmax(axis=0) == np.arange(24)).mean()
    assert evaluated(encoder, Kinds())["accuracy"] == pytest.approx(accuracy, abs=1e-5)


def test_bytes_are_read_as_files(encoder, corpus):
    files = corpus[0][:3]
    held = [{"bytes": Path(file).read_bytes(), "path": os.path.basename(file)} for file in files]
    nameless = [one | {"path": None} for one in held]
    metadata = task("t2va", files, files).metadata

    def loader(given: list) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(table(HEARD, given, []), batch_size=2, num_workers=2)

    expected = encoder.encode(loader(files), task_metadata=metadata, show_progress_bar=False)
    assert expected.shape == (3, 1 + encoder.model.config.data.max_frames, 32)
    for given in (held, nameless):
        got = encoder.encode(loader(given), task_metadata=metadata, show_progress_bar=False)
        np.testing.assert_array_equal(got, expected)


def test_what_cannot_be_embedded_is_refused(encoder, corpus):
    files, captions = corpus[0][:2], corpus[1][:2]
    for category in ("t2a", "v2a", "vt2v"):
        with pytest.raises(ValueError, match=r"save_jax/save embeds text, video, or video with audio\. Choose"):
            evaluated(encoder, task(category, files, captions))
    with pytest.raises(ValueError, match="a video or sound is Tensor, decoded already; give its file or its bytes"):
        batch = [{"video": [torch.zeros(2, 3, 8, 8, dtype=torch.uint8)]}]
        encoder.encode(batch, task_metadata=task("t2v", files, captions).metadata, show_progress_bar=False)


def test_a_file_that_is_no_video_ranks_last(encoder, corpus, tmp_path, capsys):
    broken = tmp_path / "notes.mp4"
    broken.write_text("no video at all")
    scores = encoded_scores(encoder, corpus[1][:2], [corpus[0][0], str(broken)], progress=False)
    assert (scores[:, 1] < -1e29).all() and (scores[:, 0] > -1e3).all()
    assert "video 1:" in capsys.readouterr().err


# ---------------------------------------------------------------- any encoder, judged


class Sizes:
    """An encoder of mteb's form: a text is its letters and words, a video its bytes and the sum of some of them."""

    def __init__(self):
        self.seen = []

    def encode(self, inputs, *, task_metadata, hf_split, hf_subset, prompt_type=None, **kwargs):
        modalities = task_metadata.get_modalities(prompt_type)
        self.seen.append((prompt_type, modalities, len(inputs)))
        if modalities == ["text"]:
            return np.array([[len(text), text.count(" ")] for batch in inputs for text in batch["text"]])
        inputs.dataset = inputs.dataset.cast_column("video", datasets.Video(decode=False))
        inputs.collate_fn = lambda rows: {"video": [Path(row["video"]["path"]).read_bytes() for row in rows]}
        data = [x for batch in inputs for x in batch["video"]]
        return torch.tensor([[len(x) / 1e3, sum(x[-2000:]) / 1e4] for x in data], dtype=torch.float32)


class Nearest(Sizes):
    """It brings a similarity of its own."""

    def similarity(self, one, two):
        return -torch.cdist(torch.as_tensor(one, dtype=torch.float32), torch.as_tensor(two))


def by_hand(corpus: tuple[list[str], list[str]]) -> tuple[np.ndarray, np.ndarray]:
    data = [Path(file).read_bytes() for file in corpus[0]]
    texts = np.array([[len(text), text.count(" ")] for text in corpus[1]], np.float64)
    return texts, np.array([[len(x) / 1e3, sum(x[-2000:]) / 1e4] for x in data])


def test_scores_of_an_encoder_are_cosines_or_its_own_similarity(corpus):
    files, captions = corpus
    texts, videos = by_hand(corpus)
    encoder = Sizes()
    scores = encoded_scores(encoder, captions[:7], files, batch_size=5, progress=False)
    angles = np.arctan2(texts[:7, 1], texts[:7, 0])[:, None] - np.arctan2(videos[:, 1], videos[:, 0])
    np.testing.assert_allclose(scores, np.cos(angles), atol=1e-5)
    assert scores.dtype == np.float32
    assert encoder.seen == [(PromptType.query, ["text"], 2), (PromptType.document, ["video"], 5)]
    distances = np.linalg.norm(texts[:7, None] - videos, axis=2)
    np.testing.assert_allclose(encoded_scores(Nearest(), captions[:7], files, progress=False), -distances, rtol=1e-3)


def test_an_encoder_is_known_by_name(corpus, tmp_path, monkeypatch):
    files, captions = corpus
    (tmp_path / "my_encoder.py").write_text("import test_mteb_encoder\nmake = test_mteb_encoder.Nearest\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "test_mteb_encoder", sys.modules[__name__])
    named = encoded_scores("my_encoder:make", captions, files[:3], progress=False)
    np.testing.assert_array_equal(named, encoded_scores(Nearest(), captions, files[:3], progress=False))
    for k in range(2):
        Image.new("RGB", (8, 8), (90 * k, 40, 200)).save(tmp_path / f"{k}.png")
    pictures = [str(tmp_path / f"{k}.png") for k in range(2)]
    scores = encoded_scores("mteb/baseline-random-encoder", captions, pictures, modalities=["image"], progress=False)
    assert scores.shape == (24, 2) and len(np.unique(scores)) > 24


def test_our_model_is_judged_as_any_other(run, encoder, corpus):
    files, captions = corpus
    heard = encoded_scores(encoder, captions, files, modalities=HEARD, progress=False)
    np.testing.assert_allclose(heard, run.evaluate().scores["t2v"], rtol=1e-4, atol=1e-4)
    judged = save_jax.evaluate_scores(heard)
    assert judged["t2v"]["R@5"] == run.evaluate().results["t2v"]["R@5"]
    given = encoded_scores(encoder, captions, table(HEARD, files, captions), modalities=HEARD, progress=False)
    np.testing.assert_array_equal(given, heard)


def test_errors_of_the_judge_name_the_next_step(corpus):
    files, captions = corpus

    class Few(Sizes):
        def encode(self, inputs, **kwargs):
            return super().encode(inputs, **kwargs)[:-1]

    class Flat(Sizes):
        def similarity(self, one, two):
            return np.zeros(3)

    for encoder, texts, videos, modalities, message in (
        (Sizes(), captions, files, ["smell"], r"modalities are \['smell'\]; choose one of \('video',\), "),
        (Sizes(), [], files, SILENT, "0 texts and 24 videos to score"),
        (Sizes(), captions, [*files, "gone.mp4"], SILENT, "1 of 25 files are not there, such as gone.mp4"),
        ("nowhere:make", captions, files, SILENT, "no encoder nowhere:make: .* give module:function"),
        (np.zeros(3), captions, files, SILENT, "ndarray without encode"),
        (Few(), captions, files, SILENT, "the encoder gave 23 embeddings for 24 texts"),
        (Flat(), captions, files, SILENT, r"similarity gave \[3\], not \[24, 24\]"),
    ):
        with pytest.raises(ValueError, match=message):
            encoded_scores(encoder, texts, videos, modalities=modalities, progress=False)
