"""Files of parameters: checkpoints of runs, weights of other code, and the tables between their names and ours."""
