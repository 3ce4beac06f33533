"""`holdfast.objective.loss`: reductions, importance and silent rows, compared with derivations by hand."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from holdfast.data.rows import Row
from holdfast.objective.batch import Batch, row_coefficients, store_old_logprobs
from holdfast.objective.divergence import token_divergence
from holdfast.objective.loss import loss_and_statistics, summarize
from holdfast.recipes import GRPO, SDFT, SDPO, SFT
from holdfast.recipes.parts.objective import Objective, PolicyGradient
from objective_factory import MAX_LENGTH, VOCABULARY, Step, make_head_step, make_step

# --- Reductions ---------------------------------------------------------------------------------------------------


def test_row_coefficients_of_every_aggregation() -> None:
    rows = make_step([4, 2, 5, 1], ce=[1.0, 0.0, 1.0, 1.0], skip=1).rows  # loss tokens: 3, 1 (silent), 4, 0 (none left)
    assert [row.has_signal for row in rows] == [True, False, True, False]

    def coefficients(**settings: Any) -> list[float]:
        return row_coefficients(rows, Objective(**settings), MAX_LENGTH)

    assert coefficients(aggregation="sequence_mean") == pytest.approx([1 / 12, 1 / 4, 1 / 16, 0])
    assert coefficients(aggregation="sequence_mean", count_silent_rows=False) == pytest.approx([1 / 6, 1 / 2, 1 / 8, 0])
    assert coefficients(aggregation="token_mean") == pytest.approx([1 / 8, 1 / 8, 1 / 8, 0])
    assert coefficients(aggregation="token_mean", count_silent_rows=False) == pytest.approx([1 / 7, 1 / 7, 1 / 7, 0])
    assert coefficients(aggregation="constant") == pytest.approx([1 / 36, 1 / 36, 1 / 36, 0])
    assert coefficients(aggregation="constant", count_silent_rows=False) == pytest.approx([1 / 18, 1 / 18, 1 / 18, 0])


def test_a_step_without_signal_has_coefficients() -> None:
    rows = make_step([3, 0]).rows
    assert row_coefficients(rows, Objective(count_silent_rows=False), MAX_LENGTH) == [0, 0]
    assert row_coefficients([], Objective(), MAX_LENGTH) == []


OBJECTIVES: dict[str, Objective] = {
    "sft": SFT().objective(),
    "sdft": SDFT().objective(),
    "sdpo": SDPO(top_k=3).objective(),
    "sampled": SDPO(divergence="reverse_kl", support="sampled").objective(),
    "gspo": GRPO(variant="gspo").objective(),
    "all": Objective(
        divergence="reverse_kl",
        importance="sequence_mean",
        policy_gradient=PolicyGradient(),
        reference_kl=0.3,
        temperature=0.8,
    ),
}


@given(
    lengths=st.lists(st.integers(0, MAX_LENGTH), min_size=1, max_size=5),
    name=st.sampled_from(sorted(OBJECTIVES)),
    aggregation=st.sampled_from(["sequence_mean", "token_mean", "constant"]),
    count_silent_rows=st.booleans(),
    skip=st.integers(0, 3),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_a_step_is_the_declared_combination_of_its_rows_however_it_is_cut(
    lengths: list[int], name: str, aggregation: Any, count_silent_rows: bool, skip: int, data: st.DataObject
) -> None:
    objective = replace(OBJECTIVES[name], aggregation=aggregation, count_silent_rows=count_silent_rows)
    silent = data.draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    parts_of: dict[int, list[int]] = {}
    for i in range(len(lengths)):
        parts_of.setdefault(data.draw(st.integers(0, 2)), []).append(i)
    component = {"sft": "ce", "sdft": "div", "sdpo": "div", "sampled": "div", "gspo": "advantage"}.get(name)
    weights = [0.0 if s else 1.5 for s in silent]
    annotation = dict.fromkeys([component] if component else ["ce", "div", "advantage", "base_kl"], weights)
    step = make_step(lengths, seed=data.draw(st.integers(0, 1000)), skip=skip, **annotation)

    counts = [len(row.loss_positions()) for row in step.rows]
    counted = [i for i, row in enumerate(step.rows) if count_silent_rows or row.has_signal]
    expected = 0.0
    for i, n in enumerate(counts):
        if not step.rows[i].has_signal:
            continue
        alone = replace(objective, aggregation="sequence_mean")
        mean = Step([step.rows[i]], [step.student[i]], [step.teacher[i]], [step.base[i]]).loss(alone)[0].item()
        expected += {
            "sequence_mean": mean / len(counted),
            "token_mean": n * mean / sum(counts[j] for j in counted),
            "constant": n * mean / (len(counted) * MAX_LENGTH),
        }[aggregation]

    cuts = [None, [[i] for i in range(len(lengths))], list(parts_of.values())]
    losses = [step.loss(objective, cut)[0].item() for cut in cuts]
    assert losses == pytest.approx([expected] * 3, rel=1e-6, abs=1e-9)
    whole = step.gradients(objective)
    for cut in cuts[1:]:
        torch.testing.assert_close(step.gradients(objective, cut), whole, rtol=1e-6, atol=1e-9)


def test_statistics_add_up_over_micro_batches() -> None:
    step = make_step([4, 2, 6], div=[1.0, 0.0, 1.0], advantage=[1.0, -1.0, 0.5], base_kl=1.0)
    store_old_logprobs(step.rows, torch.cat(step.student).log_softmax(-1)[:, 0] - 0.3)
    step.rows[2].source_logprobs = [-1.0, -2.0, -3.0, -2.5, -1.5, -0.5]
    seen = set()
    for objective in (OBJECTIVES["all"], replace(OBJECTIVES["all"], clip="token", reference_kl_form="forward_kl")):
        whole = summarize(step.loss(objective)[1])
        numbers = {name: value for name, value in whole.items() if value is not None}
        parts = summarize(step.loss(objective, [[0], [2, 1]])[1])
        assert {name: parts[name] for name in numbers} == pytest.approx(numbers, rel=1e-6)
        assert whole["trained_tokens"] == 12
        seen |= numbers.keys()
    assert seen == whole.keys()
    assert summarize([]) == {**dict.fromkeys(whole), "trained_tokens": 0.0}


def test_statistics_are_what_they_say() -> None:
    step = make_step([3, 2], div=1.0)
    student, teacher = (torch.cat(side).float().log_softmax(-1) for side in (step.student, step.teacher))
    numbers = summarize(step.loss(SDFT().objective())[1])
    assert numbers["entropy"] == pytest.approx(-(student.exp() * student).sum(-1).mean().item(), rel=1e-5)
    assert numbers["teacher_entropy"] == pytest.approx(-(teacher.exp() * teacher).sum(-1).mean().item(), rel=1e-5)
    assert numbers["kl_teacher"] == pytest.approx((student.exp() * (student - teacher)).sum(-1).mean().item(), rel=1e-5)
    ids = torch.tensor([i for row in step.rows for i in row.completion_ids])
    sampled = torch.tensor([v for row in step.rows for v in row.sampled_logprobs or []])
    ratios = (student.gather(-1, ids[:, None]).squeeze(-1) - sampled).exp()
    assert numbers["is_ratio_mean"] == pytest.approx(ratios.mean().item(), rel=1e-5)
    assert numbers["is_ratio_max"] == pytest.approx(ratios.max().item(), rel=1e-5)
    assert numbers["is_capped_fraction"] == pytest.approx((ratios > 2).float().mean().item())
    assert numbers["clip_fraction"] is None
    assert numbers["kl_base_estimate"] is None
    assert numbers["clipped_token_fraction"] is None
    assert numbers["clipped_entry_fraction"] is None
    assert numbers["source_ratio_variance"] is None
    same = (student.argmax(-1) == teacher.argmax(-1)).float().mean().item()
    assert numbers["agreement"] == pytest.approx(same)


def test_ratios_to_who_wrote_a_row_are_measured_on_such_rows_alone() -> None:
    step = make_step([3, 2], advantage=1.0)
    step.rows[1].source_logprobs = [-1.0, -2.5]
    student = step.student[1].float().log_softmax(-1)
    ids = torch.tensor(step.rows[1].completion_ids)
    distance = student.gather(-1, ids[:, None]).squeeze(-1) - torch.tensor([-1.0, -2.5])
    numbers = summarize(step.loss(GRPO().objective())[1])
    assert numbers["source_ratio_variance"] == pytest.approx(distance.exp().var(correction=0).item(), rel=1e-4)
    assert numbers["source_log_ratio"] == pytest.approx(distance.abs().mean().item(), rel=1e-5)


@pytest.mark.parametrize("engine", ["readable", "fused"])
@pytest.mark.parametrize("support", ["full", "topk_tail", "topk_renormalized"])
@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jsd", "mixed_kl"])
@pytest.mark.parametrize("clip", ["entry", "token"])
def test_clipped_fractions_are_of_tokens_and_of_entries(clip: Any, divergence: Any, support: Any, engine: str) -> None:
    """The second row has no divergence and does not count. The summands are written out in numpy."""
    step = make_head_step([4, 3, 5], vocabulary=12, div=[1.0, 0.0, 0.5])
    students, teachers = (head(hidden).double().numpy() for head, hidden in zip(step.heads[:2], step.hidden[:2]))
    tokens = [0, 1, 2, 3, 7, 8, 9, 10, 11]
    found = []
    for student, teacher in zip(students[tokens], teachers[tokens], strict=True):
        p, q = (np.exp(side) / np.exp(side).sum() for side in (student, teacher))
        if support != "full":
            ids = np.argsort(-p)[:4]
            p, q = p[ids], q[ids]
        if support == "topk_tail":
            p, q = np.append(p, 1 - p.sum()), np.append(q, 1 - q.sum())
        p, q = p / p.sum(), q / q.sum()
        m = 0.75 * p + 0.25 * q
        summands = {
            "forward_kl": q * np.log(q / p),
            "reverse_kl": p * np.log(p / q),
            "jsd": 0.25 * q * np.log(q / m) + 0.75 * p * np.log(p / m),
            "mixed_kl": 0.5 * q * np.log(q / p) + 0.5 * p * np.log(p / q),
        }
        found.append(summands[divergence])
    terms = np.array(found)
    at = {"entry": 0.1, "token": terms.sum(-1).mean()}[clip]
    cut = terms > at if clip == "entry" else np.broadcast_to(terms.sum(-1, keepdims=True) > at, terms.shape)
    assert 0 < cut.mean() < 1, "some are cut, some are not"
    objective = Objective(divergence=divergence, jsd_beta=0.25, support=support, top_k=4, clip=clip, clip_at=at)
    numbers = summarize([(step.fused if engine == "fused" else step.readable)(objective).statistics])
    assert numbers["clipped_token_fraction"] == pytest.approx(cut.any(-1).mean())
    assert numbers["clipped_entry_fraction"] == pytest.approx(cut.mean())
    assert (numbers["clipped_token_fraction"] == pytest.approx(numbers["clipped_entry_fraction"])) == (clip == "token")


def test_fractions_stay_below_one_where_more_is_cut_off_than_there_is() -> None:
    """Summands below 0 are never clipped, so the clipped part can be more than the whole divergence."""
    step = make_step([9, 9], div=1.0)
    loss, statistics = step.loss(Objective(clip="entry", clip_at=1e-3))
    assert loss.item() < 0
    numbers = summarize(statistics)
    assert numbers["clipped_token_fraction"] == 1.0
    assert 0 < (numbers["clipped_entry_fraction"] or 0) < 1


# --- Token weights ------------------------------------------------------------------------------------------------


def test_token_weights_multiply_tokens_and_leave_denominators() -> None:
    step = make_step([3, 2], ce=1.0, skip=1)
    plain = [g.clone() for g in step.gradients(SFT(aggregation="sequence_mean").objective())]
    step.rows[0].token_weights = [9.0, 0.0, 2.5]  # the first is skipped
    weighed = step.gradients(SFT(aggregation="sequence_mean").objective())
    torch.testing.assert_close(weighed[0], plain[0] * torch.tensor([[0.0], [0.0], [2.5]]))
    torch.testing.assert_close(weighed[1], plain[1])


def test_a_row_of_weight_zero_has_no_signal_and_counts_like_one() -> None:
    rows = make_step([3, 2], ce=1.0, skip=1).rows
    rows[0].token_weights = [1.0, 0.0, 0.0]
    assert [row.has_signal for row in rows] == [False, True]
    assert row_coefficients(rows, Objective(count_silent_rows=False), MAX_LENGTH) == [0.5, 1.0]


def test_token_weights_of_another_completion_are_refused() -> None:
    row = make_step([3], ce=1.0).rows[0]
    row.token_weights = [1.0]
    with pytest.raises(ValueError, match="1 log-probabilities or weights for 3"):
        Batch.from_rows([row], [1.0])


# --- KL to the base -----------------------------------------------------------------------------------------------


def test_the_anchor_over_the_vocabulary_is_the_forward_kl() -> None:
    step = make_step([3, 2], base_kl=[1.0, 0.0])
    objective = Objective(reference_kl=0.3, reference_kl_form="forward_kl")
    loss, statistics = step.loss(objective)
    student, base = step.student[0].log_softmax(-1), step.base[0].log_softmax(-1)
    expected = (base.exp() * (base - student)).sum(-1)
    assert loss.item() == pytest.approx(0.3 * expected.sum().item() / 6, rel=1e-6)
    assert summarize(statistics)["kl_base"] == pytest.approx(expected.mean().item(), rel=1e-6)
    assert summarize(statistics)["kl_base_estimate"] is None
    gradients = step.gradients(objective)
    torch.testing.assert_close(gradients[0], 0.3 / 6 * (student.exp() - base.exp()), rtol=1e-6, atol=1e-9)
    assert gradients[1].abs().max() == 0


def test_the_anchor_at_a_temperature_of_its_own_is_lwfs() -> None:
    step = make_step([3, 2], base_kl=[1.0, 0.0])
    objective = Objective(reference_kl=0.3, reference_kl_form="forward_kl", reference_temperature=2.5)
    loss, statistics = step.loss(objective)
    student, base = ((side[0] / 2.5).log_softmax(-1) for side in (step.student, step.base))
    expected = 2.5**2 * (base.exp() * (base - student)).sum(-1)
    assert loss.item() == pytest.approx(0.3 * expected.sum().item() / 6, rel=1e-6)
    gradients = step.gradients(objective)
    torch.testing.assert_close(gradients[0], 0.3 / 6 * 2.5 * (student.exp() - base.exp()), rtol=1e-6, atol=1e-9)
    plain = step.loss(replace(objective, reference_temperature=1.0))[1]
    assert summarize(statistics)["kl_base"] == summarize(plain)["kl_base"], "the log says the KL at temperature 1"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reference_temperature": 2.0}, "reference_temperature needs reference_kl_form: forward_kl, not k3"),
        ({"reference_temperature": 0.0}, "must be above 0"),
        ({"reference": "teacher", "target": "geometric", "anchor": "base"}, "two models for the base; set only one"),
        ({"support": "sampled", "divergence": "reverse_kl", "sampled_baseline": "topk_kl", "top_k": 1}, "raise top_k"),
    ],
)
def test_a_reference_that_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Objective(**settings)


# --- Cross-entropy ------------------------------------------------------------------------------------------------


def test_sft_equals_cross_entropy_and_transformers() -> None:
    from transformers.loss.loss_utils import ForCausalLMLoss

    step = make_step([5, 2, 3], sampled=False, ce=1.0)
    loss = step.loss(SFT().objective())[0].item()
    ids = torch.tensor([i for row in step.rows for i in row.completion_ids])
    assert loss == pytest.approx(torch.nn.functional.cross_entropy(torch.cat(step.student), ids).item(), rel=1e-6)

    padded = torch.zeros(
        3, 6, VOCABULARY, dtype=torch.float64
    )  # position t predicts token t + 1; position 0 is the prompt
    labels = torch.full((3, 6), -100)
    for i, (row, logits) in enumerate(zip(step.rows, step.student)):
        padded[i, : len(logits)] = logits
        labels[i, 1 : 1 + len(logits)] = torch.tensor(row.completion_ids)
    assert loss == pytest.approx(ForCausalLMLoss(padded, labels, VOCABULARY).item(), rel=1e-6)

    by_row = [
        torch.nn.functional.cross_entropy(z, torch.tensor(r.completion_ids)) for z, r in zip(step.student, step.rows)
    ]
    mean = step.loss(SFT(aggregation="sequence_mean").objective())[0].item()
    assert mean == pytest.approx(torch.stack(by_row).mean().item(), rel=1e-6)


def test_demonstrations_have_no_importance() -> None:
    step = make_step([4, 3], sampled=False, ce=1.0)
    plain, corrected = (step.loss(Objective(importance=level))[0] for level in ("none", "token"))
    assert torch.equal(plain, corrected)


# --- Distillation and importance ----------------------------------------------------------------------------------


def sampler_ratios(row: Row, logits: Tensor) -> list[float]:
    """p_train / p_sampler at every loss token of a row, by hand."""
    assert row.sampled_logprobs is not None
    logp = logits.log_softmax(-1)
    return [math.exp(logp[t, row.completion_ids[t]].item() - row.sampled_logprobs[t]) for t in row.loss_positions()]


def by_hand(step: Step, recipe: SDFT | SDPO, weight: Callable[[list[float]], list[float]]) -> float:
    """Mean over rows of the mean over tokens of weight · divergence."""
    total = 0.0
    for row, student, teacher in zip(step.rows, step.student, step.teacher):
        kept = list(row.loss_positions())
        ids = torch.tensor(row.completion_ids)[kept]
        divergences = token_divergence(student[kept], teacher[kept], recipe.objective(), ids).tolist()
        weights = weight(sampler_ratios(row, student))
        total += sum(w * d for w, d in zip(weights, divergences)) / len(kept)
    return total / len(step.rows)


def test_sdft_weighs_a_row_by_its_mean_capped_ratio() -> None:
    step = make_step([6, 4, 8], skip=3, div=1.0)
    ratios = [r for row, z in zip(step.rows, step.student) for r in sampler_ratios(row, z)]
    assert min(ratios) < 2 < max(ratios)
    expected = by_hand(step, SDFT(), lambda rs: [sum(min(r, 2.0) for r in rs) / len(rs)] * len(rs))
    assert step.loss(SDFT().objective())[0].item() == pytest.approx(expected, rel=1e-6)


def test_sdpo_weighs_every_token_by_its_capped_ratio() -> None:
    step = make_step([6, 4, 8], div=1.0)
    recipe = SDPO(top_k=3, importance_cap=1.25)
    expected = by_hand(step, recipe, lambda rs: [min(r, 1.25) for r in rs])
    assert step.loss(recipe.objective())[0].item() == pytest.approx(expected, rel=1e-6)


def test_later_iterations_weigh_the_two_ratios_separately() -> None:
    step = make_step([5], div=1.0)
    row, logits = step.rows[0], step.student[0]
    logp = [logits.log_softmax(-1)[t, i].item() for t, i in enumerate(row.completion_ids)]
    row.old_logprobs = [v + shift for v, shift in zip(logp, [-2.0, 0.5, 0.0, 2.0, -0.25])]
    objective = SDPO(top_k=3).objective()
    divergences = token_divergence(logits, step.teacher[0], objective, torch.tensor(row.completion_ids)).tolist()
    assert row.sampled_logprobs is not None
    expected = sum(
        min(math.exp(old - mu), 2) * min(math.exp(now - old), 2) * d
        for now, old, mu, d in zip(logp, row.old_logprobs, row.sampled_logprobs, divergences)
    )
    assert step.loss(objective)[0].item() == pytest.approx(expected / 5, rel=1e-6)


def test_importance_is_detached() -> None:
    step = make_step([5, 3], div=1.0)
    objective = SDFT().objective()
    weights = [sum(min(r, 2.0) for r in sampler_ratios(row, z)) for row, z in zip(step.rows, step.student)]
    got = step.gradients(objective)
    for grad, weight, student, teacher in zip(got, weights, step.student, step.teacher):
        n = len(student)
        expected = (student.softmax(-1) - teacher.softmax(-1)) * (weight / n) / (n * 2)
        torch.testing.assert_close(grad, expected, rtol=1e-5, atol=1e-8)


def test_temperature_divides_every_side_alike() -> None:
    step = make_step([4, 2], sampled=False, div=1.0, ce=0.5, base_kl=1.0)
    warm = Objective(temperature=2.0, reference_kl=0.5)
    halved = Step(step.rows, *([z / 2 for z in side] for side in (step.student, step.teacher, step.base)))
    torch.testing.assert_close(step.loss(warm)[0], halved.loss(replace(warm, temperature=1.0))[0])


def test_the_same_model_and_prompt_give_no_loss_for_any_row() -> None:
    step = make_step([7, 1, 4], div=1.0)
    step = replace(step, student=[z.float() for z in step.student])
    step.teacher = [z.clone() for z in step.student]
    for recipe in (SDFT(), SDPO(top_k=3), SDPO(divergence="reverse_kl", support="sampled")):
        assert step.loss(recipe.objective())[0].abs() < 1e-6
        assert max(g.abs().max() for g in step.gradients(recipe.objective())) < 1e-6


def test_remembered_logprobs_keep_the_next_step_on_policy() -> None:
    step = make_step([4, 3], skip=1, advantage=[1.0, -1.0], div=0.5)
    objective = OBJECTIVES["all"]
    first, (statistics,) = step.loss(objective)
    store_old_logprobs(step.rows, statistics["logprobs"])
    assert [len(row.old_logprobs or []) for row in step.rows] == [4, 3]
    assert math.isnan((step.rows[0].old_logprobs or [0.0])[0])
    torch.testing.assert_close(step.loss(objective)[0], first, rtol=1e-6, atol=0)


# --- Silent rows, precision, misuse -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_rows_without_signal_give_exactly_nothing(name: str) -> None:
    objective = OBJECTIVES[name]
    on = {"sft": {"ce": [1.0, 0.0, 1.0]}, "gspo": {"advantage": [1.0, 0.0, -1.0]}}.get(name, {"div": [1.0, 0.0, 1.0]})
    step = make_step([3, 4, 2], **on)
    step.teacher[1] = torch.full_like(step.teacher[1], math.nan)  # these values must not be read
    gradients = step.gradients(objective)
    assert gradients[1].abs().max() == 0
    assert min(gradients[i].abs().max() for i in (0, 2)) > 0
    torch.testing.assert_close(step.loss(objective, [[0, 2]])[0], step.loss(objective)[0], rtol=1e-12, atol=0)


def test_a_step_of_silent_rows_is_zero_and_can_be_differentiated() -> None:
    step = make_step([3, 2])
    loss, _ = step.loss(OBJECTIVES["all"])
    assert loss.item() == 0
    assert all((g == 0).all() for g in step.gradients(OBJECTIVES["all"]))
    empty = Batch.from_rows([], [])
    logits = torch.zeros(0, VOCABULARY, requires_grad=True)
    nothing, _ = loss_and_statistics(logits, empty, OBJECTIVES["all"])
    nothing.backward()
    assert nothing.item() == 0


def test_bf16_logits_are_computed_in_fp32() -> None:
    step = make_step([4, 3], div=1.0, advantage=1.0, base_kl=1.0, ce=1.0)
    narrow, wide = (
        Step(
            step.rows,
            *([z.to(torch.bfloat16).to(dtype) for z in side] for side in (step.student, step.teacher, step.base)),
        )
        for dtype in (torch.bfloat16, torch.float32)
    )
    loss, _ = narrow.loss(OBJECTIVES["all"])
    assert loss.dtype == torch.float32
    assert torch.equal(loss, wide.loss(OBJECTIVES["all"])[0])
    assert narrow.gradients(OBJECTIVES["all"])[0].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("annotation", "objective", "message"),
    [
        ({"div": 1.0}, Objective(), "no teacher logits"),
        ({"advantage": 1.0}, Objective(), "no policy gradient"),
        ({"base_kl": 1.0}, Objective(reference_kl=0.1), "no base logits"),
    ],
)
def test_a_component_without_its_part_is_refused(
    annotation: dict[str, float], objective: Objective, message: str
) -> None:
    step = make_step([2], **annotation)
    batch = Batch.from_rows(step.rows, row_coefficients(step.rows, objective, MAX_LENGTH))
    with pytest.raises(ValueError, match=message):
        loss_and_statistics(step.student[0], batch, objective)


def test_logprobs_of_another_completion_are_refused() -> None:
    row = make_step([3], ce=1.0).rows[0]
    row.sampled_logprobs = [-1.0, -1.0]
    with pytest.raises(ValueError, match="2 log-probabilities or weights for 3"):
        Batch.from_rows([row], [1.0])
