"""`holdfast.evaluation.demonstration_distance`: what is measured on a model, against its own forward pass."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from holdfast.config.settings import EvalSettings, ModelSettings, TrainSettings
from holdfast.data.example import Example
from holdfast.data.seeds import derive_seed
from holdfast.data.task import Task
from holdfast.evaluation.demonstration_distance import demonstration_distances
from holdfast.evaluation.evaluator import Evaluator
from holdfast.lab.tasks import lab_task
from holdfast.measure.demonstration_distance import TOP_K
from holdfast.model.load import load_policy
from holdfast.sampling.sampler import Request

LENGTHS = TrainSettings(max_prompt_length=160, max_completion_length=48)


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator(load_policy(ModelSettings()), None, LENGTHS, EvalSettings())


def task(count: int = 6) -> Task:
    whole = lab_task("calculation")
    return replace(whole, train=whole.train[:count])


def test_nll_and_unlikely_tokens_are_those_of_the_model_itself(evaluator: Evaluator) -> None:
    own = task()
    (found,) = demonstration_distances(evaluator, [own], 6)
    policy = evaluator.policy
    nll, tokens, outside = 0.0, 0, 0
    for example in own.train:
        shown = policy.chat_format.encode_demonstration(example)
        ids = torch.tensor([shown.prompt_ids + shown.ids])
        with torch.no_grad():
            logits: Any = policy.model(input_ids=ids).logits[0, len(shown.prompt_ids) - 1 : -1].double()
        for row, token in zip(logits.log_softmax(-1), shown.ids, strict=True):
            nll -= float(row[token])
            tokens += 1
            outside += token not in row.topk(TOP_K).indices.tolist()
    assert found.prompts == 6
    assert found.nll_demonstrations == pytest.approx(nll / tokens, rel=1e-4)
    assert found.outside_demonstrations == pytest.approx(outside / tokens)
    assert found.length_demonstrations == pytest.approx(tokens / 6)


def test_demonstrations_that_are_the_models_own_samples_have_no_distance(evaluator: Evaluator) -> None:
    own = task(12)
    policy, name = evaluator.policy, own.name

    def sample(example: Example) -> str:
        seed = derive_seed("demonstration distance", name, example.id)
        (answer,) = evaluator.generate(evaluator.sampler, [Request(policy.chat_format.encode_example(example), seed)])
        return policy.chat_format.decode(answer.ids)

    mine = replace(own, train=[replace(each, demonstration=sample(each)) for each in own.train])
    (foreign,), (near,) = (demonstration_distances(evaluator, [each], 12) for each in (own, mine))
    assert near.distance == pytest.approx(0, abs=1e-4)
    assert near.outside_demonstrations == near.outside_samples
    assert not near.phrases
    assert not near.is_far
    assert foreign.is_far
    assert foreign.nll_samples == pytest.approx(near.nll_samples, rel=1e-5)  # the same samples


def test_the_measurement_depends_on_no_other_task(evaluator: Evaluator) -> None:
    first, second = task(), replace(lab_task("facts"), train=lab_task("facts").train[:5])
    together = demonstration_distances(evaluator, [first, second], 6)
    assert [each.task for each in together] == ["calculation", "facts"]
    (alone,) = demonstration_distances(evaluator, [second], 6)
    assert alone.distance == pytest.approx(together[1].distance, rel=1e-5)
    assert alone.prompts == 5


def test_tasks_without_demonstrations_are_left_out(evaluator: Evaluator) -> None:
    bare = replace(task(), train=[replace(each, demonstration=None) for each in task().train])
    assert demonstration_distances(evaluator, [bare], 6) == []
    assert demonstration_distances(evaluator, [task()], 0) == []


def test_demonstrations_that_do_not_fit_are_left_out(evaluator: Evaluator) -> None:
    long = replace(task().train[0], id="long", demonstration="we " * 400)
    own = task(3)
    (found,) = demonstration_distances(evaluator, [replace(own, train=[long, *own.train])], 6)
    assert found.prompts == 3
