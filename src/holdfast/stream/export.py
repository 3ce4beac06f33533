"""A run's weights as one folder that transformers loads."""

from pathlib import Path

import torch

from holdfast.config.load import load_kept_config
from holdfast.config.settings import RunConfig
from holdfast.errors import RunError
from holdfast.model.load import load_policy
from holdfast.model.stage_adapters import adapted_model
from holdfast.store.files import read_json
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.manifest import weights_hash
from holdfast.train.checkpoint import Checkpoint, load_newest, open_checkpoint


def export_run(source: Path, output: Path) -> Path:
    """Write the weights of a run's newest whole checkpoint, or of a given checkpoint, as `Policy.save_folder` does.

    The model is loaded again as the run loaded it, and takes its weights from the checkpoint: the folder has its
    tokenizer and configuration too.

    Args:
        source: a run directory, or a folder in its `checkpoints/`.

    Raises:
        RunError: there is no run or no whole checkpoint; the model is not what the run began with; `output` exists.
    """
    if output.exists():
        raise RunError("there is something here already", where=str(output), fix="name a folder that is not there")
    directory, checkpoint = _found(source)
    config = load_kept_config(directory.config, RunConfig)
    # On the CPU: the weights are only passed on.
    policy = load_policy(adapted_model(config).model_copy(update={"device": "cpu"}), seed=config.seed)
    manifest = read_json(directory.manifest)
    if manifest["model"]["sha256"] != weights_hash(policy):
        fix = "put the model back"
        raise RunError("the model's weights have changed since the run began", where=str(directory.path), fix=fix)
    trainable = policy.named_trainable()
    with torch.no_grad():
        for name, value in checkpoint.load("policy").items():
            trainable[name].copy_(value)
    policy.save_folder(output, merged=True)
    return output


def _found(source: Path) -> tuple[RunDirectory, Checkpoint]:
    """The run that a path belongs to, and its checkpoint."""
    if (source / "position.json").exists():
        directory = RunDirectory(source.resolve().parents[1])
        checkpoint: Checkpoint | None = open_checkpoint(source)
    else:
        directory = RunDirectory(source)
        checkpoint = load_newest(directory.checkpoints)
    if not directory.config.exists():
        fix = "name a run directory, or a folder in its checkpoints/"
        raise RunError("is not a run directory: there is no config.yaml", where=str(directory.path), fix=fix)
    if checkpoint is None:
        raise RunError("no checkpoint has been saved yet", where=str(source), fix="let the run go on")
    return directory, checkpoint
