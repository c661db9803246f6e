"""What tests share: places, made corpora, media, runs. No test imports another test."""
