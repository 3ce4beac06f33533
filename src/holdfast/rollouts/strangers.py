"""Strangers: for each training example another one of its task, for controls in which the teacher sees that one."""

from collections.abc import Mapping, Sequence

from holdfast.data.example import Example
from holdfast.data.seeds import numpy_rng


def strangers(examples: Sequence[Example], task: str, seed: int) -> Mapping[str, Example]:
    """Another example for each, with a different prompt.

    The examples are shuffled into a circle, and each gets the next one whose prompt differs from its own. So if all
    prompts differ, every example is the stranger of exactly one other.

    Args:
        task: the task's name, for the random draws.
        seed: the run's seed.

    Returns:
        By example id. An example is left out if no prompt differs from its own.
    """
    order = numpy_rng(seed, "strangers", task).permutation(len(examples)).tolist()
    circle = [examples[index] for index in order]
    found = {}
    for place, example in enumerate(circle):
        others = (circle[(place + step) % len(circle)] for step in range(1, len(circle)))
        stranger = next((each for each in others if each.messages != example.messages), None)
        if stranger is not None:
            found[example.id] = stranger
    return found
