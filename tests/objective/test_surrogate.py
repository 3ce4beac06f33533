"""`holdfast.objective.surrogate`: every policy gradient and KL estimate equals its paper's formula in plain Python."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from holdfast.objective.surrogate import policy_gradient_loss, reference_kl
from holdfast.recipes import GRPO
from holdfast.recipes.parts.objective import PolicyGradient
from objective_factory import MAX_LENGTH, VOCABULARY, Step, make_step


def grpo_by_hand(logits: list[np.ndarray], frozen: list[np.ndarray], step: Step, recipe: GRPO) -> float:
    """The papers' losses, written as loops. `frozen` are the logits under a stop-gradient."""

    def logp(z: np.ndarray, token: int) -> float:
        shifted = z / recipe.temperature
        top = shifted.max()
        return float(shifted[token] - top - np.log(np.exp(shifted - top).sum()))

    total = 0.0
    tokens = sum(len(row.completion_ids) for row in step.rows)
    for i, row in enumerate(step.rows):
        length = len(row.completion_ids)
        now = [logp(logits[i][t], y) for t, y in enumerate(row.completion_ids)]
        held = [logp(frozen[i][t], y) for t, y in enumerate(row.completion_ids)]
        base = [logp(step.base[i].numpy()[t], y) for t, y in enumerate(row.completion_ids)]
        old, mu = row.old_logprobs, row.sampled_logprobs
        assert old is not None
        assert mu is not None
        a = row.advantage
        for t in range(length):
            if recipe.ratio == "sequence":
                rho = math.exp(sum(n - o for n, o in zip(now, old)) / length)
                held_rho = math.exp(sum(n - o for n, o in zip(held, old)) / length)
            else:
                rho, held_rho = math.exp(now[t] - old[t]), math.exp(held[t] - old[t])
            if recipe.surrogate == "cispo":
                loss = -min(held_rho, recipe.epsilon_high) * a * now[t]
            else:
                clipped = max(1 - recipe.epsilon, min(rho, 1 + recipe.epsilon_high))
                loss = -min(rho * a, clipped * a)
            loss *= min(math.exp(old[t] - mu[t]), recipe.importance_cap)
            d = base[t] - now[t]
            loss += recipe.beta * (math.exp(d) - d - 1)
            total += (
                loss
                / {
                    "sequence_mean": len(step.rows) * length,
                    "token_mean": tokens,
                    "constant": len(step.rows) * MAX_LENGTH,
                }[recipe.aggregation]
            )
    return total


@pytest.mark.parametrize(
    "recipe",
    [
        GRPO(),
        GRPO(beta=0.04, temperature=0.7),
        GRPO(variant="dr_grpo"),
        GRPO(variant="dapo"),
        GRPO(variant="gspo"),
        GRPO(variant="gspo", epsilon=0.2, epsilon_high=0.3),
        GRPO(variant="cispo", epsilon_high=1.1),
        GRPO(ratio="sequence", surrogate="cispo", epsilon_high=1.0),
    ],
    ids=["grpo", "grpo-beta", "dr_grpo", "dapo", "gspo", "gspo-wide", "cispo", "cispo-sequence"],
)
def test_policy_gradients_equal_plain_python_and_finite_differences(recipe: GRPO) -> None:
    step = make_step([3, 5, 2, 4], seed=7, advantage=[1.2, -0.7, -1.3, 0.8], base_kl=1.0)
    rng = np.random.default_rng(1)
    # For each sign, one row that is clipped, and one within the clip or where the minimum is the other term.
    for row, logits, shift in zip(step.rows, step.student, [-0.5, 0.5, -0.5, 0.1]):
        logp = (logits / recipe.temperature).log_softmax(-1)
        drift = rng.normal(shift, 0.1, len(logits))
        # Rows store log-probabilities in float32; both sides must start from the same numbers.
        old = np.float32([logp[t, y].item() + drift[t] for t, y in enumerate(row.completion_ids)])
        row.old_logprobs = old.tolist()
        row.sampled_logprobs = np.float32(old + rng.normal(0, 0.5, len(old))).tolist()

    frozen = [z.numpy() for z in step.student]
    loss, (statistics,) = step.loss(recipe.objective())
    assert loss.item() == pytest.approx(grpo_by_hand(frozen, frozen, step, recipe), rel=1e-5, abs=1e-6)
    assert 0 < statistics["clipped"] < statistics["advised_tokens"], "the case should show both sides of the clip"

    eps = 1e-6
    for i, grad in enumerate(step.gradients(recipe.objective())):
        for t in range(len(frozen[i])):
            for v in range(VOCABULARY):
                sides = []
                for sign in (eps, -eps):
                    moved = [z.copy() for z in frozen]
                    moved[i][t, v] += sign
                    sides.append(grpo_by_hand(moved, frozen, step, recipe))
                assert grad[t, v].item() == pytest.approx((sides[0] - sides[1]) / (2 * eps), abs=2e-6)


