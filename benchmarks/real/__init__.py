"""Recipes on a real pretrained model of 135 million weights: what they teach it, and what it forgets.

    make real                  seven arms, two stages, one seed; at most 30 minutes on two cores
    make real ARGS=--quick     three arms, one stage; at most 6 minutes
    make real ARGS=--full      all arms, three seeds, into benchmarks/results/real.json
    make real ARGS=--tune      every arm at three learning rates, on a seed that no result uses

docs/real-model.md says what is compared and how.
"""
