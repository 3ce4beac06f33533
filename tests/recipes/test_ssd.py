"""`holdfast.recipes.ssd`: truncated samples of the frozen base; which of them count; the loss; refused settings."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import holdfast
from holdfast.advise.cost import Passes, cost_of
from holdfast.config.load import parse_config
from holdfast.config.settings import LoraSettings, ModelSettings, RunConfig, TrainSettings
from holdfast.data.example import Example, Message
from holdfast.data.rows import Group, Row
from holdfast.data.task import Task
from holdfast.model.base import Base
from holdfast.model.load import load_policy
from holdfast.model.policy import Policy
from holdfast.recipes import GRPO, SDFT, SSD
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.parts.objective import Objective
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.rollouts.collect import Collector
from holdfast.sampling.sampler import Request, Sampler
from holdfast.tasks.load import load_stream
from holdfast.train.step import StageTrainer

EXAMPLES = [Example(f"e{i}", (Message(role="user", content=f"What is {i}?"),)) for i in range(8)]


def groups(lengths: Sequence[int], empty: Sequence[int] = ()) -> list[Group]:
    """One row per prompt with these lengths; the text of some is only whitespace."""
    return [
        Group(example, [Row(example, [1], [2] * length, completion=" \n" if i in empty else f"answer {i}")])
        for i, (length, example) in enumerate(zip(lengths, EXAMPLES * 4))
    ]


def kept(recipe: SSD, rows: list[Group]) -> list[int]:
    recipe.annotate(rows)
    return [i for i, group in enumerate(rows) if group.rows[0].ce == 1.0]


def test_empty_completions_and_the_shortest_do_not_count() -> None:
    lengths = [9, 4, 30, 2, 8, 7, 6, 5, 11, 12, 13]
    rows = groups(lengths, empty=[2])
    assert kept(SSD(), rows) == [0, 1, 4, 5, 6, 7, 8, 9, 10]  # a tenth of ten is one: the row of two tokens
    assert SSD().annotate(rows) == {"filtered_fraction": pytest.approx(2 / 11)}
    assert all((r.div, r.advantage, r.base_kl, r.teacher_messages) == (0, 0, 0, None) for g in rows for r in g.rows)
    assert not any(row.has_signal for group in rows for row in group.rows if row.ce == 0)


def test_an_environments_tokens_do_not_count_as_length() -> None:
    rows = groups([9, 4, 6, 5])
    rows[0].rows[0].tool_mask = [1, 1, 0, 0, 0, 0, 0, 0, 1]
    assert kept(SSD(filter_shortest_percent=25.0), rows) == [1, 2, 3]


@pytest.mark.parametrize(("percent", "left"), [(0.0, 8), (12.4, 8), (12.5, 7), (50.0, 4), (99.0, 1)])
def test_the_filtered_percentage_is_rounded_down(percent: float, left: int) -> None:
    found = kept(SSD(filter_shortest_percent=percent), groups([3, 1, 4, 15, 9, 2, 6, 5]))
    assert len(found) == left
    assert 3 in found  # the longest always stays


@pytest.mark.parametrize(("size", "batches", "total"), [(16, 5, 8), (8, 10, 8), (3, 10, 3)])
def test_over_batches_exactly_a_tenth_is_filtered(size: int, batches: int, total: int) -> None:
    """Also with small batches. A batch's number decides what it drops, so a resumed run drops the same."""
    recipe = SSD()
    lengths = list(range(5, 5 + size))

    def left_out(batch: int) -> list[int]:
        rows = groups(lengths)
        for group in rows:
            group.batch = batch
        gone = sorted(set(range(size)) - set(kept(recipe, rows)))
        assert gone == list(range(len(gone))), "the shortest"
        return gone

    counts = [len(left_out(batch)) for batch in range(batches)]
    assert sum(counts) == total
    assert max(counts) - min(counts) <= 1
    assert [len(left_out(batch)) for batch in (batches - 1, 0)] == [counts[-1], counts[0]]


def test_no_batch_is_dropped_completely() -> None:
    recipe = SSD(filter_shortest_percent=99.0)
    for batch in range(20):
        rows = groups([3, 1, 4, 2])
        for group in rows:
            group.batch = batch
        assert kept(recipe, rows) == [2]


def test_replayed_prompts_are_filtered_by_themselves() -> None:
    """The answers of an earlier task may all be shorter than those of the stage."""
    rows = groups([20, 21, 22, 23, 1, 2, 3, 4])
    for group in rows[4:]:
        group.rows[0].replayed = True
    assert kept(SSD(filter_shortest_percent=25.0), rows) == [1, 2, 3, 5, 6, 7]


