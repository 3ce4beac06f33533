"""Exports the weights of a run as one folder that transformers loads."""

import os
from pathlib import Path

from holdfast.config.load import load_kept_config
from holdfast.config.settings import RunConfig
from holdfast.config.trust import NO_WORD, UsersWord
from holdfast.errors import RunError
from holdfast.model.load import load_policy
from holdfast.model.stage_adapters import adapted_model
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.intact import read_manifest
from holdfast.stream.learner import load_weights
from holdfast.stream.manifest import weights_hash
from holdfast.train.checkpoint import Checkpoint, load_newest, open_checkpoint


def export_run(source: Path, output: Path, *, word: UsersWord = NO_WORD) -> Path:
    """Write the weights of a run's newest undamaged checkpoint, or of a given one, as `Policy.save_folder` does.

    The model is loaded as the run loaded it, so that the folder has the tokenizer and configuration too. Then it gets
    the checkpoint's weights.

    Args:
        source: a run directory, or a folder in its `checkpoints/`.
        word: the user's, as for `load_kept_config`. Tasks are not loaded.

    Raises:
        RunError: there is no run, or no undamaged checkpoint; the model has changed; `output` exists.
    """
    if os.path.lexists(output):
        raise RunError("the output exists already", where=str(output), fix="name a folder that does not exist")
    directory, checkpoint = _locate(source)
    config = load_kept_config(directory.config, RunConfig, word, loads_tasks=False)
    # On the CPU, because the weights are only copied.
    policy = load_policy(adapted_model(config).model_copy(update={"device": "cpu"}), seed=config.seed)
    manifest = read_manifest(directory)
    if manifest is None:
        raise RunError("is missing", where=str(directory.manifest), fix="restore it from a backup")
    if manifest["model"]["sha256"] != weights_hash(policy):
        fix = "put the model back"
        raise RunError("the model's weights have changed since the run began", where=str(directory.path), fix=fix)
    load_weights(checkpoint, policy)
    policy.save_folder(output, merged=True)
    return output


def _locate(source: Path) -> tuple[RunDirectory, Checkpoint]:
    """The run that a path belongs to, and the checkpoint to export."""
    if (source / "position.json").exists():
        directory = RunDirectory(source.resolve().parents[1])
        checkpoint: Checkpoint | None = open_checkpoint(source)
    else:
        directory = RunDirectory(source)
        checkpoint = load_newest(directory.checkpoints, mends=False)
    if not directory.config.exists():
        fix = "name a run directory, or a folder in its checkpoints/"
        raise RunError("is not a run directory: config.yaml is missing", where=str(directory.path), fix=fix)
    if checkpoint is None:
        raise RunError("the run has not saved a checkpoint yet", where=str(source), fix="resume the run first")
    return directory, checkpoint
