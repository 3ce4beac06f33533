"""Programs that try to get out of a sandbox, or to harm the machine from within, and what has to stop them.

Each tries something and prints a line: `stopped` and why, or `ESCAPED` and what it got. The host has a secret file,
open ports and sockets, and looks afterwards whether anything reached it. As a program, this module tries all of them as
the user that runs it, and prints the outcomes as JSON. It needs the standard library and `holdfast.sandbox` alone.
"""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.sandbox.bubblewrap import Bubblewrap
from holdfast.sandbox.limits import MIB, Limits
from holdfast.sandbox.streams import Streams

LIMITS = Limits(cpu_seconds=2, memory=512 * MIB, processes=32, file_bytes=4 * MIB, folder_bytes=8 * MIB, open_files=32)

SECONDS = 30.0

SECRET = "the-secret-of-the-host"

PRELUDE = """
import ctypes, errno, json, os, resource, signal, socket, subprocess, sys, time
host = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)

def tries(action):
    try:
        got = action()
    except BaseException as error:
        print("stopped", type(error).__name__, error, flush=True)
    else:
        print("ESCAPED", repr(got)[:200], flush=True)

def call(name, *arguments):
    ctypes.set_errno(0)
    result = getattr(libc, name)(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

NUMBERS = {"x86_64": 0, "aarch64": 1}
def system_call(numbers, *arguments):
    return call("syscall", numbers[NUMBERS[os.uname().machine]], *arguments)

def none_of(found):
    if found:
        return found
    raise LookupError("nothing is there")
"""


@dataclass(frozen=True)
class Attack:
    """One attempt.

    Args:
        name: of the attack.
        stopped_by: what stops it.
        program: after `PRELUDE`.
        ends_by_itself: False for a program that has to be killed by its parent.
    """

    name: str
    stopped_by: str
    program: str
    ends_by_itself: bool = True


