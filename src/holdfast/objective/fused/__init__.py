"""The same loss in chunks of tokens, without logits for the whole batch."""
