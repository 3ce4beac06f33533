"""`holdfast.sandbox.sandbox`: programs that do not start, and the end of all that a program has started."""

import os
import subprocess

import pytest

from holdfast.errors import DataError
from holdfast.sandbox.limits import MIB
from holdfast.sandbox.sandbox import converse, sandbox
from holdfast.sandbox.streams import Streams
from sandboxes import require_sandbox


@pytest.mark.parametrize("kind", ["bubblewrap", "unprotected"])
def test_a_sandbox_that_does_not_start_is_no_answers_fault(kind: str) -> None:
    if kind == "bubblewrap":
        require_sandbox()
    with pytest.raises(
        DataError, match=r"does not start: it ended with code 1: ModuleNotFoundError.*\(let the machine"
    ):
        converse(sandbox(kind), "nothing", MIB)


@pytest.mark.parametrize("kind", ["bubblewrap", "unprotected"])
@pytest.mark.parametrize("ends_first", [False, True], ids=["it goes on", "it has ended"])
def test_what_a_program_has_started_ends_with_it(kind: str, ends_first: bool) -> None:
    """Each of its processes holds the pipe. Its end is the end of all of them."""
    if kind == "bubblewrap":
        require_sandbox()
    box = sandbox(kind)
    last = "" if ends_first else "time.sleep(600)"
    code = f"import os, time\nif os.fork() == 0:\n    os.write(1, b'x'); time.sleep(600)\n{last}"
    read, write = os.pipe()
    process = box.launch([box.python, "-c", code], streams=Streams(stdout=write, stderr=subprocess.DEVNULL))
    os.close(write)
    if kind == "unprotected" or not ends_first:  # a sandbox ends with its first program
        assert os.read(read, 1) == b"x"
    if ends_first:
        process.wait()
    process.kill()
    assert os.read(read, 100) in (b"", b"x")
    assert os.read(read, 100) == b""
    process.wait()
    os.close(read)
