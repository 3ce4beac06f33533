"""`holdfast.store.mounts`: which file systems lock for all machines that have them."""

import pytest

from holdfast.store.mounts import mount_in, mount_of

LINES = [
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
    "30 22 0:40 / /home rw shared:5 - nfs4 server:/home rw,vers=4.2,local_lock=none",
    r"31 22 0:41 / /mnt/with\040space rw - nfs server:/x rw,vers=3,nolock,local_lock=all",
    "32 22 0:42 / /scratch rw - lustre mds:/s rw,flock",
    "33 22 0:43 / /slow rw - lustre mds:/s rw,localflock",
    "34 22 0:44 / /ssh rw - fuse.sshfs me@host: rw",
    "35 30 0:45 / /home/me/fast rw - xfs /dev/sdb rw",
    "36 22 0:46 / /twice rw - nfs4 server:/a rw",
    "37 22 0:47 / /twice rw - ext4 /dev/sdc rw",
    "not a mount",
]


@pytest.mark.parametrize(
    ("path", "kind", "locks"),
    [
        ("/var/run", "ext4", True),
        ("/home/me", "nfs4", True),
        ("/homestead", "ext4", True),
        ("/home/me/fast/run", "xfs", True),
        ("/mnt/with space/run", "nfs", False),
        ("/scratch", "lustre", True),
        ("/slow/x", "lustre", False),
        ("/ssh/run", "fuse.sshfs", False),
        ("/twice/run", "ext4", True),
    ],
)
def test_the_innermost_and_last_mount_decides(path: str, kind: str, locks: bool) -> None:
    mount = mount_in(LINES, path)
    assert (mount.kind, mount.locks_for_all) == (kind, locks)


def test_what_is_not_known_counts_as_this_machines_own(tmp_path) -> None:
    assert mount_in([], "/x").locks_for_all
    assert mount_of(tmp_path).locks_for_all
