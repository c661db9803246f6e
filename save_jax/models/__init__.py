"""Flax modules: the towers, the fusion and the whole retrieval model."""
