"""What all tests share: shape annotations become checks, eight fake devices, and a small made corpus of shards."""

import os
import signal
import tempfile
from collections.abc import Iterator

from helpers.places import COMPILE_FAST

# Before JAX starts: one device and eight are compared in one process.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ["XLA_FLAGS"] += COMPILE_FAST
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
# The same tiny models are compiled again and again: by both workers of pytest, by the processes that tests start, and
# by a second run of the tests where the variable is set outside.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="save_jax-xla-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

from jaxtyping import install_import_hook

with install_import_hook(["save_jax.models", "save_jax.training.losses"], "beartype.beartype"):
    import save_jax.models.retrieval
    import save_jax.training.losses  # noqa: F401

from pathlib import Path

import jax
import pytest
from helpers.corpus import IMAGE_SIZE, write_corpus

from save_jax.config import base, resolve, smoke

jax.config.update("jax_default_matmul_precision", "highest")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: begun last, one of them would keep one worker busy while the other waits."""
    long = ("training", "evaluation", "models", "parity", "bench")
    items.sort(key=lambda item: long.index(item.path.parent.name) if item.path.parent.name in long else len(long))


@pytest.fixture(autouse=True)
def python_hears_ctrl_c() -> Iterator[None]:
    """Commands that tests call here take Python's handler away for the whole process; a shell may have done so, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made corpus: 24 training, 9 validation and 13 test clips; no size is a multiple of a batch of 8."""
    return write_corpus(tmp_path_factory.mktemp("corpus"), {"train": 24, "val": 9, "test": 13})


@pytest.fixture
def config(shards: Path):
    """A tiny SAVE on the made corpus, trained from scratch."""
    config = base()
    config.data_dir = str(shards)
    config.data.tokenizer = "data"
    config.model.image_size = IMAGE_SIZE
    config.model.vocab_size = 600
    config = smoke(config)
    config.optim.frozen = ()
    config.optim.multipliers = ()
    config.optim.learning_rate = 1e-3
    return resolve(config)
