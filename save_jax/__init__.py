"""save_jax: text–video retrieval that sees, hears and reads what is said. SAVE, AVIGATE and VLSA in JAX/Flax.

    run = save_jax.open_run("runs/demo")              # evaluate, search, embed
    model = save_jax.load_model("weights/save")       # parameters and tokenizer, no data set needed
    vlsa = save_jax.open_vlsa("runs/vlsa-fine")       # asked with sentences, pictures and sounds of its test split
    library = save_jax.open_library("library")        # your own videos, indexed by save-jax search index
    save_jax.evaluate_scores(matrix, protocol="msrvtt-1k-a")

Importing this package imports nothing else: JAX comes with the first of these that needs it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from save_jax.inference.load import load_model
    from save_jax.inference.runs import open_run
    from save_jax.inference.vlsa_runs import open_vlsa
    from save_jax.judge.scores import evaluate_scores
    from save_jax.search.door import open_library

__version__ = "0.2.0"
__all__ = ["__version__", "evaluate_scores", "load_model", "open_library", "open_run", "open_vlsa"]

_HOME = {
    "evaluate_scores": "save_jax.judge.scores",
    "load_model": "save_jax.inference.load",
    "open_library": "save_jax.search.door",
    "open_run": "save_jax.inference.runs",
    "open_vlsa": "save_jax.inference.vlsa_runs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'save_jax' has no attribute {name!r}; it has {', '.join(__all__)}")
    try:
        return getattr(importlib.import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("save_jax"):
            error.msg += f"; save_jax.{name} needs it: pip install save_jax with all that it depends on"
        raise


def __dir__() -> list[str]:
    return __all__
