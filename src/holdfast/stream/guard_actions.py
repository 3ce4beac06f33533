"""What a run does when a rule of the guard fires, and which of its changes last to the end of the stage."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from holdfast.config.settings import RunConfig
from holdfast.data.rows import Row
from holdfast.guard.guard import Decision, Guard
from holdfast.guard.settings import Action, GuardSettings
from holdfast.model.processes import Processes
from holdfast.store.files import json_safe
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.artifacts import CompletionHistory, TokenNgram, mask_ngrams
from holdfast.stream.healthy_checkpoints import HealthyCheckpoints
from holdfast.stream.observer import Observer
from holdfast.train.teacher import Teacher


@dataclass
class GuardChanges:
    """What the guard has changed. It lasts to the end of the stage; a checkpoint holds it as plain data."""

    teacher_frozen: bool = False
    rate_factor: float = 1.0
    """What the learning rate is multiplied by."""
    masked: list[TokenNgram] = field(default_factory=list)
    """Token n-grams that carry no loss."""
    roll_backs: int = 0
    ends: Literal["", "stage", "run"] = ""
    """What ends at the current step; empty if nothing does."""

    def as_json(self) -> dict[str, Any]:
        """Plain data for a checkpoint. The keys are those of earlier versions."""
        return {
            "frozen": self.teacher_frozen,
            "rate": self.rate_factor,
            "masked": self.masked,
            "roll_backs": self.roll_backs,
            "ends": self.ends,
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "GuardChanges":
        masked = [tuple(ngram) for ngram in saved["masked"]]
        return cls(saved["frozen"], saved["rate"], masked, saved["roll_backs"], saved["ends"])


@dataclass(frozen=True)
class GuardReading:
    """What the guard of the main process reports after a step or a probe."""

    decisions: list[Decision]
    calm: bool
    """No rule is close to firing."""
    reward: tuple[float, float] | None
    """Mean and standard error of the latest window."""


def guard_settings(config: RunConfig) -> GuardSettings:
    """A run's guard settings. `stale_sampler` is off if the base samples: sampler and student then always differ."""
    guard = config.guard
    if config.recipe.rollout_spec().source != "base":
        return guard
    rule = guard.rules.stale_sampler.model_copy(update={"action": []})
    return guard.model_copy(update={"rules": guard.rules.model_copy(update={"stale_sampler": rule})})


