"""Which prompt shows a demonstration best: several are tried, and one is proposed if it is shown to be better.

By the template alone, the share of demonstrations that a small model follows can go from a quarter to all.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from holdfast.data.chat import PromptTooLong
from holdfast.data.example import Example
from holdfast.data.rows import Group, Row
from holdfast.data.teacher_prompts import (
    DEMONSTRATION_TEMPLATE,
    REFERENCE_TEMPLATE,
    demonstration_prompt,
    privileged_text,
)
from holdfast.measure.paired_items import compare_paired
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.base.solution_template import template_of
from holdfast.sampling.complete import complete
from holdfast.sampling.sampler import Request, Sampler
from holdfast.stream.check.trial import Trial
from holdfast.stream.run import Run

TEMPLATES: Mapping[str, str] = {
    "default": DEMONSTRATION_TEMPLATE,
    "repeat": "{prompt}\n\nRepeat this: {demonstration}",
    "answer above": "{prompt}\n\n{demonstration}\n\nThe text above is the right answer to the question. Answer it.",
    "question and answer": (
        "Question: {prompt}\n\nCorrect answer: {demonstration}\n\nAnswer the question correctly, in your own words."
    ),
    "reference": REFERENCE_TEMPLATE,
}
"""The templates that are tried beside the recipe's own."""

TRIED_ITEMS = 20
"""Training prompts that each template is tried on."""

ALPHA = 0.05


@dataclass(frozen=True)
class TriedTemplate:
    """A template and how well the model answers with it.

    Attributes:
        score: mean reward of greedy answers; None if a prompt is longer than the teacher's may be.
        copied: share of the answers that are the demonstration word for word, and so in its voice.
        p: of the exact paired test against the present template, two-sided, times the number of other templates; at
            most 1, and None for the present one.
    """

    name: str
    template: str
    score: float | None
    copied: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class TemplateTrial:
    """Several templates on the same training prompts of a task.

    Attributes:
        items: prompts.
        tried: the present template first, then the others.
        proposed: the best of the others, if it is shown to be better than the present one; otherwise None.
        seconds: that the trial took.
    """

    task: str
    items: int
    tried: Sequence[TriedTemplate]
    proposed: TriedTemplate | None
    seconds: float

    def sentence(self) -> str:
        """The result in words, with the template to set if one is proposed."""
        scores = ", ".join(map(_in_words, self.tried))
        found = f"{self.task}: mean reward with the demonstration in the prompt, by template: {scores}"
        found += f" ({self.items} prompts, {self.seconds:.1f} s)"
        if self.proposed is None:
            return f"{found}. None is shown to be better than {self.tried[0].name}"
        proposed = f"{self.proposed.name!r} is better than {self.tried[0].name!r} (p {self.proposed.p:.1g}, corrected)"
        return f"{found}. {proposed}: set the recipe's template to {self.proposed.template!r}"


def try_templates(run: Run, trial: Trial) -> TemplateTrial | None:
    """Let the model answer some training prompts of a task by each template.

    Returns:
        None if the recipe shows no demonstration by a template, or nothing judges the answers in one turn.
    """
    started = time.perf_counter()
    present = template_of(trial.recipe)
    if present is None or trial.task.verifier is None or trial.task.episodes is not None:
        return None
    examples = [example for example in trial.task.train if _is_shown(trial.recipe, example)][:TRIED_ITEMS]
    if not examples:
        return None
    names = {template: name for name, template in TEMPLATES.items()}
    others = [template for template in TEMPLATES.values() if template != present]
    by_template = {template: _answers(run, trial, examples, template) for template in (present, *others)}
    own = by_template[present]
    tried = []
    for template, answers in by_template.items():
        name, p = names.get(template, "the recipe's"), None
        if answers is None:
            tried.append(TriedTemplate(name, template, None))
            continue
        if own is not None and template != present:
            p = min(1.0, compare_paired(answers.rewards, own.rewards).p * len(others))
        score, copied = (sum(values) / len(examples) for values in (answers.rewards, answers.copied))
        tried.append(TriedTemplate(name, template, score, copied, p))
    seconds = time.perf_counter() - started
    return TemplateTrial(trial.task.name, len(examples), tried, _proposed(tried), seconds)


def _in_words(tried: TriedTemplate) -> str:
    if tried.score is None:
        return f"{tried.name} too long"
    return f"{tried.name} {tried.score:.0%}" + (f" ({tried.copied:.0%} copied)" if tried.copied else "")


def _proposed(tried: Sequence[TriedTemplate]) -> TriedTemplate | None:
    """The best of the others that are shown to be better than the present one; of equals the one that copies least."""
    present, *others = tried
    better = [
        each
        for each in others
        if each.p is not None and each.p < ALPHA and (each.score or 0.0) > (present.score or 0.0)
    ]
    return max(better, key=lambda each: (each.score or 0.0, -(each.copied or 0.0)), default=None)


def _is_shown(recipe: Recipe, example: Example) -> bool:
    needed = "demonstration" if _rewrites(recipe) else "privileged_context"
    return example.rendered_prompt is None and needed in example.privileges()


def _rewrites(recipe: Recipe) -> bool:
    return recipe.rollout_spec().rewriting is not None


def _shown(recipe: Recipe, example: Example) -> str:
    """What the template shows: the demonstration to who rewrites it, what is for the teacher to a teacher."""
    return example.demonstration or "" if _rewrites(recipe) else privileged_text(example)


@dataclass(frozen=True)
class _Answers:
    """Of some greedy answers: the rewards, and whether each is the demonstration word for word."""

    rewards: list[float]
    copied: list[bool]


def _answers(run: Run, trial: Trial, examples: Sequence[Example], template: str) -> _Answers | None:
    """The model's answers by a template; None if a prompt is too long."""
    try:
        prompts = [_prompt(run, trial.recipe, example, template) for example in examples]
    except PromptTooLong:
        return None
    completed = complete(
        Sampler(run.policy),
        run.policy.chat_format,
        [Request(ids, temperature=0.0) for ids in prompts],
        [(trial.task, example) for example in examples],
        max_new_tokens=run.config.train.max_completion_length,
        batch_tokens=run.config.eval.batch_tokens,
        workers=run.config.train.verifier_workers,
    )
    rewards = [0.0 if verdict is None else verdict.reward for *_, verdict in completed]
    copied = [
        text in (example.demonstration, _shown(trial.recipe, example))
        for example, (_, text, _) in zip(examples, completed, strict=True)
    ]
    return _Answers(rewards, copied)


def _prompt(run: Run, recipe: Recipe, example: Example, template: str) -> list[int]:
    """What the teacher sees, or who rewrites, by this template.

    Raises:
        PromptTooLong: it is longer than a teacher's prompt may be.
    """
    row = Row(example, [], [])
    row.teacher_messages = demonstration_prompt(example.messages, _shown(recipe, example), template)
    if recipe.context_from_example:
        # The recipe may show only a part of a solution, or leave out thoughts.
        recipe.model_copy(update={"template": template}).annotate([Group(example, [row])])
    return run.collector.teacher_prompt(row)
