"""Why VLSA's matching of sound with picture is hard to learn: the demo's model, one cause at a time.

    python tests/bench/vlsa_matching.py --task bound
    python tests/bench/vlsa_matching.py --task naming --masked 0.5 --set patch_size=8
    python tests/bench/vlsa_matching.py --task across --clips 12000 --related 1 --frames 2 --level --set patch_size=32
    python tests/bench/vlsa_matching.py --task matching --clips 4000 --steps 1500
    python tests/bench/vlsa_matching.py --steps 1600 --set patch_size=8 --set initial_scale=3 --level --named-first 800
    python tests/bench/vlsa_matching.py --steps 7000 --lr 2e-3 --set initial_scale=3 --level --frames 2 --show all \\
        --anew --crop

Clips come from the demo's generator, straight from its pictures and sounds: no video file is written, so 4,000 of them
take three minutes. `matching` trains InfoNCE of sound and picture alone, and ranks clips that were not trained on.
`naming` tells the two encoders what is seen and what is heard: how fast can they learn that at all, and does it hold on
other clips? With `--named-first`, matching begins with what naming has taught. `--anew` and `--crop` make it harder
to learn clips by heart. `across` trains masked modelling of sounds, of which one token of 64 is shown beside whole
pictures: do pictures help to predict their sounds? `bound` is what who knows every object, every sound, and which
belong together, would reach: no training. It alone looks at the demo's test split, at its plan.
"""

import argparse
import ast
import functools
import json
import math
import multiprocessing
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.signal

from data_prep.demo.clip import SOUND_RATE, mix
from data_prep.demo.pictures import frames
from data_prep.demo.scenes import (
    BEDS,
    BELONGING,
    EVENTS,
    MUSIC,
    NO_TRACK,
    OBJECTS,
    RELATED,
    RELATED_SHARE,
    SILENT,
    Scene,
    bed_shares,
    generator,
    sample_scenes,
)
from data_prep.media.spectrogram import SAMPLE_RATE, middle, spectrogram
from save_jax import sharding
from save_jax.config import resolve
from save_jax.config.finding import read_config
from save_jax.models.apply import apply
from save_jax.models.similarity import unit
from save_jax.models.vlsa import Vlsa, errors, make_model
from save_jax.training import losses
from save_jax.training.crops import cropped

FRAMES, SIZE, HELD_OUT = 4, 64, 900
SILENCE = np.full((256, 256), -1, np.float16)


