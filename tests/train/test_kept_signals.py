"""`holdfast.train.kept_signals`: signals are computed once per rollout batch, stored small, and checkpointed."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from holdfast.config.settings import LoraSettings, ModelSettings, TrainSettings
from holdfast.data.example import Example, Message
from holdfast.data.rows import Row
from holdfast.model.base import Base
from holdfast.model.load import load_policy
from holdfast.model.policy import Policy
from holdfast.recipes.parts.objective import Objective, PolicyGradient
from holdfast.recipes.parts.teacher import TeacherSpec
from holdfast.train import forward_pass
from holdfast.train.step import StageTrainer
from holdfast.train.teacher import Teacher

OBJECTIVES = {
    "full": Objective(reference_kl=0.1),
    "tail": Objective(divergence="reverse_kl", support="topk_tail", top_k=20),
    "sampled": Objective(divergence="reverse_kl", support="sampled"),
}


def _rows(seed: int = 0) -> list[Row]:
    generator = torch.Generator().manual_seed(seed)

    def ids(n: int) -> list[int]:
        return torch.randint(5, 200, (n,), generator=generator).tolist()

    prompt, teacher_prompt = ids(6), ids(9)
    rows = []
    for place in range(6):
        row = Row(Example(id=str(place), messages=[Message(role="user", content="q")]), prompt, ids(3 + place))
        row.sampled_logprobs = [-5.0] * len(row.completion_ids)
        if place < 4:
            row.div, row.teacher_prompt_ids = 1.0, teacher_prompt
        else:
            row.ce = 0.5
        if place in (2, 5):
            row.base_kl = 1.0
        rows.append(row)
    return rows


def _trainer(
    folder: Path,
    objective: Objective,
    *,
    lora: bool = False,
    cadence: Literal["optimizer_step", "rollout_batch"] = "optimizer_step",
    **settings: Any,
) -> StageTrainer:
    adapter = LoraSettings(r=4, lora_alpha=8) if lora else None
    policy = load_policy(ModelSettings(path=str(folder), lora=adapter))
    base = Base(policy)
    spec = TeacherSpec(kind="ema", rate=0.5, cadence=cadence)
    teacher = Teacher(spec, policy, base)
    return StageTrainer(policy, teacher, base, objective, TrainSettings(micro_batch_tokens=40, **settings))


def _steps(trainer: StageTrainer, rows: list[Row], count: int, first: int = 0, of: int | None = None) -> list[float]:
    of = of or count
    return [
        trainer.step(rows, 1e-2, where="here", first=i == 0, more=i + 1 < of)["loss"]
        for i in range(first, first + count)
    ]


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_teacher_of_later_iterations_is_that_of_the_first(tiny_model: Path, name: str, lora: bool) -> None:
    """A teacher that moves after every step must give the same signals within a rollout batch."""
    moving = _trainer(tiny_model, OBJECTIVES[name], lora=lora)
    still = _trainer(tiny_model, OBJECTIVES[name], lora=lora)
    assert still.teacher is not None
    still.teacher.after_optimizer_step = lambda: None  # type: ignore[method-assign]
    losses = _steps(moving, _rows(), 3)
    assert losses == pytest.approx(_steps(still, _rows(), 3), rel=1e-5)
    assert len({round(loss, 6) for loss in losses}) == 3
    moved = [(a - b).abs().max() for a, b in zip(moving.teacher.state().values(), still.teacher.state().values())]  # type: ignore[union-attr]
    assert max(moved) > 1e-3


def test_teacher_and_base_run_once_per_rollout_batch(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = _trainer(tiny_model, OBJECTIVES["full"])
    asked: dict[str, int] = {"student": 0, "other": 0}
    original = forward_pass.loss_token_states

    def counting(policy: Policy, prompts: list[list[int]], *rest: object, **kwargs: object) -> torch.Tensor:
        asked["student" if policy is trainer.policy else "other"] += len(prompts)
        return original(policy, prompts, *rest, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(forward_pass, "loss_token_states", counting)
    _steps(trainer, _rows(), 3)
    assert asked == {"student": 3 * 6, "other": 4 + 2}


@pytest.mark.parametrize(
    "settings",
    [{}, {"bf16": True}, {"engine": "readable", "bf16": True}, {"cadence": "rollout_batch", "bf16": True}],
    ids=str,
)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_half_used_rollout_batch_resumes_from_its_state(
    tiny_model: Path, name: str, settings: dict[str, Any]
) -> None:
    rows = _rows()
    whole = _trainer(tiny_model, OBJECTIVES[name], **settings)
    expected = _steps(whole, rows, 3)

    rows = _rows()
    before = _trainer(tiny_model, OBJECTIVES[name], **settings)
    done = _steps(before, rows, 1, of=3)
    weights = {n: p.detach().clone() for n, p in before.policy.named_trainable().items()}
    state = {k: v.clone() for k, v in before.state(rows).items()}
    assert before.teacher is not None
    average = {n: v.clone() for n, v in before.teacher.state().items()}

    after = _trainer(tiny_model, OBJECTIVES[name], **settings)
    with torch.no_grad():
        for n, p in after.policy.named_trainable().items():
            p.copy_(weights[n])
    assert after.teacher is not None
    after.teacher.load_state(average)
    rows = copy.deepcopy(rows)
    after.load_state(state, rows)
    assert done + _steps(after, rows, 2, first=1, of=3) == expected


@pytest.mark.parametrize(
    "objective",
    [
        *OBJECTIVES.values(),
        Objective(policy_gradient=PolicyGradient(ratio="sequence"), importance="sequence_mean", reference_kl=0.1),
        Objective(divergence="jsd", support="topk_renormalized", top_k=20, aggregation="token_mean"),
    ],
)
def test_both_engines_take_the_same_steps(tiny_model: Path, objective: Objective) -> None:
    losses = {}
    for engine in ("fused", "readable"):
        rows = _rows()
        if objective.policy_gradient:
            for row in rows:
                row.advantage = 1.0 if row.ce else -1.0
        losses[engine] = _steps(_trainer(tiny_model, objective, engine=engine), rows, 3)
    assert losses["fused"] == pytest.approx(losses["readable"], rel=2e-4)


@pytest.mark.parametrize("lora", [False, True])
def test_bfloat16_products_give_nearly_the_same_loss_and_float32_weights(tiny_model: Path, lora: bool) -> None:
    exact = _steps(_trainer(tiny_model, OBJECTIVES["full"], lora=lora), _rows(), 1)
    trainer = _trainer(tiny_model, OBJECTIVES["full"], lora=lora, bf16=True)
    assert _steps(trainer, _rows(), 1) == pytest.approx(exact, rel=0.03)
    assert all(p.dtype == torch.float32 for p in trainer.parameters.values())


def test_a_teacher_in_host_memory_says_the_same(tiny_model: Path) -> None:
    policy = load_policy(ModelSettings(path=str(tiny_model)))
    near = Teacher(TeacherSpec(kind="ema", rate=0.5), policy, None)
    far = Teacher(TeacherSpec(kind="ema", rate=0.5), policy, None, offload=True)
    with torch.no_grad():
        for p in policy.named_trainable().values():
            p.add_(0.05)
    logits = []
    for teacher in (near, far):
        teacher.after_optimizer_step()
        with teacher.scoring() as scoring:
            logits.append(scoring.logits(scoring.hidden_states(torch.tensor([[5, 6, 7]]))))
    assert torch.equal(*logits)


@contextmanager
def _on(self: Policy, device: torch.device) -> Iterator[None]:
    """`Policy.on` as on a GPU: within it the weights are another copy, and outside tensors cannot be used."""
    held = {name: parameter.data for name, parameter in self.model.named_parameters()}
    for name, parameter in self.model.named_parameters():
        parameter.data = -held[name]
    try:
        yield
    finally:
        for name, parameter in self.model.named_parameters():
            parameter.data = held[name]


def test_a_kept_signal_is_read_where_the_base_has_left_the_device(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Policy, "on", _on)

    def fresh() -> StageTrainer:
        policy = load_policy(ModelSettings(path=str(tiny_model)))
        base = Base(policy, offload=True)
        assert base.copy is not None
        with torch.no_grad():
            for parameter in base.copy.model.parameters():
                parameter.neg_()
        objective = Objective(reference_kl=0.5, reference_kl_form="forward_kl")
        return StageTrainer(policy, None, base, objective, TrainSettings(offload_teacher=True))

    def rows() -> list[Row]:
        found = _rows()
        for row in found:
            row.div, row.base_kl = 0.0, 1.0
        return found

    whole = fresh()
    expected = _steps(whole, rows(), 2)
    before, half = fresh(), rows()
    done = _steps(before, half, 1, of=2)
    after = fresh()
    weights = before.policy.named_trainable()
    with torch.no_grad():
        for name, parameter in after.policy.named_trainable().items():
            parameter.copy_(weights[name])
    after.load_state(before.state(half), half)
    assert done + _steps(after, half, 1, first=1, of=2) == expected


def test_rows_of_one_teacher_prompt_share_its_computation(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = load_policy(ModelSettings(path=str(tiny_model)))
    teacher = Teacher(TeacherSpec(kind="frozen", stage_start="student"), policy, None)
    trainer = StageTrainer(policy, teacher, None, Objective(), TrainSettings())
    rows = [row for row in _rows() if row.div]
    trainer.forward_backward(rows, where="here")  # the self-check of packing runs here
    computed: list[tuple[bool, int]] = []
    states = Policy.hidden_states

    def counting(self: Policy, ids: torch.Tensor, *rest: Any, **kwargs: Any) -> torch.Tensor:
        computed.append((self is teacher.copy, ids.numel()))
        return states(self, ids, *rest, **kwargs)

    monkeypatch.setattr(Policy, "hidden_states", counting)
    trainer.forward_backward(rows, where="here")
    behind = sum(len(row.completion_ids) - 1 for row in rows)  # the last token of a completion predicts nothing
    prompts = len(rows[0].teacher_prompt_ids or ()), len(rows[0].prompt_ids)
    assert computed == [(True, prompts[0] + behind), (False, prompts[1] + behind)]
