"""A finished run that nobody trained: a made corpus, a tiny model with random weights and open gates, some history."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np

from helpers.corpus import IMAGE_SIZE, SETTINGS, make_clip, write_corpus
from save_jax.config import base, model_sizes, resolve, smoke
from save_jax.data import files, records
from save_jax.models.retrieval import Retrieval
from save_jax.training import metrics_log, state
from save_jax.weights import checkpoint

STEP = 6
# Texts that a page must show as they are. The address must never be asked for anything.
HOSTILE = (
    "<script>document.title = 'taken'</script>",
    'a price of $5 to $10_2 "quoted" & <b onclick=alert(1)>bold</b>',
    "a 🐦 sings 你好 and \u202eturns around",
    "very long " + "word" * 300 + " and " + "many words " * 100,
    "</script><img src=http://evil.example/x onerror=\"document.title='taken'\">",
)


def hostile_clip(number: int) -> records.Clip:
    """A test clip with a hostile caption, transcript, id and tag; number 5 could not be decoded."""
    text = HOSTILE[number % len(HOSTILE)]
    segments = [{"start": 0.0, "end": 1.25, "text": text}, {"start": 1.5, "end": 2.0, "text": "second line"}]
    changes = {"captions": [text], "id": f"test{number}<i>", "tags": ["<u>tag</u>", "music"], "notes": ["'note'<br>"]}
    if number % 2:
        changes |= {"transcript": text, "speech": {"source": "made", "segments": segments}}
    if number == 5:
        changes |= {"frames": [], "frame_times": np.zeros(0, np.float32), "fbank": None, "failed": "<cut> short"}
    return dataclasses.replace(make_clip(number, "test", 1), **changes)


def replace_test_split(shards: Path, clips: list[records.Clip]) -> None:
    """Other test clips in a corpus of `write_corpus`."""
    for path in shards.glob("clips-test*"):
        path.unlink()
    path = shards / records.shard_name("test", 0, 1)
    index = records.write_shard(str(path), iter(clips), SETTINGS)
    manifest = json.loads((shards / records.MANIFEST).read_text())
    manifest["shards"][path.name] = {"bytes": index["bytes"], "crc32c": index["crc32c"]}
    (shards / records.MANIFEST).write_text(json.dumps(manifest))


def make_run(folder: Path, branches: str, clips: list[records.Clip]) -> Path:
    """A run with these test clips in folder/run, its shards in folder/shards."""
    shards, workdir = folder / "shards", folder / "run"
    write_corpus(shards, {"train": 8, "val": 8, "test": 8})
    replace_test_split(shards, clips)
    config = base()
    config.data_dir, config.data.tokenizer = str(shards), "data"
    config.model.image_size, config.model.vocab_size, config.model.branches = IMAGE_SIZE, 600, branches
    config = resolve(smoke(config))
    model = Retrieval(model_sizes(config))
    params = jax.jit(lambda key: state.init_params(model, config, key))(jax.random.key(0))
    params = jax.tree.map(lambda x: x + 0.05, params)  # gates that are open
    workdir.mkdir()
    shutil.copytree(shards / "tokenizer", workdir / "tokenizer")
    files.write_json(str(workdir / "config.json"), config.to_dict())
    checkpoints = checkpoint.Checkpoints(str(workdir))
    checkpoints.save(STEP, params, {"nothing": np.zeros(1)}, {"step": STEP}, {checkpoint.METRIC: 1.0})
    checkpoints.close()
    writer = metrics_log.MetricsLog(str(workdir / "metrics.jsonl"), 0)
    for step in (3, STEP):
        writer.write(step=step, split="train", loss=9.0 / step, contrastive=6.0 / step)
        writer.write(step=step, split="val", t2v={"R@1": 10.0 * step, "R@5": 50.0, "R@10": 60.0})
    writer.close()
    return workdir


def plain_clips(count: int) -> list[records.Clip]:
    """Test clips as most corpora have them: without tags, groups or transcripts."""
    bare = {"tags": [], "groups": [""], "transcript": ""}
    return [dataclasses.replace(make_clip(number, "test", 1), **bare) for number in range(count)]
