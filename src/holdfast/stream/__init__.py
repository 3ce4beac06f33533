"""A run: stages of training on a stream of tasks, evaluation around them, the guard, checkpoints, and comparisons."""
