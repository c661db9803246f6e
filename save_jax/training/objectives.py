"""The contract of an objective, and the objective of SAVE, AVIGATE and vision."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from save_jax.config import method
from save_jax.models import similarity
from save_jax.models.apply import apply
from save_jax.models.retrieval import Retrieval
from save_jax.training import losses

Embedded = Any  # a tree of arrays whose rows are the samples of a batch


class Objective(Protocol):
    """Embeds each sample on its own, then computes the loss of all of them together."""

    @property
    def model(self) -> Any:
        """A Flax module with `example` and `complete`, see `state.create`, and `exact_kernels`.

        That is the pattern of names of kernels that it does not cast to its dtype before it uses them.
        """
        ...

    @property
    def shown(self) -> tuple[str, ...]:
        """Scalars of `loss` for the progress line; those that it does not report are skipped."""
        ...

    def embed(self, params: dict, batch: dict) -> Embedded:
        """What the loss needs of each sample, which must not depend on the other samples of the batch."""
        ...

    def loss(self, params: dict, embedded: Embedded, batch: dict) -> tuple[jax.Array, dict]:
        """The total of a global batch, and scalars to report."""
        ...


class RetrievalObjective:
    """SAVE's and AVIGATE's loss: contrastive with margin, and the early alignment of the method."""

    shown = ("loss", "contrastive", "albef")

    def __init__(self, model: Retrieval, config: ConfigDict):
        self.model, self.config = model, config

    def embed(self, params: dict, batch: dict) -> dict[str, jax.Array]:
        """Query embeddings [b, d]; visual and fused tokens [b, t, d]; with the audio branch its tokens [b, q, d]."""
        texts, video, _ = apply(Retrieval.__call__, self.model, params, batch)
        embedded = {"texts": texts, "visual": video.visual, "fused": video.fused, "audio": video.audio}
        return {name: x for name, x in embedded.items() if x is not None}

    def loss(self, params: dict, embedded: dict, batch: dict) -> tuple[jax.Array, dict]:
        config, scale = self.config, params["logit_scale"]
        texts, visual, mask = embedded["texts"], embedded["visual"], batch["frame_mask"]
        index = similarity.index(embedded["fused"], mask)
        scores = similarity.score(texts, index, scale, config.model.temperature, config.model.score)
        margin = losses.adaptive_margin(texts, visual, mask, config.loss.beta, config.loss.delta)
        parts = {"contrastive": losses.contrastive(scores + jnp.exp(scale) * margin)}
        total = parts["contrastive"]
        albef = config.loss.albef[method(config)]
        if albef != "none":
            student = losses.audio_visual_similarity(visual, embedded["audio"])
            teacher = losses.cosines(batch["teacher_video"], batch["teacher_audio"])
            valid = batch["has_audio"] & (batch["has_teacher"] | (albef == "hard"))  # "hard" needs no teacher
            parts["albef"] = losses.soft_albef(student, teacher, valid, albef)
            total = total + config.loss.albef_weight * parts["albef"]
        return total, parts | {"loss": total}
