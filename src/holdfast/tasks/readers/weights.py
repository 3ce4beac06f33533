"""Whether a turn is trained on, in the spellings of trainers.

OpenAI, Mistral and Together write `weight`, LLaMA-Factory `loss_weight`, axolotl `train` and `training`, ms-swift and
xtuner `loss`, torchtune `masked`. A weight is 0 or 1, because a turn is trained on or not.
"""

from collections.abc import Mapping
from typing import Any

from holdfast.errors import DataError

TRAINED_KEYS = ("weight", "loss_weight", "train", "training", "train_on_turn", "trainable", "loss")
"""Keys of a turn that say 1 or true if it is trained on."""

MASKED_KEY = "masked"
"""The key of a turn that says true if it is not trained on."""

UNCLEAR_KEYS = ("mask", "train_detail", "training_detail")
"""Keys of a turn that are refused. Trainers read `mask` in both ways, and the others are about parts of a turn."""


def is_trained(turn: Mapping[str, Any], role: str, name: str, where: str) -> bool | None:
    """Whether a turn says that it is trained on; None if it says nothing.

    Args:
        turn: as the data has it.
        role: of the turn. Only the assistant's turns can be trained on.
        name: of the turn, for error messages.
        where: the record, for error messages.

    Raises:
        DataError: the weight is neither 0 nor 1, two keys disagree, or the turn is not the assistant's.
    """
    for key in UNCLEAR_KEYS:
        if turn.get(key) is not None and turn[key] != []:
            what = f"`{name}` has `{key}`, which is not read"
            raise DataError(what, where=where, fix="write `weight: 0` or `weight: 1` on the turn")
    said = {key: _zero_or_one(turn[key], f"{name}.{key}", where) for key in TRAINED_KEYS if turn.get(key) is not None}
    if turn.get(MASKED_KEY) is not None:
        said[MASKED_KEY] = not _zero_or_one(turn[MASKED_KEY], f"{name}.{MASKED_KEY}", where)
    if not said:
        return None
    if len(set(said.values())) > 1:
        what = f"{' and '.join(f'`{key}`' for key in said)} of `{name}` disagree"
        raise DataError(what, where=where, fix="keep one of them")
    trained = next(iter(said.values()))
    if trained and role != "assistant":
        what = f"`{name}` has `{next(iter(said))}: {turn[next(iter(said))]}`, but it is the {role}'s turn"
        raise DataError(what, where=where, fix="only the assistant's turns are trained on; write 0, or leave it out")
    return trained


def _zero_or_one(value: Any, name: str, where: str) -> bool:
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        what = f"`{name}` is {value!r}; a turn is trained on or not"
        raise DataError(what, where=where, fix="write 0 or 1, or true or false")
    return bool(value)
