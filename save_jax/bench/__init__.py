"""Measurements of this installation on this machine."""
