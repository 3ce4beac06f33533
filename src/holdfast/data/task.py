"""Tasks, which stages train on, and suites, which are only evaluated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from inspect import Parameter, signature
from typing import Any, Literal, TypeVar

from holdfast.data.environment import Episodes
from holdfast.data.example import Example, Verdict, as_verdict
from holdfast.data.user_values import call
from holdfast.errors import DataError

Verify = Callable[[Example, str], Verdict]
"""A verifier: judges a completion of an example. It may have a third parameter `reasoning`; see `run_verifier`."""

SuiteKind = Literal["retention", "ood"]

VERIFIER_TIMEOUT = 60.0
"""Seconds that a verifier may take for one answer, or an environment for one turn, where nothing else is said."""

VerifierErrors = Literal["stop", "score_zero"]
"""What a verifier's failure does: it ends the run, or the answer has reward 0."""

_V = TypeVar("_V")


def built_in(judge: _V) -> _V:
    """Marks a verifier, or a factory of environments, of holdfast's own: it is pure and fast, and always ends.

    It runs in the training process without a time limit.
    """
    judge.is_built_in = True  # type: ignore[attr-defined]
    return judge


def is_built_in(judge: object) -> bool:
    """Whether a verifier or a factory is marked as `built_in`."""
    try:
        return getattr(judge, "is_built_in", False) is True
    except Exception:  # an object of a user's that finds its attributes in its own way
        return False


@dataclass(frozen=True)
class Suite:
    """A held-out set that no stage trains on: an old skill (`retention`) or a task in another form (`ood`).

    `verifier` is None for a suite that has only demonstrations.
    """

    name: str
    kind: SuiteKind
    test: Sequence[Example]
    verifier: Verify | None
    description: str = ""
    episodes: Episodes | None = None
    """The environment of a suite of several turns. It judges instead of the verifier."""
    judged_by: str = ""
    """What judges an answer, in words; empty if nothing does."""
    chance: float = 0.0
    """Mean score of a model that lacks the skill, such as .25 where each item has four options."""
    verifier_timeout: float = VERIFIER_TIMEOUT
    """Seconds that the verifier may take for one answer, or the environment for one turn. An answer whose time is over
    has reward 0."""
    verifier_errors: VerifierErrors = "stop"
    """What another failure of the verifier or the environment does."""

    @property
    def is_judged(self) -> bool:
        """Whether a verifier or an environment judges answers."""
        return self.verifier is not None or self.episodes is not None

    def verify(self, example: Example, completion: str, reasoning: str = "") -> Verdict:
        """Judge a completion; see `run_verifier`."""
        return run_verifier(_required(self.verifier, "suite", self.name), self.name, example, completion, reasoning)


@dataclass(frozen=True)
class Task:
    """One stage of a stream: training and test examples, and how an answer is judged.

    `verifier` may be None for a task that has only demonstrations. Recipes that learn from rewards refuse such a task.
    A task of several turns has `episodes` instead of a verifier.
    """

    name: str
    train: Sequence[Example]
    test: Sequence[Example]
    verifier: Verify | None = None
    description: str = ""
    episodes: Episodes | None = None
    unread_columns: tuple[str, ...] = ()
    """Columns of the training data that have text and that no field of an example is read from."""
    dropped_records: int = 0
    """Faulty records of both splits that were left out."""
    judged_by: str = ""
    """What judges an answer, in words; empty if nothing does."""
    chance: float = 0.0
    """Mean score of a model that lacks the skill, such as .25 where each item has four options."""
    verifier_timeout: float = VERIFIER_TIMEOUT
    """Seconds that the verifier may take for one answer, or the environment for one turn. An answer whose time is over
    has reward 0."""
    verifier_errors: VerifierErrors = "stop"
    """What another failure of the verifier or the environment does."""

    @property
    def is_judged(self) -> bool:
        """Whether a verifier or an environment judges answers. If not, a set is scored by its demonstrations' NLL."""
        return self.verifier is not None or self.episodes is not None

    def verify(self, example: Example, completion: str, reasoning: str = "") -> Verdict:
        """Judge a completion; see `run_verifier`."""
        return run_verifier(_required(self.verifier, "task", self.name), self.name, example, completion, reasoning)

    def provides(self) -> frozenset[str]:
        """What recipes can use of this task: privileges that every training example has, and 'reward' if it is judged.

        In a task of several turns, actions are a demonstration: each is a turn of the model. A demonstration's text is
        then the last turn.
        """
        names: set[str] = set.intersection(*(set(e.privileges()) for e in self.train)) if self.train else set()
        if self.is_judged:
            names.add("reward")
        if self.episodes is not None and "actions" in names:
            names.add("demonstration")
        return frozenset(names)


def all_sets(tasks: Sequence[Task], suites: Sequence[Suite]) -> list[Task | Suite]:
    """All sets that are evaluated, tasks first."""
    return [*tasks, *suites]


def _required(verifier: Verify | None, kind: str, name: str) -> Verify:
    if verifier is None:
        raise DataError(f"{kind} {name!r} has no verifier", fix="name one with verifier: module:function")
    return verifier


def run_verifier(verifier: Verify, name: str, example: Example, completion: str, reasoning: str = "") -> Verdict:
    """Run a verifier. A plain number is taken as the reward, as TRL's reward functions return it.

    The verifier gets a copy of the example. Nothing that it does to its arguments changes anything outside of it.

    Args:
        verifier: the user's function.
        name: of the task or suite, for error messages.
        example: what is answered.
        completion: what the model wrote: the answer without the thoughts before it.
        reasoning: the thoughts before the answer; "" if there are none. Passed on only to a verifier that has a
            parameter `reasoning`.

    Raises:
        DataError: the verifier raises, or returns something that is no verdict; in one line that names the example.
    """
    where = f"verifier of {name!r}, example {example.id!r}"
    more = {"reasoning": reasoning} if _takes_reasoning(verifier) else {}
    judge: Callable[..., Any] = verifier
    must = "a verifier must judge every completion"
    return as_verdict(call(lambda: judge(example.own_copy(), completion, **more), where, must), where)


def _takes_reasoning(verifier: Verify) -> bool:
    """Whether a verifier has a parameter `reasoning`."""
    try:
        return _has_reasoning(verifier)
    except Exception:  # it cannot be hashed, or not compared with another
        return _has_reasoning.__wrapped__(verifier)


@lru_cache(maxsize=256)
def _has_reasoning(verifier: Verify) -> bool:
    shown = _parameters(verifier, follow_wrapped=True)
    own = _parameters(verifier, follow_wrapped=False) or shown
    if "reasoning" in own:
        return True
    # A decorator with `functools.wraps` shows the parameters of what it wraps, but may not pass this one on.
    return "reasoning" in shown and any(each.kind is Parameter.VAR_KEYWORD for each in own.values())


def _parameters(verifier: Verify, *, follow_wrapped: bool) -> Mapping[str, Parameter]:
    """A function's parameters. None for functions of compiled modules, which have no signature."""
    try:
        return signature(verifier, follow_wrapped=follow_wrapped).parameters
    except (TypeError, ValueError):
        return {}