ATTACKS = [
    Attack(
        "TCP to the host", "network namespace", 'tries(lambda: socket.create_connection(("127.0.0.1", host["tcp"]), 3))'
    ),
    Attack("TCP to the world", "network namespace", 'tries(lambda: socket.create_connection(("192.0.2.1", 80), 3))'),
    Attack(
        "UDP to the host",
        "network namespace",
        's = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.sendto(b"x", ("127.0.0.1", host["udp"]))\n'
        'print("stopped sent into its own namespace")',
    ),
    Attack("names of hosts", "network namespace", 'tries(lambda: socket.getaddrinfo("example.com", 80))'),
    Attack(
        "a unix socket of the host",
        "mount namespace",
        "s = socket.socket(socket.AF_UNIX)\ntries(lambda: s.connect(host['unix']))",
    ),
    Attack(
        "an abstract socket of the host",
        "network namespace",
        "s = socket.socket(socket.AF_UNIX)\ntries(lambda: s.connect(chr(0) + host['abstract']))",
    ),
    Attack(
        "sockets that know no namespaces",
        "filter of system calls",
        "for family in (40, 38, 17, 16, 44, 30):  # vsock, alg, packet, netlink, xdp, tipc\n"
        "    tries(lambda: socket.socket(family, socket.SOCK_DGRAM))\n"
        "    try: socket.socketpair(family, socket.SOCK_DGRAM)\n"
        "    except OSError as error: print('stopped' if error.errno == errno.EAFNOSUPPORT else 'ESCAPED', error)\n"
        "    else: print('ESCAPED a pair')",
    ),
    Attack("read a file of the host", "mount namespace", "tries(lambda: open(host['secret']).read())"),
    Attack(
        "read the home folder",
        "mount namespace",
        "found = set(os.listdir(host['home'])) if os.path.isdir(host['home']) else set()\n"
        "tries(lambda: none_of(found - set(host['home_shown'])))",
    ),
    Attack(
        "read passwords and keys",
        "mount namespace",
        "for path in ('/etc/shadow', '/etc/passwd', '/etc/ssh', '/var', '/run', '/sys', '/boot', '/mnt'):\n"
        "    tries(lambda: os.listdir(path) if os.path.isdir(path) else open(path).read())",
    ),
    Attack(
        "read the environment",
        "cleared environment",
        "texts = [json.dumps(dict(os.environ))]\n"
        "for pid in filter(str.isdigit, os.listdir('/proc')):\n"
        "    try: texts.append(open(f'/proc/{pid}/environ').read())\n"
        "    except OSError: pass\n"
        "tries(lambda: none_of([text for text in texts if host['secret_text'] in text]))",
    ),
    Attack(
        "read where things are on the host",
        "arguments by file descriptor",
        "words = open('/proc/1/cmdline').read().split(chr(0))[:4]\n"
        "tries(lambda: none_of([word for word in words if 'bind' in word]))",
    ),
    Attack(
        "write outside",
        "read-only mounts",
        "for path in (host['folder'] + '/new', '/new', '/usr/new', '/etc/new', '/dev/new', '/holdfast/inside/new.py',\n"
        "             sys.prefix + '/new', os.__file__):\n"
        "    tries(lambda: open(path, 'a').write('x'))",
    ),
    Attack(
        "change files of the interpreter",
        "read-only mounts",
        "for action in (os.remove, lambda path: os.chmod(path, 0o777), lambda path: os.utime(path)):\n"
        "    tries(lambda: action(os.__file__))",
    ),
    Attack(
        "symlinks to the host",
        "mount namespace",
        "os.symlink(host['secret'], 'link')\nos.symlink(host['folder'], 'folder')\n"
        "tries(lambda: open('link').read())\ntries(lambda: os.listdir('folder'))",
    ),
    Attack(
        "the root of other processes",
        "pid and mount namespace",
        "for pid in ('1', 'self', str(os.getppid()), 'thread-self'):\n"
        "    for path in (f'/proc/{pid}/root' + host['secret'], f'/proc/{pid}/cwd/../../..' + host['secret']):\n"
        "        tries(lambda: open(path).read())",
    ),
    Attack(
        "open files of other processes",
        "closed file descriptors",
        "own = os.listdir('/proc/self/fd')\n"
        "tries(lambda: none_of([n for n in own if int(n) > 2 and os.path.exists(f'/proc/self/fd/{n}')\n"
        "    and not os.readlink(f'/proc/self/fd/{n}').startswith('/proc')]))\n"
        "for n in range(3, 30):\n"
        "    try: os.write(n, b'forged'); print('ESCAPED wrote to', n)\n"
        "    except OSError: pass",
    ),
    Attack(
        "memory of other processes",
        "filter of system calls, own user",
        "tries(lambda: open('/proc/1/mem', 'r+b').read(1))\n"
        "tries(lambda: call('ptrace', 16, 1, 0, 0))\n"
        "tries(lambda: call('ptrace', 16, os.getppid(), 0, 0))\n"
        "tries(lambda: system_call((310, 270), 1, 0, 0, 0, 0, 0))",
    ),
    Attack(
        "see processes of the host",
        "pid namespace",
        "tries(lambda: none_of([p for p in os.listdir('/proc') if p.isdigit() and int(p) > 20]))\n"
        "tries(lambda: os.kill(host['pid'], 0))",
    ),
    Attack(
        "signals to the parent",
        "pid namespace",
        "for pid in (host['pid'], 1, os.getppid()):\n"
        "    try: os.kill(pid, signal.SIGKILL)\n"
        "    except OSError as error: print('stopped', error)\n"
        "time.sleep(0.2)\nprint('stopped the first process is still there', os.path.exists('/proc/1'))",
    ),
    Attack(
        "fork bomb",
        "limit of processes",
        "count = 0\n"
        "try:\n"
        "    for _ in range(500):\n"
        "        if os.fork() == 0: time.sleep(60); os._exit(0)\n"
        "        count += 1\n"
        "except OSError as error: print('stopped', error, 'after', count)\n"
        "else: print('ESCAPED', count)",
    ),
    Attack(
        "threads without end",
        "limit of processes",
        "import threading\nthreading.stack_size(65536)\n"
        "def more():\n"
        "    for _ in range(500): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "tries(more)\nos._exit(0)",
    ),
    Attack(
        "zombies",
        "limit of processes",
        "def zombies():\n    for _ in range(500):\n        if os.fork() == 0: os._exit(0)\ntries(zombies)",
    ),
    Attack(
        "a process that lives on",
        "end of the pid namespace",
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0: time.sleep(600)\n"
        "    os._exit(0)\n"
        "print('stopped', flush=True)",
    ),
    Attack("sleep without end", "killed by the parent", "print('stopped', flush=True)\ntime.sleep(600)", False),
    Attack(
        "ignore signals",
        "killed by the parent",
        "for number in range(1, 32):\n"
        "    try: signal.signal(number, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "print('stopped', flush=True)\ntime.sleep(600)",
        False,
    ),
    Attack("compute without end", "limit of CPU time", "print('stopped', flush=True)\nwhile True: pass"),
    Attack(
        "raise its limits", "hard limits", "tries(lambda: resource.setrlimit(resource.RLIMIT_NPROC, (10**6, 10**6)))"
    ),
    Attack("memory", "limit of memory", "tries(lambda: len(bytearray(2**31)))"),
    Attack(
        "memory that is not counted",
        "filter of system calls",
        "tries(lambda: os.memfd_create('x'))\ntries(lambda: call('shmget', 0, 2**30, 0o1600))",
    ),
    Attack(
        "fill folders",
        "limit of folders",
        "def fill(folder):\n"
        "    for number in range(100):\n"
        "        with open(f'{folder}/{number}', 'wb') as file: file.write(bytes(2**20))\n"
        "for folder in ('/box', '/dev/shm'): tries(lambda: fill(folder))",
    ),
    Attack(
        "a huge file",
        "limit of files",
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\ntries(lambda: open('big', 'wb').truncate(2**40))",
    ),
    Attack("open files without end", "limit of open files", "tries(lambda: [open('/dev/null') for _ in range(1000)])"),
    Attack(
        "output without end",
        "cut by the parent",
        "print('stopped', flush=True)\nwhile True: os.write(1, bytes(2**16))",
        False,
    ),
    Attack(
        "mounts and namespaces",
        "no capabilities, filter of system calls",
        "tries(lambda: call('mount', b'none', b'/box', b'tmpfs', 0, None))\n"
        "tries(lambda: call('umount2', b'/usr', 2))\n"
        "tries(lambda: call('unshare', 0x10000000))\ntries(lambda: call('unshare', 0x00020000))\n"
        "tries(lambda: call('setns', os.open('/proc/1/ns/net', os.O_RDONLY), 0))\n"
        "tries(lambda: os.chroot('/box'))\n"
        "tries(lambda: system_call((428, 428), -100, b'/', 1))\n"
        "tries(lambda: system_call((430, 430), b'tmpfs', 0))\n"
        "tries(lambda: system_call((56, 220), 0x10000000 | 17, 0, 0, 0, 0))\n"
        "tries(lambda: system_call((435, 435), 0, 0))",
    ),
    Attack(
        "devices",
        "no capabilities, nodev",
        "import stat\ntries(lambda: os.mknod('disk', 0o666 | stat.S_IFBLK, os.makedev(8, 0)))\n"
        "for name in ('sda', 'vda', 'mem', 'kmsg', 'kvm', 'fuse', 'tty', 'nvidia0', 'loop-control', 'net/tun'):\n"
        "    tries(lambda: open(f'/dev/{name}', 'rb').read(1))",
    ),
    Attack(
        "become root",
        "no capabilities, no new privileges",
        "tries(lambda: os.setuid(0))\ntries(lambda: os.setresuid(0, 0, 0))\ntries(lambda: os.setgid(0))\n"
        "text = open('/proc/self/status').read()\n"
        "tries(lambda: none_of([line for line in text.splitlines()\n"
        "    if line.startswith(('CapEff', 'CapPrm', 'CapAmb')) and int(line.split()[1], 16)]))\n"
        "tries(lambda: none_of([] if 'NoNewPrivs:\\t1' in text else ['new privileges']))\n"
        "tries(lambda: none_of([] if os.statvfs('/usr').f_flag & os.ST_NOSUID else ['setuid programs']))\n"
        "tries(lambda: none_of([] if os.getuid() else ['root']))",
    ),
    Attack(
        "keyrings",
        "filter of system calls",
        "tries(lambda: system_call((250, 219), 0, -3, 1))\n"
        "tries(lambda: system_call((248, 217), b'user', b'a', b'b', 1, -3))",
    ),
    Attack(
        "much attacked parts of the kernel",
        "filter of system calls",
        "for numbers in ((321, 280), (298, 241), (425, 425), (323, 282), (246, 104), (175, 105), (304, 265)):\n"
        "    tries(lambda: system_call(numbers, 0, 0, 0, 0, 0))",
    ),
    Attack(
        "settings of the kernel and the clock",
        "read-only mounts, filter of system calls",
        "for name in ('sys/kernel/hostname', 'sys/kernel/core_pattern', 'sysrq-trigger', 'sys/vm/drop_caches'):\n"
        "    tries(lambda: open(f'/proc/{name}', 'w').write('1'))\n"
        "tries(lambda: socket.sethostname('x'))\ntries(lambda: time.clock_settime(time.CLOCK_REALTIME, 0))",
    ),
]


