"""Whether locks on a file system hold for all machines that share it. Linux says in /proc how it is mounted."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

MOUNTS = Path("/proc/self/mountinfo")

SHARED = frozenset(
    "nfs nfs4 cifs smb3 smbfs 9p lustre beegfs ceph gpfs afs ocfs2 gfs2 virtiofs vboxsf glusterfs fuse.glusterfs "
    "fuse.ceph fuse.sshfs fuse.s3fs fuse.rclone fuse.gcsfuse fuse.goofys fuse.juicefs fuse.davfs".split()
)
"""File systems that several machines can have at once."""

_ALWAYS = frozenset(("nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "fuse.ceph", "gpfs", "ocfs2", "gfs2"))
"""Of these, those that pass locks on to all machines, unless an option of the mount says otherwise."""

_ONLY_LOCAL = frozenset(("nolock", "local_lock=all", "local_lock=posix", "nobrl", "localflock", "noflock"))


class Mount(NamedTuple):
    """A mounted file system: where, its type, and its options."""

    place: str
    kind: str
    options: frozenset[str]

    @property
    def is_shared(self) -> bool:
        """Whether other machines can have it too."""
        return self.kind in SHARED

    @property
    def locks_for_all(self) -> bool:
        """Whether a lock holds for every machine that has this file system."""
        if not self.is_shared:
            return True
        if self.options & _ONLY_LOCAL:
            return False
        return self.kind in _ALWAYS or (self.kind == "lustre" and "flock" in self.options)


def mount_of(path: Path) -> Mount:
    """The file system of an existing path. Where it is not known, it counts as one that this machine alone has."""
    try:
        lines = MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        lines = []
    return mount_in(lines, os.path.realpath(path))


def mount_in(lines: Sequence[str], path: str) -> Mount:
    """The file system of an absolute path without symbolic links.

    Args:
        lines: of `/proc/self/mountinfo`, see `man 5 proc_pid_mountinfo`.
    """
    found = Mount("/", "", frozenset())
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) < 6 or len(kinds) < 3:
            continue
        place = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        within = path == place or path.startswith(place.rstrip("/") + "/")
        if within and len(place) >= len(found.place):  # of mounts on one place, the last one is seen
            found = Mount(place, kinds[0], frozenset((*fields[5].split(","), *kinds[2].split(","))))
    return found
