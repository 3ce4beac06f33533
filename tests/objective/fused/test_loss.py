"""`holdfast.objective.fused.loss` equals the readable form in values, gradients and statistics, in less memory."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from holdfast.errors import ModelError
from holdfast.objective.fused.head import ONEDNN_TILE_BYTES, HeadGradient, Projection
from holdfast.objective.fused.loss import fused_loss_and_statistics
from holdfast.objective.fused.workspace import Workspace
from holdfast.objective.head import OutputHead, TensorHead
from holdfast.objective.loss import loss_and_statistics
from holdfast.objective.signals import HiddenSignal, SparseSignal, compress
from holdfast.recipes.parts.objective import DivergenceWeight, EntropyWeight, Objective, PolicyGradient, TokenWeight
from objective_factory import HeadStep, Outcome, make_head_step

FORMS: tuple[Any, ...] = ("forward_kl", "reverse_kl", "jsd", "mixed_kl")
ALL = {"ce": 0.7, "div": 1.0, "advantage": -0.8, "base_kl": 0.5}
EXACT = {"rtol": 2e-7, "atol": 1e-10}


def assert_same(readable: Outcome, fused: Outcome, **tolerance: float) -> None:
    torch.testing.assert_close(fused.loss, readable.loss, **tolerance)
    assert fused.gradients.keys() == readable.gradients.keys()
    for name, gradient in readable.gradients.items():
        torch.testing.assert_close(fused.gradients[name], gradient, **tolerance, msg=lambda m, n=name: f"{n}: {m}")
    assert fused.statistics.keys() == readable.statistics.keys()
    for name, value in readable.statistics.items():
        got = fused.statistics[name]
        assert not got.requires_grad
        torch.testing.assert_close(got.double(), value.double(), **tolerance, msg=lambda m, n=name: f"{n}: {m}")


WEIGHTS: dict[str, Any] = {
    "teacher_share": st.sampled_from([0.0, 0.5, 1.0]),
    "tau": st.sampled_from([1.0, 0.6, 2.3]),
    "least": st.sampled_from([0.0, 0.05]),
    "rising_only": st.booleans(),
    "normalized": st.booleans(),
}
ENTROPIES: dict[str, Any] = {"top_k": st.integers(2, 6), "exponent": st.sampled_from([1.0, 0.5, 2.0])}
SIDES: dict[str, Any] = {"by_teacher": st.booleans(), "by_student": st.booleans(), "top_k": st.integers(2, 6)}


@st.composite
def objectives(draw: st.DrawFn) -> Objective:
    """Any objective that the specification allows."""
    support = draw(st.sampled_from(["full", "topk_tail", "topk_renormalized", "sampled"]))
    surrogate = draw(st.sampled_from(["clip", "cispo", "sapo", "raw"]))
    sampled, top_k = support == "sampled", support.startswith("topk")
    target = draw(st.sampled_from(["teacher", "geometric", "partial"]))
    form = draw(st.sampled_from(["k3", "k2", "forward_kl"]))
    of_target: dict[str, Any] = {}
    if target == "geometric":
        of_target = {"anchor": draw(st.sampled_from(["student", "base"])), "target_weight": draw(st.floats(0.2, 1.5))}
    elif target == "partial":
        of_target = {"target_fraction": draw(st.floats(0.1, 1.0))}
    return Objective(
        divergence="reverse_kl" if sampled else draw(st.sampled_from(FORMS)),
        jsd_beta=draw(st.floats(0.1, 0.9)),
        forward_share=draw(st.floats(0.1, 0.9)),
        support=support,
        top_k=draw(st.integers(2, 6)),
        top_k_by=draw(st.sampled_from(["student", "teacher"])) if top_k else "student",
        sampled_baseline=draw(st.sampled_from(["none", "kl", "topk_kl"])) if sampled else "none",
        target=target,
        clip="none" if sampled else draw(st.sampled_from(["none", "entry", "token"])),
        clip_at=draw(st.sampled_from([0.02, 0.3])),
        policy_gradient=PolicyGradient(
            ratio=draw(st.sampled_from(["token", "sequence"])),
            surrogate=surrogate,
            epsilon_high=1.1,
            dual_clip=draw(st.sampled_from([None, 1.5])) if surrogate == "clip" else None,
            modulation=draw(st.sampled_from([0.0, 0.6])),
            off_policy=draw(st.sampled_from(["own", "ratio", "shaped"])),
        ),
        token_weight=draw(st.none() | st.builds(TokenWeight, **WEIGHTS)),
        entropy_weight=draw(st.none() | st.builds(EntropyWeight, **ENTROPIES)),
        divergence_weight=draw(st.none() | st.builds(DivergenceWeight, **SIDES)),
        importance=draw(st.sampled_from(["none", "token", "sequence_mean"])),
        temperature=draw(st.sampled_from([1.0, 0.7])),
        reference_kl=draw(st.sampled_from([0.0, 0.3])),
        reference_kl_form=form,
        reference_temperature=draw(st.sampled_from([1.0, 2.5])) if form == "forward_kl" else 1.0,
        reference_without_token=form == "forward_kl" and draw(st.booleans()),
        **of_target,
    )


@st.composite
def head_steps(draw: st.DrawFn) -> HeadStep:
    """Ragged rows of every annotation, with heads of every kind."""
    lengths = draw(st.lists(st.integers(0, 6), min_size=1, max_size=5))
    silent = st.sampled_from([0.0, 0.0, 1.0, -0.7])
    components = ("ce", "div", "advantage", "base_kl")
    every = draw(st.sampled_from([*components, "all"]))
    annotation = {
        name: draw(st.lists(silent, min_size=len(lengths), max_size=len(lengths)))
        for name in components
        if every in (name, "all")
    }
    softcap = draw(st.sampled_from([None, 3.0]))
    return make_head_step(
        lengths,
        seed=draw(st.integers(0, 1000)),
        vocabulary=draw(st.sampled_from([3, 17, 100])),
        width=draw(st.integers(1, 6)),
        bias=draw(st.booleans()),
        scale=draw(st.sampled_from([1.0, 0.6])),
        softcap=softcap,
        shared_head=draw(st.booleans()),
        frozen=draw(st.booleans()),
        stale=draw(st.booleans()),
        weighed=draw(st.booleans()),
        foreign=draw(st.booleans()),
        skip=draw(st.sampled_from([0, 2])),
        sampled=draw(st.booleans()),
        **annotation,
    )


@given(step=head_steps(), objective=objectives(), chunk_tokens=st.sampled_from([None, 1, 2, 5]))
@settings(max_examples=300, deadline=None)
def test_fused_equals_readable_for_every_objective(
    step: HeadStep, objective: Objective, chunk_tokens: int | None
) -> None:
    assert_same(step.readable(objective), step.fused(objective, chunk_tokens=chunk_tokens), **EXACT)


DIVERGENCES = {
    f"{divergence}-{support}-{top_k_by}": Objective(
        divergence=divergence, support=support, top_k=5, top_k_by=top_k_by, temperature=0.8, reference_kl=0.2
    )
    for divergence in FORMS
    for support, top_k_by in (
        ("full", "student"),
        ("topk_tail", "student"),
        ("topk_tail", "teacher"),
        ("topk_renormalized", "teacher"),
    )
}


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
@pytest.mark.parametrize("softcap", [None, 4.0])
def test_float32_is_as_exact_as_the_readable_form(name: str, softcap: float | None) -> None:
    step = make_head_step([5, 3, 6], vocabulary=500, width=16, dtype=torch.float32, softcap=softcap, div=1.0, ce=0.3)
    assert_same(step.readable(DIVERGENCES[name]), step.fused(DIVERGENCES[name], chunk_tokens=4), rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", [name for name in sorted(DIVERGENCES) if "renormalized" not in name])
@pytest.mark.parametrize("softcap", [None, 4.0])
def test_bfloat16_heads_round_where_the_model_does(name: str, softcap: float | None) -> None:
    objective = replace(DIVERGENCES[name], policy_gradient=PolicyGradient())
    step = make_head_step([5, 3, 6], vocabulary=300, width=16, dtype=torch.bfloat16, scale=0.7, softcap=softcap, **ALL)
    readable, fused = step.readable(objective), step.fused(objective, chunk_tokens=4)
    assert fused.loss.dtype == torch.float32
    torch.testing.assert_close(fused.loss, readable.loss, rtol=1e-4, atol=1e-5)
    for leaf, gradient in readable.gradients.items():
        assert fused.gradients[leaf].dtype == torch.bfloat16
        scale = gradient.float().abs().max().item()
        torch.testing.assert_close(fused.gradients[leaf], gradient, rtol=2e-2, atol=1e-2 * scale)


def test_large_logits_stay_finite_and_exact() -> None:
    step = make_head_step([6], vocabulary=200, width=8, dtype=torch.float32, div=1.0)
    step = replace(step, hidden=[40 * hidden for hidden in step.hidden])
    for divergence in FORMS:
        objective = Objective(divergence=divergence)
        readable, fused = step.readable(objective), step.fused(objective)
        assert fused.loss.isfinite()
        assert_same(readable, fused, rtol=1e-3, atol=1e-3)


def test_many_tokens_in_blocks_and_chunks_of_the_default_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small default sizes: chunks of one group and of several, and a last block with an odd number of tokens."""
    monkeypatch.setattr("holdfast.objective.fused.plan.LEAST_CHUNK", 1)
    monkeypatch.setattr("holdfast.objective.fused.plan.CHUNK_BYTES", dict.fromkeys(("cpu", "cuda"), 7 * 2 * 30 * 8))
    monkeypatch.setattr(
        "holdfast.objective.fused.distributions.BLOCK_BYTES", dict.fromkeys(("cpu", "cuda"), 3 * 2 * 30 * 8)
    )
    objective = Objective(divergence="jsd", importance="sequence_mean", reference_kl=0.1)
    for div in (1.0, [1.0, 0.0, 1.0, 0.0, 1.0]):
        step = make_head_step([4, 3, 6, 0, 9], vocabulary=30, div=div, ce=0.5, base_kl=1.0)
        assert_same(step.readable(objective), step.fused(objective), **EXACT)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("stale", [True, False])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("base_kl", [0.0, 1.0])
