"""The disk space that a stage needs, checked before it begins: a full disk in the middle of it costs a stage's work."""

from pathlib import Path

from holdfast.config.settings import RunConfig
from holdfast.data.task import Task
from holdfast.store.disk import require_room
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.learner import Learner
from holdfast.train.checkpoint import KEPT


def require_stage_room(directory: RunDirectory, config: RunConfig, learner: Learner, stage: int) -> None:
    """Check that what a stage surely writes has room: its model, its checkpoints, and weights kept for probes.

    Logs and results are small beside them. Checkpoints that a guard keeps to go back to are not counted: whether there
    are any depends on what happens.

    Args:
        stage: from 1.

    Raises:
        RunError: there is less room; it says how much is missing, and where.
    """
    task, steps = learner.tasks[stage - 1], learner.steps[stage - 1]
    there = [_folder_bytes(path) for path in directory.checkpoints.glob("[0-9]*")]
    one = max(learner.checkpoint_bytes(), *there, 0)
    saves = 1 + (steps - 1) // config.train.save_steps
    # An old checkpoint is removed only after the new one is complete.
    most = min(KEPT + 1, len(there) + saves)
    needed = max(0, most * one - sum(there)) + learner.model_bytes() + _kept_bytes(config, learner, task, steps)
    require_room(needed, directory.path, f"stage {stage} ({task.name})")


def _kept_bytes(config: RunConfig, learner: Learner, task: Task, steps: int) -> int:
    every = config.eval.probe_steps
    keeps = every > 1 and config.eval.probe_gap > 0 and task.is_judged
    return min(every, steps) * learner.trained_bytes() if keeps else 0


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
