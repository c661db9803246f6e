"""What VLSA optimises: masked modelling with global audio matching in pre-training, InfoNCE in fine-tuning."""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from save_jax.config.vlsa import MODALITIES, modalities
from save_jax.models.apply import apply
from save_jax.models.vlsa import Vlsa, errors
from save_jax.training import losses
from save_jax.training.crops import cropped


def present(batch: dict) -> dict[str, jax.Array]:
    """Which samples have video, text and audio, bool [b] each; of those that the batch has inputs of."""
    has = {"text": (batch["words"] > 0).any(axis=1)}
    has |= {"video": batch["frame_mask"].any(axis=1)} if "frame_mask" in batch else {}
    return has | ({"audio": batch["has_audio"]} if "has_audio" in batch else {})


class Pretraining:
    """`masked · (L_a + L_v + L_t) + matching · L_global`. A clip takes part in the terms whose inputs it has.

    L_a, L_v, L_t: mean over all masked tokens of the global batch. L_global: for audio with video and audio with text,
    InfoNCE over the global batch and binary cross entropy of right pairs and of random ones.
    """

    shown = ("loss", "video", "text", "audio", "audio-video", "audio-text")

    def __init__(self, model: Vlsa, config: ConfigDict):
        self.model, self.weights, self.crops = model, config.loss, config.data.crops

    def embed(self, params: dict, batch: dict) -> dict[str, jax.Array]:
        """Of each sample and modality: the summed error of masked tokens, their number, and the embedding [b, d]."""
        embedded = {}
        if self.crops:
            batch = batch | {"frames": cropped(batch["frames"], batch["draw"])}
        if self.weights.masked:
            for name, (predictions, targets, masking) in apply(Vlsa.masked, self.model, params, batch).items():
                mask = masking.masked_mask
                error = jnp.where(mask, errors(name, predictions, targets), 0)
                embedded |= {f"{name} error": error.sum(axis=1), f"{name} masked": mask.sum(axis=1) * 1.0}
        if self.weights.matching:
            if self.weights.matching_reads == "all":
                embedded |= apply(Vlsa.embed, self.model, params, batch, MODALITIES)
            else:
                embedded |= apply(Vlsa.embed_visible, self.model, params, batch)
        return embedded

    def loss(self, params: dict, embedded: dict, batch: dict) -> tuple[jax.Array, dict]:
        parts, total = {}, 0.0
        if self.weights.masked:
            for name in MODALITIES:
                count = embedded[f"{name} masked"].sum()
                parts[name] = embedded[f"{name} error"].sum() / jnp.maximum(count, 1)
                total += self.weights.masked * parts[name]
        if self.weights.matching:
            has = present(batch)
            for name in ("video", "text"):
                parts[f"audio-{name}"], parts[f"match {name}"] = self._matching(params, name, embedded, has, batch)
                total += self.weights.matching * (parts[f"audio-{name}"] + parts[f"match {name}"])
        total = jnp.asarray(total)
        return total, parts | {"loss": total}

    def _matching(self, params: dict, name: str, embedded: dict, has: dict, batch: dict) -> tuple[jax.Array, jax.Array]:
        """InfoNCE, and cross entropy of the matching head on right pairs and as many random ones."""
        audio, other, valid = embedded["audio"], embedded[name], has["audio"] & has[name]
        nce = losses.info_nce(audio, other, params["logit_scale"], valid)
        # The key depends on the batch as a whole, so that it is the same on every device and with micro-batches.
        key = jax.random.fold_in(jax.random.key(len(MODALITIES)), batch["draw"].sum())
        partner = jax.random.permutation(key, len(audio))
        apart = has["audio"] & has[name][partner] & (partner != jnp.arange(len(audio)))

        def cross_entropy(other: jax.Array, label: float, valid: jax.Array) -> jax.Array:
            logits = apply(Vlsa.match, self.model, params, name, audio, other)
            return losses.mean_of_valid(optax.sigmoid_binary_cross_entropy(logits, jnp.full_like(logits, label)), valid)

        return nce, 0.5 * (cross_entropy(other, 1.0, valid) + cross_entropy(other[partner], 0.0, apart))


class Finetuning:
    """Symmetric InfoNCE of the pairs of modalities in config.loss.pairs. The text is the caption, no transcript."""

    shown = ("loss", "text-video", "text-audio", "video-audio")

    def __init__(self, model: Vlsa, config: ConfigDict):
        self.model, self.names = model, modalities(config)
        self.pairs = [tuple(pair.split("-")) for pair in config.loss.pairs]

    def embed(self, params: dict, batch: dict) -> dict[str, jax.Array]:
        """Embeddings [b, d], from all tokens, of every modality that a pair needs."""
        batch = batch | {"words": batch["text_ids"]}
        return apply(Vlsa.embed, self.model, params, batch, self.names)

    def loss(self, params: dict, embedded: dict, batch: dict) -> tuple[jax.Array, dict]:
        has, parts = present(batch | {"words": batch["text_ids"]}), {}
        for one, other in self.pairs:
            valid = has[one] & has[other]
            parts[f"{one}-{other}"] = losses.info_nce(embedded[one], embedded[other], params["logit_scale"], valid)
        total = jnp.asarray(sum(parts.values()))
        return total, parts | {"loss": total}
