"""A training example in tokens: its prompt, its demonstration, and the lengths that there is room for. Torch-free."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.config import EvalSettings, TrainSettings
from holdfast.errors import ConfigError
from holdfast.rollouts.episodes import recite
from holdfast.rollouts.prompts import Speech, encode_completion
from holdfast.tasks.base import Example, Task

if TYPE_CHECKING:
    from holdfast.train.policy import Policy


@dataclass(frozen=True)
class TrainingPrompt:
    """A training example as the engine needs it: its prompt, and for demonstrations the completion, in tokens."""

    example: Example
    prompt_ids: list[int]
    demonstration_ids: list[int] | None = None
    demonstration_mask: list[int] | None = None
    """Of several turns, as a row's `tool_mask`."""
    demonstration: str = ""
    asked_ids: list[int] | None = None
    """The prompt that samples answer, where it is the teacher's and not the student's own."""


def demonstrated(speech: Speech, task: Task, example: Example) -> tuple[list[int], list[int] | None, str]:
    """A demonstration's tokens, its `tool_mask` and its text.

    Where a task has several turns and an example actions, each of these is a turn, and the demonstration's text, if
    there is one, the last.

    Raises:
        DataError: the text itself ends a turn, or the environment does not take the actions.
    """
    where = f"{task.name}: {example.id}"

    def encode(text: str) -> list[int]:
        return encode_completion(speech.tokenizer, text, speech.eos_ids, speech.chat_template_kwargs, where=where)

    last = [] if example.demonstration is None else [example.demonstration]
    if task.episodes is not None and example.actions is not None:
        episode = recite(speech, task.episodes, example, [*example.actions, *last], encode)
        return episode.ids, episode.tool_mask, speech.text(episode.ids)
    (text,) = last  # guaranteed by the recipe's needs
    return encode(text), None, text


def longest_reprompt(policy: "Policy", train: TrainSettings) -> int:
    """Tokens that a teacher's prompt may have: what the settings say, else room for a prompt and a completion."""
    if train.max_reprompt_length is not None:
        return train.max_reprompt_length
    room = train.max_prompt_length + train.max_completion_length
    limit = policy.context_length
    return room if limit is None else min(room, limit - train.max_completion_length)


def check_context(policy: "Policy", train: TrainSettings, evaluation: EvalSettings) -> None:
    """Refuse lengths that the model was not made for.

    Raises:
        ConfigError: prompt and completion together are longer than the model's context.
    """
    limit = policy.context_length
    longest = {"train.max_completion_length": train.max_completion_length}
    if evaluation.max_completion_length is not None:
        longest["eval.max_completion_length"] = evaluation.max_completion_length
    sums = {f"train.max_prompt_length + {setting}": train.max_prompt_length + n for setting, n in longest.items()}
    if train.max_reprompt_length is not None:
        reprompt = train.max_reprompt_length + train.max_completion_length
        sums["train.max_reprompt_length + train.max_completion_length"] = reprompt
    for terms, wanted in sums.items():
        if limit is not None and wanted > limit:
            raise ConfigError(
                f"{terms} is {wanted}, and the model takes {limit} tokens",
                mend=f"lower them so that they add up to at most {limit}",
            )
