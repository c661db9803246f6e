"""Scores of any model, judged: protocols, metrics, signatures, comparison of systems. NumPy alone; `encoders` also
needs mteb."""
