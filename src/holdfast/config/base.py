"""What all blocks of the configuration share."""

from pydantic import BaseModel, ConfigDict

LAB = "lab"
"""The model path of the base that comes with the package."""


class Settings(BaseModel):
    """A block of the configuration: unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
