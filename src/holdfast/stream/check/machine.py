"""What this machine has: memory where the model trains, and free disk where the run is written."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""A container's limit. It may be far below what the machine has."""


@dataclass(frozen=True)
class Machine:
    """What a run may use.

    Attributes:
        memory: bytes of memory where the model trains; None if the system does not tell.
        memory_of: "GPU" or "machine".
        free_disk: bytes.
    """

    memory: int | None
    memory_of: str
    free_disk: int

    @classmethod
    def of(cls, device: torch.device, directory: Path) -> "Machine":
        """The machine, for a model on this device and a run in this directory, which need not exist yet."""
        existing = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
        free = shutil.disk_usage(existing).free
        if device.type == "cuda":
            return cls(torch.cuda.get_device_properties(device).total_memory, "GPU", free)
        return cls(_host_memory(), "machine", free)


def _host_memory() -> int | None:
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return None
    try:
        return min(memory, int(CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return memory
