"""A run as a model card of the Hugging Face hub: results.json in, the text of README.md out.

The first part is for the hub, in the form that its own library writes. The rest is for people. What a run does not say
is not on its card.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence

import huggingface_hub
from ml_collections import ConfigDict

from save_jax.config import method

DIRECTIONS = {"t2v": "text → video", "v2t": "video → text"}
TASKS = {"t2v": "text-to-video-retrieval", "v2t": "video-to-text-retrieval"}
# Metric → its type in the front matter; the hub has no list of these.
METRICS = {"R@1": "recall_at_1", "R@5": "recall_at_5", "R@10": "recall_at_10", "MedR": "median_rank", "SumR": "sum_r"}
NO_SIGNATURE = "evaluated before signatures; run save-jax eval again"
OTHER = "other"  # the hub's word for a licence that it does not list
# Method → (name, what it is).
METHODS = {
    "save": (
        "SAVE",
        "SAVE ([arXiv 2603.08224](https://arxiv.org/abs/2603.08224)) looks at the frames, listens to the sound and "
        "reads what is said",
    ),
    "avigate": (
        "AVIGATE",
        "AVIGATE ([arXiv 2504.02397](https://arxiv.org/abs/2504.02397)) looks at the frames and listens to the sound",
    ),
    "speech": (
        "SAVE without sound",
        "this is SAVE ([arXiv 2603.08224](https://arxiv.org/abs/2603.08224)) without its audio branch: it looks at the "
        "frames and reads what is said",
    ),
    "vision": ("vision", "this baseline looks at the frames alone"),
}


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a card says besides results.json."""

    name: str  # of the run
    config: ConfigDict  # resolved
    params_sha256: str  # of the parameters in model.safetensors
    license: str  # of the weights, as the hub names licences
    starts: Mapping[str, str]  # weights that the training started from: name → their licence, in words
    datasets: Sequence[str] = ()  # names on the hub


