"""`holdfast.train.step` on a real model: alignment, micro-batches, silent rows, errors before weights move."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.config.settings import LoraSettings, ModelSettings, TrainSettings
from holdfast.data.example import Example, Message
from holdfast.data.rows import Row
from holdfast.errors import RunError
from holdfast.model.base import Base
from holdfast.model.hidden_states import loss_token_states
from holdfast.model.load import Policy, load_policy
from holdfast.recipes.parts.objective import Objective, PolicyGradient, TokenWeight
from holdfast.recipes.parts.teacher import TeacherSpec
from holdfast.train.step import StageTrainer, learning_rate
from holdfast.train.teacher import Teacher
from loss_token_logits import loss_token_logits

EXAMPLE = Example("e", (Message(role="user", content="?"),))


@pytest.fixture
def policy(tiny_model: Path) -> Policy:
    return load_policy(ModelSettings(path=str(tiny_model)))


def _ids(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(5, 200) for _ in range(count)]


def _rows(seed: int, count: int, **annotations: float) -> list[Row]:
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        row = Row(EXAMPLE, _ids(rng, rng.randint(1, 9)), _ids(rng, rng.randint(1, 7)))
        row.teacher_prompt_ids = _ids(rng, rng.randint(1, 14))
        for name, value in annotations.items():
            setattr(row, name, value)
        rows.append(row)
    return rows


def _gradients(
    policy: Policy, objective: Objective, rows: list[Row], budget: int, **settings: Any
) -> tuple[float, torch.Tensor]:
    """Loss and gradient of a step, read before the optimizer moves the weights."""
    base = Base(policy)
    teacher = Teacher(TeacherSpec(kind="frozen"), policy, base)
    trainer = StageTrainer(
        policy, teacher, base, objective, TrainSettings(micro_batch_tokens=budget, max_grad_norm=1e9, **settings)
    )
    held: list[torch.Tensor] = []
    trainer.optimizer.step = lambda: held.append(torch.cat([p.grad.flatten() for p in trainer.parameters.values()]))  # type: ignore[method-assign, union-attr, assignment]
    numbers = trainer.step(rows, 0.1, where="here")
    return numbers["loss"], held[0] if held else torch.zeros(1)


def test_completions_are_aligned_at_their_own_prompts_end(policy: Policy) -> None:
    rows = _rows(0, 5)
    positions = [range(len(r.completion_ids)) for r in rows]
    with torch.no_grad():
        flat = loss_token_logits(policy, [r.prompt_ids for r in rows], [r.completion_ids for r in rows], positions)
        singles = []
        for row in rows:
            ids = torch.tensor([row.prompt_ids + row.completion_ids])
            singles.append(policy.causal_lm(ids).logits[0, len(row.prompt_ids) - 1 : -1])
    torch.testing.assert_close(flat, torch.cat(singles), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jsd", "mixed_kl"])
@pytest.mark.parametrize("support", ["full", "topk_tail", "topk_renormalized"])
def test_same_prompt_and_same_weights_give_no_loss_and_no_gradient(
    policy: Policy, divergence: str, support: str
) -> None:
    rows = _rows(1, 6, div=1.0)
    for row in rows:
        row.teacher_prompt_ids = list(row.prompt_ids)
    objective = Objective(divergence=divergence, support=support, top_k=20)  # type: ignore[arg-type]
    loss, gradient = _gradients(policy, objective, rows, 64)
    assert abs(loss) < 1e-6
    assert gradient.norm() < 1e-4


@pytest.mark.parametrize(
    ("objective", "annotations"),
    [
        (Objective(aggregation="token_mean"), {"ce": 1.0}),
        (Objective(divergence="forward_kl"), {"div": 1.0}),
        (Objective(divergence="jsd", support="topk_tail", aggregation="sequence_mean"), {"div": 1.0}),
        (Objective(policy_gradient=PolicyGradient(), aggregation="constant"), {"advantage": 0.7}),
        (Objective(policy_gradient=PolicyGradient(), reference_kl=0.1), {"advantage": -0.7, "base_kl": 1.0}),
    ],
)
@settings(max_examples=4)
@given(seed=st.integers(0, 1000), budget=st.integers(1, 200))
def test_micro_batches_do_not_change_loss_or_gradient(
    tiny_model: Path, objective: Objective, annotations: dict[str, float], seed: int, budget: int
) -> None:
    policy = load_policy(ModelSettings(path=str(tiny_model)))
    rows = _rows(seed, 5, **annotations)
    whole = _gradients(policy, objective, rows, 10_000)
    policy.model.zero_grad(set_to_none=True)
    parts = _gradients(policy, objective, rows, budget)
    assert parts[0] == pytest.approx(whole[0], abs=1e-5)
    torch.testing.assert_close(parts[1], whole[1], atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("engine", ["fused", "readable"])
def test_a_measured_tau_is_that_of_all_rows_of_the_step(policy: Policy, engine: Any) -> None:
    rows = _rows(4, 5, ce=1.0)
    rows[2].ce, rows[2].base_kl = 0.0, 1.0  # it is not imitated
    weight = TokenWeight(tau="median", least=0.3)
    objective = Objective(token_weight=weight, reference_kl=0.1, aggregation="token_mean")
    means = []
    for row in rows:
        logits = policy.causal_lm(torch.tensor([row.prompt_ids + row.completion_ids])).logits[0].detach()
        own = logits.log_softmax(-1)[len(row.prompt_ids) - 1 : -1]
        means.append(-float(own[range(len(row.completion_ids)), row.completion_ids].mean()))
    del means[2]
    tau = sorted(means)[1]
    loss, gradient = _gradients(policy, objective, rows, 4096, engine=engine)
    constant = replace(objective, token_weight=TokenWeight(tau=tau, least=0.3))
    for budget, other in ((1, objective), (30, objective), (4096, constant)):
        value, found = _gradients(policy, other, rows, budget, engine=engine)
        assert value == pytest.approx(loss, rel=1e-4)
        torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-5)
    trainer = StageTrainer(policy, None, Base(policy), objective, TrainSettings(engine=engine))
    assert trainer.measure(rows, where="here")["tau"] == pytest.approx(tau, rel=1e-4)
    row = next(row for row in rows if row.ce)
    row.ce = 0.0
    assert trainer.measure([row], where="here")["tau"] == 1.0, "nothing to weight"


def test_a_row_without_signal_costs_no_forward_and_changes_nothing(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught, silent = _rows(4, 3, div=1.0), _rows(5, 3)
    objective = Objective(count_silent_rows=False)
    alone = _gradients(policy, objective, taught, 64)
    policy.model.zero_grad(set_to_none=True)
    seen: list[int] = []
    monkeypatch.setattr(
        "holdfast.train.forward_pass.loss_token_states",
        lambda p, prompts, *rest, **kwargs: seen.append(len(prompts)) or loss_token_states(p, prompts, *rest, **kwargs),
    )
    together = _gradients(policy, objective, [*taught, *silent], 10_000)
    assert together[0] == pytest.approx(alone[0], abs=1e-6)
    torch.testing.assert_close(together[1], alone[1], atol=1e-6, rtol=1e-4)
    assert seen == [3, 3]  # teacher and student, only on rows with a signal


def test_silent_rows_count_in_the_denominator_where_the_objective_says_so(policy: Policy) -> None:
    taught, silent = _rows(4, 3, div=1.0), _rows(5, 3)
    counted = _gradients(policy, Objective(count_silent_rows=True), [*taught, *silent], 64)[0]
    alone = _gradients(policy, Objective(), taught, 64)[0]
    assert counted == pytest.approx(alone / 2, rel=1e-5)


def test_a_step_without_any_signal_moves_nothing(policy: Policy) -> None:
    trainer = StageTrainer(policy, None, None, Objective(), TrainSettings(weight_decay=0.5))
    trainer.step(_rows(6, 2, ce=1.0), 1e-3, where="here")  # gives the optimizer momentum, which could move the weights
    before = {name: p.detach().clone() for name, p in policy.named_trainable().items()}
    numbers = trainer.step(_rows(7, 4), 1e-3, where="here")
    assert numbers["active_rows"] == 0
    assert numbers["grad_norm"] == 0
    assert all(torch.equal(before[name], p) for name, p in policy.named_trainable().items())


def test_a_loss_that_is_not_finite_raises_before_the_weights_move(policy: Policy) -> None:
    rows = _rows(8, 2, ce=float("inf"))
    before = {name: p.detach().clone() for name, p in policy.named_trainable().items()}
    trainer = StageTrainer(policy, None, None, Objective(), TrainSettings())
    with pytest.raises(RunError, match=r"stage 1, step 2: the loss is inf.*learning_rate"):
        trainer.step(rows, 1e-3, where="stage 1, step 2")
    assert all(torch.equal(before[name], p) for name, p in policy.named_trainable().items())


def test_a_step_on_demonstrations_lowers_their_loss_and_a_wrong_sign_would_not(policy: Policy) -> None:
    rows = _rows(9, 6, ce=1.0)
    trainer = StageTrainer(policy, None, None, Objective(), TrainSettings())
    losses = [trainer.step(rows, 3e-3, where="here")["loss"] for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]


def test_reinforced_completions_become_more_probable_and_punished_ones_less(policy: Policy) -> None:
    rows = _rows(10, 6)
    for index, row in enumerate(rows):
        row.advantage = 1.0 if index % 2 else -1.0
    positions = [range(len(r.completion_ids)) for r in rows]

    def logprobs() -> list[float]:
        with torch.no_grad():
            logits = loss_token_logits(
                policy, [r.prompt_ids for r in rows], [r.completion_ids for r in rows], positions
            )
        ids = torch.tensor([t for r in rows for t in r.completion_ids])
        flat = logits.log_softmax(-1).gather(-1, ids[:, None])[:, 0]
        return [float(part.sum()) for part in flat.split([len(p) for p in positions])]

    before = logprobs()
    trainer = StageTrainer(policy, None, None, Objective(policy_gradient=PolicyGradient()), TrainSettings())
    for _ in range(8):
        trainer.step(rows, 1e-3, where="here")
    gains = [b - a for a, b in zip(before, logprobs(), strict=True)]
    assert min(gains[1::2]) > max(gains[0::2])


def test_the_optimizers_state_can_be_put_back(policy: Policy, tiny_model: Path) -> None:
    rows = _rows(11, 4, ce=1.0)
    first = StageTrainer(policy, None, None, Objective(), TrainSettings())
    first.step(rows, 1e-3, where="here")
    weights = {name: p.detach().clone() for name, p in policy.named_trainable().items()}
    state = {key: value.clone() for key, value in first.state().items()}
    first.step(rows, 1e-3, where="here")
    other = load_policy(ModelSettings(path=str(tiny_model)))
    with torch.no_grad():
        for name, p in other.named_trainable().items():
            p.copy_(weights[name])
    second = StageTrainer(other, None, None, Objective(), TrainSettings())
    second.load_state(state)
    second.step(rows, 1e-3, where="here")
    assert all(torch.equal(p, other.named_trainable()[name]) for name, p in policy.named_trainable().items())


def test_learning_rate_schedules() -> None:
    def rates(kind: str, warmup: int) -> list[float]:
        settings = TrainSettings(learning_rate=1.0, lr_scheduler_type=kind, warmup_steps=warmup)  # type: ignore[arg-type]
        return [learning_rate(settings, step, 10) for step in range(10)]

    assert rates("constant", 4) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1])
    assert rates("linear", 0) == pytest.approx([1 - i / 10 for i in range(10)])
    assert rates("cosine", 0)[5] == pytest.approx(0.5)
    assert all(a >= b for a, b in zip(rates("cosine", 2)[2:], rates("cosine", 2)[3:], strict=False))


@pytest.mark.parametrize("lora", [False, True])
def test_the_model_at_the_stages_start_can_stand_for_the_base(tiny_model: Path, lora: bool) -> None:
    policy = load_policy(ModelSettings(path=str(tiny_model), lora=LoraSettings(r=4) if lora else None))
    base = Base(policy)

    generator = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def shift() -> None:
        for parameter in policy.named_trainable().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)

    shift()
    teacher = Teacher(TeacherSpec(kind="frozen", stage_start="student"), policy, base)
    teacher.start_stage()
    rows = _rows(12, 3, base_kl=1.0)
    held = Objective(reference_kl=1.0, reference_kl_form="forward_kl")

    def loss(reference: Literal["base", "teacher"]) -> float:
        objective = replace(held, reference=reference)
        return StageTrainer(policy, teacher, base, objective, TrainSettings()).measure(rows, where="here")["loss"]

    assert loss("teacher") == pytest.approx(0, abs=1e-6), "nothing has moved since"
    assert loss("base") > 1e-3
    shift()
    assert loss("teacher") > 1e-3
