"""Prompts, and the models' answers to them. Imports without torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from holdfast.data.example import Example


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to a prompt.

    Args:
        prompt: the prompt's id.
        ids: its tokens, with the end-of-sequence token if it was sampled; None if they are not known.
        truncated: whether the length limit cut it; None if that is not known.
    """

    prompt: str
    text: str
    ids: tuple[int, ...] | None = None
    truncated: bool | None = None


@dataclass(frozen=True)
class PromptSet:
    """The prompts that two models answer.

    Attributes:
        examples: by id, in order.
        task_of: the task of each prompt.
        demonstrations: texts that demonstrate each task, not necessarily for these prompts. A task without
            demonstrations is left out.
    """

    examples: Mapping[str, Example]
    task_of: Mapping[str, str]
    demonstrations: Mapping[str, Sequence[str]]


def by_prompt(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    """Answers grouped by their prompt, in order."""
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.prompt, []).append(answer)
    return groups
