"""The command line: `app` has the commands that carry out runs, the other commands have one module each."""

from holdfast.renamed import refuse_moved_names

__getattr__ = refuse_moved_names(__name__)
