"""The pretraining of the lab's base, and what it can do before any stream."""
