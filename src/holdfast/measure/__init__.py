"""Metrics, intervals and tests, computed from results. No module here runs a model, and none imports torch."""

from holdfast.renamed import refuse_moved_names

__getattr__ = refuse_moved_names(__name__)
