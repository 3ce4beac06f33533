"""Apply the guard's rules to a watched training: its logged metrics, gradients and probes. Needs no torch."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from holdfast.guard import Decision, Guard, GuardSettings, message
from holdfast.integrations.probe_rules import probe_signs
from holdfast.integrations.reward_scale import RewardScale
from holdfast.summary.responses import Answers

Records = Callable[[str], Iterable[Mapping[str, Any]]]
"""From the name of a log of the run directory to its lines."""


class WatchedGuard:
    """Gives decisions. With several processes only the main one has it.

    Args:
        reward_range: lowest and highest reward of the training; None if unknown.
        reference: scores of the suites before training.
        probe_items: how many items each suite has.
        first: the answers at the start.
        records: reads a log. Lines that an earlier process of this training wrote are replayed.
    """

    def __init__(
        self,
        settings: GuardSettings,
        *,
        reward_range: tuple[float, float] | None,
        reference: Mapping[str, float],
        probe_items: Mapping[str, int],
        first: Answers,
        records: Records,
    ) -> None:
        self.settings, self.scale = settings, RewardScale(reward_range)
        self._reference, self._probe_items, self._first, self._records = reference, probe_items, first, records
        self._reported: set[str] = set()
        self._step_of_gradients = 0
        for line in records("metrics.jsonl"):
            self.scale.see(line.get("reward"))
        self._guard = self._replayed()

    def _replayed(self) -> Guard:
        """A guard that has seen all logs, with rewards on the current scale."""
        guard = Guard(self.settings, reference=self._reference, probe_items=self._probe_items)
        guard.replay(map(self.scale.scaled, self._records("metrics.jsonl")), self._records("probes.jsonl"))
        return guard

    def see(self, line: Mapping[str, Any]) -> list[Decision]:
        """Take in a line of metrics.jsonl before it is written."""
        if self.scale.see(line.get("reward")):
            low, high = self.scale.range
            if self.settings.mode != "off" and "reward" not in self._reported:
                warnings.warn(
                    f"the reward is {line['reward']:g}, but the guard's bounds are for rewards from 0 to 1. They are "
                    f"now scaled to the range seen so far, {low:g} to {high:g}. Set reward_range=(lowest, highest).",
                    stacklevel=6,
                )
            self._reported.add("reward")
            # Earlier rewards were judged on another scale, so all of them are judged again.
            self._guard = self._replayed()
        new = [self.scale.as_logged(decision) for decision in self._guard.see(self.scale.scaled(line))]
        # Gradients that are not finite were reported before the step. Its logged grad_norm would report them again.
        return [d for d in new if (d.rule, d.step) != ("not_finite", self._step_of_gradients)]

    def see_gradients(self, step: int, task: str, norm: float) -> list[Decision]:
        """Take in a gradient norm that is not finite, before step `step` applies the gradients."""
        self._step_of_gradients = step
        return self._guard.see({"stage": 1, "step": step, "task": task, "grad_norm": norm})

    def see_end(self, line: Mapping[str, Any]) -> list[Decision]:
        """Take in the evaluation at the end, in the form of a line of probes.jsonl. A decision can only warn."""
        decisions = self._guard.see_stage_end(line, self._reference, self._probe_items)
        return [replace(decision, actions=("warn",)) for decision in decisions]

    def see_probe(self, line: Mapping[str, Any], answers: Answers) -> list[Decision]:
        """Take in a line of probes.jsonl, and the answers. A rule over answers fires at most once in a training run."""
        decisions = self._guard.see_probe(line)
        if self.settings.mode == "off":
            return decisions
        for name, severity, sign in probe_signs(self._first, answers, self.settings):
            if name in self._reported:
                continue
            self._reported.add(name)
            acts = self.settings.mode == "act"
            decisions.append(
                Decision(
                    rule=name,
                    stage=1,
                    step=line["step"],
                    global_step=line["step"],
                    task=line["task"],
                    severity=severity,
                    actions=tuple(getattr(self.settings.rules, name).action) if acts else ("warn",),
                    values=sign.values,
                    message="in the answers to probes: "
                    + message(name, sign.values).replace("max_completion_length", "max_new_tokens"),
                )
            )
        return decisions
