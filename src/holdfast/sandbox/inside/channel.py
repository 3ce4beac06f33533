"""The private channel of a program in a sandbox, and what it does to take it away from what it runs."""

import base64
import ctypes
import json
import os
from typing import Any

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2


class ChannelClosedError(BaseException):
    """Nobody listens any more. What a program in the sandbox raises is never this, as `EOFError` may be."""


class Channel:
    """Messages to and from whoever started this program: one JSON value a line. The first says that it has begun.

    The standard streams become empty. So nothing that is printed is taken for a message.
    """

    def __init__(self) -> None:
        self._in, self._out = os.dup(0), os.dup(1)
        self._read = b""
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        os.close(nothing)
        self.send({"begun": True})

    def receive(self) -> Any:
        """The next message.

        Raises:
            ChannelClosedError: there is none, because nobody listens any more.
        """
        while b"\n" not in self._read:
            chunk = os.read(self._in, 2**16)
            if not chunk:
                raise ChannelClosedError
            self._read += chunk
        line, _, self._read = self._read.partition(b"\n")
        return json.loads(line)

    def send(self, message: Any) -> None:
        """Send a message."""
        rest = memoryview(json.dumps(message).encode() + b"\n")
        while rest:
            rest = rest[os.write(self._out, rest) :]

    def close(self) -> None:
        """Leave the channel to another process that has it."""
        os.close(self._in)
        os.close(self._out)


class Filter:
    """A filter of system calls, ready to be set. Empty bytes are none.

    Args:
        program: the filter, in base64.
    """

    class _Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    def __init__(self, program: str) -> None:
        self._code = base64.b64decode(program)
        self._libc = ctypes.CDLL(None, use_errno=True)

    def set(self) -> None:
        """Hold this process, and all that come from it, to the filter for good.

        Raises:
            OSError: the kernel refuses.
        """
        if not self._code:
            return
        buffer = ctypes.create_string_buffer(self._code, len(self._code))
        program = self._Program(len(self._code) // 8, ctypes.addressof(buffer))
        for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)):
            if self._libc.prctl(*arguments) != 0:
                raise OSError(ctypes.get_errno(), "the kernel refuses a filter of system calls")
