"""Tries a verifier or an environment before a run writes anything."""

from holdfast import stop
from holdfast.data.task import Suite, Task
from holdfast.judging.answers import AnswerToJudge, Judgment, find_judgments
from holdfast.judging.episodes import EpisodesToJudge
from holdfast.judging.failure import Failure


def try_judge(each: Task | Suite) -> None:
    """Judge two answers, or play a turn, so that what always fails is noticed at once.

    Raises:
        DataError: a judgment takes too long or fails. With `verifier_errors: score_zero`, only if all do.
    """
    if not each.is_judged:
        return
    example = each.test[0]
    answer = example.demonstration or "no answer"
    found: list[Judgment]
    if each.episodes is not None:
        episode = EpisodesToJudge(each, [example], workers=1, poll=stop.poll)
        episode.step([0], [answer])
        found = episode.judgments()
    else:
        found = find_judgments([AnswerToJudge(each, example, text) for text in ("", answer)], workers=1)
    failures = [judgment for judgment in found if isinstance(judgment, Failure)]
    if failures and (each.verifier_errors == "stop" or len(failures) == len(found)):
        raise failures[0].error
