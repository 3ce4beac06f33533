"""Runs that return to an earlier step with correct answers of their own near future."""
