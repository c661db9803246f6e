"""VLSA's figures: losses, recalls, masked patches and their predictions, and neighbours across modalities."""

import os

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from save_jax.config.sizes import PIXEL_MEAN, PIXEL_STD
from save_jax.config.vlsa import DIRECTIONS, NAMES
from save_jax.data.pipeline import Data
from save_jax.data.records import ShardSource
from save_jax.evaluation.contract import Evaluation
from save_jax.evaluation.vlsa import Examples, cosines
from save_jax.models.clip import normalize_pixels
from save_jax.models.masking import Masking
from save_jax.models.vlsa import patches, pictures
from save_jax.report import plots

MASKED = 0.5  # grey


def losses(rows: list[dict]) -> Figure:
    """The total and its parts over steps."""
    rows = [row for row in rows if "loss" in row]
    figure, axes = plots.subplots(figsize=(7, 4))
    aside = ("step", "split", "grad_norm", "logit_scale", "pairs_per_second", "input_wait")
    for name in [name for name in (rows[0] if rows else ()) if name not in aside]:
        axes.plot([row["step"] for row in rows], [row[name] for row in rows], marker=".", label=name)
    axes.set(xlabel="step", ylabel="loss", title="training loss", yscale="log")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def directions(test: dict) -> Figure:
    """R@1, R@5 and R@10 of every direction."""
    shown = [d for d in DIRECTIONS if d in test]
    figure, axes = plots.subplots(figsize=(8, 4))
    for offset, name in enumerate(plots.RECALLS):
        bars = axes.bar(np.arange(len(shown)) + 0.27 * (offset - 1), [test[d][name] for d in shown], 0.25, label=name)
        axes.bar_label(bars, fmt="%.0f", fontsize=8)
    axes.set_xticks(range(len(shown)), [f"{NAMES[d]}\n{test[d]['queries']} queries" for d in shown])
    axes.set(ylabel="percent", title="recall by direction", ylim=(0, 108))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def reconstructions(shown: Examples) -> Figure:
    """A frame and the spectrogram of a few clips: as they are, with masked patches grey, and with predicted patches.

    Visible patches are shown as they are. If the targets are normalised patches, predictions get the true mean and
    standard deviation of their patch, as in MAE's figures.
    """
    count = len(shown.ids)
    figure, panels = plots.subplots(count, 6, figsize=(12, 2.1 * count + 0.4), squeeze=False)
    video, audio = _filled_video(shown), _filled_audio(shown)
    for row, clip in zip(panels, range(count), strict=True):
        for axes, picture in zip(row, [x[clip] for x in video], strict=False):
            axes.imshow(np.clip(picture, 0, 1))
        for axes, picture in zip(row[3:], [x[clip] for x in audio], strict=True):
            axes.imshow(picture, "magma", origin="lower", aspect="auto", vmin=-1, vmax=1)
            axes.set_facecolor(str(MASKED))
        row[0].set_ylabel(shown.ids[clip], parse_math=False, fontsize=7)
    titles = ("frame", "masked", "predicted", "spectrogram", "masked", "predicted")
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
    for axes in panels.ravel():
        axes.set(xticks=[], yticks=[])
    figure.tight_layout()
    return figure


def _filled(true: np.ndarray, predictions: np.ndarray, masking: Masking) -> tuple[np.ndarray, np.ndarray]:
    """Patches [b, n, p] with the masked ones grey, and with predictions in their place."""
    grey, filled = true.copy(), true.copy()
    for clip, (slots, mask) in enumerate(zip(masking.masked, masking.masked_mask, strict=True)):
        grey[clip, slots[mask]] = np.nan
        filled[clip, slots[mask]] = predictions[clip][mask]
    return grey, filled