def test_rows_longer_than_a_chunk(frozen: bool, stale: bool, ratio: Any, base_kl: float) -> None:
    """Averages over a row must not depend on where the row is cut."""
    objective = Objective(
        importance="sequence_mean", policy_gradient=PolicyGradient(ratio=ratio), reference_kl=0.3, temperature=1.2
    )
    annotation = {"div": 1.0, "advantage": [1.0, -2.0], "base_kl": base_kl}
    step = make_head_step([9, 5], frozen=frozen, stale=stale, **annotation)
    assert_same(step.readable(objective), step.fused(objective, chunk_tokens=4), **EXACT)


@pytest.mark.parametrize("divergence", FORMS)
@pytest.mark.parametrize("clip", ["none", "entry", "token"])
def test_a_divergence_and_a_tempered_reference_at_the_same_tokens(divergence: Any, clip: Any) -> None:
    """The divergence overwrites log-probabilities that the reference reads, so the reference must come first."""
    objective = Objective(
        divergence=divergence, clip=clip, reference_kl=0.3, reference_kl_form="forward_kl", reference_temperature=2.5
    )
    step = make_head_step([5, 3, 6], div=1.0, ce=0.3, base_kl=1.0)
    assert_same(step.readable(objective), step.fused(objective, chunk_tokens=4), **EXACT)


