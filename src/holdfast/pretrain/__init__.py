"""The pretraining of the lab's base models."""