@dataclass
class Host:
    """What the attacks are after, and whether they reached it."""

    folder: Path
    reached: list[str] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        """What a program is told, as if it knew the machine well."""
        home = Path.home()
        parts = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable), Path(os.path.realpath(sys.executable))]
        shown = {each.relative_to(home).parts[0] for each in parts if each.is_relative_to(home)}
        return {
            "secret": str(self.folder / "secret"),
            "secret_text": SECRET,
            "folder": str(self.folder),
            "unix": str(self.folder / "socket"),
            "abstract": f"holdfast-{os.getpid()}",
            "tcp": self.tcp.getsockname()[1],
            "udp": self.udp.getsockname()[1],
            "home": str(home),
            "home_shown": sorted(shown),
            "pid": os.getpid(),
        }

    def __enter__(self) -> "Host":
        self.stack = contextlib.ExitStack()
        (self.folder / "secret").write_text(SECRET)
        self.folder.chmod(0o777)
        os.environ["HOLDFAST_TEST_SECRET"] = SECRET
        self.stack.callback(os.environ.pop, "HOLDFAST_TEST_SECRET")
        self.tcp = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.udp = self.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.udp.bind(("127.0.0.1", 0))
        self.unix = self.stack.enter_context(socket.socket(socket.AF_UNIX))
        self.unix.bind(str(self.folder / "socket"))
        self.unix.listen()
        self.abstract = self.stack.enter_context(socket.socket(socket.AF_UNIX))
        self.abstract.bind(f"\0holdfast-{os.getpid()}")
        self.abstract.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def harm(self) -> list[str]:
        """What reached the host."""
        named = {"tcp": self.tcp, "udp": self.udp, "unix": self.unix, "abstract": self.abstract}
        ready, _, _ = select.select(list(named.values()), [], [], 0)
        found = [name for name, each in named.items() if each in ready]
        if (self.folder / "secret").read_text() != SECRET:
            found.append("the secret was changed")
        return found + [path.name for path in self.folder.iterdir() if path.name not in ("secret", "socket")]


