"""How demonstrations are rewritten in a model's own voice before a stage trains on them."""

from dataclasses import dataclass
from typing import Literal, get_args

from holdfast.data.teacher_prompts import require_places

RewriteCheck = Literal["verifier", "contains"]

Writer = Literal["base", "student"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewriting:
    """A model is shown each demonstration and answers in its own words. The first answer that is right is taken.

    Args:
        template: the last user message of the prompt that shows the demonstration, with the places {prompt} and
            {demonstration}.
        writer: the base, or the student as it is at the start of the stage.
        check: what says that the content is right: the task's verifier, or that the answer is found in the text
            (`holdfast.tasks.verifiers.contains_answer`).
        tries: answers per example, at most.
        temperature: of the answers that are sampled.
        greedy_first: the first try is greedy. The others are sampled in any case.
        success_threshold: reward from which the verifier calls an answer right.
    """

    template: str
    writer: Writer = "base"
    check: RewriteCheck = "verifier"
    tries: int = 2
    temperature: float = 1.0
    greedy_first: bool = True
    success_threshold: float = 1.0

    def __post_init__(self) -> None:
        if self.check not in get_args(RewriteCheck):
            raise ValueError(f"check is {self.check!r}; it must be one of {', '.join(get_args(RewriteCheck))}")
        require_places("template", self.template, "prompt", "demonstration")
        if self.tries < 1:
            raise ValueError(f"tries is {self.tries}; it must be at least 1")
        if self.temperature <= 0:
            raise ValueError(f"the temperature is {self.temperature:g}; it must be above 0")

    def temperature_of(self, attempt: int) -> float:
        """The temperature of a try, from 0; a temperature of 0 is greedy."""
        return 0.0 if attempt == 0 and self.greedy_first else self.temperature
