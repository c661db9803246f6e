"""Every config: the words after its name, the papers' values, and a run of miniature shards from end to end."""

import itertools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import media
from helpers import official_corpora as made

pytest.importorskip("av")

from data_prep.commands import build
from data_prep.corpora import CORPORA
from data_prep.corpora.layout import OWN_TRANSCRIPTS
from save_jax import main, sharding
from save_jax.config import base, model_sizes, resolve
from save_jax.config.finding import read_config
from save_jax.config.recipe import BACKBONES, MODELS
from save_jax.data import records, tokenizer
from save_jax.models.retrieval import Retrieval
from save_jax.models.trees import flatten
from save_jax.training import state

BENCHMARKS = {  # config → corpus of data_prep
    "msrvtt": "msrvtt-9k",
    "msrvtt7k": "msrvtt-7k",
    "vatex": "vatex",
    "charades": "charades",
    "lsmdc": "lsmdc",
}


def get_config(name: str, arg: str = ""):
    return read_config(f"{name}:{arg}")


# ---------------------------------------------------------------- the papers' values


@pytest.mark.parametrize(
    ("name", "frames", "words", "batch", "delta"),
    [
        ("msrvtt", 12, 32, 128, 0.1),
        ("msrvtt7k", 12, 32, 128, 0.1),
        ("vatex", 12, 32, 128, 0.05),
        ("charades", 32, 64, 64, 0.1),
        ("lsmdc", 12, 32, 128, 0.1),
    ],
)
def test_values_of_the_papers(name, frames, words, batch, delta):
    config = resolve(get_config(name))
    found = (config.data.max_frames, config.data.max_words, config.batch_size, config.loss.delta)
    assert found == (frames, words, batch, delta)
    assert (config.epochs, config.optim.learning_rate, config.loss.beta) == (5, 1e-4, 0.2)
    assert (config.data.val_split, config.data.test_split) == ("val", "test")
    assert config.name == name and config.data_dir == f"data/{BENCHMARKS[name]}/shards"
    corpus = CORPORA[BENCHMARKS[name]]  # its shards fit without any option of data_prep.build
    assert corpus.image_size == config.model.image_size and corpus.max_frames >= config.data.max_frames


# ---------------------------------------------------------------- words


def test_words_choose_method_backbone_and_seed():
    config = get_config("msrvtt", "model=avigate,backbone=L/14,seed=2")
    assert config.model.branches == "vision,audio" and config.seed == 2
    assert (config.model.patch_size, config.model.embed_dim, config.name) == (14, 768, "msrvtt")
    assert get_config("msrvtt", "seed=2,backbone=L/14,model=avigate").to_json() == config.to_json()
    assert get_config("msrvtt", "model=save,backbone=B/32,seed=0").to_json() == get_config("msrvtt").to_json()


def test_smoke_is_tiny_whatever_else_is_chosen():
    config = get_config("charades", "smoke,model=vision,backbone=L/14,seed=3")
    assert (config.name, config.seed, config.model.branches) == ("charades-smoke", 3, "vision")
    assert (config.model.vision_width, config.steps, config.data.max_frames) == (32, 6, 2)


@pytest.mark.parametrize("name", [*BENCHMARKS, "demo"])
@pytest.mark.parametrize(
    ("arg", "word"),
    [
        ("tiny", "'tiny' is unknown"),
        ("smoke,", "'' is unknown"),
        ("smoke=1", "'smoke=1' is unknown"),
        ("model=SAVE", "'model=SAVE' is unknown"),
        ("smoke,seed=one", "'seed=one' is unknown"),
        ("seed=-1", "'seed=-1' is unknown"),
        ("backbone=B/64", "'backbone=B/64' is unknown"),
        ("model=save,smoke,model=save", "'model=save' is one model too many"),
    ],
)
def test_an_unknown_word_is_refused_with_those_allowed(name, arg, word):
    backbones = "" if name == "demo" else r"backbone=B/32\|B/16\|L/14, "
    with pytest.raises(ValueError) as caught:
        get_config(name, arg)
    caught.match(rf"^configs/{name}.py:{arg}: {word}; allowed are model=\S+, {backbones}seed=NUMBER, smoke, separated")
    assert all(model in str(caught.value) for model in MODELS)


# ---------------------------------------------------------------- shapes

# Width and tokens of pictures, layers, text width and joint width of OpenAI's published models.
PUBLISHED = {"B/32": (768, 50, 12, 512, 512), "B/16": (768, 197, 12, 512, 512), "L/14": (1024, 257, 24, 768, 768)}
# Parameters of both towers, as OpenAI's checkpoints count them.
PARAMETERS = {"B/32": 151_277_313, "B/16": 149_620_737, "L/14": 427_616_513}


@pytest.mark.parametrize(
    ("model", "backbone"), [*(("save", backbone) for backbone in BACKBONES), ("avigate", "B/32"), ("vision", "L/14")]
)
def test_shapes_of_methods_and_backbones(model, backbone):
    config = resolve(get_config("charades", f"model={model},backbone={backbone}"))
    sizes = model_sizes(config)
    shapes = jax.eval_shape(lambda: state.init_params(Retrieval(sizes), config, jax.random.key(0)))
    flat = {name: x.shape for name, x in flatten(shapes).items()}
    width, tokens, layers, text_width, joint = PUBLISHED[backbone]
    assert flat["vision/position_embedding"] == (tokens, width)
    assert flat["vision/projection"] == (width, joint) and flat["text/projection"] == (text_width, joint)
    blocks = {name.split("/")[1] for name in flat if name.startswith("vision/block_")}
    assert len(blocks) == layers and flat["frame_position_embedding"] == (77, joint)
    clip = [shape for name, shape in flat.items() if name.split("/")[0] in ("vision", "text", "logit_scale")]
    assert sum(int(np.prod(shape)) for shape in clip) == PARAMETERS[backbone]
    fusions = [name for name in ("audio_fusion", "speech_fusion") if name in shapes]
    assert fusions == {"vision": [], "avigate": ["audio_fusion"], "save": ["audio_fusion", "speech_fusion"]}[model]
    for fusion in fusions:
        assert flat[f"{fusion}/block_3/cross_attention/query/kernel"] == (joint, joint)


