"""Episodes of several turns: environments answer and judge them, in child processes if they are known by their name."""

from collections.abc import Callable, Sequence
from functools import partial

from holdfast.data.environment import CheckedEnvironment
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.task import Suite, Task, is_built_in
from holdfast.judging.failure import Failure
from holdfast.judging.here import Watch
from holdfast.judging.named import DistantEnvironment, NamedEnvironment
from holdfast.judging.pool import Job, Outcome, current_pool

Reply = list[Message] | None
"""What an environment answers to a turn; None if the episode is over."""


class EpisodesToJudge:
    """The environments of some episodes of one task.

    An episode whose environment takes too long, or fails where that only costs the reward, is over.

    Args:
        judge: the task or suite that has the environment.
        examples: one for each episode.
        workers: the most child processes; None for a number that follows from the cores.
        poll: called before every turn, and several times per second; may raise to stop everything.

    Raises:
        DataError: an environment cannot be made, and `verifier_errors` is `stop`.
    """

    def __init__(
        self, judge: Task | Suite, examples: Sequence[Example], *, workers: int | None, poll: Callable[[], None]
    ) -> None:
        assert judge.episodes is not None
        self._judge, self._examples, self._workers, self._poll = judge, examples, workers, poll
        self._distant: list[DistantEnvironment] = []
        self._own: dict[int, CheckedEnvironment] = {}
        self._failures: dict[int, Failure] = {}
        episodes = judge.episodes
        self._limit = None if is_built_in(episodes.factory) else judge.verifier_timeout
        if isinstance(episodes.factory, NamedEnvironment):
            self._distant = [DistantEnvironment(episodes.factory, example) for example in examples]
            return
        with Watch().watching() as watch:
            for place, example in enumerate(examples):
                begun = watch.judgment(partial(episodes.begin, example), self._limit, self._where(place))
                if isinstance(begun, Failure):
                    self._fail(place, begun)
                else:
                    self._own[place] = begun

    def step(self, places: Sequence[int], completions: Sequence[str]) -> list[Reply]:
        """Give each of some episodes a turn of the model, and return the replies.

        Raises:
            DataError: an environment fails, and `verifier_errors` is `stop`.
        """
        replies: list[Reply] = []
        if self._distant:
            jobs = [
                self._distant[place].job(completion=completion)
                for place, completion in zip(places, completions, strict=True)
            ]
            for place, outcome in zip(places, self._outcomes(jobs), strict=False):
                if outcome.failure is not None:
                    self._fail(place, outcome.failure)
                replies.append(None if outcome.failure is not None else outcome.answer["messages"])
            return replies
        with Watch().watching() as watch:
            for place, completion in zip(places, completions, strict=True):
                self._poll()
                step = partial(self._own[place].step, completion)
                reply = watch.judgment(step, self._limit, self._where(place))
                if isinstance(reply, Failure):
                    self._fail(place, reply)
                replies.append(None if isinstance(reply, Failure) else reply)
        return replies

    def reply(self, completion: str) -> Reply:
        """Give the first episode a turn of the model, and return the reply.

        Raises:
            DataError: its environment takes too long or fails, whatever `verifier_errors` says.
        """
        (reply,) = self.step([0], [completion])
        if (failure := self._failures.get(0)) is not None:
            raise failure.error
        return reply

    def verdicts(self) -> list[Verdict]:
        """Judge all episodes.

        Raises:
            DataError: an environment fails, and `verifier_errors` is `stop`.
        """
        return [each.verdict(self._judge) if isinstance(each, Failure) else each for each in self.judgments()]

    def judgments(self) -> list[Verdict | Failure]:
        """A verdict on each episode, or why there is none. Raises as `verdicts`."""
        places = [place for place in range(len(self._examples)) if place not in self._failures]
        verdicts: dict[int, Verdict] = {}
        if self._distant:
            outcomes = self._outcomes([self._distant[place].job(judged=True) for place in places])
            for place, outcome in zip(places, outcomes, strict=False):
                if outcome.failure is None:
                    verdicts[place] = outcome.verdict()
                else:
                    self._fail(place, outcome.failure)
        else:
            with Watch().watching() as watch:
                for place in places:
                    self._poll()
                    verdict = watch.judgment(self._own[place].verdict, self._limit, self._where(place))
                    if isinstance(verdict, Failure):
                        self._fail(place, verdict)
                    else:
                        verdicts[place] = verdict
        return [verdicts.get(place) or self._failures[place] for place in range(len(self._examples))]

    def _outcomes(self, jobs: Sequence[Job]) -> list[Outcome]:
        """After a failure that ends the run come fewer outcomes than jobs."""

        def ends(place: int, outcome: Outcome) -> bool:
            return outcome.failure is not None and outcome.failure.ends(self._judge)

        return current_pool().run(jobs, workers=self._workers, poll=self._poll, ends=ends)

    def _fail(self, place: int, failure: Failure) -> None:
        if failure.ends(self._judge):
            raise failure.error
        self._failures[place] = failure

    def _where(self, place: int) -> str:
        return f"environment of example {self._examples[place].id!r}"
