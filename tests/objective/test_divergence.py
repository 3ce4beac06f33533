"""`holdfast.objective.divergence`: published test vectors, analytic gradients and properties."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from holdfast.objective.divergence import log_softmax, token_divergence, top_ids, with_tail
from holdfast.recipes.parts.objective import Objective

STUDENT = torch.tensor([[2.0, 1.0, 0.5, -1.0, -2.0]], dtype=torch.float64)
TEACHER = torch.tensor([[0.5, 2.5, 0.0, -0.5, -3.0]], dtype=torch.float64)
NO_IDS = torch.zeros(1, dtype=torch.long)

FORWARD = Objective(divergence="forward_kl")
REVERSE = Objective(divergence="reverse_kl")
JSD = Objective(divergence="jsd", jsd_beta=0.5)
QUARTER_JSD = Objective(divergence="jsd", jsd_beta=0.25)
MIXED = Objective(divergence="mixed_kl")
MOSTLY_FORWARD = Objective(divergence="mixed_kl", forward_share=0.8)


def top(objective: Objective, k: int, *, tail: bool) -> Objective:
    return replace(objective, support="topk_tail" if tail else "topk_renormalized", top_k=k)


EVERY_OBJECTIVE = [
    variant
    for objective in (FORWARD, REVERSE, JSD, QUARTER_JSD, MIXED, MOSTLY_FORWARD)
    for variant in (objective, top(objective, 3, tail=True), top(objective, 3, tail=False))
]


def describe(objective: Objective) -> str:
    weights = f"{objective.jsd_beta}-{objective.forward_share}"
    return f"{objective.divergence}-{weights}-{objective.support}-{objective.top_k}"


def gradient(student: Tensor, teacher: Tensor, objective: Objective, ids: Tensor = NO_IDS) -> Tensor:
    student = student.clone().requires_grad_()
    token_divergence(student, teacher, objective, ids).sum().backward()
    assert student.grad is not None
    return student.grad


def random_logits(seed: int, tokens: int, vocabulary: int, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(2, tokens, vocabulary, generator=generator, dtype=torch.float64) * scale
    return both[0], both[1]


@pytest.mark.parametrize(
    ("objective", "value"),
    [
        (FORWARD, 0.770548),
        (REVERSE, 0.868531),
        (JSD, 0.187417),
        (QUARTER_JSD, 0.139788),
        (MIXED, (0.770548 + 0.868531) / 2),
        (MOSTLY_FORWARD, 0.8 * 0.770548 + 0.2 * 0.868531),
        (top(FORWARD, 2, tail=True), 0.758470),
        (top(REVERSE, 2, tail=True), 0.851202),
        (top(JSD, 2, tail=True), 0.183910),
        (top(FORWARD, 2, tail=False), 0.828725),
        (top(REVERSE, 2, tail=False), 1.006842),
        (top(JSD, 2, tail=False), 0.208126),
        (top(MIXED, 2, tail=False), (0.828725 + 1.006842) / 2),
    ],
    ids=lambda x: describe(x) if isinstance(x, Objective) else "",
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_of_the_test_vector(objective: Objective, value: float, dtype: torch.dtype) -> None:
    result = token_divergence(STUDENT.to(dtype), TEACHER.to(dtype), objective, NO_IDS)
    assert result.shape == (1,)
    assert result.dtype == dtype
    assert result.item() == pytest.approx(value, abs=1e-5 if dtype == torch.float32 else 1e-6)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (FORWARD, [0.496277, -0.564867, 0.069920, -0.009154, 0.007825]),
        (REVERSE, [0.521497, -0.473350, -0.018126, -0.034053, 0.004032]),
        (JSD, [0.106031, -0.110878, 0.008228, -0.004811, 0.001429]),
    ],
    ids=["forward", "reverse", "jsd"],
)
def test_gradients_of_the_test_vector(objective: Objective, expected: list[float]) -> None:
    assert gradient(STUDENT, TEACHER, objective)[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert gradient(STUDENT.float(), TEACHER.float(), objective)[0].tolist() == pytest.approx(expected, abs=1e-5)


@given(seed=st.integers(0, 10_000), vocabulary=st.integers(2, 12), beta=st.floats(0.05, 0.95))
@settings(max_examples=30, deadline=None)
def test_gradients_equal_the_analytic_formulas(seed: int, vocabulary: int, beta: float) -> None:
    student, teacher = random_logits(seed, 3, vocabulary)
    s, q = student.softmax(-1), teacher.softmax(-1)

    torch.testing.assert_close(gradient(student, teacher, FORWARD), s - q)

    log_ratio = (s / q).log()
    torch.testing.assert_close(
        gradient(student, teacher, REVERSE), s * (log_ratio - (s * log_ratio).sum(-1, keepdim=True))
    )

    torch.testing.assert_close(
        gradient(student, teacher, Objective(divergence="mixed_kl", forward_share=beta)),
        beta * (s - q) + (1 - beta) * s * (log_ratio - (s * log_ratio).sum(-1, keepdim=True)),
    )

    r = (1 - beta) * (s / ((1 - beta) * s + beta * q)).log()
    torch.testing.assert_close(
        gradient(student, teacher, Objective(divergence="jsd", jsd_beta=beta)),
        s * (r - (s * r).sum(-1, keepdim=True)),
    )


@pytest.mark.parametrize("objective", EVERY_OBJECTIVE, ids=describe)
def test_gradients_equal_finite_differences(objective: Objective) -> None:
    student, teacher = random_logits(3, 4, 7)
    ids = torch.zeros(4, dtype=torch.long)
    assert torch.autograd.gradcheck(
        lambda z: token_divergence(z, teacher, objective, ids), student.clone().requires_grad_()
    )


@pytest.mark.parametrize(
    "objective", [*EVERY_OBJECTIVE, Objective(divergence="reverse_kl", support="sampled")], ids=describe
)
def test_the_teacher_receives_no_gradient(objective: Objective) -> None:
    student, teacher = (logits.requires_grad_() for logits in random_logits(1, 2, 6))
    token_divergence(student, teacher, objective, torch.tensor([0, 5])).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "objective", [*EVERY_OBJECTIVE, Objective(divergence="reverse_kl", support="sampled")], ids=describe
)
def test_equal_logits_give_no_loss_and_no_gradient(objective: Objective) -> None:
    logits = random_logits(2, 16, 50, scale=5.0)[0].float()
    ids = torch.arange(16)
    assert token_divergence(logits, logits.clone(), objective, ids).abs().max() < 1e-6
    assert gradient(logits, logits.clone(), objective, ids).abs().max() < 1e-6


def test_sampled_surrogate_is_the_reverse_kl_gradient_in_expectation() -> None:
    student, teacher = (logits[0] for logits in random_logits(4, 1, 9))
    every_token = torch.arange(9)
    z = student.clone().requires_grad_()
    sampled = Objective(divergence="reverse_kl", support="sampled")
    surrogate = token_divergence(z.expand(9, 9), teacher.expand(9, 9), sampled, every_token)
    (student.softmax(-1) * surrogate).sum().backward()
    torch.testing.assert_close(z.grad, gradient(student[None], teacher[None], REVERSE)[0])


@given(seed=st.integers(0, 10_000), vocabulary=st.integers(2, 12))
@settings(max_examples=25, deadline=None)
def test_top_k_with_tail_becomes_the_full_divergence(seed: int, vocabulary: int) -> None:
    student, teacher = random_logits(seed, 3, vocabulary)
    ids = torch.zeros(3, dtype=torch.long)
    for objective in (FORWARD, REVERSE, JSD):
        full = token_divergence(student, teacher, objective, ids)
        for k in (vocabulary - 1, vocabulary, vocabulary + 5):
            # If one entry is missing, the tail is that entry.
            torch.testing.assert_close(token_divergence(student, teacher, top(objective, k, tail=True), ids), full)
        coarse = token_divergence(student, teacher, top(objective, 1, tail=True), ids)
        assert (coarse <= full + 1e-12).all(), "merging outcomes can only lower a divergence"
        assert (coarse >= -1e-12).all()


@given(seed=st.integers(0, 10_000), beta=st.floats(0.02, 0.98))
@settings(max_examples=25, deadline=None)
def test_jsd_lies_between_zero_and_its_bounds(seed: int, beta: float) -> None:
    student, teacher = random_logits(seed, 3, 8)
    ids = torch.zeros(3, dtype=torch.long)
    forward, reverse = (token_divergence(student, teacher, o, ids) for o in (FORWARD, REVERSE))
    jsd = token_divergence(student, teacher, Objective(divergence="jsd", jsd_beta=beta), ids)
    entropy_of_the_mix = -beta * math.log(beta) - (1 - beta) * math.log1p(-beta)
    assert (jsd >= 0).all()
    assert (jsd <= beta * (1 - beta) * (forward + reverse) + 1e-12).all()
    assert (jsd <= entropy_of_the_mix + 1e-12).all()
    mirrored = token_divergence(teacher, student, Objective(divergence="jsd", jsd_beta=1 - beta), ids)
    torch.testing.assert_close(jsd, mirrored)


def test_jsd_over_beta_tends_to_the_forward_kl() -> None:
    jsd = token_divergence(STUDENT, TEACHER, Objective(divergence="jsd", jsd_beta=1e-6), NO_IDS)
    assert jsd.item() / 1e-6 == pytest.approx(0.770548, abs=1e-4)


def test_the_support_is_the_students() -> None:
    student = torch.tensor([[5.0, 4.0, -5.0, -6.0]], dtype=torch.float64)
    teacher = student.flip(-1)
    kept = torch.log_softmax(student[:, :2], -1), torch.log_softmax(teacher[:, :2], -1)
    expected = (kept[1].exp() * (kept[1] - kept[0])).sum(-1)
    torch.testing.assert_close(token_divergence(student, teacher, top(FORWARD, 2, tail=False), NO_IDS), expected)


def test_the_tail_is_finite_when_rounding_lifts_the_mass_above_one() -> None:
    log_probs = torch.tensor([[1e-3, -9.0], [0.0, -math.inf]], requires_grad=True)
    assert (log_probs.logsumexp(-1) >= 0).all()
    closed = with_tail(log_probs)
    assert closed[:, -1].tolist() == pytest.approx([math.log(1e-7)] * 2, rel=1e-3)
    closed[:, -1].sum().backward()
    assert log_probs.grad is not None
    assert log_probs.grad.isfinite().all()


@pytest.mark.parametrize("objective", [top(o, 4, tail=True) for o in (FORWARD, REVERSE, JSD)], ids=describe)
def test_bf16_logits_are_computed_in_fp32_and_stay_finite(objective: Objective) -> None:
    student, teacher = (logits.to(torch.bfloat16) for logits in random_logits(5, 64, 300, scale=30.0))
    teacher[:32] = 0.0  # the top entries have all of the student's mass and almost none of the teacher's
    ids = torch.zeros(64, dtype=torch.long)
    result = token_divergence(student, teacher, objective, ids)
    assert result.dtype == torch.float32
    assert result.isfinite().all()
    torch.testing.assert_close(
        result, token_divergence(student.float(), teacher.float(), objective, ids), rtol=0, atol=0
    )
    assert gradient(student, teacher, objective, ids).isfinite().all()


# --- Whose top k, and how it is found -----------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), vocabulary=st.integers(1, 700), k=st.integers(1, 40), ties=st.booleans())
@settings(max_examples=60, deadline=None)
def test_top_ids_are_those_of_the_largest_entries(seed: int, vocabulary: int, k: int, ties: bool) -> None:
    k = min(k, vocabulary)
    values = torch.randn(3, vocabulary, generator=torch.Generator().manual_seed(seed))
    if ties:
        values = values.round()
    ids = top_ids(values, k)
    assert ids.shape == (3, k)
    assert all(len(set(row)) == k for row in ids.tolist())
    assert torch.equal(values.gather(-1, ids).sort(-1).values, values.topk(k).values.flip(-1))


def test_the_support_can_be_the_teachers() -> None:
    student = torch.tensor([[5.0, 4.0, -5.0, -6.0]], dtype=torch.float64)
    teacher = student.flip(-1)
    objective = Objective(support="topk_renormalized", top_k=2, top_k_by="teacher")
    kept = torch.log_softmax(student[:, 2:], -1), torch.log_softmax(teacher[:, 2:], -1)
    expected = (kept[1].exp() * (kept[1] - kept[0])).sum(-1)
    torch.testing.assert_close(token_divergence(student, teacher, objective, NO_IDS), expected)
    gradient_of_few = gradient(student, teacher, objective)
    assert gradient_of_few[0, :2].abs().max() == 0
    assert gradient_of_few[0, 2:].abs().min() > 0


# --- The baseline of the sampled token ----------------------------------------------------------------------------


def test_the_closed_form_baseline_changes_the_variance_alone() -> None:
    student, teacher = (logits[0] for logits in random_logits(4, 1, 9))
    every_token = torch.arange(9)
    p = student.softmax(-1)

    def gradients(baseline: str) -> Tensor:
        """The gradient for each token that may be sampled: [9, 9]."""
        objective = Objective(divergence="reverse_kl", support="sampled", sampled_baseline=baseline, top_k=3)  # type: ignore[arg-type]
        return gradient(student.expand(9, 9), teacher.expand(9, 9), objective, every_token)

    forms = [gradients(baseline) for baseline in ("none", "kl", "topk_kl")]
    expected = gradient(student[None], teacher[None], REVERSE)[0]
    for each in forms:
        torch.testing.assert_close((p[:, None] * each).sum(0), expected)
    plain, centered, by_few = ((p[:, None] * (each - expected).square()).sum() for each in forms)
    assert centered < plain
    assert by_few < plain
    assert by_few != centered
    z = student.expand(9, 9)
    objective = Objective(divergence="reverse_kl", support="sampled", sampled_baseline="kl")
    advantage = token_divergence(z, teacher.expand(9, 9), objective, every_token) / student.log_softmax(-1)
    assert (p * advantage).sum().abs() < 1e-12, "the advantage's mean is 0"


# --- Clips --------------------------------------------------------------------------------------------------------


def test_a_clip_by_entry_is_opsds() -> None:
    s, q = STUDENT.softmax(-1), TEACHER.softmax(-1)
    terms = {"forward_kl": q * (q / s).log(), "reverse_kl": s * (s / q).log()}
    m = 0.75 * s + 0.25 * q
    terms["jsd"] = 0.25 * q * (q / m).log() + 0.75 * s * (s / m).log()
    terms["mixed_kl"] = 0.3 * terms["forward_kl"] + 0.7 * terms["reverse_kl"]
    for divergence, each in terms.items():
        plain = Objective(divergence=divergence, jsd_beta=0.25, forward_share=0.3)  # type: ignore[arg-type]
        objective = replace(plain, clip="entry", clip_at=0.05)
        assert 0 < (each > 0.05).sum() < 5
        torch.testing.assert_close(token_divergence(STUDENT, TEACHER, objective, NO_IDS), each.clamp(max=0.05).sum(-1))


def test_a_clip_by_entry_pushes_down_what_it_clips() -> None:
    """The softmax's normalizer is still differentiated, so the teacher's most likely token is pushed down."""
    objective = Objective(clip="entry", clip_at=0.05)
    assert gradient(STUDENT, TEACHER, FORWARD)[0, 1] < 0
    assert gradient(STUDENT, TEACHER, objective)[0, 1] > 0


@pytest.mark.parametrize("objective", EVERY_OBJECTIVE, ids=describe)
def test_a_clip_by_token_bounds_it_and_keeps_its_direction(objective: Objective) -> None:
    student, teacher = random_logits(8, 20, 7)
    ids = torch.zeros(20, dtype=torch.long)
    free = token_divergence(student, teacher, objective, ids)
    held = replace(objective, clip="token", clip_at=free.median().item())
    value, factor = token_divergence(student, teacher, held, ids), (held.clip_at / free).clamp(max=1)
    assert 0 < (factor < 1).sum() < 20
    torch.testing.assert_close(value, free.clamp(max=held.clip_at))
    torch.testing.assert_close(
        gradient(student, teacher, held, ids), factor[:, None] * gradient(student, teacher, objective, ids)
    )


@pytest.mark.parametrize("clip", ["entry", "token"])
@pytest.mark.parametrize("objective", EVERY_OBJECTIVE, ids=describe)
def test_a_clip_that_nothing_reaches_changes_nothing(objective: Objective, clip: str) -> None:
    student, teacher = random_logits(9, 4, 7)
    ids = torch.zeros(4, dtype=torch.long)
    clipped = replace(objective, clip=clip, clip_at=100.0)  # type: ignore[arg-type]
    torch.testing.assert_close(
        token_divergence(student, teacher, clipped, ids), token_divergence(student, teacher, objective, ids)
    )


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"top_k_by": "teacher"}, "set support: topk_tail"),
        ({"sampled_baseline": "kl"}, "set support: sampled"),
        ({"divergence": "reverse_kl", "support": "sampled", "clip": "token"}, "no divergence to clip"),
        ({"clip": "entry", "clip_at": 0.0}, "must be above 0"),
        ({"support": "topk_tail", "top_k": 0}, "at least one entry"),
        ({"divergence": "jsd", "jsd_beta": 1.0}, "forward_kl or reverse_kl"),
        ({"divergence": "mixed_kl", "forward_share": 0.0}, "forward_share is 0, so mixed_kl mixes nothing"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_settings_that_give_nothing_are_refused(settings_: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Objective(**settings_)


def test_temperature_is_applied_after_widening() -> None:
    logits = random_logits(6, 4, 10)[0].to(torch.bfloat16)
    torch.testing.assert_close(log_softmax(logits, 0.7), torch.log_softmax(logits.float() / 0.7, -1), rtol=0, atol=0)


@pytest.mark.parametrize("divergence", ["forward_kl", "jsd", "mixed_kl"])
def test_sampled_support_is_refused_for_other_divergences(divergence: str) -> None:
    with pytest.raises(ValueError, match="reverse_kl"):
        Objective(divergence=divergence, support="sampled")  # type: ignore[arg-type]


def test_one_renormalized_entry_is_refused() -> None:
    with pytest.raises(ValueError, match="top_k"):
        Objective(support="topk_renormalized", top_k=1)
