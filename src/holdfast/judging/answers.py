"""Judges answers of one turn, by the verifiers of their tasks and suites."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from holdfast import stop
from holdfast.data.example import Example, Verdict
from holdfast.data.task import Suite, Task, is_built_in
from holdfast.errors import DataError
from holdfast.judging.failure import Failure
from holdfast.judging.here import Watch
from holdfast.judging.named import NamedVerifier
from holdfast.judging.pool import Outcome, current_pool

Judgment = Verdict | Failure
"""A verdict on an answer, or why there is none."""


class AnswerToJudge(NamedTuple):
    """An answer to an example, and who judges it."""

    judge: Task | Suite
    example: Example
    content: str
    """What the model wrote after its thoughts."""
    thoughts: str = ""


def judge_answers(
    answers: Sequence[AnswerToJudge], *, workers: int | None = None, poll: Callable[[], None] = stop.poll
) -> list[Verdict | None]:
    """Judge answers, in their order.

    Named verifiers judge in child processes, several answers at a time. Others judge in this process, one by one.

    Args:
        workers: the most child processes; None for a number that follows from the cores.
        poll: called before every answer, and several times per second; may raise to stop everything.

    Returns:
        None for an answer whose task or suite has no verifier. An answer whose judgment takes too long has reward 0. So
        has one whose judgment fails, if its task or suite says `verifier_errors: score_zero`.

    Raises:
        DataError: the first judgment that fails where `verifier_errors` is `stop`.
        ConfigError: a named verifier cannot be imported.
    """
    judged = [each for each in answers if each.judge.verifier is not None]
    found = iter(find_judgments(judged, workers=workers, poll=poll))
    verdicts: list[Verdict | None] = []
    for each in answers:
        judgment = None if each.judge.verifier is None else next(found)
        verdicts.append(judgment.verdict(each.judge) if isinstance(judgment, Failure) else judgment)
    return verdicts


def find_judgments(
    answers: Sequence[AnswerToJudge], *, workers: int | None = None, poll: Callable[[], None] = stop.poll
) -> list[Judgment]:
    """A verdict on each answer, or why there is none. All have a verifier.

    The judgments end with the first failure that ends the run. Arguments are those of `judge_answers`.

    Raises:
        ConfigError: a named verifier cannot be imported.
    """
    named = [each for each in answers if isinstance(each.judge.verifier, NamedVerifier)]
    by_children = iter(_by_children(named, workers, poll))
    others = [each for each in answers if not isinstance(each.judge.verifier, NamedVerifier)]
    here = iter(_here(others, workers, poll))
    found: list[Judgment] = []
    for each in answers:
        found.append(next(by_children if isinstance(each.judge.verifier, NamedVerifier) else here))
        if _ends(found[-1], each.judge):
            break
    return found


def _ends(judgment: Judgment, judge: Task | Suite) -> bool:
    return isinstance(judgment, Failure) and judgment.ends(judge)


def _by_children(answers: Sequence[AnswerToJudge], workers: int | None, poll: Callable[[], None]) -> list[Judgment]:
    """The judgments end with a failure that ends the run."""
    if not answers:
        return []
    jobs = []
    for judge, example, content, thoughts in answers:
        assert isinstance(judge.verifier, NamedVerifier)
        jobs.append(judge.verifier.job(judge.name, example, content, thoughts))

    def ends(place: int, outcome: Outcome) -> bool:
        return outcome.failure is not None and outcome.failure.ends(answers[place].judge)

    outcomes = current_pool().run(jobs, workers=workers, poll=poll, ends=ends)
    return [outcome.failure or outcome.verdict() for outcome in outcomes]


def _together(answers: Sequence[AnswerToJudge], workers: int | None) -> dict[int, Verdict]:
    """By place, the verdicts of holdfast's own verifiers that judge several answers at a time (`judge_many`).

    If one of them fails there, none of its answers is here. Each is then judged alone, and the failure is that of its
    own answer.
    """
    found: dict[int, Verdict] = {}
    verifiers = {id(each.judge.verifier): each.judge.verifier for each in answers}
    for key, verifier in verifiers.items():
        judge_many = getattr(verifier, "judge_many", None) if is_built_in(verifier) else None
        if judge_many is None:
            continue
        places = [place for place, each in enumerate(answers) if id(each.judge.verifier) == key]
        with contextlib.suppress(DataError):
            verdicts = judge_many([(answers[place].example, answers[place].content) for place in places], workers)
            found.update(zip(places, verdicts, strict=True))
    return found


def _here(answers: Sequence[AnswerToJudge], workers: int | None, poll: Callable[[], None]) -> list[Judgment]:
    """Likewise."""
    found: list[Judgment] = []
    together = _together(answers, workers)
    with Watch().watching() as watch:
        for place, (judge, example, content, thoughts) in enumerate(answers):
            poll()
            if place in together:
                found.append(together[place])
                continue
            where = f"verifier of {judge.name!r}, example {example.id!r}"
            limit = None if is_built_in(judge.verifier) else judge.verifier_timeout
            each = watch.judgment(partial(judge.verify, example, content, thoughts), limit, where)
            found.append(each)
            if _ends(each, judge):
                break
    return found