def test_every_config_resolves_with_every_word():
    for name, model, backbone in itertools.product(BENCHMARKS, MODELS, BACKBONES):
        config = resolve(get_config(name, f"model={model},backbone={backbone}"))
        assert model_sizes(config).fusion.width == config.model.embed_dim
    assert {resolve(get_config("demo", f"model={model}")).model.branches for model in MODELS} == {*MODELS.values()}


# ---------------------------------------------------------------- from official files to results


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[Path]:
    """One with sound, one without."""
    folder = tmp_path_factory.mktemp("videos")
    return [made.video(folder / "0.mp4"), made.video(folder / "1.mp4", number=100, sound=False)]


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    """A tokenizer in place of CLIP's, which is on a hub."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.learn(["someone is in the first second of video good morning"] * 3, str(folder), 600)
    return folder


def write_corpus(name: str, root: Path) -> Path:
    """The annotations of a corpus as its authors publish them, of at least one smoke batch of training pairs."""
    splits = {"train": [f"video{k}" for k in range(4)], "val": ["video4"], "test": ["video5", "video6", "video7"]}
    if name == "msrvtt":
        ids = [clip_id for members in splits.values() for clip_id in members]
        return media.write_corpus(root, splits, missing=ids, val_file=False)
    if name == "msrvtt7k":
        return made.msrvtt_7k(root, splits, captions=2)
    if name == "vatex":
        return made.vatex(root, splits)
    if name == "charades":
        train, val = made.charades_ids(8, held_out=False), made.charades_ids(1, held_out=True)
        scripts = {clip_id: f"Someone is in the {k} second." for k, clip_id in enumerate(train + val)}
        return made.charades(root, scripts, {"TEST0": "Someone is first.", "TEST1": "Good morning."})
    rows = {"train": [f"0001_Film_00.00.{k:02}.000-00.00.{k:02}.900" for k in range(8)]}
    return made.lsmdc(
        root, {split: [made.lsmdc_row(i, f"Someone, {i[14:21]}.") for i in ids] for split, ids in rows.items()}
    )


def prepare(name: str, root: Path, videos: list[Path]) -> Path:
    """Writes a corpus, its media and teacher vectors, and builds its shards with the corpus's own settings."""
    corpus = CORPORA[BENCHMARKS[name]]
    write_corpus(name, root)
    samples = [sample for members in corpus.read(str(root)).values() for sample in members]
    made.write_transcripts(root / OWN_TRANSCRIPTS, {sample.id: "Good morning." for sample in samples[::2]})
    for kind in ("VideoFeature", "AudioFeature"):
        (root / "FeatureData" / "ImageBind" / kind).mkdir(parents=True)
    for number, sample in enumerate(samples):
        shutil.copy(videos[number % 4 == 3], sample.video)
        for kind in ("VideoFeature", "AudioFeature"):
            vector = np.random.default_rng(number).normal(size=records.TEACHER_DIM).astype(np.float32)
            np.save(root / "FeatureData" / "ImageBind" / kind / f"{sample.id}.npy", vector)
    settings = {
        "corpus": corpus.name,
        "image_size": corpus.image_size,
        "max_frames": corpus.max_frames,
        "frames": "jpeg",
    }
    build.build(corpus, str(root), str(root / "shards"), settings, partial=True)
    return root / "shards"


# VATEX has a δ of its own, so that its step is compiled anew: it takes the method that compiles fastest. On one device,
# for the same reason; test_train compares eight with one.
@pytest.mark.parametrize("name", BENCHMARKS)
def test_from_official_files_to_results(name, videos, words, tmp_path, monkeypatch):
    make_mesh = sharding.make_mesh
    monkeypatch.setattr(sharding, "make_mesh", lambda devices=None: make_mesh(devices or jax.devices()[:1]))
    model = "vision" if name == "vatex" else "save"
    shards = prepare(name, tmp_path / "corpus", videos)
    config = get_config(name, f"smoke,model={model},backbone=B/16")
    config.data_dir, config.data.tokenizer = str(shards), str(words)
    main.run(config, str(tmp_path / "run"), "train")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["data"]["corpus"] == BENCHMARKS[name] and results["checkpoints"]["last"]["step"] == 6
    assert results["config"]["loss"]["delta"] == (0.05 if name == "vatex" else base().loss.delta)
    splits = CORPORA[BENCHMARKS[name]].read(str(tmp_path / "corpus"))
    assert results["test"]["gallery"]["videos"] == len(splits["test"])
    assert results["test"]["t2v"]["queries"] == sum(len(sample.captions) for sample in splits["test"])
    assert results["test"]["gallery"]["failed"] == {}
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if row["split"] == "train"]
    assert np.isfinite(losses).all() and any(row.get("albef", 0) > 0 for row in rows) == (model == "save")