def made(seed: int, scene: Scene) -> dict[str, np.ndarray]:
    """What VLSA reads of one clip, and what it shows and sounds like."""
    rng = generator(seed, "media", int(scene.video_id.removeprefix("video")))
    pictures = []
    for picture in frames(rng, scene.thing, scene.colour, scene.place, scene.motion, scene.size, FRAMES):
        side = min(picture.size)
        left, top = ((length - side) // 2 for length in picture.size)
        square = picture.crop((left, top, left + side, top + side)).resize((SIZE, SIZE))
        pictures.append(np.asarray(square.convert("RGB")))
    heard = scene.bed != NO_TRACK
    if heard:
        sound = scipy.signal.resample_poly(mix(scene, rng), SAMPLE_RATE, SOUND_RATE)
    return {
        "frames": np.stack(pictures),
        "spectrogram": spectrogram(middle(sound.astype(np.float32))) if heard else SILENCE,
        "has_audio": np.asarray(heard),
        "belongs": np.asarray(scene.bed == RELATED),
        "thing": np.asarray(scene.thing),
        "event": np.asarray(scene.event or scene.bed),
    }


def made_clips(count: int, seed: int, related: float) -> dict[str, np.ndarray]:
    """The clips of one seed, as arrays; `related`: the share whose sound belongs to the picture."""
    with multiprocessing.get_context("spawn").Pool() as pool:
        clips = pool.map(functools.partial(made, seed), sample_scenes(count, seed, related=related), chunksize=20)
    return {name: np.stack([clip[name] for clip in clips]) for name in clips[0]}


def kept_clips(path: str, count: int, seed: int, related: float = RELATED_SHARE) -> dict[str, np.ndarray]:
    """As `made_clips`; with a path, of a file that an earlier call wrote, if it holds the same clips."""
    asked = np.array([count, seed, related])
    if path and os.path.exists(path):
        with np.load(path) as file:
            if "asked" in file and np.array_equal(file["asked"], asked):
                return {name: file[name] for name in file.files if name != "asked"}
    clips = made_clips(count, seed, related)
    if path:
        np.savez(path, asked=asked, **clips)  # pyright: ignore[reportArgumentType] (none is called allow_pickle)
    return clips


def level(train: dict[str, np.ndarray], test: dict[str, np.ndarray]) -> None:
    """Takes out what all vectors would share: each channel's mean of a clip, and the mean of all spectrograms.

    Deviations become one, too. In place.
    """
    heard = train["spectrogram"][train["has_audio"]][:500].astype(np.float32)
    for clips in (train, test):
        clips["spectrogram"] = ((clips["spectrogram"] - heard.mean()) / heard.std()).astype(np.float16)
        for number, pictures in enumerate(clips["frames"]):
            x = pictures.astype(np.float32)
            x = (x - x.mean((0, 1, 2))) / (x.std((0, 1, 2)) + 1) * 50 + 118
            clips["frames"][number] = np.clip(x, 0, 255).astype(np.uint8)


def batch_of(
    clips: dict[str, np.ndarray], numbers: np.ndarray, rng: np.random.Generator, frames: int = FRAMES
) -> dict[str, np.ndarray]:
    """Some clips as the model reads them, each with some of its frames."""
    chosen = np.sort(np.argsort(rng.random((len(numbers), FRAMES)), axis=1)[:, :frames], axis=1)
    return {name: clips[name][numbers] for name in ("spectrogram", "has_audio")} | {
        "frames": np.take_along_axis(clips["frames"][numbers], chosen[:, :, None, None, None], axis=1),
        "frame_mask": np.ones((len(numbers), frames), bool),
        "words": np.zeros((len(numbers), 24), np.int32),
        "draw": rng.integers(0, 2**31, len(numbers)).astype(np.int32),
    }


class Trial:
    """One setting: its model, what it is asked, its training."""

    def __init__(self, args: argparse.Namespace, train: dict, test: dict):
        config = read_config("vlsa_pretrain:demo")
        shown = 1e-3 if args.show == "all" else args.masked or 0.75
        shares = (1e-3, 0.15, 0.98) if args.task == "across" else (shown, 0.15, args.masked or 0.75)
        config.model.shares, config.data.max_frames = shares, args.frames
        for setting in args.set:
            name, value = setting.split("=", 1)
            config.model.update({name: type(config.model[name])(ast.literal_eval(value))})
        config = resolve(config)
        self.args, self.train, self.test, self.rng = args, train, test, np.random.default_rng(args.seed)
        self.model = make_model(config, sharding.make_mesh(jax.devices()[:1]))
        draw = jax.jit(lambda key: self.model.init(key, self.model.example(config))["params"])
        self.params = {"model": draw(jax.random.key(args.seed))}
        self.labels = {name: np.unique(train[name], return_inverse=True) for name in ("thing", "event")}
        width = config.model.width
        self.params |= {name: jnp.zeros((width, len(names))) for name, (names, _) in self.labels.items()}
        self.embed_whole = jax.jit(lambda params, batch: jax.tree.map(unit, self._embed(params, batch, 0.0)))

    def _embed(self, params: dict, batch: dict, masked: float) -> dict[str, jax.Array]:
        if masked:
            return apply(Vlsa.embed_visible, self.model, params["model"], batch)
        return apply(Vlsa.embed, self.model, params["model"], batch, ("video", "audio"))

    def _loss(self, params: dict, batch: dict, labels: dict, task: str) -> tuple[jax.Array, dict]:
        if self.args.crop:
            batch = batch | {"frames": cropped(batch["frames"], batch["draw"])}
        if task == "across":
            predictions, targets, masking = apply(Vlsa.masked, self.model, params["model"], batch)["audio"]
            mask = masking.masked_mask
            error = jnp.where(mask, errors("audio", predictions, targets), 0).sum() / jnp.maximum(mask.sum(), 1)
            return error, {"error": error}
        embedded, heard = self._embed(params, batch, self.args.masked), batch["has_audio"]
        if task == "matching":
            scale = params["model"]["logit_scale"]
            loss = losses.info_nce(embedded["video"], embedded["audio"], scale, heard)
            return loss, {"InfoNCE": loss, "scale": jnp.exp(scale)}
        logits = {"thing": embedded["video"] @ params["thing"], "event": embedded["audio"] @ params["event"]}
        valid = {"thing": jnp.ones_like(heard), "event": heard}
        parts, total = {}, jnp.zeros(())
        for name, x in logits.items():
            entropy = optax.softmax_cross_entropy_with_integer_labels(x, labels[name])
            total += losses.mean_of_valid(entropy, valid[name])
            parts[f"{name}s named"] = losses.mean_of_valid(1.0 * (x.argmax(-1) == labels[name]), valid[name])
        return total, parts

    def run(self, task: str, steps: int) -> list[dict]:
        """Trains; a row four times on the way."""
        rate = optax.warmup_cosine_decay_schedule(0, self.args.lr, steps // 20, steps)
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, 0.9, 0.95, weight_decay=0.01))
        state = optimizer.init(self.params)

        @jax.jit
        def train_step(params: dict, state: optax.OptState, batch: dict, labels: dict) -> tuple:
            (_, parts), gradient = jax.value_and_grad(self._loss, has_aux=True)(params, batch, labels, task)
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state, parts

        rows, seen, count, begin = [], [], len(self.train["belongs"]), time.monotonic()
        for number in range(1, steps + 1):
            chosen = self.rng.choice(count, min(self.args.batch, count), replace=False)
            labels = {name: of_clips[chosen] for name, (_, of_clips) in self.labels.items()}
            batch = batch_of(self.train, chosen, self.rng, self.args.frames)
            if self.args.anew:
                sounds, labels["event"] = self.other_sounds(labels["thing"])
                batch |= sounds
            self.params, state, parts = train_step(self.params, state, batch, labels)
            seen.append(parts)
            if number % math.ceil(steps / 4) == 0 or number == steps:
                last = jax.device_get(seen[-50:])
                row = {name: round(float(np.mean([x[name] for x in last])), 3) for name in last[0]}
                row = {"step": number, "seconds": round(time.monotonic() - begin)} | row
                rows.append(row | {"matching": self.ranks, "naming": self.named, "across": self.crossed}[task]())
                print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
        return rows

    def other_sounds(self, things: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """To each of some objects a sound that belongs to it, of any clip, and which: no pair is learned by heart."""
        belongs, thing = self.train["belongs"], self.labels["thing"][1]
        chosen = [self.rng.choice(np.flatnonzero(belongs & (thing == number))) for number in things]
        return {name: self.train[name][chosen] for name in ("spectrogram", "has_audio")}, self.labels["event"][1][
            chosen
        ]

    def _held_out(self) -> dict[str, np.ndarray]:
        parts = []
        for first in range(0, HELD_OUT, 50):
            batch = batch_of(self.test, np.arange(first, first + 50), self.rng, self.args.frames)
            parts.append(jax.device_get(self.embed_whole(self.params, batch)))
        return {name: np.concatenate([part[name] for part in parts]) for name in ("video", "audio")}

    def named(self) -> dict[str, float]:
        """Shares of what is named rightly in clips not trained on, of those whose sound belongs to the picture."""
        embedded, asked, found = self._held_out(), self.test["belongs"], {}
        for name, modality in (("thing", "video"), ("event", "audio")):
            guessed = self.labels[name][0][(embedded[modality] @ np.asarray(self.params[name])).argmax(-1)]
            found[f"{name}s named, held out"] = round(float((guessed == self.test[name])[asked].mean()), 3)
        return found

    def crossed(self) -> dict[str, float]:
        """The error on clips not trained on whose sound belongs, beside their own pictures and beside others'."""
        own, others = [], []
        error = jax.jit(lambda params, batch: self._loss(params, batch, {}, "across")[0])
        for first in range(0, HELD_OUT, 50):
            numbers = np.arange(first, first + 50)
            batch = batch_of(self.test, numbers, self.rng, self.args.frames)
            batch["has_audio"] &= self.test["belongs"][numbers]
            own.append(error(self.params, batch))
            others.append(error(self.params, batch | {"frames": np.roll(batch["frames"], 7, axis=0)}))
        means = {"own": np.mean(own), "others'": np.mean(others)}
        return {f"error beside {whose} pictures": round(float(mean), 4) for whose, mean in means.items()}

    def ranks(self) -> dict[str, float]:
        """R@10 on clips not trained on, of those whose sound belongs to the picture, and chance; in percent."""
        embedded = self._held_out()
        video, audio = embedded["video"], embedded["audio"]
        heard, asked, found = self.test["has_audio"], np.flatnonzero(self.test["belongs"]), {}
        both = {"video → audio": (video @ audio.T, heard), "audio → video": (audio @ video.T, np.ones_like(heard))}
        for name, (scores, gallery) in both.items():
            ranks = [(scores[i, gallery] > scores[i, i]).sum() + 1 for i in asked]
            found[f"R@10 {name}"] = round(100 * float(np.mean(np.array(ranks) <= 10)), 1)
            found[f"chance {name}"] = round(1000 / float(gallery.sum()), 1)
        scale, parts = self.params["model"]["logit_scale"], np.array_split(asked, max(1, len(asked) // 50))
        entropies = []
        for rows in parts:
            pair = jnp.asarray(video[rows]), jnp.asarray(audio[rows])
            entropies.append(losses.info_nce(*pair, scale, jnp.ones(len(rows), bool)))
        found |= {f"InfoNCE of {len(parts[0])}, held out": round(float(np.mean(entropies)), 2)}
        alike = {"pictures": video, "sounds": audio[heard]}
        for name, x in alike.items():
            cosines = (x @ x.T)[np.triu_indices(len(x), 1)]
            found |= {f"cosine of {name}": round(float(cosines.mean()), 2), f"± {name}": round(float(cosines.std()), 2)}
        return found


def likelihoods(clips: list[Scene], sounds: list[Scene], related: float) -> np.ndarray:
    """How much more often an object and a sound come together than by chance, in a corpus with a share of `related`."""
    share = dict(zip(BEDS, bed_shares(related), strict=True))
    audible = 1 - share[NO_TRACK]
    often = {MUSIC: share[MUSIC] / audible, SILENT: share[SILENT] / audible} | dict.fromkeys(EVENTS, 0.0)
    given = {}  # (object, sound) → how often the object has this sound
    for thing in OBJECTS:
        given |= {(thing, bed): often[bed] for bed in (MUSIC, SILENT)}
        given |= {(thing, event): share[RELATED] / audible / len(BELONGING[thing]) for event in BELONGING[thing]}
    for (_, sound), probability in given.items():
        if sound in EVENTS:
            often[sound] += probability / len(OBJECTS)
    heard = [scene.event or scene.bed for scene in sounds]
    return np.array([[given.get((c.thing, sound), 1e-9) / often[sound] for sound in heard] for c in clips])


def bounds() -> dict[str, float]:
    """What perfect knowledge of objects and sounds gives: ranks on the demo's test, and InfoNCE on training clips.

    Every object has three or four sounds and every sound two to four objects, all alike: the best score of a pair is
    how much more often the two come together than by chance, and what it cannot tell apart is in random order.
    """
    scenes = [scene for scene in sample_scenes(900, 0) if scene.bed != NO_TRACK or scene.split == "test"]
    scores = functools.partial(likelihoods, related=RELATED_SHARE)
    test = [scene for scene in scenes if scene.split == "test"]
    with_sound, asked = [s for s in test if s.bed != NO_TRACK], [s for s in test if s.bed == RELATED]
    found = {}
    for name, gallery, matrix in (
        ("video → audio", with_sound, scores(asked, with_sound)),
        ("audio → video", test, scores(test, asked).T),
    ):
        own = np.array([[row[gallery.index(scene)]] for row, scene in zip(matrix, asked, strict=True)])
        above, alike = (matrix > 1.0001 * own).sum(1), (np.abs(matrix / own - 1) <= 1e-4).sum(1)
        reached, chance = np.clip((10 - above) / alike, 0, 1).mean(), 10 / len(gallery)
        found |= {f"R@10 {name}": 100 * reached, f"chance {name}": 100 * chance, f"ratio {name}": reached / chance}
    rng, every = np.random.default_rng(0), sample_scenes(900, 0, related=1)
    for related, corpus in ((RELATED_SHARE, scenes), (1.0, every)):
        train = [s for s in corpus if s.split == "train" and s.bed != NO_TRACK]
        for size in (28, 56, 64):
            entropies = []
            for _ in range(200):
                batch = [train[number] for number in rng.choice(len(train), size, replace=False)]
                logits = np.log(likelihoods(batch, batch, related))
                entropies += [np.mean(np.logaddexp.reduce(logits, axis) - np.diag(logits)) for axis in (0, 1)]
            found |= {
                f"InfoNCE of {size} pairs, {related:.0%} belong": float(np.mean(entropies)),
                f"ln {size}": math.log(size),
            }
    return {name: round(float(value), 2) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", choices=["matching", "naming", "across", "bound"], default="matching")
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--masked", type=float, default=0.75, help="share of the tokens in training; 0: none")
    parser.add_argument("--show", choices=["visible", "all"], default="visible", help="all: of pictures, in training")
    parser.add_argument("--frames", type=int, choices=range(1, FRAMES + 1), default=FRAMES)
    parser.add_argument("--related", type=float, default=RELATED_SHARE, metavar="SHARE", help="as data_prep.demo's")
    parser.add_argument("--anew", action="store_true", help="pair each picture with a sound that belongs, of any clip")
    parser.add_argument("--crop", action="store_true", help="parts of pictures, mirrored at random")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of config.model")
    parser.add_argument("--level", action="store_true", help="even out brightness and the spectrograms' floor")
    parser.add_argument("--named-first", type=int, default=0, metavar="STEPS", help="of naming, before the task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", metavar="FILE.npz", default="", help="of the training clips, for the next call")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    if args.task == "bound":
        print("\n".join(f"{name:36}{value:8.2f}" for name, value in bounds().items()))
        return
    train = kept_clips(args.keep, args.clips, 1, args.related)
    test = kept_clips(args.keep and f"{args.keep}.held-out.npz", HELD_OUT, 2)
    if args.level:
        level(train, test)
    trial = Trial(args, train, test)
    rows = trial.run("naming", args.named_first) if args.named_first else []
    rows += trial.run(args.task, args.steps)
    if args.json:
        Path(args.json).write_text(json.dumps({"settings": vars(args), "rows": rows}, indent=2))


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main()