def test_signals_of_rows_that_do_not_need_them_are_not_read() -> None:
    step = make_head_step([3, 4, 2], div=[1.0, 0.0, 1.0], ce=[0.0, 1.0, 0.0], base_kl=[0.0, 0.0, 1.0])
    clean = step.fused(Objective(reference_kl=0.1))
    for side, rows in ((1, [1]), (2, [0, 1])):
        for row in rows:
            step.hidden[side][step.batch.row_index == row] = math.nan
    assert_same(step.readable(Objective(reference_kl=0.1)), step.fused(Objective(reference_kl=0.1)), **EXACT)
    assert torch.equal(step.fused(Objective(reference_kl=0.1)).loss, clean.loss)


def test_an_empty_batch_is_zero_and_can_be_differentiated() -> None:
    step = make_head_step([0, 0], div=1.0)
    outcome = step.fused(Objective())
    assert outcome.loss == 0
    assert outcome.gradients["hidden"].shape == (0, 5)
    assert outcome.gradients["weight"].abs().max() == 0
    assert outcome.statistics["tokens"] == 0


# --- As a function in a graph -------------------------------------------------------------------------------------


def loss_of(step: HeadStep, hidden: Tensor, head: TensorHead) -> Tensor:
    return fused_loss_and_statistics(hidden, head, step.batch, Objective(), *step.signals)[0]


