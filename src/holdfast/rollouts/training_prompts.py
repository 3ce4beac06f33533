"""A training example in tokens: its prompt, its demonstration, and the lengths that there is room for. Torch-free."""

from dataclasses import dataclass

from holdfast.data.chat import ChatFormat, encode_completion
from holdfast.data.example import Example
from holdfast.data.task import Task
from holdfast.sampling.episodes import recite


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


def demonstrated(chat_format: ChatFormat, task: Task, example: Example) -> tuple[list[int], list[int] | None, str]:
    """A demonstration's tokens, its `tool_mask` and its text.

    Where a task has several turns and an example actions, each of these is a turn, and the demonstration's text, if
    there is one, the last.

    Raises:
        DataError: the text itself ends a turn, or the environment does not take the actions.
    """
    where = f"{task.name}: {example.id}"

    def encode(text: str) -> list[int]:
        return encode_completion(
            chat_format.tokenizer, text, chat_format.eos_ids, chat_format.chat_template_kwargs, where=where
        )

    last = [] if example.demonstration is None else [example.demonstration]
    if task.episodes is not None and example.actions is not None:
        episode = recite(chat_format, task.episodes, example, [*example.actions, *last], encode)
        return episode.ids, episode.tool_mask, chat_format.text(episode.ids)
    (text,) = last  # guaranteed by the recipe's needs
    return encode(text), None, text
