"""The same loss in chunks of tokens, without logits for the whole batch."""

from holdfast.renamed import refuse_moved_names

__getattr__ = refuse_moved_names(__name__)