def test_gradients_are_scaled_and_add_up_like_any_others() -> None:
    step = make_head_step([4, 3], div=1.0)
    alone = step.fused(Objective()).gradients
    hidden, weight, bias = (t.clone().requires_grad_() for t in (step.hidden[0], step.heads[0].weight, alone["bias"]))
    with torch.no_grad():
        bias.copy_(step.heads[0].bias)  # type: ignore[arg-type]
    head = TensorHead(weight, bias)
    (2.5 * loss_of(step, hidden, head) - loss_of(step, hidden, head)).backward()
    for name, leaf in {"hidden": hidden, "weight": weight, "bias": bias}.items():
        torch.testing.assert_close(leaf.grad, 1.5 * alone[name])


def test_tied_embeddings_receive_both_gradients() -> None:
    step = make_head_step([4, 3], bias=False, div=1.0)
    ids = torch.arange(7)

    def gradient(form: str) -> Tensor:
        weight = step.heads[0].weight.clone().requires_grad_()
        tied = replace(step, heads=[TensorHead(weight), *step.heads[1:]])
        hidden = torch.tanh(nn.functional.embedding(ids, weight))
        if form == "fused":
            loss_of(tied, hidden, tied.heads[0]).backward()
        else:
            logits = [signal.logits() for signal in tied.signals]
            loss_and_statistics(tied.heads[0](hidden), tied.batch, Objective(), *logits)[0].backward()
        assert weight.grad is not None
        return weight.grad

    torch.testing.assert_close(gradient("fused"), gradient("readable"), **EXACT)


def test_without_gradients_there_are_values_alone() -> None:
    step = make_head_step([4, 3], **ALL)
    objective = Objective(policy_gradient=PolicyGradient(), reference_kl=0.1)
    expected = step.readable(objective)
    hidden, head = step.hidden[0].requires_grad_(), step.heads[0]
    with torch.no_grad():
        loss, statistics = fused_loss_and_statistics(hidden, head, step.batch, objective, *step.signals)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, expected.loss, **EXACT)
    torch.testing.assert_close(statistics["teacher_kl_sum"], expected.statistics["teacher_kl_sum"], **EXACT)
    detached, _ = fused_loss_and_statistics(hidden.detach(), head, step.batch, objective, *step.signals)
    assert not detached.requires_grad


def test_gradients_are_handed_out_once() -> None:
    step = make_head_step([2], div=1.0)
    loss = loss_of(step, step.hidden[0].requires_grad_(), step.heads[0])
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="handed out"):
        loss.backward()


# --- Heads --------------------------------------------------------------------------------------------------------