def render(results: Mapping, facts: Facts) -> str:
    """The text of README.md. Raises KeyError for results that lack what every evaluation has."""
    parts = [
        f"---\n{_metadata(results, facts).to_yaml()}\n---",
        f"# {_plain(facts.name)}",
        _introduction(facts),
        f"## How to use it\n\n{_use(facts)}",
        f"## Data\n\n{_data(results)}",
        f"## Results\n\n{_results(results)}",
        f"## Licence\n\n{_licence(results, facts)}",
        f"## Training\n\n{_training(results, facts)}",
        f"## Limits\n\n{_limits(results, facts)}",
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(results: Mapping, facts: Facts) -> huggingface_hub.ModelCardData:
    """The front matter, with every number of the table under `model-index`."""
    test, protocol = results["test"], results["test"]["protocol"]
    dataset = protocol["name"] + (" (with departures from the protocol)" if protocol["departures"] else "")
    numbers = [
        huggingface_hub.EvalResult(
            task_type=task,
            task_name=DIRECTIONS[direction].replace("→", "to") + " retrieval",
            dataset_type=results["data"]["corpus"],
            dataset_name=dataset,
            dataset_split=protocol["split"],
            metric_type=kind,
            metric_name=f"{metric} {DIRECTIONS[direction]}",
            metric_value=round(test[direction][metric], 2),
        )
        for direction, task in TASKS.items()
        for metric, kind in METRICS.items()
    ]
    return huggingface_hub.ModelCardData(
        license=facts.license,
        library_name="save_jax",
        pipeline_tag="feature-extraction",  # the hub has no tag for text–video retrieval; it embeds both
        tags=["text-video-retrieval", "video-retrieval", "jax", "flax", method(facts.config)],
        datasets=list(facts.datasets) or None,
        model_name=facts.name,
        eval_results=numbers,
    )


def _introduction(facts: Facts) -> str:
    _, what = METHODS[method(facts.config)]
    return (
        f"This model ranks videos for a sentence, and texts for a video: {what}. It was trained with save_jax, which "
        "is written in JAX and Flax. The weights are of one training run; they are not those of the papers' authors."
    )


def _use(facts: Facts) -> str:
    heard = {"save": ", listened to and read", "avigate": " and listened to"}.get(method(facts.config), "")
    return f"""Install save_jax, with its extra `prep` for video files. Then:

```python
import save_jax

model = save_jax.load_model("hf://OWNER/NAME")  # or a downloaded copy: save_jax.load_model("FOLDER")
videos = model.embed_videos(["a.mp4", "b.mkv"])  # decoded{heard} as in training
texts = model.embed_texts(["a dog barks in the snow"])
print(model.score(texts, videos))  # [texts, videos]; higher is better
```

`hf://OWNER/NAME@REVISION` takes a branch, a tag or a commit. To take these parameters and no others:

```python
model = save_jax.load_model("hf://OWNER/NAME#sha256={facts.params_sha256[:16]}")
```"""


def _data(results: Mapping) -> str:
    data, protocol, gallery = results["config"]["data"], results["test"]["protocol"], results["test"]["gallery"]
    corpus = _plain(results["data"]["corpus"])
    lines = [
        f"- **Trained on** the split `train` of the corpus {corpus}. The checkpoint is the one of step "
        f"{results['picked_step']}; checkpoints are picked on the split `{data['val_split']}`, never on the test.",
        f"- **Tested on** {_plain(protocol['name'])}, split `{protocol['split']}`: {protocol['videos']:,} videos, "
        f"{protocol['queries']:,} queries. {gallery['without_sound']:,} of the videos have no sound, "
        f"{gallery['without_transcript']:,} no transcript.",
    ]
    if results["data"]["corpus"] == "demo":
        lines.append("- The demo corpus is synthetic: **its numbers say nothing about real videos.**")
    return "\n".join(lines)


def _results(results: Mapping) -> str:
    test, protocol = results["test"], results["test"]["protocol"]
    lines = [f"| | {' | '.join(METRICS)} |", f"|---|{'---|' * len(METRICS)}"]
    for direction, words in DIRECTIONS.items():
        intervals = test.get("intervals", {}).get(direction, {})
        cells = [_cell(test[direction][metric], intervals.get(metric)) for metric in METRICS]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    signature = protocol.get("signature", "").replace("`", "'")
    departures = [f"- {_plain(departure)}" for departure in protocol["departures"]]
    return "\n".join(
        [
            *lines,
            "",
            "R@k: percentage of queries whose right answer is among the first k. MedR: median rank, 1 is best. SumR = "
            "R@1 + R@5 + R@10. In parentheses: bootstrap 95 % intervals over videos with their queries. The gallery is "
            "complete, and ties count against the query.",
            "",
            f"Signature of the evaluation: {f'`{signature}`' if signature else NO_SIGNATURE}",
            "",
            *(
                ["Departures from the protocol, so that the numbers are **not comparable with published ones**:", ""]
                if departures
                else ["Departures from the protocol: none."]
            ),
            *departures,
        ]
    )


def _cell(value: float, interval: Sequence[float] | None) -> str:
    return f"{value:.1f}" + (f" ({interval[0]:.1f}–{interval[1]:.1f})" if interval else "")


def _licence(results: Mapping, facts: Facts) -> str:
    stated = "Not stated yet. Ask whoever published these weights before you use them."
    lines = [
        f"- **These weights**: {facts.license if facts.license != OTHER else stated}",
        *(f"- **Started from** {_plain(name)}: {_plain(licence)}" for name, licence in facts.starts.items()),
    ]
    if not facts.starts:
        lines.append("- **Started from** no weights: the training began random.")
    if teacher := _teacher(results, facts.config):
        lines.append(f"- **Teacher's vectors**: {teacher}")
    lines.append("- **The code**, save_jax: Apache-2.0")
    return "\n".join(lines)


def _teacher(results: Mapping, config: ConfigDict) -> str:
    """What is known of the licence of the vectors that early alignment was trained with; "" where there were none."""
    kind = config.loss.albef[method(config)]
    if kind in ("none", "hard") or not config.loss.albef_weight:  # "hard" needs no teacher
        return ""
    if results["data"]["corpus"] == "demo":
        return "made by the demo's generator, not by a model."
    return (
        "the shards do not say which teacher made them. If it was ImageBind, the papers' teacher: CC BY-NC-SA 4.0, no "
        "commercial use, nor of what is trained with them."
    )


def _training(results: Mapping, facts: Facts) -> str:
    config, versions = results["config"], results["versions"]
    length = f"{config['steps']:,} steps" if config["steps"] else f"{config['epochs']} epochs"
    settings = {
        "experiment": config["name"],
        "method": METHODS[method(facts.config)][0],
        "length": f"{length}, batches of {config['batch_size']}",
        "optimiser": f"BertAdam, learning rate {config['optim']['learning_rate']:g}, "
        f"weight decay {config['optim']['weight_decay']:g}",
        "frozen": ", ".join(config["optim"]["frozen"]) or "nothing",
        "seed": config["seed"],
        "picture": f"{config['model']['image_size']} × {config['model']['image_size']}, patches of "
        f"{config['model']['patch_size']}",
        "frames, words": f"at most {config['data']['max_frames']} and {config['data']['max_words']}",
        "computed in": f"{config['model']['dtype']}, products of float32: {results.get('precision', 'not known')}",
        "versions": ", ".join(f"{name} {versions[name]}" for name in ("save_jax", "jax", "flax") if name in versions),
        "devices": versions.get("devices", "not known"),
        "digest of the settings": config_digest(config),
        "digest of the parameters": facts.params_sha256,
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {_plain(value)} |" for name, value in settings.items())])


def config_digest(config: Mapping) -> str:
    """SHA-256 of all settings but the place of the shards, which says nothing on another machine."""
    return hashlib.sha256(json.dumps({**config, "data_dir": ""}, sort_keys=True).encode()).hexdigest()


def _limits(results: Mapping, facts: Facts) -> str:
    config = facts.config
    words = f"{config.data.max_words} tokens of a text"
    lines = [
        f"- It reads at most {config.data.max_frames} frames of a video, and {words}; the rest is not seen.",
        "- Scores rank videos for one sentence. They are no probabilities.",
        f"- It is one run with one seed ({config.seed}). The intervals say how the numbers depend on the test's "
        "videos, and nothing about other seeds.",
        "- What it learned beyond this test was not examined: not other languages or kinds of video, and not whom it "
        "treats unfairly.",
    ]
    if failed := results["test"]["gallery"]["failed"]:
        lines.append(f"- {len(failed)} videos of the test could not be decoded, and rank last.")
    return "\n".join(lines)


def _plain(value: object) -> str:
    """A text of the run, such as an id, so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_\[\]<>#|!~$&])", r"\\\1", " ".join(str(value).split()))
