"""Claims of the papers as experiments on the lab: what is claimed, what was measured, and whether it holds there."""
