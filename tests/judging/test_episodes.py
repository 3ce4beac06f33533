"""`holdfast.judging.episodes`: environments live in child processes, and an episode outlives the process it is in."""

from collections.abc import Iterator

import pytest

from holdfast.data.environment import Episodes
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.task import Task
from holdfast.errors import DataError
from holdfast.judging.episodes import EpisodesToJudge
from holdfast.judging.failure import Failure
from holdfast.judging.named import NamedEnvironment
from holdfast.judging.pool import judging
from hostile_judges import HostileEnvironment

NAMED = NamedEnvironment("hostile_judges:HostileEnvironment", 1.5)


@pytest.fixture(autouse=True)
def processes() -> Iterator[None]:
    with judging():
        yield


def _episodes(
    count: int, factory: object = NAMED, errors: str = "score_zero", answer: object = None, workers: int = 2
) -> EpisodesToJudge:
    episodes = Episodes(factory)  # type: ignore[arg-type]
    task = Task("talk", [], [], episodes=episodes, verifier_errors=errors, verifier_timeout=1.5)  # type: ignore[arg-type]
    examples = [Example(f"e{i}", (Message(role="user", content="q"),), answer=answer) for i in range(count)]
    return EpisodesToJudge(task, examples, workers=workers, poll=lambda: None)


@pytest.mark.parametrize("does", ["hard-exit", "error", "sleep", "segfault", "exit", "none-of-these"])
def test_other_episodes_go_on_when_one_takes_its_process_down(does: str) -> None:
    own = _episodes(6)
    assert own.step(range(6), ["a"] * 6) == [[{"role": "user", "content": "turn 1"}]] * 6
    second = own.step(range(6), ["b", "b", does, "b", "end", "b"])
    assert [reply and reply[0]["content"] for reply in second] == [
        "turn 2",
        "turn 2",
        "turn 2" if does == "none-of-these" else None,
        "turn 2",
        None,
        "turn 2",
    ]
    assert [reply and reply[0]["content"] for reply in own.step([0, 5], ["c", "c"])] == ["turn 3", "turn 3"]
    found = own.judgments()
    if does != "none-of-these":
        failure = found.pop(2)
        assert isinstance(failure, Failure)
        assert failure.kind == ("timeout" if does == "sleep" else "error")
        assert "environment of example 'e2'" in str(failure.error)
    else:
        assert found.pop(2) == Verdict(0.2)
    assert found == [Verdict(0.3), Verdict(0.2), Verdict(0.2), Verdict(0.2), Verdict(0.3)]


def test_the_number_of_processes_changes_nothing() -> None:
    def played(workers: int) -> object:
        own = _episodes(5, workers=workers)
        return own.step(range(5), ["a"] * 5), own.step([1, 3], ["b", "end"]), own.verdicts()

    assert played(1) == played(4)


def test_a_failure_ends_the_run_where_it_shall() -> None:
    with pytest.raises(DataError, match="environment of example 'e1': it raised KeyError"):
        _episodes(3, errors="stop").step(range(3), ["a", "error", "a"])
    with pytest.raises(DataError, match="environment of example 'e1': it raised KeyError"):
        _episodes(3, HostileEnvironment, errors="stop").step(range(3), ["a", "error", "a"])


def test_an_environment_that_cannot_be_made_costs_its_reward() -> None:
    for factory in (NAMED, HostileEnvironment):
        own = _episodes(2, factory, answer="error")
        own.step([] if factory is HostileEnvironment else [0], [] if factory is HostileEnvironment else ["a"])
        with pytest.warns(UserWarning, match="KeyError"):
            assert [verdict.failure for verdict in own.verdicts()] == ["error", "error"]


def test_an_environment_of_this_process_is_interrupted() -> None:
    own = _episodes(2, HostileEnvironment)
    assert own.step([0, 1], ["sleep", "a"]) == [None, [{"role": "user", "content": "turn 1"}]]
    with pytest.warns(UserWarning, match=r"it took longer than 1\.5 s"):
        assert [verdict.failure for verdict in own.verdicts()] == ["timeout", ""]
