"""What this machine and this installation can do, checked: `save-jax doctor`."""
