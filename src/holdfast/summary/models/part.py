"""What the models of `summary.json` share: how strict they are, and types that many fields have."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]
Stage = Annotated[int, Field(ge=1)]
ShareField = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]

IntervalField = Annotated[
    list[float], Field(min_length=2, max_length=2, description="95% interval: lower and upper bound.")
]

SetKind = Literal["task", "retention", "ood"]

Status = Literal["complete", "running", "stopped"]

STATUS = (
    "`complete`: all stages are finished. `running`: stages are left to run. `stopped`: the run ended before its last "
    "stage."
)


class Part(BaseModel):
    """A JSON object with exactly these fields.

    Numbers are not converted: a summary is checked, and stays as it is.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
