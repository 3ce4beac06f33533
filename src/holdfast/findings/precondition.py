"""What must be true of the base before a claim can be tested. It is measured before the runs. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.measure.scores import mean

BaseFacts = Mapping[str, Any]
"""What `holdfast.findings.base_facts` measures on the base in one world: by task, success and style alone and with each
kind of help in the prompt."""


@dataclass(frozen=True)
class Precondition:
    """A bound on a number of the base.

    Args:
        sentence: with the place {value}, e.g. "shown a demonstration, the base answers {value} of the items rightly".
        measure: reads the number from the facts about one world.
        at_least, at_most: the bounds on its mean over the worlds.
    """

    sentence: str
    measure: Callable[[BaseFacts], float | None]
    at_least: float = 0.0
    at_most: float = 1.0

    def check(self, worlds: Sequence[BaseFacts]) -> "Checked":
        """Its mean over worlds, and whether it is within the bounds."""
        return Checked(self, mean(value for facts in worlds if (value := self.measure(facts)) is not None))


@dataclass(frozen=True)
class Checked:
    """A precondition with its number."""

    precondition: Precondition
    value: float | None

    @property
    def is_met(self) -> bool:
        """Whether the number is known and within the bounds."""
        wanted = self.precondition
        return self.value is not None and wanted.at_least <= self.value <= wanted.at_most

    def text(self) -> str:
        """The sentence with its number and the bounds."""
        value = "not measured" if self.value is None else f"{self.value:.0%}"
        low, high = self.precondition.at_least, self.precondition.at_most
        bounds = [f"at least {low:.0%}"] * (low > 0) + [f"at most {high:.0%}"] * (high < 1)
        return f"{self.precondition.sentence.format(value=value)} (needed: {' and '.join(bounds)})"

    def as_json(self) -> dict[str, Any]:
        return {"sentence": self.text(), "value": self.value, "met": self.is_met}


def success(task: str, shown: str = "nothing", *, at_least: float = 0.0, at_most: float = 1.0) -> Precondition:
    """The base's success on a task at temperature 1.

    Args:
        shown: what its prompt shows beside the question: "nothing", "demonstration", "solution", "plan", ...
    """
    how = f"on {task}, the base succeeds in {{value}} of its samples"
    if shown != "nothing":
        how = f"on {task}, the base succeeds in {{value}} of its samples when its prompt shows: {shown}"
    return Precondition(how, lambda facts: _field(facts, task, shown, "mean"), at_least, at_most)


def _field(facts: BaseFacts, task: str, shown: str, field: str) -> float | None:
    value = facts.get(task, {}).get(shown, {}).get(field)
    return None if value is None else float(value)
