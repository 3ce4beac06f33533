"""Ask the model of someone else's training: the evaluator's greedy answers to suites, and sampled answers for KL."""

import sys
from collections.abc import Mapping, Sequence

from holdfast.config.settings import EvalSettings, TrainSettings
from holdfast.data.chat import PromptTooLong
from holdfast.data.seeds import derive_seed
from holdfast.data.task import Suite
from holdfast.errors import DataError
from holdfast.evaluation.evaluator import Evaluation, Evaluator
from holdfast.evaluation.likelihood import DemonstrationTooLong
from holdfast.evaluation.set_answers import ScoredBy, SetAnswers
from holdfast.measure.artifacts import compression_ratio, repeated_share, units_of_text
from holdfast.measure.artifacts.repetition import LOOPING
from holdfast.measure.response import distinct
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes
from holdfast.sampling.sampler import Request

SHOWN = 4
"""Answers of each suite that are kept for the report."""

ItemName = tuple[str, str]
"""A suite and the id of one of its items."""


class Questions:
    """The suites that a watched model is asked, in its tokens.

    Attributes:
        prompt_ids: of every item of every suite.

    Raises:
        DataError: a prompt leaves no room in the model's context for an answer of `max_new_tokens`.
    """

    def __init__(
        self,
        policy: Policy,
        suites: Sequence[Suite],
        world: Processes,
        max_new_tokens: int,
        batch_tokens: int,
        score: ScoredBy,
    ) -> None:
        self.suites, self.world = suites, world
        limit = policy.context_length
        room = sys.maxsize if limit is None else max(1, limit - max_new_tokens)
        self.evaluator = Evaluator(
            policy,
            None,
            TrainSettings(max_prompt_length=room, max_completion_length=max_new_tokens),
            EvalSettings(score=score, batch_tokens=batch_tokens, samples=SHOWN),
            world=world,
            may_pack=False,
        )
        self.prompt_ids: dict[ItemName, list[int]] = {}
        for suite in suites:
            try:
                prompts = self.evaluator.prompt_ids(suite)
            except PromptTooLong as error:
                raise DataError(
                    f"the prompt has {error.length} tokens; with an answer of {max_new_tokens} it exceeds the model's "
                    f"context of {limit}",
                    where=f"{suite.name}: {error.example_id}",
                    fix="lower max_new_tokens, or leave the item out",
                ) from error
            except DemonstrationTooLong as error:  # a watcher has no setting that drops items
                raise DataError(error.what, where=error.where, fix="leave the item out") from error
            self.prompt_ids |= {(suite.name, e.id): ids for e, ids in zip(suite.test, prompts, strict=True)}

    def answer(self) -> dict[str, SetAnswers]:
        """By suite, greedy answers to all items. All suites share batches: an interrupted training waits for them."""
        answers = self.evaluator.answer([(suite, suite.test) for suite in self.suites])
        return {suite.name: own for suite, own in zip(self.suites, answers, strict=True)}

    def sample(self, per_suite: int) -> tuple[list[ItemName], list[list[int]]]:
        """Answers at temperature 1 to the first prompts of each suite: the items, and the answers' token ids."""
        names = [(suite.name, e.id) for suite in self.suites for e in suite.test[:per_suite]]
        share = self.world.share(names)

        def sampled() -> list[list[int]]:
            requests = [Request(self.prompt_ids[name], seed=derive_seed("kl_to_base", *name)) for name in share]
            return [c.ids for c in self.evaluator.generate(self.evaluator.sampler, requests)]

        return names, [ids for part in self.world.each(sampled) for ids in part]

    def evaluation(self, stage: int, task: str | None, answers: Mapping[str, SetAnswers]) -> Evaluation:
        """Answers of `answer` as the evaluation of a stage."""
        result = Evaluation(stage, task)
        for suite in self.suites:
            result.add(suite.name, answers[suite.name], self.evaluator.settings, suite.chance)
        return result


def answer_records(answers: Mapping[str, SetAnswers]) -> dict[str, list[dict[str, object]]]:
    """By suite, all answers as `holdfast.summary.responses.Answers`."""
    return {suite: own.records() for suite, own in answers.items()}


def text_metrics(answers: Mapping[str, SetAnswers]) -> dict[str, float]:
    """Repetition, truncation and diversity over all answers together."""
    texts = [text for own in answers.values() for text in own.texts]
    units = [units_of_text(text) for text in texts]
    n = len(texts)
    return {
        "compression": sum(map(compression_ratio, texts)) / n,
        "repeated_4grams": sum(map(repeated_share, units)) / n,
        "looping": sum(compression_ratio(text) > LOOPING for text in texts) / n,
        "truncated": sum(c.truncated for own in answers.values() for c in own.completions) / n,
        "distinct_2": distinct(units, 2),
    }
