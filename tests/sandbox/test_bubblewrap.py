"""`holdfast.sandbox.bubblewrap`: programs in it, and what is said where there can be none."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.errors import ConfigError
from holdfast.sandbox import bubblewrap
from holdfast.sandbox.bubblewrap import Bubblewrap, refusal
from holdfast.sandbox.seccomp import is_known, no_escape, no_new_process
from holdfast.sandbox.streams import Streams
from sandboxes import require_sandbox


@pytest.fixture
def _fresh() -> Iterator[None]:
    """What is known about this machine is asked again, before and after."""
    for known in (refusal, bubblewrap._program):
        known.cache_clear()
    yield
    for known in (refusal, bubblewrap._program):
        known.cache_clear()


def test_a_program_has_its_arguments_environment_and_file_descriptors() -> None:
    require_sandbox()
    read, write = os.pipe()
    code = f"import os, sys; os.write({write}, b'private'); print(sys.argv[1], os.environ['A'], os.getcwd(), end='')"
    box = Bubblewrap()
    process = box.launch([box.python, "-c", code, "x y"], {"A": "é"}, [write], Streams(stdout=subprocess.PIPE))
    os.close(write)
    assert process.communicate()[0].decode() == "x y é /box"
    assert (process.returncode, os.read(read, 100)) == (0, b"private")
    os.close(read)


def test_a_program_sees_named_folders_and_the_packages(tmp_path: Path) -> None:
    require_sandbox()
    (tmp_path / "data").write_text("hello")
    tmp_path.chmod(0o755)  # the program is not root, even if this process is
    box = Bubblewrap(read_only=(tmp_path,))
    code = f"import numpy; print(open({str(tmp_path / 'data')!r}).read())"
    assert box.launch([box.python, "-c", code], streams=Streams(stdout=subprocess.PIPE)).communicate()[0] == b"hello\n"


def test_the_sandbox_ends_with_this_process() -> None:
    """A process that starts one and is killed leaves nothing behind that holds the pipe."""
    require_sandbox()
    code = (
        "import os, signal, subprocess, sys\n"
        "from holdfast.sandbox.bubblewrap import Bubblewrap\n"
        "from holdfast.sandbox.streams import Streams\n"
        "box = Bubblewrap()\n"
        "code = 'import os, time; os.write(1, b\"ready\"); time.sleep(600)'\n"
        "box.launch([box.python, '-c', code], streams=Streams(stdout=1))\n"
        "sys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.read(5) == b"ready"
    process.kill()
    assert process.communicate(timeout=60)[0] == b""


@pytest.mark.usefixtures("_fresh")
def test_without_bubblewrap_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match=r"not installed \(install it: `apt-get install bubblewrap`.*unprotected"):
        Bubblewrap().launch([sys.executable])


@pytest.mark.usefixtures("_fresh")
def test_where_bubblewrap_fails_its_reason_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ConfigError, match=r"cannot make one here: bwrap: No permissions .*allow user namespaces"):
        Bubblewrap().launch([sys.executable])


@pytest.mark.usefixtures("_fresh")
def test_elsewhere_than_on_linux_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ConfigError, match="bubblewrap is for Linux"):
        Bubblewrap().launch([sys.executable])


def test_a_home_folder_is_never_part_of_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    bubblewrap._interpreter.cache_clear()
    monkeypatch.setenv("HOME", sys.base_prefix)
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    try:
        assert not any(Path(sys.base_prefix).is_relative_to(path) for path in bubblewrap._interpreter())
    finally:
        bubblewrap._interpreter.cache_clear()


def test_filters_are_whole_programs_for_known_machines() -> None:
    for machine in ("x86_64", "aarch64", "arm64", "AMD64"):
        assert is_known(machine)
        for program in (no_escape(machine), no_new_process(machine)):
            assert len(program) % 8 == 0
            assert 20 < len(program) < 8 * 4096
    assert no_escape("arm64") == no_escape("aarch64") != no_escape("x86_64")
    assert not is_known("riscv64")
    assert no_escape("riscv64") == no_new_process("riscv64") == b""
