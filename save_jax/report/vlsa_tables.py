"""VLSA's results as text: directions, groups, and the errors of masked modelling."""

from save_jax.config.vlsa import DIRECTIONS, MODALITIES, NAMES
from save_jax.report.tables import rows_as_text

UNITS = {"video": "squared error", "text": "nats a word", "audio": "squared error"}


def whole(results: dict) -> str:
    """All tables of a final evaluation."""
    test = results["test"]
    rows = [(NAMES[d], test[d]) for d in DIRECTIONS if d in test]
    of_clips = {f"clips: {tag}": directions for tag, directions in test.get("tags", {}).items()}
    for name, directions in (test["groups"] | of_clips).items():
        rows += [(f"{NAMES[d]}, {name}", summary) for d, summary in directions.items()]
    table = rows_as_text(rows) if rows else "nothing to rank"
    text = f"{results['split']}, checkpoint of step {results['picked_step']}\n{table}"
    return text + (f"\n\npredictions of masked tokens\n{masked_table(test['masked'])}" if "masked" in test else "")


def masked_table(masked: dict) -> str:
    """Errors of masked modelling beside those of the mean predictor."""
    lines = [f"{'':8}{'model':>9}{'mean predictor':>17}  masked tokens"]
    for name in (name for name in MODALITIES if name in masked):
        row = masked[name]
        lines.append(f"{name:8}{row['model']:9.3f}{row['mean predictor']:17.3f}  {row['hidden']}  ({UNITS[name]})")
    return "\n".join(lines)
