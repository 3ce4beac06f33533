"""Weights of the latest steps, kept so that a step can still be probed after a later one has been."""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from holdfast.errors import RunError, is_out_of_room
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes


class KeptWeights:
    """A folder with the trained weights of some steps of a stage. Every process writes and reads its own shards.

    The files are not flushed to disk, so a power cut can damage them. A damaged one counts as not kept.
    """

    def __init__(self, folder: Path, policy: Policy) -> None:
        self.folder, self.policy, self.world = folder, policy, Processes.current()

    def keep(self, stage: int, step: int) -> None:
        """Keep the current weights as those of a step. They replace what was kept of it.

        Raises:
            RunError: they cannot be written.
        """
        final = self._file(stage, step)
        temporary = final.with_name(f".{final.name}.tmp")
        try:
            self.folder.mkdir(exist_ok=True)
            save_file({name: _local(weight).contiguous() for name, weight in self._weights().items()}, temporary)
            temporary.replace(final)
        except (OSError, SafetensorError) as error:
            mend = "free some disk space" if is_out_of_room(error) else "check the folder and its disk"
            fix = f"{mend}, or set eval.probe_gap: 0"
            raise RunError(f"weights cannot be written: {error}", where=str(final), fix=fix) from error

    def remove_folder(self) -> None:
        """Remove all that is kept."""
        self.world.main(lambda: shutil.rmtree(self.folder, ignore_errors=True))

    @torch.no_grad()
    def load(self, stage: int, step: int) -> bool:
        """Make the weights of a step the current ones. False if a process cannot read them; nothing changes then."""
        try:
            read = load_file(self._file(stage, step))
        except (OSError, SafetensorError):
            read = None
        if not all(self.world.each(lambda: read is not None)) or read is None:
            return False
        for name, weight in self._weights().items():
            _local(weight).copy_(read[name])
        return True

    def steps(self, stage: int) -> set[int]:
        """The steps of a stage that are kept."""
        pattern = f"{stage}-*-0-of-{self.world.size}.safetensors"
        return self.world.main(lambda: {int(path.name.split("-")[1]) for path in self.folder.glob(pattern)})

    def remove(self, stage: int, which: Callable[[int], bool] = lambda step: True) -> None:
        """Remove steps of a stage; by default all."""
        gone = [self._file(stage, step) for step in self.steps(stage) if which(step)]

        def unlink() -> None:
            for path in gone:
                path.unlink(missing_ok=True)

        self.world.each(unlink)

    def _file(self, stage: int, step: int) -> Path:
        return self.folder / f"{stage}-{step}-{self.world.rank}-of-{self.world.size}.safetensors"

    def _weights(self) -> dict[str, Tensor]:
        return {name: weight.detach() for name, weight in self.policy.named_trainable().items()}


def _local(weight: Tensor) -> Tensor:
    """The part of a weight that this process has."""
    return weight.to_local() if isinstance(weight, DTensor) else weight
