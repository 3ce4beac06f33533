"""The run directory, model folders, atomic file writes."""

from holdfast.renamed import refuse_moved_names

__getattr__ = refuse_moved_names(__name__)
