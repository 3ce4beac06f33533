"""The events of a run, for whatever displays them. Importable without torch."""

from collections.abc import Mapping
from typing import Any

from holdfast.guard.guard import Decision


class Observer:
    """Receives the events of a run. Every method does nothing by default."""

    def comparison_run(self, number: int, runs: int) -> None:
        """Run `number` (from 1) of a comparison's `runs` starts or resumes."""

    def run_started(self, label: str, stages: int, steps: int, done: int) -> None:
        """A run starts or resumes.

        Args:
            label: the recipe's name in the report.
            steps: optimizer steps of all stages.
            done: how many of them earlier processes have taken.
        """

    def stage_started(self, stage: int, task: str, steps: int, done: int) -> None:
        """Stage `stage` (from 1) starts, or resumes after `done` of its `steps`."""

    def step_done(self, numbers: Mapping[str, Any]) -> None:
        """An optimizer step was taken. `numbers` is its line of metrics.jsonl."""

    def decided(self, decision: Decision) -> None:
        """The guard has decided. `decision` holds its line of decisions.jsonl."""

    def rolled_back(self, steps: int) -> None:
        """The last `steps` optimizer steps have been undone, by the guard or by the recipe's plan."""

    def evaluation_started(self, stage: int, sets: int) -> None:
        """The evaluation of all `sets` after stage `stage` starts (0: before the first stage)."""

    def set_started(self, name: str) -> None:
        """The evaluation of one set starts."""

    def evaluation_done(
        self, stage: int, scores: Mapping[str, float | None], nll: Mapping[str, float] | None = None
    ) -> None:
        """All sets have been evaluated.

        Args:
            scores: mean score of each set; None for a set that nothing judges.
            nll: NLL of the demonstrations of each set that has some, in nats per token.
        """

    def run_done(self, summary: Mapping[str, Any]) -> None:
        """The run is over: complete, or stopped by the guard."""