def test_a_models_own_head_is_read_as_it_is() -> None:
    projection = nn.Linear(5, 40, bias=False, dtype=torch.float64)
    step = make_head_step([3], bias=False, div=1.0)
    own = replace(step, heads=[TensorHead(projection.weight.detach()), *step.heads[1:]])
    loss = fused_loss_and_statistics(step.hidden[0], OutputHead(projection), step.batch, Objective(), *step.signals)[0]
    torch.testing.assert_close(loss.detach(), own.readable(Objective()).loss, **EXACT)
    loss.backward()
    torch.testing.assert_close(projection.weight.grad, own.readable(Objective()).gradients["weight"], **EXACT)


def test_heads_that_are_more_than_linear_are_refused_by_name() -> None:
    step = make_head_step([2], ce=1.0)
    deep = OutputHead(nn.Sequential(nn.Linear(5, 40)))
    with pytest.raises(ModelError, match="Sequential"):
        fused_loss_and_statistics(step.hidden[0], deep, step.batch, Objective())
    wide = HiddenSignal(step.hidden[1], OutputHead(nn.Bilinear(1, 1, 1)))
    with pytest.raises(ModelError, match="Bilinear"):
        fused_loss_and_statistics(step.hidden[0], step.heads[0], step.batch, Objective(), wide)


@pytest.mark.parametrize(
    ("annotation", "objective", "message"),
    [
        ({"div": 1.0}, Objective(), "no teacher logits"),
        ({"advantage": 1.0}, Objective(), "no policy gradient"),
        ({"base_kl": 1.0}, Objective(reference_kl=0.1), "no base logits"),
    ],
)
def test_a_component_without_its_part_is_refused(annotation: Any, objective: Objective, message: str) -> None:
    step = make_head_step([2], **annotation)
    with pytest.raises(ValueError, match=message):
        fused_loss_and_statistics(step.hidden[0], step.heads[0], step.batch, objective)


# --- Signals that were kept in part -------------------------------------------------------------------------------

KEPT = {
    "sampled": Objective(divergence="reverse_kl", support="sampled", temperature=0.8),
    "tail": Objective(divergence="jsd", support="topk_tail", top_k=6, top_k_by="teacher", temperature=0.8),
    "renormalized": Objective(support="topk_renormalized", top_k=2, top_k_by="teacher", clip="token", clip_at=0.2),
}


@given(step=head_steps(), objective=objectives(), chunk_tokens=st.sampled_from([None, 2]))
@settings(max_examples=100, deadline=None)
def test_what_is_kept_of_teacher_and_base_is_enough_for_every_objective(
    step: HeadStep, objective: Objective, chunk_tokens: int | None
) -> None:
    """Compared with the readable form on full distributions. The log may lack the full KL, and nothing else."""
    whole, ids = step.readable(objective), step.batch.ids
    kept = [compress(s, ids, objective, of=of) for s, of in zip(step.signals, ("teacher", "base"), strict=True)]
    hidden, head = step.hidden[0].clone().requires_grad_(), step.heads[0]
    loss, statistics = fused_loss_and_statistics(hidden, head, step.batch, objective, *kept, chunk_tokens=chunk_tokens)
    loss.backward()
    torch.testing.assert_close(loss.detach(), whole.loss, **EXACT)
    torch.testing.assert_close(hidden.grad, whole.gradients["hidden"], **EXACT)
    assert whole.statistics.keys() - statistics.keys() <= {"teacher_kl_sum"}
    for name, value in statistics.items():
        torch.testing.assert_close(value.double(), whole.statistics[name].double(), **EXACT)