def test_a_run_that_starts_at_a_later_batch_drops_the_same_rows(tiny_model: Path) -> None:
    """A resumed run does."""
    policy = load_policy(ModelSettings(path=str(tiny_model)))
    train = TrainSettings(prompts_per_step=4, max_prompt_length=60, max_completion_length=4)
    task = Task("t", EXAMPLES, EXAMPLES, None)

    def left_out(batches: Sequence[int]) -> list[list[bool]]:
        collector = Collector(policy, Sampler(policy), SSD(filter_shortest_percent=40.0), train, 3, Base(policy))
        collector.prepare(task)
        collected = [collector.collect(task, 1, batch)[0] for batch in batches]
        return [[row.ce == 0 for group in found for row in group.rows] for found in collected]

    whole = left_out(range(5))
    assert sum(map(sum, whole)) == 8
    assert {sum(batch) for batch in whole} == {1, 2}
    assert left_out([3, 4]) == whole[3:]


def test_each_setting_changes_what_it_describes() -> None:
    assert SSD().rollouts() == RolloutSpec(source="base", num_generations=1, temperature=1.5, top_k=20, top_p=0.8)
    spec = SSD(temperature=1.1, top_k=7, top_p=0.95).rollouts()
    assert (spec.temperature, spec.top_k, spec.top_p) == (1.1, 7, 0.95)
    assert SSD().objective() == Objective(aggregation="token_mean", count_silent_rows=False)
    assert SSD(aggregation="sequence_mean").objective().aggregation == "sequence_mean"
    assert SSD(temperature=0.7).objective().temperature == 1.0
    assert SSD().wiring() == {
        "rollouts": "base, 1 per prompt, temperature 1.5, top-k 20, top-p 0.8",
        "teacher": "none",
        "signal": "cross-entropy",
        "reduction": "token_mean",
    }
    assert (cost_of(SSD()).step, cost_of(SSD()).copies) == (Passes(1, 1, 1), 1)


def test_the_bases_own_distribution_is_refused() -> None:
    with pytest.raises(ValidationError, match="gradient of mean 0"):
        SSD(temperature=1.0, top_k=0, top_p=1.0)
    for settings in ({"top_k": 5, "top_p": 1.0}, {"top_k": 0, "top_p": 0.9}):
        SSD(temperature=1.0, **settings)
    SSD(temperature=0.8, top_k=0, top_p=1.0)
    for wrong in (
        {"temperature": 0.0},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"filter_shortest_percent": 100.0},
    ):
        with pytest.raises(ValidationError):
            SSD(**wrong)


@pytest.mark.parametrize("of", [GRPO, SDFT])
@pytest.mark.parametrize(
    ("changes", "message"),
    [({"source": "base"}, "samples of the student, not of the base"), ({"top_k": 5}, "with top_k or top_p")],
)
def test_ratios_need_untruncated_samples_of_the_student(
    of: type[Recipe], changes: dict[str, Any], message: str
) -> None:
    class Changed(of):  # type: ignore[misc, valid-type]
        def rollouts(self) -> RolloutSpec:
            return replace(super().rollouts(), **changes)

    with pytest.raises(ValidationError, match=message):
        Changed()


@pytest.mark.parametrize("changes", [{"temperature": 0.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_settings_that_sample_nothing_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes)).replace("_", ".")):
        RolloutSpec(source="student", **changes)


# --- Rows -----------------------------------------------------------------------------------------------------------


