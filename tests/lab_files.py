"""A task of the lab as files, with the demonstration as a worked solution of one step, for recipes that ask for one."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from holdfast.lab.tasks import lab_task
from holdfast.tasks.base import Example, Verdict


def with_solutions(folder: Path, name: str) -> dict[str, Any]:
    """Write a task into a folder; what a configuration says of it."""
    folder.mkdir(parents=True, exist_ok=True)
    task = lab_task(name)
    for split, examples in (("train", task.train), ("test", task.test)):
        records = [
            {"id": each.id, "prompt": list(each.messages), "solution": [each.demonstration]} for each in examples
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "test")}
    return {"name": name, **files, "verifier": "lab_files:verify"}


@cache
def _known(name: str) -> dict[str, Example]:
    task = lab_task(name)
    return {each.id: each for each in (*task.train, *task.test)}


def verify(example: Example, completion: str) -> Verdict:
    """As the lab judges it."""
    name = example.id.partition("-")[0]
    return lab_task(name).verify(_known(name)[example.id], completion)
