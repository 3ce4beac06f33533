"""How far a run's demonstrations were from the base's own answers, for claims about the voice. Torch-free."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.store.run_directory import RunDirectory
from holdfast.summary.read import read_summary


def distance_of_demonstrations(directory: Path) -> Mapping[str, Any]:
    """The distance of the first task's demonstrations.

    Returns:
        "distance": nats per token.
    """
    (first, *_) = read_summary(RunDirectory(directory).summary)["demonstrations"]
    return {"distance": first["distance"]}
