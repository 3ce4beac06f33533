"""The guard in a run: what it has changed, which checkpoint is healthy, and what a decision does."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from holdfast.config.settings import RunConfig
from holdfast.data.rows import Row
from holdfast.guard.guard import Decision, Guard
from holdfast.guard.settings import Action, GuardSettings
from holdfast.measure.artifacts import grown_ngrams
from holdfast.model.processes import Processes
from holdfast.store.files import json_safe
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.observer import Observer
from holdfast.train.teacher import Teacher

ANSWERS_KEPT = 16
"""Completions of a batch that are kept to find artifact tokens in."""

MASKED_AT_MOST = 8
"""n-grams that one decision masks: those with the clearest evidence."""

TokenNgram = tuple[int, ...]


@dataclass
class Remedies:
    """What the guard has changed, to the end of the stage; plain data, which a checkpoint holds."""

    frozen: bool = False
    rate: float = 1.0
    masked: list[TokenNgram] = field(default_factory=list)
    roll_backs: int = 0
    ends: Literal["", "stage", "run"] = ""


@dataclass
class Healthy:
    """The checkpoint to go back to, and those that may become it; plain data, which a checkpoint holds.

    A checkpoint is healthy once two windows of steps have gone by after it in which no rule was near to firing and the
    reward was not below the best by more than its error: so CGTR gates what a teacher is refreshed with (2606.03532).
    """

    number: int = 0
    before: int | None = None
    """The healthy one of this stage before that, in case it is damaged."""
    candidates: dict[int, int] = field(default_factory=dict)
    """Step of each, by number."""
    best_reward: float | None = None

    def see(self, step: int, calm: bool, reward: tuple[float, float] | None, patience: int) -> None:
        """Judge the candidates after a step; `reward`: mean and standard error of the latest steps."""
        if not calm:
            self.candidates.clear()
            return
        ripe = [number for number, since in self.candidates.items() if step - since >= patience]
        if not ripe:
            return
        if reward is None or self.best_reward is None or reward[0] >= self.best_reward - reward[1]:
            self.number, self.before = max(ripe), self.number
            if reward is not None:
                self.best_reward = reward[0] if self.best_reward is None else max(reward[0], self.best_reward)
        for number in ripe:
            del self.candidates[number]


def _count(answer: Sequence[int], ngram: TokenNgram) -> int:
    n = len(ngram)
    return sum(tuple(answer[i : i + n]) == ngram for i in range(len(answer) - n + 1))


@dataclass(frozen=True)
class GuardReading:
    """What the main process's guard says after a step or a probe."""

    decisions: list[Decision]
    calm: bool
    reward: tuple[float, float] | None


def guard_of(config: RunConfig) -> GuardSettings:
    """A run's guard, less the rule that compares sampler and student where another model samples."""
    guard = config.guard
    if config.recipe.rollouts().source != "base":
        return guard
    rule = guard.rules.stale_sampler.model_copy(update={"action": []})
    return guard.model_copy(update={"rules": guard.rules.model_copy(update={"stale_sampler": rule})})