def _filled_video(shown: Examples) -> list[np.ndarray]:
    """The middle frame of each clip, float [b, s, s, 3] in 0 … 1, three times."""
    s, frames, masking = shown.sizes, shown.batch["frames"], shown.maskings["video"]
    b, t, side = frames.shape[:3]
    size = (s.patch_size, s.patch_size)
    pixels = np.asarray(normalize_pixels(jnp.asarray(frames), jnp.dtype("float32"))).reshape(b * t, side, side, 3)
    true = np.asarray(patches(jnp.asarray(pixels), size)).reshape(b, -1, 3 * s.patch_size**2)
    predictions = shown.predictions["video"]
    if s.normalize_patches:
        own = np.take_along_axis(true, np.asarray(masking.masked)[..., None], axis=1)
        predictions = predictions * own.std(axis=-1, keepdims=True) + own.mean(axis=-1, keepdims=True)
    middle = [max(int(mask.sum()) - 1, 0) // 2 for mask in shown.batch["frame_mask"]]
    made = []
    for x in (true, *_filled(true, predictions, masking)):
        whole = np.asarray(pictures(jnp.asarray(x.reshape(b * t, -1, x.shape[-1])), (side, side, 3), size))
        whole = whole.reshape(b, t, side, side, 3)[np.arange(b), middle] * PIXEL_STD + PIXEL_MEAN
        made.append(np.where(np.isnan(whole), MASKED, whole))
    return made


def _filled_audio(shown: Examples) -> list[np.ndarray]:
    """The spectrogram of each clip, [b, f, t], three times."""
    s = shown.sizes
    true = np.asarray(patches(jnp.asarray(shown.batch["spectrogram"], jnp.float32)[..., None], s.audio_patch))
    made = (true, *_filled(true, shown.predictions["audio"], shown.maskings["audio"]))
    return [np.asarray(pictures(jnp.asarray(x), (*s.spectrogram, 1), s.audio_patch))[..., 0] for x in made]


def neighbours(evaluation: Evaluation, data: Data, split: str, count: int = 5, best: int = 4) -> Figure:
    """A few sounds (with a picture of their clip) and the pictures and sounds nearest to each, without itself."""
    source, clips = data.sources[split], evaluation.videos
    heard = np.flatnonzero(np.abs(clips["audio"]).max(axis=1) > 0)
    chosen = heard[np.linspace(0, len(heard) - 1, min(count, len(heard))).astype(int)]
    columns = 1 + 2 * best
    figure, panels = plots.subplots(
        len(chosen), columns, figsize=(1.3 * columns, 1.5 * len(chosen) + 0.6), squeeze=False
    )
    for row, number in zip(panels, chosen, strict=True):
        _thumbnail(row[0], source, number, "this sound")
        for first, name in ((1, "video"), (1 + best, "audio")):
            scores = cosines(clips["audio"][number][None], clips[name])[0]
            scores[number] = -np.inf
            order = np.argsort(-scores, kind="stable")[:best]
            for place, other in enumerate(order):
                _thumbnail(row[first + place], source, int(other), f"{name} {place + 1}")
    for axes in panels.ravel():
        axes.set(xticks=[], yticks=[])
    figure.suptitle("a sound, and the pictures and sounds nearest to it", fontsize=9)
    figure.tight_layout()
    return figure


def _thumbnail(axes: Axes, source: ShardSource, number: int, title: str) -> None:
    clip = source[number]
    if clip.frames:
        axes.imshow(plots.picture(clip.frames[len(clip.frames) // 2], source.settings))
    tags = ", ".join(clip.tags)
    axes.set_title(f"{title}\n{clip.id}" + (f"\n{tags}" if tags else ""), parse_math=False, fontsize=6)


def ablation(table: dict) -> Figure:
    """SumR after fine-tuning, by direction and by pre-training. Bars are medians, dots are seeds."""
    shown = [d for d in DIRECTIONS if all(d in row for row in table.values())]
    figure, axes = plots.subplots(figsize=(8.5, 4.2))
    plots.bars_of_seeds(axes, table, shown)
    axes.set_xticks(range(len(shown)), [NAMES[d] for d in shown])
    axes.set(ylabel="SumR", title="after fine-tuning, by pre-training (bars: median of seeds, dots: seeds)")
    axes.legend(title="pre-trained with", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def write_all(rows: list[dict], results: dict, evaluation: Evaluation, data: Data, directory: str) -> list[str]:
    """Writes every figure as PNG and returns the paths."""
    os.makedirs(directory, exist_ok=True)
    figures = {"loss": losses(rows), "directions": directions(results["test"])}
    if "v2a" in results["test"]:
        figures["neighbours"] = neighbours(evaluation, data, results["split"])
    if evaluation.examples is not None:
        figures["reconstructions"] = reconstructions(evaluation.examples)
    paths = []
    for name, figure in figures.items():
        paths.append(os.path.join(directory, f"{name}.png"))
        plots.save(figure, paths[-1])
    return paths
