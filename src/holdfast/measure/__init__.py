"""Metrics, intervals and tests, computed from results. No module here runs a model, and none imports torch."""
