"""How much a training step, or encoding alone, computes, from the sizes of a config: 2·m·n·k for every matrix product.

Counted is the method as it is written, whatever way it is computed: one pass forward, and backward one product for the
gradient of each trained weight and one for that of each input that something trained lies behind. So two programs that
do the same are measured by the same work, and one that takes fewer products gets a larger share of the machine's rate:
our resampler's FewQueriesAttention takes a fifth of those that its attention is written with, and a share of the matrix
rate is one of the method's work, not of what the device multiplies. What is computed again to save memory
(micro-batches, remat) does not count; a causal attention counts whole. Elementwise work and the optimiser are left out:
they are memory traffic.
"""

from ml_collections import ConfigDict

from save_jax.config import branches, method, vlsa_sizes
from save_jax.config.vlsa import modalities
from save_jax.data.records import FBANK_SHAPE, TEACHER_DIM
from save_jax.models import masking

_TRAINED = 3  # products of what trains for each one forward: also one of its input's gradient and one of its weight's


def _block(tokens: int, width: int) -> int:
    """Self-attention (four projections, two products of all pairs) and an MLP four times as wide; one sample."""
    return 2 * tokens * 12 * width**2 + 4 * tokens**2 * width


def _cross(queries: int, memory: int, width: int) -> int:
    """Cross-attention: two projections of the queries, two of the memory, two products of all pairs."""
    return 4 * (queries + memory) * width**2 + 4 * queries * memory * width


