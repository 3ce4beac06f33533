"""`holdfast.judging.answers`: whatever a verifier does, its answer gets its judgment and the others get theirs."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cases import IS_LONG, tally
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.task import Task
from holdfast.errors import DataError
from holdfast.judging.answers import AnswerToJudge, find_judgments, judge_answers
from holdfast.judging.failure import Failure
from holdfast.judging.named import NamedVerifier
from holdfast.judging.pool import current_pool, judging
from hostile_judges import CASES, KINDS, LIMIT, judge

HOSTILE = NamedVerifier("hostile_judges:judge", LIMIT)


@pytest.fixture(autouse=True)
def processes() -> Iterator[None]:
    with judging():
        yield


def _example(name: str, answer: object = "4") -> Example:
    return Example(name, (Message(role="user", content="What is 2 + 2?"),), answer=answer, metadata={"k": [1]})


def _task(verifier: object = HOSTILE, errors: str = "score_zero", timeout: float = LIMIT) -> Task:
    return Task("sums", [], [], verifier, verifier_errors=errors, verifier_timeout=timeout)  # type: ignore[arg-type]


def _is_as_expected(name: str, found: Verdict | Failure) -> bool:
    expected = CASES[name].judgment
    if isinstance(expected, float):
        return isinstance(found, Verdict) and found.reward == expected
    if expected == "any":
        return isinstance(found, Verdict)
    if isinstance(found, Verdict):
        return False
    line = str(found.error)
    if expected == "failure":
        return True
    fits = found.kind == "timeout" if expected == "timeout" else found.kind == "error" and expected in line
    return fits and len(line) < 800 and line.isprintable() and f"example '{name}'" in line


@pytest.mark.torture
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_verifier_does_its_neighbors_are_judged_rightly(kind: str) -> None:
    """Between two hostile answers stand one that is right and one that is wrong."""
    task, here = _task(), os.getcwd()
    names = [name for name, case in KINDS[kind].items() if (IS_LONG or not case.is_long) and not case.is_alone]
    answers = [AnswerToJudge(task, _example(text), text) for name in names for text in (name, "4", "5")]
    found = find_judgments(answers, workers=4)
    wrong = [(name, each) for name, each in zip(names, found[::3], strict=True) if not _is_as_expected(name, each)]
    tally("hostile verifiers", kind, len(names), [str(each) for each in wrong])
    assert found[1::3] == [Verdict(1.0)] * len(names)
    assert found[2::3] == [Verdict(0.0)] * len(names)
    assert os.getcwd() == here
    assert answers[0].example == _example(names[0])


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.is_alone])
def test_what_breaks_its_process_costs_its_own_answer_alone_after_a_new_start(name: str) -> None:
    (found,) = find_judgments([AnswerToJudge(_task(), _example(name), name)])
    assert _is_as_expected(name, found)
    current_pool().close()
    assert find_judgments([AnswerToJudge(_task(), _example("a"), "4")]) == [Verdict(1.0)]


def test_the_table_has_a_hundred_cases() -> None:
    assert len(CASES) >= 100


def test_verdicts_do_not_depend_on_the_number_of_processes() -> None:
    answers = [AnswerToJudge(_task(), _example(f"e{i}"), f"random {i}" if i % 2 else str(i)) for i in range(40)]
    assert judge_answers(answers, workers=1) == judge_answers(answers, workers=5)
    assert {verdict.reward for verdict in judge_answers(answers) if verdict is not None} == {0.0, 1.0}


def test_a_verifier_that_hangs_in_one_of_fifty_answers() -> None:
    """Each time costs its limit and a new process, and nothing else."""
    task = _task(NamedVerifier("hostile_judges:hangs_at_multiples", 0.5))
    found = find_judgments([AnswerToJudge(task, _example(f"e{i}"), str(i)) for i in range(200)], workers=3)
    late = [place for place, each in enumerate(found) if isinstance(each, Failure)]
    assert late == [49, 99, 149, 199]
    assert [found[place].kind for place in late] == ["timeout"] * 4
    assert [each.reward for each in found if isinstance(each, Verdict)] == [
        float(i % 2 == 0) for i in range(200) if i not in late
    ]


def test_the_first_failure_in_order_ends_a_run(recwarn: pytest.WarningsRecorder) -> None:
    task = _task(errors="stop")
    texts = ["4", "sleep", "5", "error", "4", "segfault", "4"]
    answers = [AnswerToJudge(task, _example(f"e{i}"), text) for i, text in enumerate(texts)]
    with pytest.raises(DataError, match=r"^verifier of 'sums', example 'e3': it raised KeyError"):
        judge_answers(answers, workers=3)
    assert judge_answers(answers[:1]) == [Verdict(1.0)]


def test_failures_are_counted_in_verdicts_and_the_first_are_named() -> None:
    answers = [AnswerToJudge(_task(), _example(f"e{i}"), "error") for i in range(5)]
    with pytest.warns(UserWarning, match="so it scores 0") as warned:
        verdicts = judge_answers(answers)
    assert [verdict and (verdict.reward, verdict.failure) for verdict in verdicts] == [(0.0, "error")] * 5
    assert verdicts[4] is not None
    assert verdicts[4].reason.startswith("verifier of 'sums', example 'e4': it raised KeyError")
    assert [str(each.message)[:33] for each in warned] == [f"verifier of 'sums', example 'e{i}':" for i in range(3)]


def test_a_verifier_of_this_process_is_interrupted_too() -> None:
    for name, case in {n: c for n, c in KINDS["hangs"].items() if n in ("sleep", "loop", "deadlock", "join")}.items():
        assert case.judgment == "timeout"
        task = _task(judge, timeout=0.3)
        started = time.monotonic()
        found = find_judgments([AnswerToJudge(task, _example("a"), name), AnswerToJudge(task, _example("b"), "4")])
        assert isinstance(found[0], Failure), name
        assert found[0].kind == "timeout"
        assert found[1] == Verdict(1.0)
        assert time.monotonic() - started < 30


@pytest.mark.parametrize("name", ["exit", "fork-and-return", "move", "change-example", "error", "nan"])
def test_what_a_verifier_of_this_process_may_do(name: str) -> None:
    here, expected = os.getcwd(), CASES[name].judgment
    found = find_judgments([AnswerToJudge(_task(judge), _example("a"), name)])[0]
    if isinstance(found, Failure):
        assert str(expected) in str(found.error)
    else:
        assert found.reward == expected
    assert os.getcwd() == here


def test_a_set_without_a_verifier_has_no_verdicts() -> None:
    assert judge_answers([AnswerToJudge(_task(None), _example("a"), "4")]) == [None]


def test_no_process_is_left(tmp_path: Path) -> None:
    judge_answers([AnswerToJudge(_task(), _example("a"), "4")])
    assert len(current_pool()) == 1
    with judging():
        pass
    assert len(current_pool()) == 0
