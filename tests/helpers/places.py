"""Where things are, and how processes that tests start shall compile."""

import importlib.metadata
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
GOLDEN = REPOSITORY / "tests" / "golden"
# Tiny models run for milliseconds and compile for seconds: half of those are LLVM's optimisations.
COMPILE_FAST = " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
# For processes whose numbers are compared with each other's, or within tolerances. The newer emitters of fusions take
# more than half of what is left; without them results differ in the last bit. Later versions have no others, and
# end at the flag.
COMPILE_FASTEST = COMPILE_FAST
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11):
    COMPILE_FASTEST += " --xla_cpu_use_fusion_emitters=false"
