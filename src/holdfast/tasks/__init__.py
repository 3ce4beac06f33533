"""Readers and verifiers that make tasks and suites of data.

`load` turns the configuration into tasks. `files` reads files and Hugging Face datasets. `verifiers` judges answers.
`sciknoweval`, `toolalpaca`, `reasoning_gym` and `lm_eval` are readers of published data.
"""