def _fusion(frames: int, memory: int, width: int) -> int:
    """One layer: a block, cross-attention, the gated MLP and the two gates."""
    gates = 2 * 2 * (2 * width + 1) * (width // 2)
    return _block(frames, width) + _cross(frames, memory, width) + 2 * frames * 8 * width**2 + gates


def of_training(config: ConfigDict) -> dict[str, int]:
    """Part of the model → operations of one training step over the whole batch, for any task; `config` is resolved."""
    by_task = {"retrieval": of_step, "vlsa-pretrain": of_pretraining, "vlsa-finetune": of_finetuning}
    return by_task[config.task](config)


def of_encoding(config: ConfigDict) -> dict[str, int]:
    """Part of the model → operations of encoding `config.batch_size` clips and captions once, as evaluation does.

    `config` is resolved. Towers are run, whatever it says of cached ones.
    """
    if config.task != "retrieval":
        return _of_whole_samples(config, 1)
    live = config.copy_and_resolve_references().unlock()
    live.cache = "none"
    return _of_retrieval(live, 1)


def of_step(config: ConfigDict) -> dict[str, int]:
    """Part of the model → operations of one training step over the whole batch.

    `config` is resolved; its `cache` says which towers are not run. With live towers the frozen parts are taken to be
    those of `config.base`: the patch convolutions, embeddings and all of AST but its norm.
    """
    m, size, width, live_clip = config.model, config.batch_size, config.model.embed_dim, config.cache != "towers"
    products = _of_retrieval(config, _TRAINED)
    if "speech_fusion" in products and not live_clip:
        # Nothing trained lies behind the stored transcript: no gradient of it, layer by layer.
        products["speech_fusion"] -= size * m.fusion_layers * 4 * config.data.max_words * width**2
    pairs = 2 * size**2 * width
    grains = 1 if m.score == "global" else 1 + config.data.max_frames
    products["loss"] = pairs * (grains * (3 if live_clip else 2) + 2)  # scores, and the margin without a gradient
    if (albef := config.loss.albef[method(config)]) != "none":
        products["loss"] += 3 * pairs + (0 if albef == "hard" else 2 * size**2 * TEACHER_DIM)
    return products


def _of_retrieval(config: ConfigDict, trained: int) -> dict[str, int]:
    """Without the loss; `trained`: products of a trained part for each one forward, 1 for encoding alone."""
    m, frames, words, size = config.model, config.data.max_frames, config.data.max_words, config.batch_size
    reads, width, products = branches(config), m.embed_dim, {}
    live_clip = config.cache != "towers"
    if live_clip:
        patches = (m.image_size // m.patch_size) ** 2
        cut = 2 * patches * 3 * m.patch_size**2 * m.vision_width  # frozen: forward alone
        tower = m.vision_layers * _block(1 + patches, m.vision_width) + 2 * m.vision_width * width
        products["vision"] = size * frames * (cut + trained * tower)
        tower = m.text_layers * _block(words, m.text_width) + 2 * words * m.text_width * width
        products["text"] = size * trained * tower * (2 if "speech" in reads else 1)
    if "audio" in reads:
        grid = [(n - p) // s + 1 for n, p, s in zip(FBANK_SHAPE[::-1], m.ast_patch, m.ast_stride, strict=True)]
        patches = grid[0] * grid[1]
        if config.cache == "none":  # frozen: forward alone
            cut = 2 * patches * m.ast_patch[0] * m.ast_patch[1] * m.ast_width
            products["ast"] = size * (cut + m.ast_layers * _block(2 + patches, m.ast_width))
        layer = _block(m.queries, width) + _cross(m.queries, 1 + patches, width)
        projection = 2 * (1 + patches) * m.ast_width * width
        products["resampler"] = size * trained * (projection + m.resampler_layers * layer)
        products["audio_fusion"] = size * trained * m.fusion_layers * _fusion(frames, m.queries, width)
    if "speech" in reads:
        products["speech_fusion"] = size * trained * m.fusion_layers * _fusion(frames, words, width)
    return products


def of_pretraining(config: ConfigDict) -> dict[str, int]:
    """Part of VLSA → operations of one pre-training step over the whole batch; `config` is resolved.

    Nothing is frozen, and every sample is taken to have all frames, words and sound: on a device, what is missing is
    computed and not looked at.
    """
    s, size, width = vlsa_sizes(config), config.batch_size, config.model.width
    groups = {name: s.frames if name == "video" else 1 for name in s.counts}
    hidden = {
        name: groups[name] * masking.masked_count(count // groups[name], share)
        for (name, count), share in zip(s.counts.items(), s.shares, strict=True)
    }
    given = {name: count - (hidden[name] if s.drop_hidden else 0) for name, count in s.counts.items()}
    matched = s.counts if config.loss.matching_reads == "all" else given
    projected, products = [], {}
    if config.loss.masked:
        projected.append(given)
        products["joint"] = size * 3 * s.layers * _block(sum(given.values()), width)
        decoder = s.decoder_layers * sum(_block(count, s.decoder_width) for count in s.counts.values())
        products["decoder"] = size * 3 * (decoder + 2 * sum(given.values()) * width * s.decoder_width)
        positions = 3 * 2 * sum(s.counts.values()) * width * s.decoder_width  # once for all samples
        products["decoder"] += positions
        products["heads"] = size * 3 * sum(2 * hidden[name] * s.decoder_width * s.targets[name] for name in hidden)
    if config.loss.matching:
        projected.append(matched)
        products["separate"] = size * 3 * s.layers * sum(_block(count, width) for count in matched.values())
        # For video and for text: cosines with sound, and the matching head on right pairs and random ones.
        products["matching"] = 2 * 3 * (2 * size**2 * width + 2 * 2 * size * 3 * width)
    # Of patches alone: a word is looked up. Pixels and spectrograms need no gradient.
    patches = sum(2 * read[x] * s.targets[x] * width for read in projected for x in ("video", "audio"))
    products["projections"] = size * 2 * patches
    return products


def of_finetuning(config: ConfigDict) -> dict[str, int]:
    """Part of VLSA → operations of one fine-tuning step over the whole batch; `config` is resolved.

    All tokens are read, and every sample is taken to have all of them.
    """
    pairs = 2 * config.batch_size**2 * config.model.width
    return _of_whole_samples(config, _TRAINED) | {"loss": _TRAINED * pairs * len(config.loss.pairs)}


def _of_whole_samples(config: ConfigDict, trained: int) -> dict[str, int]:
    """VLSA's encoder over all tokens of each modality that the config reads; `trained` as in `_of_retrieval`."""
    s, size, width = vlsa_sizes(config), config.batch_size, config.model.width
    names = modalities(config)
    patches = sum(2 * s.counts[x] * s.targets[x] * width for x in ("video", "audio") if x in names)
    return {
        "separate": size * trained * s.layers * sum(_block(s.counts[name], width) for name in names),
        "projections": size * min(trained, 2) * patches,  # pixels and spectrograms need no gradient
    }
