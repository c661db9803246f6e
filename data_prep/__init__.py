"""From media files and annotations to the TFRecord shards that `save_jax` trains on."""
