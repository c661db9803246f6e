"""Trained models in use: a run opened from its folder, a model on files of your own."""