class Guarding:
    """The guard of one run, alike in all of its processes; the rules themselves are asked on the main one.

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
        self.reference: Mapping[str, float] = {}
        self.probe_items: Mapping[str, int] = {}
        self.remedies, self.healthy = Remedies(), Healthy()
        self.undone = 0
        """Steps that roll-backs have undone, and roll-backs, since the run began: checkpoints are numbered on past
        them."""
        self.first: list[list[int]] = []
        self.latest: list[list[list[int]]] = []

    @property
    def acts(self) -> bool:
        return self.settings.mode == "act"

    def watch(self) -> None:
        """Begin to watch, or begin anew after a roll-back: the guard sees the run's logs again."""
        if self.world.is_main:
            self._guard = Guard(self.settings, reference=self.reference, probe_items=self.probe_items)
            self._guard.replay(self.directory.records("metrics.jsonl"), self.directory.records("probes.jsonl"))

    def begin_stage(self, number: int) -> None:
        """A stage begins as configured, from checkpoint `number`; that the run is to end stays."""
        self.remedies = Remedies(ends="run" if self.remedies.ends == "run" else "")
        self.healthy = Healthy(number)
        self.first, self.latest = [], []
        self.hold()

    @property
    def goes_on_after_not_finite(self) -> bool:
        """Whether a step whose loss or gradient is not finite is decided on, and does not end the run."""
        return self.acts and bool(set(self.settings.rules.not_finite.action) - {"warn"})

    def went_back(self, steps: int, number: int, to: int) -> None:
        """A roll-back to checkpoint `to` has undone so many steps; its position, which had `number`, is saved next."""
        self.undone += steps + 1
        self.remedies.roll_backs += 1
        self.healthy.number, self.healthy.before = number + steps + 1, to
        self.healthy.candidates.clear()

    def follow_back(self, state: Mapping[str, Any], number: int, to: int) -> None:
        """The run has gone back by its recipe's plan to checkpoint `to`, with this state; `number` is saved next."""
        if not self.acts:
            return
        undone, roll_backs = self.undone, self.remedies.roll_backs
        self.load(state)
        self.undone, self.remedies.roll_backs = undone, roll_backs
        self.healthy.number, self.healthy.before = number, to
        self.healthy.candidates.clear()

    def saving(self, number: int, step: int) -> None:
        """A checkpoint is about to be written."""
        if step and self.acts:
            self.healthy.candidates[number] = step

    def ways_back(self) -> list[int]:
        """Numbers of the healthy checkpoints of the stage that are kept, the latest first."""
        return [number for number in (self.healthy.number, self.healthy.before) if number is not None]

    def spared(self) -> set[int]:
        """Numbers of the checkpoints that must be kept."""
        return {*self.ways_back(), *self.healthy.candidates} if self.acts else set()

    def see(self, record: Mapping[str, Any], rows: Sequence[Row]) -> list[Decision]:
        """After a step: its numbers and the rows that it was taken on; the decisions that follow."""
        if self.acts and record.get("completions"):
            self._keep(rows)
        verdict = self.world.main(lambda: self._verdict(self._guard.see(record)))
        if self.acts:
            self.healthy.see(record["step"], verdict.calm, verdict.reward, 2 * self.settings.window)
        return verdict.decisions

    def see_probe(self, record: Mapping[str, Any]) -> list[Decision]:
        """After a probe; the decisions that follow."""
        verdict = self.world.main(lambda: self._verdict(self._guard.see_probe(record)))
        if self.acts and not verdict.calm:
            self.healthy.candidates.clear()
        return verdict.decisions

    def _verdict(self, decisions: list[Decision]) -> GuardReading:
        return GuardReading(decisions, self._guard.is_calm, self._guard.mean_reward)

    def _keep(self, rows: Sequence[Row]) -> None:
        # Of several answers to a prompt one: they are not independent. None to an earlier task, whose form is its own.
        by_prompt = {row.example.id: row for row in rows if row.is_sampled and not row.replayed}
        answers = [list(row.own_ids()) for row in list(by_prompt.values())[:ANSWERS_KEPT]]
        if len(self.first) < self.settings.window * ANSWERS_KEPT:
            self.first += answers
        self.latest = [*self.latest, answers][-self.settings.window :]

    def apply(self, actions: Iterable[Action], demonstrations: Sequence[list[int]], *, rolled_back: bool) -> list[str]:
        """Change what actions other than the roll-back itself change; what was done, in words.

        After a roll-back something always differs from before, or the same would happen again: where nothing else
        does, the rate is lowered. What changes only once a teacher that nobody is taught by yet begins to teach is not
        enough.
        """
        own, did, later = self.remedies, list[str](), list[str]()
        if "refresh_teacher" in actions and self.teacher is not None and self.teacher.average is not None:
            self.teacher.average.reset("student")
            (later if self.teacher.waits else did).append("the teacher is a copy of the student")
        if "freeze_teacher" in actions and self.teacher is not None and self.teacher.can_freeze and not own.frozen:
            own.frozen = True
            if self.teacher.waits:
                later.append("the teacher stands still from its first refresh on")
            else:
                did.append("the teacher stands still from here")
        if "mask_tokens" in actions and (new := set(self._artifacts(demonstrations)) - set(own.masked)):
            own.masked = sorted({*own.masked, *new})
            did.append(f"{len(new)} artifact n-grams carry no loss")
        if "lower_rate" in actions or (rolled_back and not did):
            own.rate *= self.settings.rate_factor
            did.append(f"the learning rate is {own.rate:g} times what is configured")
        if "stop" in actions or "end_stage" in actions:
            own.ends = "run" if "stop" in actions else "stage"
            did.append("the run ends here" if own.ends == "run" else "the stage ends here")
        self.hold()
        return did + later

    def write(self, decisions: Sequence[Decision], did: Sequence[str], observer: Observer) -> None:
        """Write decisions down with what came of them: those of one step are carried out together."""
        if self.world.is_main:
            for decision in decisions:
                decided = replace(decision, outcome="; ".join(did))
                self.directory.append("decisions.jsonl", json_safe(decided.as_json()))
                observer.decided(decided)

    def hold(self) -> None:
        """Let the teacher move or not, as the remedies say."""
        if self.teacher is not None:
            self.teacher.frozen = self.remedies.frozen

    def _artifacts(self, demonstrations: Sequence[list[int]]) -> list[TokenNgram]:
        """Token n-grams that stand in more of the latest completions than of the stage's first ones.

        Those that demonstrations contain as often are what the task teaches, and no artifacts; without demonstrations,
        only what some answer repeats is one. The end of a completion never is. Answers of then and now are to other
        prompts: as independent draws, in any order, they are pairs that a sign test may be made on.
        """
        latest = [answer for answers in self.latest for answer in answers]
        pairs = min(len(self.first), len(latest))
        if not pairs:
            return []
        before, now = ({str(i): [side[i]] for i in range(pairs)} for side in (self.first, latest))
        grown = grown_ngrams(before, now, demonstrations or None, longest=2).grown
        found = [(tuple(int(unit) for unit in g.ngram), g.q_beyond) for g in grown]
        beyond = [
            ngram
            for ngram, q in found
            if not self.eos_ids & set(ngram)
            and (q <= 0.05 if q is not None else any(_count(answer, ngram) > 1 for answer in latest))
        ]
        return beyond[:MASKED_AT_MOST]

    def mask(self, rows: Sequence[Row]) -> None:
        """Take masked n-grams out of the loss of rows: weight 0, wherever they stand in a completion."""
        for row in rows if self.remedies.masked else ():
            weights = list(row.token_weights or [1.0] * len(row.completion_ids))
            for ngram in self.remedies.masked:
                n = len(ngram)
                for i in range(len(row.completion_ids) - n + 1):
                    if tuple(row.completion_ids[i : i + n]) == ngram:
                        weights[i : i + n] = [0.0] * n
            if not all(weights):
                row.token_weights = weights

    def as_json(self) -> dict[str, Any]:
        """Everything that a checkpoint must hold."""
        if not self.acts:
            return {}
        state = {"remedies": asdict(self.remedies), "healthy": asdict(self.healthy)}
        return state | {"undone": self.undone, "first": self.first, "latest": self.latest}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back what `as_json` gave."""
        if not state:
            return
        remedies, healthy = dict(state["remedies"]), dict(state["healthy"])
        remedies["masked"] = [tuple(ngram) for ngram in remedies["masked"]]
        healthy["candidates"] = {int(number): step for number, step in healthy["candidates"].items()}
        self.remedies, self.healthy = Remedies(**remedies), Healthy(**healthy)
        self.undone, self.first, self.latest = state["undone"], list(state["first"]), list(state["latest"])
        self.hold()

    def take_answers(self, state: Mapping[str, Any]) -> None:
        """After a roll-back: the completions as they were known at its checkpoint."""
        self.first, self.latest = list(state["first"]), list(state["latest"])
