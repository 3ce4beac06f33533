"""The guard: takes in live numbers, gives decisions. Needs nothing of a run of ours, and no torch."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from holdfast.guard.rules import PROBE_RULES, RULES, MetricsRecord, Severity, Stage
from holdfast.guard.settings import Action, GuardSettings

CALM = 0.75
"""Below this level of every rule nothing is seen coming."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One rule that fired: where, on what numbers, what it means and what is to be done; then what came of it."""

    rule: str
    stage: int
    step: int
    global_step: int
    task: str
    severity: Severity
    actions: tuple[Action, ...]
    saw: dict[str, float]
    message: str
    outcome: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"actions": list(self.actions)}


class Guard:
    """Watches a run step by step.

    In mode `warn` a rule fires at most once per stage and decisions ask for nothing but a warning; in mode `act` it may
    fire again once two windows of records have passed. Its state follows from what it has seen, so a resumed run shows
    it its logs again.

    Args:
        reference: scores of the retention suites before training, by name; None: the first probe's scores.
        probe_items: items that a probe uses of every suite, or of each by name, for the error of a score.
    """

    def __init__(
        self,
        settings: GuardSettings | None = None,
        *,
        reference: Mapping[str, float] | None = None,
        probe_items: int | Mapping[str, int] | None = None,
    ) -> None:
        self.settings = settings or GuardSettings()
        self._reference, self._probe_items = reference, probe_items
        self._number: int | None = None
        self._stage = self._new_stage()
        self._quiet_until: dict[str, float] = {}
        self._levels: dict[str, float] = {}
        self._step = self._seen = 0

    def see(self, record: MetricsRecord) -> list[Decision]:
        """Take in one optimizer step's numbers, as in a line of metrics.jsonl; the decisions that follow.

        Every key may be missing: `stage` (1), `step` (counted), `task`, `loss`, `grad_norm`, `reward`, `kl_teacher`,
        `entropy`, `distinct_2`, `repetition`, `truncated_fraction`, `active_rows`, `teacher_share`, `is_ratio_mean`,
        `kl_base`. A rule that lacks its numbers does not fire.
        """
        self._enter(record)
        self._step = record.get("step", self._step + 1)
        self._seen += 1  # trainers log some steps only, and a window is of those
        self._stage.see(record)
        self._stage.probe = {}  # a probe is judged once, when it is taken
        return self._ask([name for name in RULES if name != "retention"], record)

    def see_probe(self, record: MetricsRecord) -> list[Decision]:
        """Take in a probe, as in a line of probes.jsonl: `scores` by set, `kl_to_base`; the decisions that follow."""
        self._enter(record)
        self._step = record.get("step", self._step)
        if self._reference is None and record.get("scores"):
            self._reference = dict(record["scores"])
            self._stage.reference = self._reference
        self._stage.probe = record
        return self._ask([name for name in RULES if name in PROBE_RULES], record)

    def replay(self, records: Iterable[MetricsRecord], probes: Iterable[MetricsRecord] = ()) -> None:
        """See the logs of an earlier process again."""
        seen = [((r["stage"], r["step"], 0), r) for r in records] + [((p["stage"], p["step"], 1), p) for p in probes]
        for (_, _, is_probe), record in sorted(seen, key=lambda pair: pair[0]):
            if is_probe:
                self.see_probe(record)
            else:
                self.see(record)

    @property
    def is_calm(self) -> bool:
        """Whether no rule is near to firing, by what has been seen last."""
        return all(level < CALM for level in self._levels.values())

    @property
    def mean_reward(self) -> tuple[float, float] | None:
        """Mean reward over the latest window and its standard error; None where there are no rewards."""
        reward = self._stage.series("reward")
        return (reward.last, reward.error / math.sqrt(2)) if reward is not None else None

    def _new_stage(self) -> Stage:
        return Stage(self.settings.window, self._reference or {}, self._probe_items)

    def _enter(self, record: MetricsRecord) -> None:
        number = record.get("stage", 1)
        if number != self._number:
            self._number, self._stage = number, self._new_stage()
            self._quiet_until, self._levels, self._step, self._seen = {}, {}, 0, 0

    def _ask(self, names: Iterable[str], record: MetricsRecord) -> list[Decision]:
        if self.settings.mode == "off":
            return []
        decisions = []
        for name in names:
            rule, severity = RULES[name]
            action = getattr(self.settings.rules, name).action
            sign = rule(self._stage, self.settings.rules) if action else None
            self._levels[name] = sign.level if sign is not None else 0.0
            if sign is None or sign.level < 1 or self._seen < self._quiet_until.get(name, 0):
                continue
            acts = self.settings.mode == "act"
            if not acts or set(action) == {"warn"}:
                self._quiet_until[name] = math.inf
            elif name != "not_finite":  # a log does not show it again, so nothing may depend on having seen it
                self._quiet_until[name] = self._seen + 2 * self.settings.window
            decisions.append(
                Decision(
                    rule=name,
                    stage=self._number or 1,
                    step=self._step,
                    global_step=record.get("global_step", self._step),
                    task=record.get("task", ""),
                    severity=severity,
                    actions=tuple(action) if acts else ("warn",),
                    saw=sign.saw,
                    message=sign.message,
                )
            )
        return decisions
