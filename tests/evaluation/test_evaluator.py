"""`holdfast.evaluation.evaluator`: sets that are asked together, metrics and samples of a set, and plans."""

import json
from pathlib import Path

import pytest

from holdfast.api import evaluate
from holdfast.config.settings import EvalSettings, ModelSettings, TrainSettings
from holdfast.data.example import Verdict
from holdfast.data.task import Suite, Task
from holdfast.evaluation.evaluator import Evaluator
from holdfast.evaluation.set_answers import SetAnswers
from holdfast.evaluation.standalone import evaluate_model, evaluation_plan
from holdfast.lab.tasks import lab_suite
from holdfast.model.load import load_policy
from holdfast.sampling.episodes import Episode
from holdfast.sampling.sampler import Completion


def test_sets_asked_together_get_the_answers_that_they_get_alone() -> None:
    """One of the sets has several turns, and so is played rather than sampled once."""
    suites = [lab_suite("known-quests"), lab_suite("known-steps")]
    assert [suite.episodes is not None for suite in suites] == [True, False]
    policy = load_policy(ModelSettings(path="lab"))
    train = TrainSettings(max_prompt_length=256, max_completion_length=96)
    evaluator = Evaluator(policy, None, train, EvalSettings(max_items=3))
    asked = [(suite, evaluator.items(suite)) for suite in suites]
    together = evaluator.answer(asked)
    for one, alone in zip(together, (evaluator.answer([each])[0] for each in asked), strict=True):
        assert list(one.texts) == list(alone.texts)
        assert one.scores("reward") == alone.scores("reward")
        assert len(one.texts) == 3
    assert all(isinstance(each, Episode) for each in together[0].completions)


def test_metrics_and_samples_of_a_set() -> None:
    examples = lab_suite("old-facts").test[:5]
    rewards = [1.0, 0.5, 0.0, 1.0, 1.0]
    completions = [Completion([7] * n, [0.0] * n, truncated=n > 3) for n in (1, 2, 3, 4, 5)]
    verdicts = [Verdict(reward, format_ok=reward > 0) for reward in rewards]
    answers = SetAnswers(examples, completions, [f"text {i}" for i in range(5)], verdicts)
    assert answers.scores("accuracy") == [1.0, 0.0, 0.0, 1.0, 1.0]
    assert answers.scores("reward") == rewards
    metrics = answers.metrics("accuracy")
    assert (metrics["mean"], metrics["n"], metrics["reward"]) == (0.6, 5, 0.7)
    assert (metrics["length"], metrics["truncated"], metrics["format_ok"]) == (3.0, 0.4, 0.8)
    assert [each["text"] for each in answers.samples(2)] == ["text 0", "text 2"]
    assert answers.samples(0) == []
    assert [each["reward"] for each in answers.records(3)] == rewards[:3]
    assert answers.records(0) == []


def test_the_most_frequent_answer_is_the_one_that_the_verifier_read() -> None:
    examples, texts = lab_suite("old-facts").test[:4], ["it is B", "B, surely", "C", "no idea"]
    verdicts = [Verdict(0.0, answer="B"), Verdict(1.0, answer="B"), Verdict(0.0, answer="C"), Verdict(0.0)]
    completions = [Completion([7], [0.0], truncated=False)] * 4
    judged = SetAnswers(examples, completions, texts, verdicts).metrics("accuracy")
    assert judged["most_frequent"] == {"answer": "B", "count": 2}
    unjudged = SetAnswers(examples, completions, ["same"] * 4, [None] * 4).metrics("accuracy")
    assert unjudged["most_frequent"] == {"answer": "same", "count": 4}


@pytest.mark.slow
def test_the_command_and_the_gate_evaluate_alike(tmp_path: Path) -> None:
    config = {
        "tasks": [{"name": "facts", "lab": "facts", "limit": 8}],
        "suites": ["lab:old-facts"],
        "recipe": "sft",
        "train": {"max_prompt_length": 160, "max_completion_length": 24},
        "eval": {"max_items": 4},
    }
    path = tmp_path / "gate.yaml"
    path.write_text(json.dumps(config))
    plan = evaluation_plan(path, (), None, False)
    assert [type(each) for each in (*plan.tasks, *plan.suites)] == [Task, Suite]
    names: list[str] = []
    assert evaluate_model(plan.for_model("lab"), names.append) == evaluate(config)
    assert names == ["facts", "old-facts"]
