"""Rewrites the demonstrations of each stage before it starts, for recipes that train on rewritten ones.

What was written is kept in a file of the run directory, so that a resumed run trains on the same texts. A process that
is killed before the file is complete writes them again, from the same weights with the same draws.
"""

import time
from collections.abc import Sequence
from typing import Any

from holdfast.data.task import Task
from holdfast.errors import RunError
from holdfast.model.processes import Processes
from holdfast.rollouts.collect import Collector
from holdfast.rollouts.rewriting import Rewrite, count_outcomes
from holdfast.store.run_directory import RunDirectory


class StageRewriting:
    """The rewritten demonstrations of a run. It does nothing for recipes that rewrite none."""

    def __init__(self, directory: RunDirectory, collector: Collector, tasks: Sequence[Task]) -> None:
        self._directory, self._collector, self._tasks = directory, collector, tasks
        self._world = Processes.current()
        self._used: set[int] = set()

    def prepare(self, stage: int, step: int) -> None:
        """Let a stage, and those before it that it may replay, train on rewritten demonstrations.

        Args:
            stage: from 1, about to be trained.
            step: of the stage. At 0, the student has the weights of the stage's start.

        Raises:
            RunError: the stage is under way, and the file with its demonstrations is missing.
        """
        if self._collector.spec.rewriting is None:
            return
        for number in range(1, stage + 1):
            if number not in self._used:
                task = self._tasks[number - 1]
                self._collector.use_rewrites(task, self._rewrites(task, number, may_write=(number, step) == (stage, 0)))
                self._used.add(number)

    def _rewrites(self, task: Task, stage: int, *, may_write: bool) -> list[Rewrite]:
        path = self._directory.rewritten(stage)
        if not self._world.main(path.exists):
            if not may_write:
                fix = "bring the file back, or start the run again in another directory"
                raise RunError("the rewritten demonstrations of a stage are missing", where=str(path), fix=fix)
            started = time.perf_counter()
            rewrites = self._collector.rewrite(task)
            record = rewriting_record(stage, task.name, rewrites) | {"seconds": time.perf_counter() - started}
            content = record | {"rewrites": [each.as_json() for each in rewrites]}
            self._world.main(lambda: self._directory.write_json(path, content))
        return [Rewrite(**each) for each in self._world.main(lambda: self._directory.read_checked(path))["rewrites"]]


def rewriting_record(stage: int, task: str, rewrites: Sequence[Rewrite]) -> dict[str, Any]:
    """What became of a stage's demonstrations in numbers, and what it took."""
    return {
        "stage": stage,
        "task": task,
        "examples": len(rewrites),
        "outcomes": count_outcomes(rewrites),
        "completions": sum(each.tries for each in rewrites),
        "generated_tokens": sum(each.tokens for each in rewrites),
    }
