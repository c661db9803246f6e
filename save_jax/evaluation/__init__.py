"""From parameters and a split to numbers that can be trusted."""
