"""SAVE, AVIGATE and vision-only text-video retrieval in JAX/Flax."""
