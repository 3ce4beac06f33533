"""What all blocks of the configuration share."""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict

LAB = "lab"
"""The model path of the base that comes with the package."""


class Settings(BaseModel):
    """A block of the configuration: unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def block_in(annotation: Any) -> Any:
    """The model of the block inside a type such as `list[Block]` or `Block | None`; None if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    blocks = (block_in(argument) for argument in get_args(annotation))
    return next((block for block in blocks if block is not None), None)
