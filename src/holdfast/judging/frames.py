"""Messages between a run and its judging processes: a length of four bytes, then JSON, over pipes of their own."""

import json
import os
import struct
from typing import Any

from holdfast.errors import DataError

LONGEST_FRAME = 64 * 2**20
"""Bytes of the longest message. A verdict has two texts of at most 100,000 characters, an environment's turn may have
more."""

_LENGTH = struct.Struct(">I")


def packed(message: dict[str, Any]) -> bytes:
    """A message as bytes.

    Raises:
        DataError: it is longer than `LONGEST_FRAME`.
        TypeError: JSON has no form for a part of it.
    """
    body = json.dumps(message).encode()
    if len(body) > LONGEST_FRAME:
        raise DataError(f"a message of {len(body):,} bytes is too long", fix=f"at most {LONGEST_FRAME:,} can be sent")
    return _LENGTH.pack(len(body)) + body


def take(buffer: bytearray) -> dict[str, Any] | None:
    """Take the first whole message from the bytes that have arrived; None if there is none yet.

    Raises:
        ValueError: the bytes are no such message.
    """
    if len(buffer) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack_from(buffer)
    if length > LONGEST_FRAME:
        raise ValueError("a message is too long")
    if len(buffer) < _LENGTH.size + length:
        return None
    message = json.loads(bytes(buffer[_LENGTH.size : _LENGTH.size + length]))
    del buffer[: _LENGTH.size + length]
    if not isinstance(message, dict):
        raise ValueError("a message is no object")
    return message


def read(fd: int) -> dict[str, Any] | None:
    """Wait for the next message; None at the end of the pipe."""
    head = _read_exactly(fd, _LENGTH.size)
    if head is None:
        return None
    body = _read_exactly(fd, _LENGTH.unpack(head)[0])
    return None if body is None else json.loads(body)


def _read_exactly(fd: int, count: int) -> bytes | None:
    parts = []
    while count:
        part = os.read(fd, min(count, 2**20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def write(fd: int, frame: bytes) -> None:
    """Write all of a packed message to a blocking pipe."""
    rest = memoryview(frame)
    while rest:
        rest = rest[os.write(fd, rest) :]
