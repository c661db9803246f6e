"""Makes a small corpus of real video files, so that everything can be tried without data."""
