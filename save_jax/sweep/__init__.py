"""The same experiment in several variants and seeds, side by side."""
