"""What a run tells whoever watches it. Importable without torch."""

from collections.abc import Mapping
from typing import Any

from holdfast.guard.guard import Decision


class Observer:
    """Receives a run's events; every method does nothing by default."""

    def comparison_run(self, number: int, runs: int) -> None:
        """Run `number` (from 1) of a comparison's `runs` is about to begin or to go on."""

    def run_started(self, label: str, stages: int, steps: int, done: int) -> None:
        """A run begins, or goes on after `done` of its optimizer steps: its label, stages, and steps of them all."""

    def stage_started(self, stage: int, task: str, steps: int, done: int) -> None:
        """Stage `stage` (from 1) begins, or goes on after `done` of its `steps`."""

    def step_done(self, numbers: Mapping[str, Any]) -> None:
        """An optimizer step was taken; its line of metrics.jsonl."""

    def decided(self, decision: Decision) -> None:
        """The guard has decided; its line of decisions.jsonl."""

    def rolled_back(self, steps: int) -> None:
        """The guard has undone the last so many optimizer steps."""

    def evaluation_started(self, stage: int, sets: int) -> None:
        """All sets are about to be evaluated after `stage` (0: before the first)."""

    def set_started(self, name: str) -> None:
        """A set is about to be evaluated."""

    def evaluation_done(self, stage: int, scores: Mapping[str, float]) -> None:
        """All sets have been evaluated; mean score of each."""

    def run_done(self, summary: Mapping[str, Any]) -> None:
        """The run is complete."""
