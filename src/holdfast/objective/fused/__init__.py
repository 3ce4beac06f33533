"""The loss from hidden states, without the logits of all positions in memory."""

from holdfast.renamed import refuse_moved_names

__getattr__ = refuse_moved_names(__name__)
