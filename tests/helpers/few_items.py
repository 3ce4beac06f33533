"""Tasks of the lab cut down to a few items, which a recipe learns in a dozen steps."""

from dataclasses import replace

from holdfast.data.example import Example
from holdfast.data.task import Task
from holdfast.lab.tasks import lab_task
from holdfast.lab.world import world

ITEMS = 8


def few_items(name: str, seed: int, items: int = ITEMS) -> Task:
    """`facts` or `tools` in the world of a seed, with the questions about its most frequent items only."""
    here, task = world(seed), lab_task(name, seed)
    asked = [{thing, kind} for thing, kind, _ in here.facts] if name == "facts" else [{verb} for verb in here.tools]

    def about(example: Example) -> bool:
        words = set(example.messages[-1]["content"].split())
        return any(names <= words for names in asked[:items])

    return replace(task, train=list(filter(about, task.train)), test=list(filter(about, task.test)))
