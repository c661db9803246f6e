"""Versions of what numbers depend on."""

import importlib.metadata
import platform

import jax

PACKAGES = ("save_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "transformers")


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on, and the devices that computed them."""
    known = {}
    for name in PACKAGES:
        try:
            known[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # the benches run without most of them
            known[name] = "absent"
    device = jax.devices()[0]
    return known | {"python": platform.python_version(), "devices": f"{jax.device_count()} × {device.device_kind}"}
