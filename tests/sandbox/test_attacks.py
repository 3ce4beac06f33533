"""`holdfast.sandbox.bubblewrap`: nothing gets out, as root and as an ordinary user."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attacks import ATTACKS, Attack, Host, attempt, host
from sandboxes import require_sandbox

ROOT = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture(scope="module")
def attacked() -> Iterator[Host]:
    require_sandbox()
    with host() as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_stopped(attack: Attack, attacked: Host) -> None:
    assert attempt(attack, attacked) == [], f"not stopped by: {attack.stopped_by}"


def test_an_attack_that_succeeds_is_noticed(attacked: Host) -> None:
    """The list of attacks can fail: a program that reaches what it is allowed to reach is taken for an escape."""
    allowed = Attack("write inside", "", "tries(lambda: open('/box/own', 'w').write('x'))")
    assert attempt(allowed, attacked)[0] == "ESCAPED 1"
    assert attempt(Attack("says nothing", "", "pass"), attacked) == ["it was not tried: []"]


@pytest.mark.slow
def test_the_attacks_of_an_ordinary_user_are_stopped() -> None:
    """Root starts the sandbox in another way than others do."""
    require_sandbox()
    if os.geteuid() != 0:
        pytest.skip("this is an ordinary user already")
    python = next(filter(_is_usable, filter(None, [sys.executable, shutil.which("python3", path="/usr/bin")])), None)
    if python is None:
        pytest.skip("no Python that an ordinary user can run")
    done = _as_nobody([python, str(ROOT / "tests/helpers/attacks.py")])
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert len(outcomes) == len(ATTACKS)
    assert {name: wrong for name, wrong in outcomes.items() if wrong} == {}


def _is_usable(python: str) -> bool:
    try:
        return (
            _as_nobody(
                [python, "-c", "import sys, holdfast.sandbox.bubblewrap; assert sys.version_info >= (3, 11)"]
            ).returncode
            == 0
        )
    except OSError:
        return False


def _as_nobody(argv: list[str]) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        argv,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
