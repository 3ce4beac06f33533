"""Demonstrations in the model's own voice: it is shown each one and answers in its own words.

Self-distillation after arXiv 2402.13669: ỹ ~ f(· | template(x, y)), and y' = ỹ if its content is right, else y. A
demonstration that cannot be rewritten stays as it is. So the examples stay the same, and only their voice changes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from holdfast.data.chat import Demonstration
from holdfast.data.example import Example
from holdfast.data.rows import Row
from holdfast.data.seeds import derive_seed
from holdfast.data.task import Task
from holdfast.data.teacher_prompts import demonstration_prompt
from holdfast.errors import ConfigError, DataError
from holdfast.model.policy import Policy
from holdfast.recipes.base.needs import FIXES
from holdfast.recipes.parts.rewriting import Rewriting
from holdfast.rollouts.row_sampler import RowSampler
from holdfast.rollouts.training_prompts import TrainingPrompt
from holdfast.sampling.sampler import Request
from holdfast.tasks.verifiers import contains_answer

RewriteOutcome = Literal["rewritten", "same words", "wrong", "cut off", "too long", "other form"]

REASONS: Mapping[RewriteOutcome, str] = {
    "rewritten": "in the model's own words",
    "same words": "word for word as it was",
    "wrong": "no try was right",
    "cut off": "no try ended before the longest completion",
    "too long": "the prompt that shows it, or the rewritten text, does not fit",
    "other form": "calls of tools, several trained turns, or a prompt that is rendered already",
}
"""What became of a demonstration. After the first two, the model's text is taken; after the others it stays."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What became of one demonstration.

    Attributes:
        id: of the example.
        text: the model's text; None if the demonstration stays.
        tries: answers that were sampled for it. tokens: of all of them.
    """

    id: str
    text: str | None
    outcome: RewriteOutcome
    tries: int = 0
    tokens: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def count_outcomes(rewrites: Iterable[Rewrite]) -> dict[str, int]:
    """How many demonstrations had each outcome, in the order of `REASONS`; those without any are left out."""
    counts = Counter(each.outcome for each in rewrites)
    return {outcome: counts[outcome] for outcome in REASONS if counts[outcome]}


def judging_task(task: Task, rewriting: Rewriting) -> Task:
    """The task with the verifier that the check names.

    Raises:
        ConfigError: an environment judges the task, or nothing does and the check needs a verifier.
    """
    where = f"task {task.name!r}"
    if task.episodes is not None:
        fix = "leave the task as it is: demonstrations of several turns are not rewritten"
        raise ConfigError("it has an environment, and only answers of one turn are rewritten", where=where, fix=fix)
    if rewriting.check == "contains":
        return replace(task, verifier=contains_answer)
    if task.verifier is None:
        fix = f"{FIXES['reward']}; or check that the text contains the demonstration: `check: contains`"
        raise ConfigError("nothing says whether a rewritten demonstration is right", where=where, fix=fix)
    return task


class Rewriter:
    """Rewrites demonstrations with a policy.

    Args:
        policy: the student; its chat format is used.
        sampler: samples from the student, and from the base if that writes.
        longest: tokens of the longest prompt that shows a demonstration, and of the longest text.
        seed: the run's seed.
    """

    def __init__(self, policy: Policy, sampler: RowSampler, longest: tuple[int, int], seed: int) -> None:
        self._policy, self._sampler, self._seed = policy, sampler, seed
        self._longest_prompt, self._longest_text = longest

    def rewrite(self, task: Task, examples: Sequence[Example], rewriting: Rewriting) -> list[Rewrite]:
        """What became of each example's demonstration, in their order.

        A try is named by the seed, the task, the example and its number. So it does not depend on the others.

        Raises:
            ConfigError: as `judging_task`.
        """
        judge = judging_task(task, rewriting)
        done: dict[int, Rewrite] = {}
        open_: dict[int, TrainingPrompt] = {}
        for place, example in enumerate(examples):
            prompt = self._prompt(example, rewriting.template)
            if isinstance(prompt, str):
                done[place] = Rewrite(example.id, None, prompt)
            else:
                open_[place] = TrainingPrompt(example, prompt)
        spent = Counter[int]()
        for attempt in range(rewriting.tries):
            rows = self._answers(judge, list(open_.values()), rewriting, attempt)
            is_last = attempt + 1 == rewriting.tries
            for place, row in zip(list(open_), rows, strict=True):
                spent[place] += len(row.completion_ids)
                outcome = self._outcome(row, rewriting)
                if is_last or outcome in ("rewritten", "same words"):
                    text = row.completion if outcome in ("rewritten", "same words") else None
                    done[place] = Rewrite(row.example.id, text, outcome, attempt + 1, spent[place])
                    del open_[place]
        return [done[place] for place in range(len(examples))]

    def prompt(self, example: Example, text: str) -> TrainingPrompt:
        """A training example with a text of `rewrite` as its demonstration, in tokens."""
        changed, demonstration = self._encoded(example, text)
        return TrainingPrompt(changed, demonstration.prompt_ids, demonstration)

    def _encoded(self, example: Example, text: str) -> tuple[Example, Demonstration]:
        changed = replace(example, demonstration=text)
        return changed, self._policy.chat_format.encode_demonstration(changed, where=example.id)

    def _answers(
        self, task: Task, prompts: Sequence[TrainingPrompt], rewriting: Rewriting, attempt: int
    ) -> Sequence[Row]:
        temperature = rewriting.temperature_of(attempt)
        requests = [
            Request(
                prompt.prompt_ids,
                seed=derive_seed(self._seed, "rewrite", task.name, prompt.example.id, attempt),
                temperature=temperature,
            )
            for prompt in prompts
        ]
        if not requests:
            return []
        return self._sampler.rows([(task, prompt) for prompt in prompts], requests, rewriting.writer)

    def _prompt(self, example: Example, template: str) -> list[int] | RewriteOutcome:
        """The tokens of the prompt that shows the demonstration, or why there is none."""
        if example.rendered_prompt is not None or example.trained_turns or example.demonstration_message is not None:
            return "other form"
        assert example.demonstration is not None  # guaranteed by the recipe's needs
        messages = demonstration_prompt(example.messages, example.demonstration, template)
        ids = self._policy.chat_format.encode_teacher_prompt(example, messages, where=f"rewriting of {example.id}")
        return ids if len(ids) <= self._longest_prompt else "too long"

    def _outcome(self, row: Row, rewriting: Rewriting) -> RewriteOutcome:
        if row.truncated:
            return "cut off"
        if row.reward < rewriting.success_threshold or not row.completion.strip():
            return "wrong"
        try:
            encoded = self._encoded(row.example, row.completion)[1]
        except DataError:  # it has a text that ends a turn, or thoughts that never end
            return "wrong"
        if len(encoded.ids) > self._longest_text:
            return "too long"
        return "same words" if row.completion == row.example.demonstration else "rewritten"
