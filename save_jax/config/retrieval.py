"""SAVE, AVIGATE and vision only: the settings that every experiment starts from, with the papers' values.

A config is data: `configs/*.py` change values of `base()` and add nothing.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

ALBEF_KINDS = ("none", "pearson", "hard", "mse", "huber")  # of early alignment, see training.losses.soft_albef
# The branches of a video make the method. "vision" is CLIP4Clip's mean pooling with this project's score and loss.
# "vision,speech" is SAVE without its audio branch, one of the paper's ablations.
METHODS = {"vision": "vision", "vision,audio": "avigate", "vision,speech": "speech", "vision,audio,speech": "save"}

RANDOM = "random"  # of config.init_from

_AST = "^ast/(?!norm/)"  # all of AST but its last layer norm
TOWERS = "^(vision|text|ast/(?!norm/))"


CHOICES = {"model.score": ("both", "global"), "model.activation": ("quick_gelu", "gelu")}
MULTIPLES = {
    "model.embed_dim": "model.head_dim",
    "model.vision_width": "model.head_dim",
    "model.text_width": "model.head_dim",
    "model.image_size": "model.patch_size",
    "model.ast_width": "model.ast_heads",
}
AT_MOST = {"data.max_words": "model.context_length", "data.max_frames": "model.context_length"}
# Towers are cached for as long as they do not change: config.cache → what is frozen for it.
FROZEN_BY_CACHE = {"ast": (_AST,), "towers": (TOWERS,)}


def base() -> ConfigDict:
    """SAVE with CLIP ViT-B/32 and AST-base, and the optimisation of the paper (METHODS for the others)."""
    c = ConfigDict()
    c.name = "base"
    c.task = "retrieval"  # or "vlsa-pretrain", "vlsa-finetune", whose settings are those of `vlsa`
    c.seed = 0
    c.data_dir = ""  # folder of shards
    # Checkpoints to start from, separated by commas: runs, or outputs of save_jax.convert. "random" says that towers
    # which hardly train, or not at all, are meant to start random.
    c.init_from = ""
    c.batch_size = 128  # over all devices
    c.epochs = 5
    c.steps = 0  # more than 0: this many steps, whatever the epochs come to
    # More than 0: that many samples (over all devices) are encoded at a time, and their embeddings kept. Loss and
    # gradients stay those of the whole batch; it costs one more forward pass.
    c.micro_batch = 0
    c.sharding = "replicated"  # or "fsdp": parameters and optimiser state are split over the devices between steps
    c.cache = "none"  # outputs of frozen towers read from `--mode=cache`: "ast", or "towers" for CLIP's, too

    c.data = ConfigDict()
    c.data.tokenizer = "openai/clip-vit-base-patch32"  # hub name or folder; "data": the one learned with the shards
    c.data.max_words = 32
    c.data.max_frames = 12
    c.data.val_split = "val"  # checkpoints are picked here, never on test
    c.data.test_split = "test"
    c.data.threads = 4  # each makes whole batches
    c.data.prefetch = 8  # batches made ahead, at least as many as threads
    c.data.workers = 0  # processes that make batches; 0: the threads of this one
    c.data.resident = False  # the training split is held in every device's memory, decoded

    c.model = m = ConfigDict()
    m.branches = "vision,audio,speech"
    # Weights of the branches in the fused tokens, by method: avigate's and save's are their papers'.
    m.weights = ConfigDict({"vision": (1.0,), "avigate": (0.95, 0.05), "speech": (1.0, 0.5), "save": (1.0, 0.5, 0.5)})
    m.dtype = "float32"  # of the computation, or "bfloat16"; parameters, norms, softmax and loss stay float32
    # Of float32 products on GPUs and TPUs: "highest" is float32; "high" TF32, or three products of bfloat16; "default"
    # what the device does fastest. "auto": "highest" where dtype is float32. A CPU always computes in float32.
    m.precision = "auto"
    # "blocks": inner values of transformer blocks are computed again for the gradient; "dots": all but products are.
    m.remat = "none"
    m.attention = "auto"  # the fastest known: "cudnn" on GPUs in bfloat16; see attention.py
    m.embed_dim = 512
    m.head_dim = 64
    m.image_size = 224
    m.patch_size = 32
    m.vision_width = 768
    m.vision_layers = 12
    m.text_width = 512
    m.text_layers = 12
    m.vocab_size = 49408
    m.context_length = 77
    m.activation = "quick_gelu"  # of CLIP's towers, as OpenAI's; "gelu" for weights of others
    m.ast_width = 768
    m.ast_layers = 12
    m.ast_heads = 12
    m.ast_patch = (16, 16)  # mel bins, time steps
    m.ast_stride = (10, 10)
    m.ast_epsilon = 1e-6  # of AST's norms
    m.queries = 12
    m.resampler_layers = 4
    m.fusion_layers = 4
    m.fusion_init_std = 0.02  # of what no pretrained weight fills
    m.temperature = 1.0  # λ of the score
    m.score = "both"  # grains of the score: "both", or "global" for one vector per video

    c.loss = ConfigDict()
    c.loss.beta = 0.2
    c.loss.delta = 0.1
    c.loss.albef = ConfigDict(  # early alignment, by method
        {"vision": "none", "avigate": "none", "speech": "none", "save": "pearson"}
    )
    c.loss.albef_weight = 1.0

    c.optim = o = ConfigDict()
    o.learning_rate = 1e-4
    o.weight_decay = 0.2
    o.warmup = 0.1  # share of all steps
    o.b1 = 0.9
    o.b2 = 0.98
    o.eps = 1e-6
    o.clip_norm = 1.0
    o.max_logit_scale = 100.0
    # First match wins; patterns are searched in names such as "vision/block_3/attention/query/kernel".
    o.frozen = (
        "^(vision|text)/position_embedding$",
        "^text/token_embedding$",
        "^vision/(class_embedding|patch_embedding/|ln_pre/)",
        _AST,
    )
    o.multipliers = (("query_tokens$", 100.0), ("^(vision|text|ast)/|^logit_scale$", 1e-3))

    c.evaluation = ConfigDict()  # of the final evaluation
    c.evaluation.without_modalities = True  # also with sound or speech taken away or exchanged
    c.evaluation.peak_on_test = False  # also test at every validation, and report the peak as what it is

    c.log_every = 50  # steps between lines of metrics.jsonl
    c.eval_every = 0  # steps between validations; 0: once an epoch
    c.checkpoint_every = 0  # steps between checkpoints; 0: with every validation
    c.keep_last = 2  # checkpoints kept besides the best one; where the newest is damaged, the one before serves
    c.spike = 5.0  # a loss above this many times the median of the last 100 steps (and above it) stops the run; 0: none
    return c


def start_paths(init_from: str) -> tuple[str, ...]:
    """The checkpoints that config.init_from names."""
    return tuple(path for path in init_from.split(",") if path not in ("", RANDOM))


def branches(config: ConfigDict) -> tuple[str, ...]:
    """What the model reads of a video, such as ("vision", "audio", "speech")."""
    return tuple(name.strip() for name in config.model.branches.split(","))


def method(config: ConfigDict) -> str:
    """The method that the branches make: a key of `model.weights` and `loss.albef`."""
    return METHODS[",".join(branches(config))]


def problems(config: ConfigDict) -> Iterator[str]:
    """A line for everything that only SAVE, AVIGATE and vision can get wrong."""
    if ",".join(branches(config)) not in METHODS:
        raise ValueError(f"config.model.branches is {config.model.branches!r}; choose {' | '.join(METHODS)}")
    name, read = method(config), branches(config)
    weights, albef = config.model.weights[name], config.loss.albef[name]
    if len(weights) != len(read):
        yield f"config.model.weights.{name} is {weights}, not one for each of {config.model.branches}"
    if albef not in ALBEF_KINDS:
        yield f"config.loss.albef.{name} is {albef!r}; choose one of {', '.join(ALBEF_KINDS)}"
    if albef != "none" and "audio" not in read:
        yield f"config.loss.albef.{name}={albef} needs the audio branch; branches are {config.model.branches}"
    if config.model.temperature <= 0:
        yield f"config.model.temperature={config.model.temperature} is not positive"
