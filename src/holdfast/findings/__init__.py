"""Claims of the papers as experiments on the lab: the claim, the measurement, and the verdict."""
