"""Rollout batches: which prompts are drawn, where their rows come from, and how a recipe annotates them.

Start with `collect`: it shows the order in which the row sources in `sources/` are asked.
"""
