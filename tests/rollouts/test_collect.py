"""`holdfast.rollouts.collect`: how prompts become groups, and the order of the sources' rows in a group."""

from dataclasses import replace
from pathlib import Path

from holdfast.config.settings import ModelSettings, TrainSettings
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.rows import Row
from holdfast.data.task import Task
from holdfast.model.load import load_policy
from holdfast.recipes import SFT, SDZero
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.rollouts.collect import Collector
from holdfast.rollouts.sources.near_future import AnswerPool
from holdfast.sampling.sampler import Sampler

EXAMPLES = [Example(f"e{i}", (Message(role="user", content=f"{i} ?"),), f"{i}") for i in range(3)]
TASK = Task("t", EXAMPLES, EXAMPLES, lambda example, completion: Verdict(0.5))


def collector(folder: Path, recipe: Recipe) -> Collector:
    policy = load_policy(ModelSettings(path=str(folder)))
    made = Collector(policy, Sampler(policy), recipe, TrainSettings(prompts_per_step=3, max_completion_length=6), 0)
    made.prepare(TASK)
    return made


class RevisedAndDemonstrated(SDZero):
    """SD-Zero's first phase with demonstrations: a recipe with samples, revisions and demonstrations."""

    def rollouts(self) -> RolloutSpec:
        return replace(super().rollouts(), with_demonstration=True, num_generations=2)


def kinds(rows: list[Row]) -> list[str]:
    return [
        "revision"
        if row.revised
        else "sample"
        if row.is_sampled
        else "demonstration"
        if row.source_logprobs is None
        else "near future"
        for row in rows
    ]


def test_rows_stand_in_the_order_of_the_sources(tiny_model: Path) -> None:
    made = collector(tiny_model, RevisedAndDemonstrated(phase=1))
    answer = Row(EXAMPLES[0], [1], [2], source_logprobs=[-1.0])
    made.near_future_answers = AnswerPool({"e0": [answer]}, first_batch=0, completions=5, tokens=7)
    groups, _ = made.collect(TASK, 1, 0)
    own = ["sample", "sample", "revision", "revision", "demonstration"]
    assert {group.example.id: kinds(group.rows) for group in groups} == {
        "e0": [*own, "near future"],
        "e1": own,
        "e2": own,
    }
    assert [group.extra_completions for group in groups] == [5, 0, 0], "the cost of the stage is in its first group"
    assert [group.batch for group in made.collect(TASK, 1, 2)[0]] == [2] * 3


def test_a_recipe_that_does_not_sample_has_one_demonstration_per_group(tiny_model: Path) -> None:
    groups, _ = collector(tiny_model, SFT()).collect(TASK, 1, 0)
    assert [kinds(group.rows) for group in groups] == [["demonstration"]] * 3
    assert {group.rows[0].completion for group in groups} == {"0", "1", "2"}
