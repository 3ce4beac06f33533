"""Builds `summary.json` and the verdict."""
