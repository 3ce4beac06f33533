"""The guard's rules over what a watched training logs, over its gradients and over its probes. Needs no torch."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from holdfast.guard import Decision, Guard, GuardSettings, message
from holdfast.integrations.probe_signs import probe_signs
from holdfast.integrations.rewards import RewardScale
from holdfast.summary.responses import Answers

Records = Callable[[str], Iterable[Mapping[str, Any]]]


class Guards:
    """Gives decisions; on several processes the main one alone has it.

    Args:
        reward_range: lowest and highest reward of the training, None where that is not known.
        reference: scores of the suites before training; `probe_items`: how many items each has.
        first: the first answers to them.
        records: the lines of a log of the run directory; what is there of an earlier process is seen again.
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
        self._said: set[str] = set()
        self._moving = 0
        for line in records("metrics.jsonl"):
            self.scale.see(line.get("reward"))
        self._guard = self._seen_again()

    def _seen_again(self) -> Guard:
        guard = Guard(self.settings, reference=self._reference, probe_items=self._probe_items)
        guard.replay(map(self.scale.scaled, self._records("metrics.jsonl")), self._records("probes.jsonl"))
        return guard

    def see(self, line: Mapping[str, Any]) -> list[Decision]:
        """Take in a line of metrics.jsonl that is not yet written."""
        if self.scale.see(line.get("reward")):
            low, high = self.scale.range
            if self.settings.mode != "off" and "reward" not in self._said:
                warnings.warn(
                    f"a reward of {line['reward']:g}, and the guard's bounds are for rewards from 0 to 1: they are now "
                    f"taken on the range seen so far, {low:g} to {high:g}; set reward_range=(lowest, highest)",
                    stacklevel=6,
                )
            self._said.add("reward")
            self._guard = self._seen_again()
        found = [self.scale.as_logged(decision) for decision in self._guard.see(self.scale.scaled(line))]
        return [d for d in found if (d.rule, d.step) != ("not_finite", self._moving)]

    def see_gradients(self, step: int, task: str, norm: float) -> list[Decision]:
        """Take in the norm of the gradients that step `step` is about to move by, where it is not finite."""
        self._moving = step
        return self._guard.see({"stage": 1, "step": step, "task": task, "grad_norm": norm})

    def see_probe(self, line: Mapping[str, Any], answers: Answers) -> list[Decision]:
        """Take in a line of probes.jsonl and the answers; what these read like is said once by each rule."""
        decisions = self._guard.see_probe(line)
        if self.settings.mode == "off":
            return decisions
        for name, severity, sign in probe_signs(self._first, answers, self.settings):
            if name in self._said:
                continue
            self._said.add(name)
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