def processed(logits: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """Log-probabilities of one position after temperature, then top-k, then top-p (transformers' and vLLM's order)."""
    logits = logits.astype(np.float64) / temperature
    order = np.argsort(-logits, kind="stable")[: top_k or None]
    probabilities = np.exp(logits[order] - logits[order[0]])
    probabilities /= probabilities.sum()
    count = int(np.searchsorted(np.cumsum(probabilities), top_p - 1e-7)) + 1
    result = np.full(len(logits), -np.inf)
    result[order[:count]] = np.log(probabilities[:count] / probabilities[:count].sum())
    return result


def moved(policy: Policy, is_lora: bool) -> Policy:
    """Move the student away from the base."""
    with torch.no_grad():
        for name, parameter in policy.named_trainable().items():
            if ".lora_B." in name or (not is_lora and parameter.ndim > 1):
                parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return policy


@pytest.mark.parametrize("is_lora", [False, True])
def test_rows_are_samples_of_the_frozen_base(tiny_model: Path, is_lora: bool) -> None:
    policy = load_policy(ModelSettings(path=str(tiny_model), lora=LoraSettings(r=4) if is_lora else None))
    reference = load_policy(ModelSettings(path=str(tiny_model)))
    base = Base(policy)
    moved(policy, is_lora)
    recipe = SSD(temperature=1.3, top_k=9, top_p=0.7)
    train = TrainSettings(prompts_per_step=8, max_prompt_length=60, max_completion_length=12)
    collector = Collector(policy, Sampler(policy), recipe, train, 3, base)
    task = Task("t", EXAMPLES, EXAMPLES, None)
    collector.prepare(task)
    rows = [row for group in collector.collect(task, 1, 0)[0] for row in group.rows]
    assert len({tuple(row.completion_ids) for row in rows}) > 4
    for row in rows:
        assert row.sampled_logprobs is not None
        with torch.no_grad():
            logits = reference.model(torch.tensor([[*row.prompt_ids, *row.completion_ids]])).logits[0]
        for t, token in enumerate(row.completion_ids):
            expected = processed(logits[len(row.prompt_ids) - 1 + t].numpy(), 1.3, 9, 0.7)
            assert row.sampled_logprobs[t] == pytest.approx(expected[token], abs=1e-4)


# --- Loss -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
def test_the_loss_is_the_mean_cross_entropy_of_kept_rows(tiny_model: Path, aggregation: str) -> None:
    policy = load_policy(ModelSettings(path=str(tiny_model)))
    recipe = SSD(aggregation=aggregation, filter_shortest_percent=25.0)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    rows = []
    for i, length in enumerate([5, 2, 9, 7, 4]):
        ids = rng.integers(5, 200, length).tolist()
        sampled = rng.normal(size=length).tolist()  # from another distribution, and not part of the loss
        rows.append(Row(EXAMPLES[i], [3, 4 + i], ids, completion="" if i == 3 else "x", sampled_logprobs=sampled))
    recipe.annotate([Group(row.example, [row]) for row in rows])
    trainer = StageTrainer(policy, None, None, recipe.objective(), TrainSettings(max_grad_norm=1e9))
    numbers = trainer.forward_backward(rows, where="here")
    found = {name: parameter.grad.clone() for name, parameter in policy.named_trainable().items()}  # type: ignore[union-attr]
    policy.model.zero_grad(set_to_none=True)

    terms = []
    for row in (rows[0], rows[2], rows[4]):
        logits = policy.model(torch.tensor([row.prompt_ids + row.completion_ids])).logits[0]
        logprobs = logits.log_softmax(-1)[len(row.prompt_ids) - 1 : -1]
        terms.append(-logprobs[range(len(row.completion_ids)), row.completion_ids])
    loss = torch.cat(terms).mean() if aggregation == "token_mean" else torch.stack([t.mean() for t in terms]).mean()
    loss.backward()
    assert numbers["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in policy.named_trainable().items():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.learning
@pytest.mark.parametrize("decoder", [{"temperature": 1.0, "top_k": 1}, {"temperature": 3.0, "top_k": 2}], ids=str)
def test_the_truncated_distribution_becomes_more_probable(tmp_path: Path, decoder: dict[str, Any]) -> None:
    """Sharper or flatter than the base's, on prompts and samples that were not trained on."""
    recipe = {"name": "ssd", "top_p": 1.0, **decoder}
    settings: dict[str, Any] = {
        "tasks": ["lab:facts"],
        "train": {
            "steps": 30, "prompts_per_step": 16, "learning_rate": 2e-4, "max_prompt_length": 160,
            "max_completion_length": 56,
        },
        "eval": {"max_items": 4, "kl_items": 0, "samples": 0, "response_items": 0, "drift_weights": 0}
        | {"demonstration_items": 0},
    }  # fmt: skip
    holdfast.run(settings, tmp_path / "run", recipe=recipe)
    config = parse_config({**settings, "recipe": recipe}, RunConfig)
    base = load_policy(config.model)
    student = load_policy(ModelSettings(path=str(tmp_path / "run" / "models" / "stage-1")))
    task = load_stream(config)[0][0]
    sampler = Collector(base, Sampler(base), config.recipe, config.train, 99, Base(base))
    sampler.prepare(Task(task.name, task.test[:32], task.test, task.verifier))
    rows = [row for batch in range(2) for group in sampler.collect(task, 7, batch)[0] for row in group.rows]

    def surprise(policy: Policy) -> float:
        """Mean cross-entropy per token, nats."""
        logprobs: list[float] = []
        with torch.no_grad():
            for row in rows:
                logits = policy.model(torch.tensor([row.prompt_ids + row.completion_ids])).logits[0]
                found = logits.log_softmax(-1)[len(row.prompt_ids) - 1 : -1]
                logprobs += found[range(len(row.completion_ids)), row.completion_ids].tolist()
        return -math.fsum(logprobs) / len(logprobs)

    before, after = surprise(base), surprise(student)
    assert after < 0.97 * before, (before, after)


def test_a_truncated_request_is_the_specifications(tiny_model: Path) -> None:
    """The sampler draws from the distribution that `RolloutSpec` describes, token by token."""
    policy = load_policy(ModelSettings(path=str(tiny_model)))
    asked: list[Request] = []

    class Engine:
        def generate(self, requests: Sequence[Request], *, max_new_tokens: int, batch_tokens: int) -> Any:
            asked.extend(requests)
            return Sampler(policy).generate(requests, max_new_tokens=max_new_tokens, batch_tokens=batch_tokens)

    class Truncated(SSD):
        def rollouts(self) -> RolloutSpec:
            return RolloutSpec(source="student", num_generations=2, top_k=3, top_p=0.5)

    train = TrainSettings(prompts_per_step=2, max_prompt_length=60, max_completion_length=4)
    collector = Collector(policy, Engine(), Truncated(), train, 0)
    task = Task("t", EXAMPLES, EXAMPLES, None)
    collector.prepare(task)
    collector.collect(task, 1, 0)
    assert [(r.temperature, r.top_k, r.top_p) for r in asked] == [(1.0, 3, 0.5)] * 4
    assert len({r.seed for r in asked}) == 4