@contextlib.contextmanager
def host() -> Iterator[Host]:
    """The host of attacks, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder, Host(Path(folder)) as found:
        yield found


def attempt(attack: Attack, on: Host) -> list[str]:
    """Try an attack in a sandbox. Returns what is wrong: what it escaped to, or that it did not end; nothing if all is
    well."""
    sandbox = Bubblewrap(LIMITS)
    argv = [sandbox.python, "-P", "-s", "-B", "-c", PRELUDE + attack.program, json.dumps(on.describe())]
    process = sandbox.launch(argv, streams=Streams(stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    assert process.stdout is not None
    said, wrong = b"", []
    try:
        while True:
            if not select.select([process.stdout], [], [], SECONDS if attack.ends_by_itself else 2.0)[0]:
                wrong += ["it did not end"] if attack.ends_by_itself else []
                break
            chunk = os.read(process.stdout.fileno(), 2**16)
            said += chunk
            if not chunk or len(said) > MIB:
                break
    finally:
        process.kill()
    # Every process of the sandbox holds the pipe. Its end is the end of all of them.
    while select.select([process.stdout], [], [], SECONDS)[0] and os.read(process.stdout.fileno(), 2**16):
        pass
    if select.select([process.stdout], [], [], 0)[0] == []:
        wrong.append("something of it is still running")
    process.stdout.close()
    process.wait()
    lines = said[:MIB].decode(errors="replace").splitlines()
    wrong += [line for line in lines if line.startswith("ESCAPED")]
    if not any(line.startswith("stopped") for line in lines):
        wrong.append(f"it was not tried: {lines[-1:]}")
    return wrong + on.harm()


if __name__ == "__main__":
    with host() as the_host:
        print(json.dumps({each.name: attempt(each, the_host) for each in ATTACKS}))
