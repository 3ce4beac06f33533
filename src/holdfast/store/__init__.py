"""Files of a run directory, and the bases that come with the package."""

from holdfast.renamed import refuse_moved_names

__getattr__ = refuse_moved_names(__name__)