@pytest.mark.parametrize("name", sorted(KEPT))
def test_what_is_kept_of_a_teacher_is_enough(name: str) -> None:
    step = make_head_step([5, 3, 4], vocabulary=70, div=[1.0, 0.0, 0.5])
    signal = compress(step.signals[0], step.batch.ids, KEPT[name])
    assert isinstance(signal, SparseSignal)
    assert signal.ids.shape == (12, 1 if name == "sampled" else KEPT[name].top_k)
    readable, fused = step.readable(KEPT[name], signal), step.fused(KEPT[name], signal, chunk_tokens=4)
    assert_same(readable, fused, **EXACT)
    whole = step.readable(KEPT[name])
    torch.testing.assert_close(fused.loss, whole.loss, **EXACT)
    torch.testing.assert_close(fused.gradients["hidden"], whole.gradients["hidden"], **EXACT)
    assert whole.statistics.keys() - fused.statistics.keys() == {"teacher_kl_sum"}
    for key, value in fused.statistics.items():
        torch.testing.assert_close(value.double(), whole.statistics[key].double(), **EXACT)


def test_what_is_kept_of_a_base_is_enough_for_its_estimate() -> None:
    step = make_head_step([5, 3], vocabulary=30, base_kl=[1.0, 0.5])
    objective = Objective(reference_kl=0.2)
    base = compress(step.signals[1], step.batch.ids, objective, of="base")
    assert isinstance(base, SparseSignal)
    assert base.logprobs.shape == (8, 0)
    loss, _ = fused_loss_and_statistics(step.hidden[0], step.heads[0], step.batch, objective, None, base)
    torch.testing.assert_close(loss, step.readable(objective).loss, **EXACT)


def test_signals_that_are_read_whole_are_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.objective.signals.CHUNK_BYTES", 3 * 4 * 40)
    step = make_head_step([5, 3], div=1.0)
    teacher, base = step.signals
    for objective in (
        Objective(),
        Objective(support="topk_tail", top_k=5),
        Objective(support="topk_tail", top_k=40, top_k_by="teacher"),
        Objective(support="topk_tail", top_k=5, top_k_by="teacher", target="geometric", target_weight=0.5),
        Objective(divergence="reverse_kl", support="sampled", sampled_baseline="kl"),
    ):
        kept = compress(teacher, step.batch.ids, objective)
        assert isinstance(kept, HiddenSignal)
        assert torch.equal(kept.hidden, teacher.hidden)
    anchored = Objective(target="geometric", target_weight=0.5, anchor="base")
    assert isinstance(compress(base, step.batch.ids, anchored, of="base"), HiddenSignal)
    narrow = TensorHead.like(teacher.head, lambda t: t.to(torch.bfloat16))
    assert compress(HiddenSignal(teacher.hidden, narrow), step.batch.ids, Objective()).hidden.dtype == torch.bfloat16
    few = compress(teacher, step.batch.ids, KEPT["sampled"])
    assert compress(few, step.batch.ids, KEPT["sampled"]) is few
    with pytest.raises(ValueError, match="only some entries were kept"):
        fused_loss_and_statistics(step.hidden[0], step.heads[0], step.batch, Objective(), few)


# --- Memory -------------------------------------------------------------------------------------------------------


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest new tensor of any operation."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {tensor.data_ptr() for tensor in args if isinstance(tensor, Tensor)}
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor) and tensor.data_ptr() not in given:
                self.elements = max(self.elements, tensor.numel())
        return result


MEMORY = {
    "cross-entropy": (Objective(), {"ce": 1.0}),
    "jsd": (Objective(divergence="jsd"), {"div": 1.0}),
    "clipped": (Objective(divergence="jsd", clip="entry"), {"div": 1.0}),
    "partial": (Objective(target="partial", target_fraction=0.5), {"div": 1.0}),
    "tail": (Objective(divergence="reverse_kl", support="topk_tail", top_k=4), {"div": 1.0}),
    "renormalized": (Objective(support="topk_renormalized", top_k=4), {"div": 1.0}),
    "rows": (Objective(importance="sequence_mean", policy_gradient=PolicyGradient(ratio="sequence")), {"div": 1.0}),
}


