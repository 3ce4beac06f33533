"""Which turn of a conversation is the demonstration, and which others are trained on.

Turns may have weights (see `weights`). The demonstration is the last turn of the assistant whose weight is not 0, and
what follows it is left out. Earlier turns are trained on too if their weight is 1, or if all turns are asked for and
their weight is not 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from holdfast.errors import DataError
from holdfast.tasks.readers.turns import Turn

TrainOn = Literal["last", "all"]
"""The turns of the assistant that are trained on where a conversation has no weights."""


@dataclass(frozen=True, slots=True)
class SplitConversation:
    """A conversation, split.

    Args:
        prompt: the turns before the demonstration.
        demonstration: a turn of the assistant; None if the conversation has none.
        trained: indices of the turns of `prompt` that are trained on too.
    """

    prompt: tuple[Turn, ...]
    demonstration: Turn | None
    trained: tuple[int, ...]


def of_conversation(turns: Sequence[Turn], train_on: TrainOn, column: str, where: str) -> SplitConversation:
    """Split one conversation that has prompt and demonstration.

    A conversation that ends with a user's or a tool's turn has no demonstration, unless its turns have weights or all
    are asked for.

    Raises:
        DataError: the assistant's turns all have weight 0, or no question stands before the demonstration.
    """
    turns = tuple(turns)
    closed = turns[-1].role == "assistant"
    answers = [index for index, turn in enumerate(turns) if turn.role == "assistant"]
    wanted = [
        index
        for index in answers
        if turns[index].trained or (turns[index].trained is None and (closed or train_on == "all"))
    ]
    if closed and not wanted:
        raise _nothing_trained(column, where)
    if not wanted:
        return _checked(turns, None, train_on, column, where)
    return _checked(turns[: wanted[-1]], turns[wanted[-1]], train_on, column, where)


def of_columns(
    prompt: Sequence[Turn], completion: Sequence[Turn], train_on: TrainOn, columns: tuple[str, str], where: str
) -> SplitConversation:
    """Join a prompt and its completion, which may be several turns: calls of tools, results, and an answer.

    All of the assistant's turns in a completion are trained on, unless their weight is 0.

    Args:
        prompt: its turns.
        completion: its turns; none if there is no demonstration.
        train_on: which turns of the prompt are trained on too.
        columns: the names of both, for error messages.
        where: the record, for error messages.

    Raises:
        DataError: the completion does not begin and end with the assistant, or has weight 0; or the prompt does not end
            with a question.
    """
    prompt, completion = tuple(prompt), tuple(completion)
    if not completion:
        return _checked(prompt, None, train_on, columns[0], where)
    if completion[0].role != "assistant" or completion[-1].role != "assistant":
        raise DataError(
            f"`{columns[1]}` is not one assistant turn, nor several with the results of tools between them",
            where=where,
            fix="move the earlier turns into the prompt",
        )
    wanted = [i for i, turn in enumerate(completion) if turn.role == "assistant" and turn.trained is not False]
    if not wanted:
        raise _nothing_trained(columns[1], where)
    start = _checked(prompt, None, train_on, columns[0], where)
    return SplitConversation(
        prompt + completion[: wanted[-1]],
        completion[wanted[-1]],
        start.trained + tuple(len(prompt) + index for index in wanted[:-1]),
    )


def _checked(
    prompt: tuple[Turn, ...], demonstration: Turn | None, train_on: TrainOn, column: str, where: str
) -> SplitConversation:
    if not prompt or prompt[-1].role not in ("user", "tool"):
        raise DataError(
            f"`{column}` does not end with a user turn" + (" before the answer" if demonstration is not None else ""),
            where=where,
            fix="put the question before the assistant's last turn, which belongs into the completion",
        )
    if all(turn.role != "user" for turn in prompt):
        raise DataError(f"`{column}` has no user turn", where=where, fix="begin with the user's question")
    trained = tuple(
        index
        for index, turn in enumerate(prompt)
        if turn.role == "assistant" and (turn.trained or (turn.trained is None and train_on == "all"))
    )
    return SplitConversation(prompt, demonstration, trained)


def _nothing_trained(column: str, where: str) -> DataError:
    return DataError(
        f"`{column}` has no turn of the assistant that is trained on: the weight of each is 0",
        where=where,
        fix="give one the weight 1, or remove the record",
    )
