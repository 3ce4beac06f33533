"""Judges answers: verifiers and environments of users in child processes with time limits, and holdfast's own here.

`answers` judges the answers of one turn and `episodes` those of several turns. `named` is a function that is known by
its name alone, `pool` runs such functions in worker processes, `child` is one of these, and `worker` is its program.
`here` runs what must run in the training process.
"""