class RunGuard:
    """The guard of one run: asks the rules, and carries out what they decide, except the roll-back itself.

    The main process asks the rules. Every process has the decisions and the state, so that all of them do the same.

    Args:
        eos_ids: tokens that end a completion, which are never masked.
    """

    def __init__(
        self,
        settings: GuardSettings,
        directory: RunDirectory,
        teacher: Teacher | None,
        eos_ids: Collection[int] = (),
    ) -> None:
        self.settings, self.directory, self.teacher, self.eos_ids = settings, directory, teacher, frozenset(eos_ids)
        self.world = Processes.current()
        self._reference: Mapping[str, float] = {}
        self._probe_items: Mapping[str, int] = {}
        self.changes, self.healthy = GuardChanges(), HealthyCheckpoints()
        self.completions = CompletionHistory(settings.window)
        self.undone = 0
        """Steps that roll-backs have undone since the run began, plus the number of roll-backs. Checkpoint numbers
        continue after them, so that the newest checkpoint always has the highest number."""

    @property
    def acts(self) -> bool:
        """Whether decisions change the run."""
        return self.settings.mode == "act"

    @property
    def continues_after_not_finite(self) -> bool:
        """Whether a loss or gradient that is not finite leads to a decision instead of the end of the run."""
        return self.acts and bool(set(self.settings.rules.not_finite.action) - {"warn"})

    def watch(self, reference: Mapping[str, float], probe_items: Mapping[str, int]) -> None:
        """Start to watch, with what the logs hold already.

        Args:
            reference: scores of the retention suites before the first stage, by name.
            probe_items: items that a probe uses of each.
        """
        self._reference, self._probe_items = reference, probe_items
        self.replay_logs()

    def replay_logs(self) -> None:
        """Show the logs to a new guard: after a resume, and after a roll-back has cut them.

        The guard's state follows from the logs alone. So a checkpoint need not hold it.
        """
        if self.world.is_main:
            self._guard = Guard(self.settings, reference=self._reference, probe_items=self._probe_items)
            # Probes that refine others were not shown to the guard: their steps were past.
            probes = (probe for probe in self.directory.records("probes.jsonl") if not probe.get("refines"))
            self._guard.replay(self.directory.records("metrics.jsonl"), probes)

    def start_stage(self, number: int) -> None:
        """Undo all changes for a new stage, which starts from checkpoint `number`; the end of the run stays decided."""
        self.changes = GuardChanges(ends="run" if self.changes.ends == "run" else "")
        self.healthy = HealthyCheckpoints(number)
        self.completions.clear()
        self._set_teacher()

    def see(self, record: Mapping[str, Any], rows: Sequence[Row]) -> list[Decision]:
        """The decisions after an optimizer step.

        Args:
            record: the step's line of metrics.jsonl.
            rows: what the step was taken on.
        """
        if self.acts and record.get("completions"):  # only the first step on a rollout batch has new completions
            self.completions.add(rows)
        reading = self.world.main(lambda: self._reading(self._guard.see(record)))
        if self.acts:
            self.healthy.see(record["step"], reading.calm, reading.reward, 2 * self.settings.window)
        return reading.decisions

    def see_probe(self, record: Mapping[str, Any]) -> list[Decision]:
        """The decisions after a probe.

        Args:
            record: its line of probes.jsonl.
        """
        reading = self.world.main(lambda: self._reading(self._guard.see_probe(record)))
        if self.acts and not reading.calm:
            self.healthy.candidates.clear()
        return reading.decisions

    def see_stage_end(
        self,
        record: Mapping[str, Any],
        reference: Mapping[str, float],
        items: Mapping[str, int],
        *,
        is_last: bool,
        observer: Observer,
    ) -> None:
        """Ask the rules about the evaluation at a stage's end, and log what they decide.

        Args:
            record, reference, items: as for `Guard.see_stage_end`.
            is_last: whether no stage is left, so that there is nothing to stop.
        """
        decisions = self.world.main(lambda: self._guard.see_stage_end(record, reference, items))
        if not decisions:
            return
        outcome = ["the stage is over, so nothing is undone"] if self.acts else []
        if any("stop" in decision.actions for decision in decisions) and not is_last:
            self.changes.ends = "run"
            outcome = ["the run ends here"]
        self.write(decisions, outcome, observer)

    def _reading(self, decisions: list[Decision]) -> GuardReading:
        return GuardReading(decisions, self._guard.is_calm, self._guard.mean_reward)

    def apply(self, actions: Iterable[Action], demonstrations: Sequence[list[int]], *, rolled_back: bool) -> list[str]:
        """Carry out all actions except the roll-back itself, and return what was done, in words.

        After a roll-back something must differ, or the same would happen again. If no other action changes anything
        right away, the learning rate is lowered. A change to a teacher that does not teach yet is not enough.

        Args:
            demonstrations: of the stage's task, in tokens; for `mask_tokens`.
            rolled_back: the run has just gone back.
        """
        changes, done, later = self.changes, list[str](), list[str]()
        if "refresh_teacher" in actions and self.teacher is not None and self.teacher.average is not None:
            self.teacher.average.reset("student")
            (later if self.teacher.waits else done).append("the teacher is a copy of the student")
        freezes = "freeze_teacher" in actions and not changes.teacher_frozen
        if freezes and self.teacher is not None and self.teacher.can_freeze:
            changes.teacher_frozen = True
            if self.teacher.waits:
                later.append("the teacher is frozen after its first refresh")
            else:
                done.append("the teacher is frozen")
        if "mask_tokens" in actions and (new := self._new_artifacts(demonstrations)):
            changes.masked = sorted({*changes.masked, *new})
            done.append(f"{len(new)} artifact n-grams carry no loss")
        if "lower_rate" in actions or (rolled_back and not done):
            changes.rate_factor *= self.settings.rate_factor
            done.append(f"the learning rate is {changes.rate_factor:g} times the configured rate")
        if "stop" in actions or "end_stage" in actions:
            changes.ends = "run" if "stop" in actions else "stage"
            done.append(f"the {changes.ends} ends here")
        self._set_teacher()
        return done + later

    def _new_artifacts(self, demonstrations: Sequence[list[int]]) -> set[TokenNgram]:
        return set(self.completions.artifacts(demonstrations, self.eos_ids)) - set(self.changes.masked)

    def _set_teacher(self) -> None:
        """Freeze or release the teacher, as the changes say."""
        if self.teacher is not None:
            self.teacher.frozen = self.changes.teacher_frozen

    def mask(self, rows: Sequence[Row]) -> None:
        """Remove masked n-grams from the loss of rows."""
        mask_ngrams(rows, self.changes.masked)

    def write(self, decisions: Sequence[Decision], outcome: Sequence[str], observer: Observer) -> None:
        """Log decisions with what was done. All decisions of a step have the same outcome: they act together."""
        if self.world.is_main:
            for decision in decisions:
                with_outcome = replace(decision, outcome="; ".join(outcome))
                self.directory.append("decisions.jsonl", json_safe(with_outcome.as_json()))
                observer.decided(with_outcome)

    def add_candidate(self, number: int, step: int) -> None:
        """Consider checkpoint `number`, which is about to be written after `step` steps, as the next healthy one."""
        if step and self.acts:
            self.healthy.candidates[number] = step

    def needed_checkpoints(self) -> set[int]:
        """Numbers of the checkpoints that must not be removed."""
        return {*self.healthy.newest_first(), *self.healthy.candidates} if self.acts else set()

    def rolled_back(self, steps: int, number: int, to: int) -> None:
        """Account for a roll-back to checkpoint `to` that has undone `steps` optimizer steps.

        Args:
            number: of a checkpoint of the new position, before this roll-back counts.
        """
        self.undone += steps + 1
        self.changes.roll_backs += 1
        self.healthy.replace(number + steps + 1, to)

    def follow_return(self, state: Mapping[str, Any], number: int, to: int) -> None:
        """Follow a return that the recipe planned: take the state of checkpoint `to`, saved next as `number`.

        What counts roll-backs stays as it is: a planned return undoes none of them.
        """
        if not self.acts:
            return
        undone, roll_backs = self.undone, self.changes.roll_backs
        self.load_state(state)
        self.undone, self.changes.roll_backs = undone, roll_backs
        self.healthy.replace(number, to)

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint; empty if the guard changes nothing. The keys are those of earlier versions."""
        if not self.acts:
            return {}
        return {
            "remedies": self.changes.as_json(),
            "healthy": self.healthy.as_json(),
            "undone": self.undone,
            "first": self.completions.first,
            "latest": self.completions.latest,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        if not state:
            return
        self.changes = GuardChanges.from_json(state["remedies"])
        self.healthy = HealthyCheckpoints.from_json(state["healthy"])
        self.undone = state["undone"]
        self.load_completions(state)
        self._set_teacher()

    def load_completions(self, state: Mapping[str, Any]) -> None:
        """Restore only the completions: after a roll-back, everything else continues from the decision."""
        self.completions.first, self.completions.latest = list(state["first"]), list(state["latest"])