@pytest.mark.parametrize("name", sorted(MEMORY))
@pytest.mark.parametrize("frozen", [True, False])
def test_no_tensor_of_tokens_times_vocabulary(name: str, frozen: bool) -> None:
    objective, annotation = MEMORY[name]
    step = make_head_step([9] * 30, vocabulary=200, width=3, frozen=frozen, **annotation)
    with LargestTensor() as largest:
        outcome = step.fused(objective, chunk_tokens=6)
    assert largest.elements <= 6 * 3 * 200, "a chunk of tokens, seen by student, teacher and a target"
    assert ("weight" in outcome.gradients) != frozen


def test_a_frozen_head_costs_no_gradient() -> None:
    step = make_head_step([5], vocabulary=300, width=40, div=1.0)
    hidden = step.hidden[0].requires_grad_()
    with LargestTensor() as largest:
        fused_loss_and_statistics(hidden, step.heads[0], step.batch, Objective(), *step.signals, chunk_tokens=2)
    assert largest.elements < 300 * 40


# --- A renormalized support ---------------------------------------------------------------------------------------


def test_a_teacher_is_read_at_the_students_top_entries_only_and_so_are_its_statistics() -> None:
    step = make_head_step([5, 4], vocabulary=100, shared_head=False, softcap=None, div=1.0)
    objective = Objective(divergence="jsd", support="topk_renormalized", top_k=4, temperature=0.8)
    statistics = step.fused(objective).statistics
    student, teacher = (step.heads[i](step.hidden[i]) / 0.8 for i in (0, 1))
    top = student.topk(4, dim=-1).indices
    s, t = (logits.gather(-1, top).softmax(-1) for logits in (student, teacher))
    expected = {
        "teacher_kl_sum": (s * (s.log() - t.log())).sum(),
        "teacher_entropy_sum": -(t * t.log()).sum(),
        "agreed": (s.argmax(-1) == t.argmax(-1)).sum(),
    }
    for key, value in expected.items():
        torch.testing.assert_close(statistics[key].double(), value.double(), **EXACT)


@pytest.mark.parametrize("tokens", [1, 3, 200])
@pytest.mark.parametrize("bias", [False, True])
def test_a_product_with_the_head_in_tiles_is_the_product(tokens: int, bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    vocabulary = 2 * ONEDNN_TILE_BYTES // (4 * tokens) // 1000 * 1000 + 7 if tokens > 3 else 70
    hidden, weight = (torch.randn(n, 3, generator=generator) for n in (tokens, vocabulary))
    head = TensorHead(weight, torch.randn(vocabulary, generator=generator) if bias else None)
    out = torch.full((tokens, 2, vocabulary), math.nan)
    Projection(0.5, Workspace(vocabulary, torch.float32, hidden.device, 0)).into(out[:, 1], head, hidden)
    expected = 2 * (hidden.double() @ weight.double().t() + (0 if head.bias is None else head.bias.double()))
    torch.testing.assert_close(out[:, 1].double(), expected, rtol=1e-5, atol=1e-5)
    assert out[:, 0].isnan().all()


@pytest.mark.parametrize("tokens", [slice(0, 200), torch.arange(199, -1, -1)])
def test_gradients_through_the_head_in_tiles_are_the_products(tokens: slice | torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    vocabulary = 2 * ONEDNN_TILE_BYTES // (4 * 200) // 1000 * 1000 + 7
    weight, hidden = (torch.randn(n, 3, generator=generator) for n in (vocabulary, 200))
    gradient = torch.randn(200, 2, vocabulary, generator=generator)[:, 0]
    gradients = HeadGradient(TensorHead(weight, None), hidden, (True, True, False), torch.float32)
    gradients.add(tokens, hidden, gradient, None)
    in_hidden, in_weight, _ = gradients.take()
    expected = gradient.double() @ weight.double()
    torch.testing.assert_close(in_hidden[tokens].double(), expected, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(in_weight.double(), gradient.double().t() @ hidden.double(), rtol=1e-5, atol=1e-3)
