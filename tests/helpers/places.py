"""Where things are, and how processes that tests start shall compile."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
GOLDEN = REPOSITORY / "tests" / "golden"
# Tiny models run for milliseconds and compile for seconds: half of those are LLVM's optimisations.
COMPILE_FAST = " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
