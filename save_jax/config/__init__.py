"""An experiment as plain data: defaults, the words after a config's name, checks, and what follows from settings.

Nothing here needs JAX or knows a model: kinds of losses and sizes of towers are named here and read above.
"""

from save_jax.config.compare import changes_since, differences
from save_jax.config.recipe import apply, apply_vlsa, smoke
from save_jax.config.resolving import defaults, frozen_patterns, resolve
from save_jax.config.retrieval import METHODS, base, branches, method
from save_jax.config.sizes import model_sizes, vlsa_sizes
from save_jax.config.vlsa import vlsa_base

__all__ = [
    "METHODS",
    "apply",
    "apply_vlsa",
    "base",
    "branches",
    "changes_since",
    "defaults",
    "differences",
    "frozen_patterns",
    "method",
    "model_sizes",
    "resolve",
    "smoke",
    "vlsa_base",
    "vlsa_sizes",
]
