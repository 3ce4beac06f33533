"""The first program in a sandbox: sets the limits, gives up the rest of its rights, and becomes the real program.

Called as `python enter.py SETTINGS PROGRAM ARGUMENT...`. The settings are JSON: the limits by name, `keep` (file
descriptors that the program gets), and `user` (whom it becomes; null for who it is).
"""

import json
import os
import resource
import sys
from typing import Any


def set_limits(limits: dict[str, Any]) -> None:
    """Set the limits that the kernel holds for this process and all that come from it. None is no limit."""
    cpu = int(limits["cpu_seconds"])
    most = int(limits["processes"]) if limits["processes"] is not None else resource.RLIM_INFINITY
    for kind, soft, hard in (
        (resource.RLIMIT_CPU, cpu, cpu + 1),
        (resource.RLIMIT_AS, int(limits["memory"]), int(limits["memory"])),
        (resource.RLIMIT_FSIZE, int(limits["file_bytes"]), int(limits["file_bytes"])),
        (resource.RLIMIT_NOFILE, int(limits["open_files"]), int(limits["open_files"])),
        (resource.RLIMIT_NPROC, most, most),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_MEMLOCK, 0, 0),
    ):
        highest = resource.getrlimit(kind)[1]
        lowest = [each for each in (soft, highest) if each != resource.RLIM_INFINITY]
        hardest = [each for each in (hard, highest) if each != resource.RLIM_INFINITY]
        unlimited = resource.RLIM_INFINITY
        resource.setrlimit(kind, (min(lowest, default=unlimited), min(hardest, default=unlimited)))


def close_others(keep: list[int]) -> None:
    """Close every file descriptor that the program is not to have."""
    kept = {0, 1, 2, *keep}
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    for name in os.listdir(folder):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:  # the one that listed the folder
                continue


def main() -> None:
    settings = json.loads(sys.argv[1])
    close_others(settings["keep"])
    user = settings["user"]
    if user is not None:
        # Root itself is held to no number of processes, so the program must be somebody else.
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    set_limits(settings["limits"])
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
