"""VLSA's settings: pre-training and fine-tuning, with the paper's values (arXiv 2405.07202)."""

from collections.abc import Iterator

from ml_collections import ConfigDict

from save_jax.config.retrieval import base

MODALITIES = ("video", "text", "audio")
SPECTROGRAM = (256, 256)  # log frequencies, times: as shards hold it
CHOICES = {"model.activation": ("gelu", "quick_gelu"), "loss.matching_reads": ("visible", "all")}
MULTIPLES = {
    "model.width": "model.heads",
    "model.decoder_width": "model.decoder_heads",
    "model.image_size": "model.patch_size",
}
AT_MOST: dict[str, str] = {}

# Of retrieval: "t2v" → "text → video".
NAMES = {
    f"{query[0]}2{found[0]}": f"{query} → {found}" for query in MODALITIES for found in MODALITIES if query != found
}
DIRECTIONS = tuple(NAMES)

FINETUNED_WITHOUT = ("^decoder", "^heads_", "^hidden_token$", "^matching_")  # what fine-tuning has no use for


def modalities(config: ConfigDict) -> tuple[str, ...]:
    """What a config reads: all of MODALITIES in pre-training, those of config.loss.pairs in fine-tuning."""
    if config.task == "vlsa-pretrain":
        return MODALITIES
    return tuple(name for name in MODALITIES if any(name in pair.split("-") for pair in config.loss.pairs))


def vlsa_base(task: str) -> ConfigDict:
    """VLSA, `task` "vlsa-pretrain" or "vlsa-finetune", with ViT-Base and the paper's values (MSR-VTT's fine-tuning)."""
    c = base()
    c.name, c.task = task, task
    c.model, c.loss, c.optim = _model(), _loss(), _optim()
    c.data.tokenizer = "google-bert/bert-base-uncased"
    c.data.max_words = 40
    c.data.max_frames = 8  # in training drawn at random from those stored
    c.evaluation.pick = "t2v"  # the direction whose SumR on validation picks the checkpoint
    del c.evaluation.without_modalities
    if task == "vlsa-pretrain":
        c.batch_size, c.steps = 2048, 200_000
        c.data.crops = False  # each time another part of the pictures, mirrored at random: against learning by heart
    else:
        c.batch_size, c.epochs, c.optim.learning_rate = 256, 20, 1e-5
        c.optim.frozen = FINETUNED_WITHOUT
    return c


def _model() -> ConfigDict:
    """ViT-Base; sizes are the paper's, the decoder is MAE's (the paper leaves it open)."""
    m = ConfigDict()
    m.dtype = "float32"
    m.precision = "auto"
    m.remat = "none"
    m.attention = "auto"
    m.width = 768
    m.layers = 12
    m.heads = 12
    m.decoder_width = 512
    m.decoder_layers = 8
    m.decoder_heads = 16
    m.image_size = 224
    m.patch_size = 16
    m.vocab_size = 30522  # BERT's word pieces
    m.spectrogram = SPECTROGRAM
    m.audio_patch = (16, 16)
    m.shares = (0.75, 0.15, 0.75)  # masked of video (of each frame), text, audio
    m.activation = "gelu"  # or "quick_gelu", for CLIP's weights
    m.normalize_patches = True  # targets: each patch of a picture with mean 0 and deviation 1
    # Inputs: a clip's pictures, by channel, and its spectrogram, with mean 0 and deviation 1. From random weights
    # matching hardly begins without (docs/vlsa.md); MAE's and CLIP's were trained without. The paper leaves it open.
    m.standardize = False
    m.initial_scale = 1 / 0.07  # of InfoNCE: CLIP's. The paper leaves it open; a high one may unlearn at first (docs)
    m.drop_hidden = True  # False: the encoder reads all tokens, as a measure of what leaving them out saves
    return m


def _loss() -> ConfigDict:
    """Weights of the pre-training terms, and what fine-tuning brings together."""
    c = ConfigDict()
    c.masked = 1.0  # L_a + L_v + L_t; 0 leaves masked modelling out
    c.matching = 5.0  # audio–video and audio–text; 0 leaves global matching out
    c.matching_reads = "visible"  # tokens; "all": whole pictures, words and sounds. Few patches hide what they show
    c.pairs = ("text-video",)  # of fine-tuning: any two of video, text, audio
    return c


def _optim() -> ConfigDict:
    """AdamW of pre-training; betas are MAE's."""
    o = ConfigDict()
    o.learning_rate = 1e-4
    o.weight_decay = 0.01
    o.warmup = 0.05  # share of all steps: 10,000 of 200,000
    o.b1 = 0.9
    o.b2 = 0.95
    o.eps = 1e-8
    o.clip_norm = 1.0
    o.max_logit_scale = 100.0
    o.frozen = ()
    return o


def problems(config: ConfigDict) -> Iterator[str]:
    """A line for everything that only VLSA can get wrong."""
    m = config.model
    for name, length in (("spectrogram", 2), ("audio_patch", 2), ("shares", 3)):
        if len(m[name]) != length:
            yield f"config.model.{name}={m[name]} has not {length} numbers"
            return
    for whole, part in zip(m.spectrogram, m.audio_patch, strict=True):
        if part < 1 or whole % part:
            yield f"config.model.spectrogram={m.spectrogram} is not a multiple of config.model.audio_patch"
    for name, share in zip(MODALITIES, m.shares, strict=True):
        if not 0 < share < 1:
            yield f"config.model.shares: {share} of {name} is masked; it must be between 0 and 1"
    if not 0 < m.initial_scale <= config.optim.max_logit_scale:
        yield (
            f"config.model.initial_scale={m.initial_scale}: it must be above 0, and at most "
            f"config.optim.max_logit_scale={config.optim.max_logit_scale}"
        )
    for pair in config.loss.pairs:
        names = pair.split("-")
        if len(names) != 2 or names[0] == names[1] or not set(names) <= set(MODALITIES):
            yield f"config.loss.pairs has {pair!r}; write two of {', '.join(MODALITIES)}, such as 'text-video'"
    if config.task == "vlsa-finetune" and config.loss.matching_reads != "visible":
        yield "config.loss.matching_reads is of pre-training; fine-tuning reads all tokens: leave it out"
    if not config.loss.pairs:
        yield "config.loss.pairs is empty; write at least one, such as ('text-video',)"
    if config.loss.masked < 0 or config.loss.matching < 0 or not config.loss.masked + config.loss.matching:
        yield f"config.loss.masked={config.loss.masked} and .matching={config.loss.matching}: give one a weight above 0"
    if config.cache != "none":
        yield f"config.cache={config.cache}: nothing of VLSA is frozen; set config.cache=none"
    if config.data.resident:
        yield "config.data.resident: VLSA's frames are chosen anew every time; set config.data.resident=False"
    if config.evaluation.peak_on_test:
        yield "config.evaluation.peak_on_test: VLSA's results have no such row; set it to False"
    if tuple(m.spectrogram) != SPECTROGRAM:
        yield f"config.model.spectrogram={m.spectrogram}: shards hold {SPECTROGRAM}"
    if config.evaluation.pick not in DIRECTIONS:
        yield f"config.evaluation.pick is {config.evaluation.pick!r}; choose one of {', '.join(DIRECTIONS)}"
