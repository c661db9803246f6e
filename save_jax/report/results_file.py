"""results.json: what it holds, and what it is called.

  test: {t2v, v2t: {R@1, R@5, R@10, R@50 in percent, MedR, MeanR, MRR, SumR, queries},
         groups: {name: {t2v, v2t, intervals: {t2v}}}, groups_are: where the groups come from,
         gallery: {videos, captions, without_captions, without_sound, without_transcript, failed: {id: reason}},
         gates: {branch: {tag: {attention, mlp: mean absolute gate, clips}}},
         protocol, audit, intervals, by_video, without_modalities, post_processed: as evaluation.assessment says}
  split, picked_step: what was evaluated, and the step that validation picked
  checkpoints: {"picked on validation", "last", with config.evaluation.peak_on_test also "peak on test":
                {step, t2v, v2t}}
  params_sha256: of the parameters after the last step
  precision: of float32 products, as config.model.precision came to mean
  config, versions: all settings; packages, Python and devices
  data: corpus, settings and checksums of the shards

Beside it lies scores.npz, the text→video scores with their names, for `save-jax judge`.

VLSA's `test` has the directions that its modalities allow (evaluation.vlsa), after pre-training also `masked`, and its
`checkpoints` have steps alone.
"""

import hashlib
import json
import os
from collections.abc import Mapping

from ml_collections import ConfigDict

from save_jax.config import sizes
from save_jax.data import files
from save_jax.data.pipeline import Data
from save_jax.evaluation.contract import Evaluation
from save_jax.judge import reading
from save_jax.judge.reading import Task
from save_jax.report import versions
from save_jax.weights.checkpoint import FOLDER, Checkpoints

RESULTS = "results.json"
PEAK = "peak on test"


def results(
    config: ConfigDict, evaluation: Evaluation, *, data: Data, step: int, checkpoints: dict, params_sha256: str
) -> dict:
    """The content of results.json; `step`: of the checkpoint evaluated."""
    return {
        "test": evaluation.results,
        "split": config.data.test_split,
        "picked_step": step,
        "checkpoints": checkpoints,
        "params_sha256": params_sha256,
        "config": config.to_dict(),
        "precision": sizes.precision(config),
        "versions": versions.versions(),
        "data": {name: data.manifest[name] for name in ("corpus", "settings", "shards")},
    }


def peak_on_test(rows: list[dict], config: ConfigDict) -> dict[str, dict]:
    """{"peak on test": {step, t2v, v2t}} of a run that tested at every validation, else {}; `rows`: of metrics.jsonl.

    It is what several published numbers are. It stands beside the others, never in their place.
    """
    tested = [row for row in rows if row["split"] == config.data.test_split and "t2v" in row]
    if not tested or not config.evaluation.peak_on_test:
        return {}
    peak = max(tested, key=lambda row: row["t2v"]["SumR"])
    return {PEAK: {name: peak[name] for name in ("step", "t2v", "v2t")}}


def name_of(data: Data, split: str, workdir: str) -> str:
    """results.json is of the run's own shards and test split; others have a name of their own and replace nothing.

    Which shards are the run's own its checkpoint says, or else its results.json. Names of others hold a digest of them.
    """
    own, now = _own_shards(workdir), _checksums(data.manifest["shards"])
    if own and own != now:
        digest = hashlib.sha256(json.dumps(now, sort_keys=True).encode()).hexdigest()
        return f"results-{data.manifest['corpus']}-{split}-{digest[:8]}.json"
    own = files.read_json(os.path.join(workdir, "config.json"))["data"]["test_split"]
    return RESULTS if split == own else f"results-{split}.json"


def _checksums(shards: Mapping[str, Mapping]) -> dict[str, str]:
    return {name: shard["crc32c"] for name, shard in shards.items()}


def _own_shards(workdir: str) -> dict[str, str]:
    """Checksums of the shards that a run was trained on; {} where nothing says it."""
    if os.path.isdir(os.path.join(workdir, FOLDER)):
        checkpoints = Checkpoints(workdir, read_only=True)
        try:
            meta = checkpoints.meta(checkpoints.whole("last", ("meta",)))
        finally:
            checkpoints.close()
        if "shards" in meta:
            return _checksums(meta["shards"])
    path = os.path.join(workdir, RESULTS)
    return _checksums(files.read_json(path)["data"]["shards"]) if os.path.exists(path) else {}


def write_scores(workdir: str, name: str, evaluation: Evaluation, corpus: str, split: str, picked_on: str) -> None:
    """Scores of texts with names of queries and videos, as `save-jax judge` reads them, a file for each direction."""
    info = evaluation.info
    task = Task(
        info.caption_to_video, info.captions, info.groups, corpus, split, list(info.gallery["failed"]), picked_on
    )
    for direction, scores in evaluation.scores.items():
        reading.save(os.path.join(workdir, scores_of(name, direction)), scores, info.ids, task)


def scores_of(name: str, direction: str = "t2v") -> str:
    """The file of scores beside a results file: scores.npz of results.json, scores-val.npz of results-val.json.

    Other directions than text→video have their name in it, such as scores-t2a.npz, of VLSA's text→audio.
    """
    other = "" if direction == "t2v" else f"-{direction}"
    return name.removesuffix(".json").replace("results", "scores", 1) + f"{other}.npz"


def folder_of(name: str, workdir: str) -> str:
    """Where the figures of a results file lie: figures/ of results.json, figures-val/ of results-val.json."""
    return os.path.join(workdir, name.removesuffix(".json").replace("results", "figures", 1))
