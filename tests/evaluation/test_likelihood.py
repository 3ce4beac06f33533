"""`holdfast.evaluation.likelihood`: the NLL of demonstrations is that of transformers, on the tokens of training."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from holdfast.config.settings import EvalSettings, LoraSettings, ModelSettings, TrainSettings
from holdfast.data.environment import Episodes
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.task import Suite, Task
from holdfast.errors import DataError
from holdfast.evaluation import likelihood
from holdfast.evaluation.evaluator import Evaluator
from holdfast.evaluation.likelihood import RightAnswer, likelihoods
from holdfast.lab.tasks import lab_task
from holdfast.model.base import Base
from holdfast.model.load import load_policy
from holdfast.model.logprobs import vocabulary_logprobs
from holdfast.model.policy import Policy
from holdfast.rollouts.training_prompts import encode_demonstration
from tiny_model import SAMPLE_TEXTS, build_tiny_model

TRAIN = TrainSettings(max_prompt_length=60, max_completion_length=8)
DEMONSTRATIONS = ("Paris.", "<think>\nThe capital?\n</think>\n\nIt is Paris.", "42", "Naïve – 答え\nin two lines")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model", vocab_size=300, texts=SAMPLE_TEXTS)


@pytest.fixture(scope="module")
def policy(folder: Path) -> Policy:
    return load_policy(ModelSettings(path=str(folder)))


def example(index: int, demonstration: str | None, **more: Any) -> Example:
    prompt = Message(role="user", content=f"Question {index} {'and more ' * (index % 3)}?")
    return Example(f"e{index}", (prompt,), demonstration=demonstration, **more)


def task(*demonstrations: str | None, name: str = "free", **more: Any) -> Task:
    examples = [example(i, text) for i, text in enumerate(demonstrations)]
    return Task(name, examples, examples, **more)


def verify(example: Example, completion: str) -> Verdict:
    return Verdict(0.0)


def by_transformers(policy: Policy, prompt_ids: Sequence[int], ids: Sequence[int]) -> float:
    """NLL per token from the whole logits of one unpadded row."""
    rows = torch.tensor([[*prompt_ids, *ids]])
    with torch.no_grad():
        logprobs = policy.causal_lm(rows).logits[0].float().log_softmax(-1)
    places = torch.arange(len(prompt_ids), rows.shape[1])
    return -float(logprobs[places - 1, rows[0, places]].mean())


@pytest.mark.parametrize("batch_tokens", [1, 100, 65536])
@pytest.mark.parametrize("may_pack", [True, False])
def test_it_is_the_mean_over_the_tokens_that_training_encodes(
    policy: Policy, batch_tokens: int, may_pack: bool
) -> None:
    free = task(*DEMONSTRATIONS)
    evaluator = Evaluator(policy, None, TRAIN, EvalSettings(batch_tokens=4 * batch_tokens), may_pack=may_pack)
    (answers,) = evaluator.answer([(free, evaluator.items(free))])
    for each, prompt_ids, item in zip(free.test, evaluator.prompt_ids(free), answers.nll, strict=True):
        ids = encode_demonstration(policy.chat_format, free, each).ids
        assert ids[-1] in policy.eos_ids
        assert item is not None
        assert item["tokens"] == len(ids)
        assert item["nll"] == pytest.approx(by_transformers(policy, prompt_ids, ids), abs=1e-4)
    tokens = [item["tokens"] for item in answers.nll if item]
    whole = sum(item["nll"] * item["tokens"] for item in answers.nll if item) / sum(tokens)
    assert answers.mean_nll() == pytest.approx(whole)


def test_no_accuracy_is_made_up_for_a_set_that_nothing_judges(policy: Policy) -> None:
    """Exact match with the demonstration, which it was scored by, is 0 for any free-form set."""
    free = task(*DEMONSTRATIONS)
    result = Evaluator(policy, None, TRAIN, EvalSettings()).evaluate(0, None, [free], [])
    numbers = result.sets["free"]
    assert [numbers[key] for key in ("mean", "ci95", "reward", "format_ok")] == [None] * 4
    assert numbers["nll"] > 0
    assert numbers["nll_se"] > 0
    assert numbers["length"] > 0
    assert "free" not in result.items
    assert all(sample["reward"] is None for sample in result.samples["free"])
    assert all(record["reward"] is None for record in result.answers["free"])
    json.dumps(result.as_json(), allow_nan=False)


def test_an_answer_that_is_the_demonstration_is_not_called_right() -> None:
    policy = load_policy(ModelSettings(path="lab"))
    lab = lab_task("facts")
    evaluator = Evaluator(policy, None, TrainSettings(max_prompt_length=160, max_completion_length=48), EvalSettings())
    assert evaluator.items(lab)
    (answers,) = evaluator.answer([(lab, lab.test[:2])])
    copied = [
        replace(each, demonstration=text, answer=None) for each, text in zip(lab.test[:2], answers.texts, strict=True)
    ]
    free = Task("copied", copied, copied)
    (again,) = evaluator.answer([(free, evaluator.items(free))])
    assert list(again.texts) == [each.demonstration for each in copied]
    assert again.mean_score("accuracy") is None
    assert again.scores("reward") == []


def test_judged_sets_have_it_too_for_the_items_with_demonstrations(policy: Policy) -> None:
    judged = task("Paris.", None, "<|im_end|> inside", "x" * 9000, verifier=verify)
    evaluator = Evaluator(policy, None, TRAIN, EvalSettings())
    (answers,) = evaluator.answer([(judged, evaluator.items(judged))])
    assert [item is None for item in answers.nll] == [False, True, True, True]
    assert answers.mean_score("accuracy") == 0.0
    none = task(None, None, verifier=verify, name="none")
    numbers = evaluator.evaluate(0, None, [none], []).sets["none"]
    assert (numbers["mean"], numbers["nll"], numbers["nll_se"]) == (0.0, None, None)


@pytest.mark.parametrize("kind", ["task", "suite"])
@pytest.mark.parametrize(
    ("demonstration", "message"),
    [
        (None, r"'free', test example 'e1': there is nothing to judge its answer by \(name a `verifier`"),
        ("<|im_end|> inside", "which ends a turn"),
        ("x" * 9000, r"free: e1: prompt and demonstration have \d+ tokens, more than the model's context of \d+"),
    ],
)
def test_an_item_that_nothing_scores_is_refused_before_training(
    policy: Policy, kind: str, demonstration: str | None, message: str
) -> None:
    free: Task | Suite = task("Paris.", demonstration)
    if kind == "suite":
        free = Suite("free", "retention", free.test, None)
    with pytest.raises(DataError, match=message) as caught:
        Evaluator(policy, None, TRAIN, EvalSettings()).check(free)
    assert "\n" not in str(caught.value)


def test_a_demonstration_that_does_not_fit_is_dropped_if_that_is_asked_for(policy: Policy) -> None:
    free = task("Paris.", "x" * 9000)
    evaluator = Evaluator(policy, None, TRAIN.model_copy(update={"long_prompts": "drop"}), EvalSettings())
    assert [each.id for each in evaluator.items(free)] == ["e0"]
    assert evaluator.dropped == {"free": 1}


def test_a_set_of_several_turns_has_none_and_its_environment_is_not_asked_for_one(policy: Policy) -> None:
    begun: list[str] = []

    class Once:
        def __init__(self, example: Example) -> None:
            begun.append(example.id)

        def step(self, completion: str) -> None:
            return None

        def verdict(self) -> Verdict:
            return Verdict(1.0)

    several = task("Paris.", "42", episodes=Episodes(Once, 2))
    numbers = Evaluator(policy, None, TRAIN, EvalSettings()).evaluate(0, None, [several], []).sets["free"]
    assert (numbers["mean"], numbers["nll"]) == (1.0, None)
    assert begun == ["e0", "e1"]


def test_nothing_to_score_is_no_error(policy: Policy) -> None:
    assert likelihoods(policy, [[1], [2]], [RightAnswer(), RightAnswer()], batch_tokens=8) == [(None, None)] * 2
    assert likelihoods(policy, [], [], batch_tokens=8) == []


def test_a_probe_has_the_scores_of_judged_sets_and_the_nll_of_all(policy: Policy) -> None:
    free, judged = task(*DEMONSTRATIONS), task(*DEMONSTRATIONS, name="judged", verifier=verify)
    evaluator = Evaluator(policy, None, TRAIN, EvalSettings(probe_items=2))
    probed = evaluator.probe([free, judged], [Suite("old", "retention", free.test, None)])
    assert probed.scores == {"judged": 0.0}
    assert list(probed.nll) == ["free", "judged", "old"]
    whole = evaluator.evaluate(0, None, [free], [])
    first = [item for item in whole.nll["free"][:2] if item]
    expected = sum(item["nll"] * item["tokens"] for item in first) / sum(item["tokens"] for item in first)
    assert probed.nll["free"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("may_pack", [True, False])
def test_a_target_is_scored_after_its_forced_beginning(policy: Policy, may_pack: bool) -> None:
    """With and without a demonstration that begins with it, and under a verifier or none."""
    forced = {"gen_prefix": "The capital of France is", "target": " Paris."}
    examples = [
        example(0, "The capital of France is Paris.", **forced),
        example(1, "Paris.", **forced),
        example(2, None, **forced),
        example(3, "Paris."),
        example(4, None, target="x" * 9000),
    ]
    judged = Task("judged", examples, examples, verify)
    evaluator = Evaluator(policy, None, TRAIN, EvalSettings(), may_pack=may_pack)
    (answers,) = evaluator.answer([(judged, evaluator.items(judged))])
    assert [item is None for item in answers.forced] == [False, False, False, True, True]
    assert [item is None for item in answers.nll] == [False, False, True, False, True]
    sums = []
    for each, prompt_ids, item in zip(examples[:3], evaluator.prompt_ids(judged), answers.forced):
        beginning, target = policy.chat_format.encode_forced(each)
        assert item is not None
        assert item["tokens"] == len(target)
        assert item["nll"] == pytest.approx(by_transformers(policy, [*prompt_ids, *beginning], target), abs=1e-4)
        sums.append(item["nll"] * item["tokens"])
    numbers = evaluator.evaluate(0, None, [judged], [])
    block = numbers.sets["judged"]["forced"]
    assert block["n"] == 3
    assert block["nll"] == pytest.approx(sum(sums) / 3, abs=1e-3)
    assert block["probability"] == pytest.approx(sum(math.exp(-each) for each in sums) / 3, rel=1e-3)
    assert numbers.as_json()["forced"]["judged"][3] is None
    assert evaluator.probe([judged], []).probability == {"judged": pytest.approx(block["probability"], rel=1e-3)}
    free = task(*DEMONSTRATIONS)
    assert evaluator.evaluate(0, None, [free], []).sets["free"]["forced"] is None


def test_a_demonstration_that_begins_with_the_target_costs_no_row(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []

    def counted(models: Any, prompts: Any, completions: Any, *more: Any, **settings: Any) -> Any:
        rows.append(len(completions))
        return vocabulary_logprobs(models, prompts, completions, *more, **settings)

    monkeypatch.setattr(likelihood, "vocabulary_logprobs", counted)
    shared = RightAnswer([5, 6, 7, 8], (5,), [6, 7])
    apart = RightAnswer([5, 6, 7, 8], (5,), [6, 9])
    both, other = likelihoods(policy, [[1, 2], [1, 2]], [shared, apart], batch_tokens=100)
    assert rows == [3]
    assert both[1] is not None
    assert other[1] is not None
    assert both[1]["nll"] == pytest.approx(by_transformers(policy, [1, 2, 5], [6, 7]), abs=1e-4)
    assert other[1]["nll"] == pytest.approx(by_transformers(policy, [1, 2, 5], [6, 9]), abs=1e-4)
    assert both[0] == pytest.approx(other[0], rel=1e-6)


def test_confidence_is_the_probability_of_the_whole_greedy_answer(policy: Policy) -> None:
    judged = task(*DEMONSTRATIONS, verifier=lambda example, completion: 1.0, name="judged")
    evaluator = Evaluator(policy, None, TRAIN, EvalSettings())
    (answers,) = evaluator.answer([(judged, evaluator.items(judged))])
    for prompt, completion, sure in zip(
        evaluator.prompt_ids(judged), answers.completions, answers.confidences(), strict=True
    ):
        nll = by_transformers(policy, prompt, completion.ids) * len(completion.ids)
        assert sure == pytest.approx(math.exp(-nll), rel=1e-3)
    result = evaluator.evaluate(0, None, [judged], [])
    found = result.sets["judged"]["calibration"]
    # All are right, so the error is what is missing to certainty, whatever the bins.
    assert found["ece"] == pytest.approx(1 - sum(answers.confidences()) / 4)
    assert result.confidence["judged"] == pytest.approx(answers.confidences())


@pytest.mark.parametrize("lora", [None, LoraSettings(r=2)])
def test_kl_on_demonstrations_is_that_of_the_models_own_logits(
    folder: Path, policy: Policy, lora: LoraSettings | None
) -> None:
    moved = load_policy(ModelSettings(path=str(folder), lora=lora))
    base = Base(moved)
    free = task(*DEMONSTRATIONS)
    old = Suite("old", "retention", free.test, verify)
    new = Suite("new", "ood", free.test, verify)
    bare = Suite("bare", "retention", task(None, None).test, verify)
    evaluator = Evaluator(moved, base, TRAIN, EvalSettings(kl_items=3, response_items=0))
    still = evaluator.evaluate(0, None, [free], [old])
    assert [still.sets[name]["kl_on_demonstrations"] for name in ("free", "old")] == pytest.approx([0, 0], abs=1e-6)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in moved.named_trainable().values():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    sets = evaluator.evaluate(1, "free", [free], [old, new, bare]).sets
    total, tokens = 0.0, 0
    for each, prompt in list(zip(free.test, evaluator.prompt_ids(free)))[:3]:
        ids = encode_demonstration(policy.chat_format, free, each).ids
        p, q = (_logprobs(model, prompt, ids) for model in (policy, moved))
        total, tokens = total + float((p.exp() * (p - q)).sum()), tokens + len(ids)
    assert total / tokens > 1e-3
    for name in ("free", "old"):
        assert sets[name]["kl_on_demonstrations"] == pytest.approx(total / tokens, rel=1e-3)
        assert sets[name]["kl_on_demonstrations_se"] > 0
    assert [sets[name]["kl_on_demonstrations"] for name in ("new", "bare")] == [None, None]
    off = Evaluator(moved, base, TRAIN, EvalSettings(kl_items=0)).evaluate(1, "free", [free], []).sets["free"]
    assert off["kl_on_demonstrations"] is None


def _logprobs(policy: Policy, prompt: Sequence[int], ids: Sequence[int]) -> torch.Tensor:
    """Log-probabilities over the vocabulary at each token of a completion, from one unpadded row."""
    with torch.no_grad():
        logits = policy.causal_lm(torch.tensor([[*prompt, *ids]])).logits[0].float()
    return logits.log_softmax(-1)[len(prompt) - 1 : -1]
