"""The demo corpus of data_prep.demo: small towers, all trained from scratch, some minutes on two CPU cores."""

from ml_collections import ConfigDict

from save_jax.config import apply, base


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: words of save_jax.config.recipe but for backbones, such as model=avigate,seed=1 or smoke."""
    config = base()
    config.name = "demo"
    config.data_dir = "data/demo/shards"
    config.batch_size = 32
    config.epochs = 9
    config.data.tokenizer = "data"  # learned from the training texts by data_prep.build
    config.data.max_frames = 4  # clips last 3 to 5 seconds
    config.data.max_words = 24
    config.model.update(
        {
            "embed_dim": 64,
            "head_dim": 32,
            "image_size": 64,
            "patch_size": 16,
            "vision_width": 64,
            "vision_layers": 2,
            "text_width": 64,
            "text_layers": 2,
            "vocab_size": 2048,
            "context_length": 32,
            "ast_width": 64,
            "ast_layers": 2,
            "ast_heads": 2,
            "ast_patch": (128, 16),  # all mel bins of a slice of time: 64 tokens, AST-base has 1,212
            "ast_stride": (128, 16),
            "resampler_layers": 2,
            "fusion_layers": 2,
            # 0.02 is meant for width 512. At width 64 the gates start so nearly shut that speech stays unheard.
            "fusion_init_std": 0.1,
        }
    )
    # AVIGATE's 0.05 presumes frames that match texts already. From scratch it starves the audio branch, whose gates
    # then saturate (docs/results.md): here the branch weighs as much as each of SAVE's.
    config.model.weights.avigate = (0.5, 0.5)
    config.init_from = "random"
    # There are no pretrained weights to keep: nothing is frozen, and the towers learn as fast as the rest.
    config.optim.frozen = ()
    config.optim.multipliers = (("query_tokens$", 10.0),)
    config.optim.learning_rate = 1e-3
    config.eval_every = 240
    return apply(config, arg, backbones={})  # the towers above are its own
