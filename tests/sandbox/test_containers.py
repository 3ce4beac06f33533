"""`holdfast.sandbox.containers`: the command lines of Docker and Podman, run by a program that stands for them."""

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.errors import ConfigError
from holdfast.sandbox import containers
from holdfast.sandbox.containers import Container
from holdfast.sandbox.limits import MIB, Limits
from holdfast.sandbox.sandbox import converse, sandbox
from holdfast.sandbox.streams import Streams

LIMITS = Limits(cpu_seconds=7, memory=512 * MIB, processes=9, open_files=11, folder_bytes=5 * MIB, file_bytes=3 * MIB)


def has(words: list[str], *wanted: str) -> bool:
    return any(tuple(words[i : i + len(wanted)]) == wanted for i in range(len(words)))


@pytest.mark.parametrize("program", ["docker", "podman"])
def test_a_container_can_reach_nothing_and_is_limited(program: str) -> None:
    words = Container(program, "python:3", LIMITS, (Path("/data"),)).command(["python3", "-c", "x"], {"A": "b"}, "name")
    assert words[:2] == [program, "run"]
    for wanted in (
        ("--network", "none"),
        ("--cap-drop", "ALL"),
        ("--security-opt", "no-new-privileges"),
        ("--user", "65534:65534"),
        ("--pull", "never"),
        ("--memory", str(512 * MIB)),
        ("--memory-swap", str(512 * MIB)),
        ("--pids-limit", "9"),
        ("--ulimit", "cpu=7:7"),
        ("--ulimit", "nofile=11:11"),
        ("--ulimit", f"fsize={3 * MIB}:{3 * MIB}"),
        ("--env", "A=b"),
        ("--mount", "type=bind,source=/data,target=/data,readonly"),
        ("--entrypoint", "python3"),
    ):
        assert has(words, *wanted), wanted
    assert {"--rm", "--read-only", "--interactive", "--init"} <= set(words)
    assert words[-3:] == ["python:3", "-c", "x"]
    assert not {"--privileged", "--tty"} & set(words)
    assert all(mount.endswith(",readonly") for mount in words if mount.startswith("type=bind"))


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """What is known about this machine is asked again, before and after."""
    containers.refusal.cache_clear()
    yield
    containers.refusal.cache_clear()


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `podman` that runs what a container would run, here, and notes its arguments."""
    place = containers.INSIDE.parent
    stub = tmp_path / "podman"
    stub.write_text(
        f"""#!{sys.executable}
import os, sys
with open({str(tmp_path / "calls")!r}, "a") as file:
    print(*sys.argv[1:3], file=file)
if sys.argv[1] == "run":
    words = sys.argv[sys.argv.index("--entrypoint") + 1 :]
    code = [word.replace("/holdfast", {str(place)!r}) for word in words[2:]]
    os.execv({sys.executable!r}, [words[0], *code])
"""
    )
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "calls"


def test_a_program_in_a_container_is_talked_with_and_removed(podman: Path) -> None:
    conversation = converse(sandbox("podman"), "answer", MIB)
    assert conversation.ask({"program": "print(input())", "filter": "", "prelude": False}, 30) == {"ready": True}
    reply = conversation.ask({"run": {"stdin": "hi", "seconds": 2, "wall": 20, "most": 100}}, 30)
    assert (base64.b64decode(reply["out"]), reply["code"]) == (b"hi\n", 0)
    conversation.close()
    tried, *used = [line.split()[0] for line in podman.read_text().splitlines()]
    assert (tried, used) == ("run", ["run", "rm"])


def test_an_image_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise every program would count as one that ended early."""
    (tmp_path / "docker").write_text("#!/bin/sh\necho 'No such image: python:3.99' >&2\nexit 125\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    place = sandbox("docker", image="python:3.99")
    for use in (place.check, lambda: place.launch(["python3"])):
        with pytest.raises(ConfigError, match=r"'python:3.99': No such image.*`docker pull python:3.99`"):
            use()


def test_a_container_whose_server_hangs_is_not_waited_for(podman: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["python3", "-c", "import os, time; os.write(1, b'x'); time.sleep(600)"]
    process = sandbox("podman").launch(argv, streams=Streams(stdout=subprocess.PIPE))
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.read(1) == b"x"
    podman.with_name("podman").write_text("#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setattr(containers, "REMOVE_SECONDS", 0.1)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL


def test_what_a_container_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="docker is not installed"):
        sandbox("docker").launch(["python3"])
    with pytest.raises(ConfigError, match="passes no file descriptors"):
        sandbox("docker").launch(["python3"], pass_fds=[3])
    with pytest.raises(ConfigError, match=r"no sandbox 'dockr' \(did you mean 'docker'"):
        sandbox("dockr")
