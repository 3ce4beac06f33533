"""Sampling in this process: from requests to completions with the log-probability of every token.

Start with `sampler`. It keeps the rows that are sampled together in a `DecodingBatch` (`kv_batch`), of which there are
four kinds: `kv_shared_prompt`, `kv_left_padded`, and two in `kv_equal_length`. `kv_choice` says which kind a model
gets.
"""
