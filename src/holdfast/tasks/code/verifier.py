"""The verifier of tasks whose answers are programs."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

from holdfast.data.example import Example, Verdict
from holdfast.judging.pool import default_workers
from holdfast.tasks.code.answer import program_of
from holdfast.tasks.code.feedback import feedback
from holdfast.tasks.code.tests import ProgramOutcome, ProgramTests

NO_PROGRAM = "There is no program: write it in a block that begins with ```python."


class RunsPrograms(Protocol):
    """Runs programs against their tests: `ProgramRunner` or `FusionRunner`."""

    def run(self, program: str, given: ProgramTests) -> list[ProgramOutcome]:
        """One outcome for each test, in their order."""


@dataclass(frozen=True)
class ProgramVerifier:
    """Runs an answer's program against the example's tests.

    Args:
        runner: runs programs.
        reward: `all`: 1 if all tests pass, else 0. `share`: the share of tests that pass.
        feedback_length: characters of each part of the feedback.
    """

    runner: RunsPrograms
    reward: Literal["all", "share"] = "all"
    feedback_length: int = 400

    is_built_in = True
    """It ends by itself, and harms nothing: its runner sees to both."""

    def judge_many(self, answers: Sequence[tuple[Example, str]], workers: int | None = None) -> list[Verdict]:
        """Judge completions of examples, several at a time. The verdicts are in their order.

        Args:
            answers: examples and completions.
            workers: programs that run at once; None for a number that follows from the cores.

        Raises:
            ConfigError: as from `__call__`.
        """
        most = workers or default_workers()
        # Threads suffice: each only waits for the processes of its program.
        with ThreadPoolExecutor(most, "holdfast-programs") as pool:
            return list(pool.map(lambda answer: self(*answer), answers))

    def __call__(self, example: Example, completion: str) -> Verdict:
        """Judge a completion.

        Raises:
            ConfigError: there can be no such sandbox on this machine.
        """
        program = program_of(completion)
        if program is None:
            return Verdict(0.0, NO_PROGRAM, format_ok=False)
        outcomes = self.runner.run(program, ProgramTests.of(example.answer))
        passed = sum(each.ending == "passed" for each in outcomes)
        share = passed / len(outcomes)
        reward = share if self.reward == "share" else float(passed == len(outcomes))
        return Verdict(reward, feedback(outcomes, program, self.feedback_length), program)
