"""What a program in a sandbox may use."""

from dataclasses import asdict, dataclass
from typing import Any

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one program in a sandbox, which the kernel holds.

    Time by the clock and the size of the output are limited by whoever waits for the program, and kills it.

    Args:
        cpu_seconds: CPU time of each process.
        memory: address space of each process, in bytes.
        processes: processes and threads that exist at once, all of the sandbox together.
        file_bytes: size of a file that it writes.
        folder_bytes: all files together in each of its two folders, the working folder and /dev/shm.
        open_files: files, pipes and sockets that a process holds open.
    """

    cpu_seconds: int = 10
    memory: int = 1024 * MIB
    processes: int = 64
    file_bytes: int = 16 * MIB
    folder_bytes: int = 64 * MIB
    open_files: int = 64

    def of_kernel(self) -> dict[str, Any]:
        """What the program that enters the sandbox sets before anything else runs."""
        return asdict(self)
