"""Filters of system calls, as programs of the kernel's BPF (seccomp).

Namespaces hide the machine. The filter takes away what is left: system calls that a program of this kind never needs,
and in which most holes of the kernel were found.
"""

import errno
import platform
import struct
import sys
from collections.abc import Mapping

_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""The kernel's numbers of architectures (AUDIT_ARCH_*)."""

_DENIED: Mapping[str, tuple[int | None, int | None]] = {
    # name: number on x86_64, number on aarch64
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "lookup_dcookie": (212, 18),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "vhangup": (153, 58),
    "syslog": (103, 116),
    "fanotify_init": (300, 262),
    "personality": (135, 92),
    # Memory that no limit counts.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
}
_CLONE, _CLONE3, _FORK, _VFORK = (56, 220), (435, 435), (57, None), (58, None)
_SOCKET, _SOCKETPAIR = (41, 198), (53, 199)

_NEW_NAMESPACES = 0x7E020080
"""CLONE_NEW*: user, pid, net, ipc, uts, cgroup, mount and time."""
_CLONE_THREAD = 0x00010000
_FAMILIES = (1, 2, 10)
"""Unix sockets and the internet's. The namespace has none but its own; the filter denies families such as vsock, which
know no namespaces."""

_X32 = 0x40000000
_LOAD, _JUMP_EQUAL, _JUMP_FROM, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000


def is_known(machine: str | None = None) -> bool:
    """Whether there are filters for a machine; by default for this one."""
    return _name(machine) in _ARCHITECTURE


def no_escape(machine: str | None = None) -> bytes:
    """The filter of everything in a sandbox. Without one for the machine, it is empty.

    Args:
        machine: as `platform.machine` names it; by default this one.
    """
    name = _name(machine)
    if name not in _ARCHITECTURE:
        return b""
    column = list(_ARCHITECTURE).index(name)
    program = _begin(name)
    for numbers in _DENIED.values():
        if (number := numbers[column]) is not None:
            program += _deny(number, errno.EPERM)
    program += _deny(_CLONE3[column], errno.ENOSYS)  # its flags cannot be read here; libraries fall back to clone
    program += _deny_if_flags(_CLONE[column], _NEW_NAMESPACES, errno.EPERM)
    program += _deny_families(_SOCKET[column], _SOCKETPAIR[column])
    return b"".join(program) + _op(_RETURN, _ALLOW)


def no_new_process(machine: str | None = None) -> bytes:
    """A filter under which a process can start threads and no processes. Without one for the machine, it is empty."""
    name = _name(machine)
    if name not in _ARCHITECTURE:
        return b""
    column = list(_ARCHITECTURE).index(name)
    program = _begin(name)
    for numbers in (_FORK, _VFORK):
        if (number := numbers[column]) is not None:
            program += _deny(number, errno.EPERM)
    program += _deny(_CLONE3[column], errno.ENOSYS)
    program += [
        _op(_LOAD, _NUMBER),
        _op(_JUMP_EQUAL, _CLONE[column], 0, 3),
        _op(_LOAD, _FIRST_ARGUMENT),
        _op(_JUMP_SET, _CLONE_THREAD, 1, 0),
        _op(_RETURN, _ERROR | errno.EPERM),
    ]
    return b"".join(program) + _op(_RETURN, _ALLOW)


def _name(machine: str | None) -> str:
    if machine is None and not sys.platform.startswith("linux"):
        return ""  # other systems have other calls
    name = (machine or platform.machine()).lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def _begin(name: str) -> list[bytes]:
    """Kill a process of another architecture, whose numbers mean other calls."""
    program = [
        _op(_LOAD, _ARCH),
        _op(_JUMP_EQUAL, _ARCHITECTURE[name], 1, 0),
        _op(_RETURN, _KILL),
        _op(_LOAD, _NUMBER),
    ]
    if name == "x86_64":
        program += [_op(_JUMP_FROM, _X32, 0, 1), _op(_RETURN, _ERROR | errno.ENOSYS)]
    return program


def _deny(number: int, error: int) -> list[bytes]:
    return [_op(_JUMP_EQUAL, number, 0, 1), _op(_RETURN, _ERROR | error)]


def _deny_if_flags(number: int, flags: int, error: int) -> list[bytes]:
    return [
        _op(_JUMP_EQUAL, number, 0, 4),
        _op(_LOAD, _FIRST_ARGUMENT),
        _op(_JUMP_SET, flags, 0, 1),
        _op(_RETURN, _ERROR | error),
        _op(_LOAD, _NUMBER),
    ]


def _deny_families(socket: int, socketpair: int) -> list[bytes]:
    """Deny sockets of all families but `_FAMILIES`. It is the last part: the number of the call is not read again."""
    count = len(_FAMILIES)
    allowed = [_op(_JUMP_EQUAL, family, count - index, 0) for index, family in enumerate(_FAMILIES)]
    return [
        _op(_JUMP_EQUAL, socket, 1, 0),
        _op(_JUMP_EQUAL, socketpair, 0, count + 2),
        _op(_LOAD, _FIRST_ARGUMENT),
        *allowed,
        _op(_RETURN, _ERROR | errno.EAFNOSUPPORT),
    ]


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
