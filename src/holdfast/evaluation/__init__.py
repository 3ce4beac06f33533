"""Scores of a model on sets, divergences from the base, sampled answers."""
