"""`python -m save_jax.judge`."""

from save_jax.judge.command import main

main()