@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_raw_and_sapo_are_their_formulas(ratio: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    old = torch.randn(6, generator=generator, dtype=torch.float64)
    logprobs = (old + 0.5 * torch.randn(6, generator=generator, dtype=torch.float64)).requires_grad_()
    advantages, row_index = torch.tensor([1.0, 1.0, 1.0, -2.0, -2.0, 0.0]), torch.tensor([0, 0, 0, 1, 1, 2])
    gap = [(logprobs - old)[row_index == r].tolist() for r in range(3)]
    rho = [math.exp(sum(g) / len(g) if ratio == "sequence" else g[i]) for g in gap for i in range(len(g))]

    raw, held = policy_gradient_loss(
        logprobs, old, advantages, row_index, 3, PolicyGradient(ratio=ratio, surrogate="raw")
    )
    assert raw.tolist() == pytest.approx([-r * a for r, a in zip(rho, advantages.tolist())], rel=1e-6, abs=1e-9)
    assert not held.any()

    spec = PolicyGradient(ratio=ratio, surrogate="sapo", gate_positive=1.0, gate_negative=3.0)
    sapo, held = policy_gradient_loss(logprobs, old, advantages, row_index, 3, spec)
    taus = [1.0 if a > 0 else 3.0 for a in advantages.tolist()]
    gates = [4 / tau / (1 + math.exp(-tau * (r - 1))) for r, tau in zip(rho, taus)]
    assert sapo.tolist() == pytest.approx([-g * a for g, a in zip(gates, advantages.tolist())], rel=1e-6, abs=1e-9)
    assert not held.any()


def test_sapo_begins_as_the_plain_policy_gradient_and_fades() -> None:
    def slope(ratio: float, surrogate: Any) -> float:
        logprobs = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
        loss, _ = policy_gradient_loss(
            logprobs, torch.zeros(1), torch.ones(1), torch.tensor([0]), 1, PolicyGradient(surrogate=surrogate)
        )
        return torch.autograd.grad(loss.sum(), logprobs)[0].item()

    assert slope(1.0, "sapo") == pytest.approx(slope(1.0, "raw"))
    assert abs(slope(6.0, "sapo")) < 0.2 * abs(slope(6.0, "raw"))


@pytest.mark.parametrize("gate", ["gate_positive", "gate_negative"])
def test_gates_that_never_close_are_refused(gate: str) -> None:
    with pytest.raises(ValueError, match=gate):
        PolicyGradient(surrogate="sapo", **{gate: 0.0})  # type: ignore[arg-type]


def test_the_first_step_on_a_rollout_batch_is_reinforce() -> None:
    step = make_step([4, 2], advantage=[0.5, -1.5])
    for row, logits in zip(step.rows, step.student):
        row.sampled_logprobs = [logits.log_softmax(-1)[t, y].item() for t, y in enumerate(row.completion_ids)]
    for variant in ("grpo", "gspo"):
        grads = step.gradients(GRPO(variant=variant).objective())
        for grad, row, logits in zip(grads, step.rows, step.student):
            n = len(row.completion_ids)
            one_hot = torch.nn.functional.one_hot(torch.tensor(row.completion_ids), VOCABULARY)
            torch.testing.assert_close(
                grad, -row.advantage * (one_hot - logits.softmax(-1)) / (2 * n), rtol=1e-5, atol=1e-7
            )


def test_extreme_ratios_stay_finite() -> None:
    logprobs = torch.tensor([0.0, -200.0, -1.0], requires_grad=True)
    old = torch.tensor([-200.0, 0.0, -1.0])
    for spec in (
        PolicyGradient(),
        PolicyGradient(ratio="sequence"),
        PolicyGradient(surrogate="cispo", epsilon_high=5.0),
    ):
        loss, _ = policy_gradient_loss(logprobs, old, torch.tensor([1.0, -1.0, 0.0]), torch.tensor([0, 1, 2]), 3, spec)
        assert loss.isfinite().all()
        assert loss[2] == 0
    assert reference_kl(logprobs, old).isfinite().all()
    assert torch.autograd.grad(reference_kl(logprobs, old).sum(), logprobs)[0].isfinite().all()


def test_reference_kl_is_unbiased_and_zero_at_the_reference() -> None:
    student, base = torch.randn(
        2, VOCABULARY, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).log_softmax(-1)
    exact = (student.exp() * (student - base)).sum()
    torch.testing.assert_close((student.exp() * reference_kl(student, base)).sum(), exact)
    assert (reference_kl(student, base) >= 0).all()
    assert reference_kl(base, base).abs().max() == 0


def test_a_cispo_cap_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="epsilon_high"):
        PolicyGradient(surrogate="cispo")
