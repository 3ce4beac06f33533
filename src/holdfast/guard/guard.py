"""The guard takes in metrics and returns decisions. It needs no run directory and no torch."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from holdfast.guard.messages import message
from holdfast.guard.rules import PROBE_RULES, RULES, MetricsRecord, Severity, Sign, StageMetrics
from holdfast.guard.settings import Action, GuardSettings

CALM = 0.75
"""A run is calm while every rule's level is below this. A rule fires at 1."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One rule that has fired: at which step, on which numbers, what to do, and later what was done."""

    rule: str
    stage: int
    step: int
    global_step: int
    """Optimizer steps of all stages together."""
    task: str
    severity: Severity
    actions: tuple[Action, ...]
    values: dict[str, float]
    """The numbers that the rule compared. Their key in decisions.jsonl is `saw`."""
    message: str
    """The numbers, their condition and how to fix it."""
    outcome: str = ""
    """What was done; empty for a warning."""

    def as_json(self) -> dict[str, Any]:
        """The decision's line of decisions.jsonl."""
        line = {"saw" if name == "values" else name: value for name, value in asdict(self).items()}
        return line | {"actions": list(self.actions)}


class Guard:
    """Watches a run step by step.

    In mode `warn` a rule fires at most once in a stage, and its only action is a warning. In mode `act` it may fire
    again after two windows of records. The guard's state follows from the records alone, so a resumed run replays its
    logs.

    Args:
        reference: scores of the retention suites before training, by name. None: those of the first probe.
        probe_items: items that a probe uses of every suite, or of each by name. The error of a score follows from it.
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
        self._stage_number: int | None = None
        self._stage = self._new_stage()
        self._quiet_until: dict[str, float] = {}
        """The number of records before which a rule does not fire again."""
        self._levels: dict[str, float] = {}
        self._step = self._records = 0
        self.informed: set[str] = set()
        """The rules that have had the data that they compare, in any stage."""

    def see(self, record: MetricsRecord) -> list[Decision]:
        """Take in the metrics of one optimizer step, as in a line of metrics.jsonl, and return the decisions.

        Every key may be missing: `stage` (1), `step` (counted), `task`, `loss`, `grad_norm`, `reward`, `kl_teacher`,
        `entropy`, `distinct_2`, `repetition`, `truncated_fraction`, `active_rows`, `teacher_share`, `is_ratio_mean`,
        `kl_base`. A rule whose metrics are missing does not fire.
        """
        self._enter(record)
        self._step = record.get("step", self._step + 1)
        self._records += 1  # windows count records, because some trainers log only every n-th step
        self._stage.see(record)
        self._stage.probe = {}  # a probe is judged once, when it is taken
        return self._ask([name for name in RULES if name != "retention"], record)

    def see_probe(self, record: MetricsRecord) -> list[Decision]:
        """Take in a probe, as in a line of probes.jsonl, and return the decisions.

        Args:
            record: `scores` by set, `kl_to_base`; either may be missing.
        """
        self._enter(record)
        self._step = record.get("step", self._step)
        if self._reference is None and record.get("scores"):
            self._reference = dict(record["scores"])
            self._stage.reference = self._reference
        self._stage.probe = record
        return self._ask([name for name in RULES if name in PROBE_RULES], record)

    def see_stage_end(
        self, record: MetricsRecord, reference: Mapping[str, float], items: Mapping[str, int]
    ) -> list[Decision]:
        """Take in the evaluation at the end of a stage, which uses all items, and return the decisions.

        The stage is over, so its decisions can only warn, or stop the run: other actions would change nothing.

        Args:
            record: as for `see_probe`.
            reference: scores of the retention suites before training over all items, by name.
            items: number of items of each suite.
        """
        self._enter(record)
        self._step = record.get("step", self._step)
        self._stage.reference, self._stage.probe_items, self._stage.probe = reference, items, record
        decisions = self._ask([name for name in RULES if name in PROBE_RULES], record)
        return [replace(d, actions=("stop",) if "stop" in d.actions else ("warn",)) for d in decisions]

    def replay(self, records: Iterable[MetricsRecord], probes: Iterable[MetricsRecord] = ()) -> None:
        """Take in the logs of an earlier process, in the order in which they were written."""
        steps = [((r["stage"], r["step"], 0), r) for r in records]
        steps += [((p["stage"], p["step"], 1), p) for p in probes]  # a step's probe comes after its metrics
        for (_, _, is_probe), record in sorted(steps, key=lambda pair: pair[0]):
            if is_probe:
                self.see_probe(record)
            else:
                self.see(record)

    @property
    def is_calm(self) -> bool:
        """Whether no rule was close to firing when it was last asked."""
        return all(level < CALM for level in self._levels.values())

    @property
    def mean_reward(self) -> tuple[float, float] | None:
        """Mean reward over the latest window and its standard error; None without rewards."""
        reward = self._stage.series("reward")
        # `error` is that of a difference of two windows.
        return (reward.last, reward.error / math.sqrt(2)) if reward is not None else None

    def _new_stage(self) -> StageMetrics:
        return StageMetrics(self.settings.window, self._reference or {}, self._probe_items)

    def _enter(self, record: MetricsRecord) -> None:
        """Forget the last stage if the record is the first of another one."""
        number = record.get("stage", 1)
        if number != self._stage_number:
            self._stage_number, self._stage = number, self._new_stage()
            self._quiet_until, self._levels, self._step, self._records = {}, {}, 0, 0

    def _ask(self, names: Iterable[str], record: MetricsRecord) -> list[Decision]:
        if self.settings.mode == "off":
            return []
        decisions = []
        for name in names:
            rule, _ = RULES[name]
            action = getattr(self.settings.rules, name).action
            sign = rule(self._stage, self.settings.rules) if action else None
            if sign is not None:
                self.informed.add(name)
            self._levels[name] = sign.level if sign is not None else 0.0
            if sign is None or sign.level < 1 or self._records < self._quiet_until.get(name, 0):
                continue
            acts = self.settings.mode == "act"
            if not acts or set(action) == {"warn"}:
                self._quiet_until[name] = math.inf
            elif name != "not_finite":
                # The log holds null instead of a non-finite number. A replay could not know when this rule last fired.
                self._quiet_until[name] = self._records + 2 * self.settings.window
            decisions.append(self._decision(name, sign, tuple(action) if acts else ("warn",), record))
        return decisions

    def _decision(self, rule: str, sign: Sign, actions: tuple[Action, ...], record: MetricsRecord) -> Decision:
        _, severity = RULES[rule]
        return Decision(
            rule=rule,
            stage=self._stage_number or 1,
            step=self._step,
            global_step=record.get("global_step", self._step),
            task=record.get("task", ""),
            severity=severity,
            actions=actions,
            values=sign.values,
            message=message(rule, sign.values, sign.subject),
        )
