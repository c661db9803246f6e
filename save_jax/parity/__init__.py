"""Stored numbers of the authors' code against this installation."""
