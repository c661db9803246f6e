"""Objectives, the step, the loop, and what keeps a long run safe."""
