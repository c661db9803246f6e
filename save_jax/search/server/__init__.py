"""The page and HTTP API of an index: `save-jax search serve LIBRARY`."""
