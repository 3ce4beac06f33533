"""manifest.json: the versions, seeds and hashes of data and model that a run was made with."""

import hashlib
import platform
import sys
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from importlib.metadata import version
from typing import Any

from holdfast import __version__
from holdfast.config.settings import RunConfig
from holdfast.data.task import Suite, Task, all_sets
from holdfast.errors import RunError
from holdfast.model.policy import Policy
from holdfast.tasks.load import data_hash

LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "safetensors", "datasets", "numpy", "scipy", "pydantic")


def build_manifest(
    config: RunConfig, label: str, tasks: Sequence[Task], suites: Sequence[Suite], weights: str, day: date
) -> dict[str, Any]:
    """Everything that is needed to repeat a run.

    Args:
        day: the date that the chat template writes, if it writes one.
        weights: hash of the model's weights.
    """
    import torch

    return {
        "holdfast_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "date": day.isoformat(),
        "label": label,
        "command": [sys.argv[0].rpartition("/")[2], *sys.argv[1:]],
        "seed": config.seed,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "libraries": {library: version(library) for library in LIBRARIES},
        "model": {"path": config.model.path, "sha256": weights},
        "checksums": True,  # of the files, in checksums.json; earlier versions wrote none
        "data": {each.name: data_hash(each) for each in all_sets(tasks, suites)},
    }


def run_date(manifest: Mapping[str, Any] | None) -> date:
    """The day on which a run began, also after it was resumed; today for a run without a manifest."""
    if manifest is None or "created" not in manifest:
        return datetime.now(UTC).date()
    return date.fromisoformat(manifest.get("date") or manifest["created"][:10])  # earlier versions wrote no date


def weights_hash(policy: Policy) -> str:
    """SHA-256 over the names and values of the model's weights as they were loaded, without adapters."""
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(policy.causal_lm.state_dict().items()):
        if ".lora_" not in name:  # adapters are made for the run, and are not part of the model
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_manifest(
    manifest: Mapping[str, Any], tasks: Sequence[Task], suites: Sequence[Suite], weights: str, *, where: str
) -> None:
    """Refuse to resume with other data or another model; warn about another number of threads or other libraries.

    Args:
        weights: hash of the model's weights as they were loaded.
        where: the manifest's path.

    Raises:
        RunError: data or model have changed.
    """
    import torch

    if manifest["model"]["sha256"] != weights:
        fix = "put the model back, or start a new run"
        raise RunError("the model's weights have changed since the run began", where=where, fix=fix)
    changed = [name for name in LIBRARIES if manifest["libraries"].get(name) != version(name)]
    if manifest["threads"] != torch.get_num_threads():
        changed.append(f"the number of threads (it was {manifest['threads']})")
    if changed:
        names = ", ".join(changed)
        warnings.warn(f"{where}: changed since the run began: {names}. Results may differ by rounding", stacklevel=2)
    for each in all_sets(tasks, suites):
        if manifest["data"].get(each.name) != data_hash(each):
            fix = "put the data back, or start a new run"
            raise RunError(f"the data of {each.name!r} has changed since the run began", where=where, fix=fix)
