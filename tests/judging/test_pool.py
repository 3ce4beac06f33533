"""`holdfast.judging.pool`: processes are started when answers wait, replaced when one ends, and gone with the run."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.data.example import Example, Message
from holdfast.errors import ConfigError, DataError
from holdfast.judging import load_function
from holdfast.judging.named import NamedVerifier
from holdfast.judging.pool import Job, Pool, default_workers

EXAMPLE = Example("e", (Message(role="user", content="q"),), answer="4")


@pytest.fixture
def pool() -> Iterator[Pool]:
    own = Pool()
    yield own
    own.close()


def _jobs(count: int, function: str = "hostile_judges:slow", timeout: float = 30.0) -> list[Job]:
    return [NamedVerifier(function, timeout).job("sums", EXAMPLE, str(i % 8), "") for i in range(count)]


def test_processes_are_started_while_answers_wait_and_kept(pool: Pool) -> None:
    rewards = [outcome.verdict().reward for outcome in pool.run(_jobs(1), workers=4)]
    assert (rewards, len(pool)) == ([0.0], 1)
    rewards = [outcome.verdict().reward for outcome in pool.run(_jobs(160), workers=3)]
    assert rewards == [float(i % 8 == 4) for i in range(160)]
    assert len(pool) == 3


def test_a_process_imports_nothing_of_the_working_folder_by_itself(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "os", "signal"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'it-ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    assert pool.run(_jobs(5, "judges:always"), workers=1)[0].verdict().reward == 1.0
    assert not (tmp_path / "it-ran").exists()


def test_a_process_that_ended_between_two_answers_is_nobodys_failure(pool: Pool) -> None:
    pool.run(_jobs(40), workers=3)
    for child in pool._children:
        os.killpg(child._process.pid, signal.SIGKILL)
        child._process.wait()
    assert [outcome.failure for outcome in pool.run(_jobs(40), workers=3)] == [None] * 40


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("import sys\nsys.exit()", "importing it raised SystemExit"),
        ("import sys\nsys.exit(0)", "importing it raised SystemExit: 0"),
        ("import os\nos._exit(0)", "importing it failed: its process exited with code 0"),
        (
            "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)",
            "importing it failed: its process was ended by SIG",
        ),
        ("import no_such_thing", "importing it needs 'no_such_thing'"),
        ("raise KeyboardInterrupt", "it raised KeyboardInterrupt"),
        ("x = ", "importing it raised SyntaxError"),
        ("import os\nos.chdir('/')\nos.fork()", ""),
        ("verify = 3", "is int, not a function"),
        ("import time\ntime.sleep(600)", "importing it took longer than 2 s"),
    ],
)
def test_what_a_module_does_when_it_is_imported_is_its_own_error(
    module: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_module.py").write_text(
        f"{module}\n" + ("" if "verify" in module else "def verify(example, completion): return 1\n")
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(load_function, "LOAD_LIMIT", 2.0 if "600" in module else 60.0)
    verifier = NamedVerifier("own_module:verify")
    if not message:
        verifier.load()
        return
    with pytest.raises(ConfigError) as error:
        verifier.load()
    assert str(error.value).startswith(f"verifier 'own_module:verify': {message}"), str(error.value)


def test_a_function_of_the_program_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="in_process: true"):
        NamedVerifier("__main__:verify").load()


def test_values_that_json_has_no_form_for_arrive_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datetime

    text = "def verify(example, completion):\n    return float(repr(example) == completion)\n"
    (tmp_path / "by_repr.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    values = [
        None,
        {"a": (1, 2), "b": {3, 4}, "c": datetime.date(2020, 2, 3)},
        {"pickled": "no"},
        {1: "a", "1": "b"},
        [10**400, -0.0, float("inf"), b"\0", "\ud800"],
        (1, [2, (3,)]),
    ]
    for value in values:
        example = Example("e", (Message(role="user", content="q\0"),), answer=value, metadata={"m": value})
        assert NamedVerifier("by_repr:verify")(example, repr(example)).reward == 1.0, value
    with pytest.raises(DataError, match="cannot be sent to the process that judges"):
        NamedVerifier("by_repr:verify")(Example("e", (), answer=lambda: 0), "")


def test_the_run_may_stop_everything_while_a_verifier_hangs(pool: Pool) -> None:
    started = time.monotonic()

    def poll() -> None:
        if time.monotonic() - started > 1:
            raise KeyboardInterrupt

    jobs = [NamedVerifier("hostile_judges:judge", 3600).job("sums", EXAMPLE, "sleep", "")]
    with pytest.raises(KeyboardInterrupt):
        pool.run(jobs, poll=poll)
    assert len(pool) == 0


def test_the_default_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert default_workers() == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert default_workers() == 4
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "64")
    assert default_workers() == 2
