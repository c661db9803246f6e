"""Shards, tokens and the input pipeline. These files run in loader workers and import no JAX."""
