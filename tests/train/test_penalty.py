"""`holdfast.train.penalty`: values and gradients written out by hand, penalties over stages, and resuming."""

import json
import random
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from holdfast.api import export
from holdfast.config.load import parse_config
from holdfast.config.settings import LoraSettings, ModelSettings, RunConfig, TrainSettings
from holdfast.data.example import Example, Message
from holdfast.data.rows import Row
from holdfast.data.task import Task
from holdfast.errors import ConfigError, DataError
from holdfast.model.load import Policy, load_policy
from holdfast.model.stage_adapters import StageAdapters, adapted_model
from holdfast.recipes import CPO, EWC, OLoRA
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.parts.penalty import FisherPenalty, MovementPenalty
from holdfast.rollouts.collect import Collector
from holdfast.sampling.sampler import Sampler
from holdfast.train.fisher import fisher_information
from holdfast.train.penalty import FisherHold, MovementHold
from holdfast.train.step import StageTrainer
from processes import start
from small_runs import assert_same, write_config

EXAMPLE = Example("e", (Message(role="user", content="?"),))


def _policy(folder: Path, *, lora: bool = False) -> Policy:
    policy = load_policy(ModelSettings(path=str(folder), lora=LoraSettings(r=3) if lora else None))
    if lora:
        _shift(policy, 0.02)  # while one factor is 0, the other has no gradient
    return policy


@torch.no_grad()
def _shift(policy: Policy, scale: float, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in policy.named_trainable().values():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=scale)


def _rows(seed: int, count: int) -> list[Row]:
    rng = random.Random(seed)

    def ids(least: int) -> list[int]:
        return [rng.randrange(5, 200) for _ in range(rng.randint(least, 6))]

    return [Row(EXAMPLE, ids(1), ids(2), ce=1.0) for _ in range(count)]


def _logprobs(policy: Policy, row: Row) -> Tensor:
    logits = policy.model(torch.tensor([row.prompt_ids + row.completion_ids])).logits[0, len(row.prompt_ids) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(row.completion_ids)[:, None])[:, 0]


def _fisher(policy: Policy, rows: list[Row]) -> dict[str, Tensor]:
    """The mean over sequences of the squared gradient of a whole sequence's log-probability."""
    parameters = policy.named_trainable()
    squares = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for row in rows:
        found = torch.autograd.grad(_logprobs(policy, row).sum(), list(parameters.values()), allow_unused=True)
        for square, gradient in zip(squares.values(), found, strict=True):
            square += (torch.zeros(()) if gradient is None else gradient) ** 2 / len(rows)
    return squares


@pytest.mark.parametrize("lora", [False, True])
def test_fisher_information_is_the_mean_square_of_each_sequences_gradient(tiny_model: Path, lora: bool) -> None:
    policy, rows = _policy(tiny_model, lora=lora), _rows(0, 4)
    found = fisher_information(policy, rows, TrainSettings())
    expected = _fisher(policy, rows)
    assert all(parameter.grad is None for parameter in policy.named_trainable().values())
    assert max(float(value.max()) for value in expected.values()) > 1e-2
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=2e-3, atol=1e-5 * float(value.max()) + 1e-12, msg=name)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("engine", ["fused", "readable"])
def test_ewc_is_cross_entropy_and_a_spring(tiny_model: Path, lora: bool, engine: Any) -> None:
    recipe = EWC(strength=300.0)
    policy, old, rows = _policy(tiny_model, lora=lora), _rows(1, 3), _rows(2, 3)
    expected_fisher = _fisher(policy, old)
    anchor = {name: p.detach().clone() for name, p in policy.named_trainable().items()}
    penalty = FisherHold(recipe.penalty(), policy)
    penalty.begin(1, lambda: fisher_information(policy, old, TrainSettings()))
    _shift(policy, 0.01, seed=5)

    parameters = policy.named_trainable()
    spring = torch.stack([(expected_fisher[n] * (p - anchor[n]) ** 2).sum() for n, p in parameters.items()]).sum()
    imitation = -torch.cat([_logprobs(policy, row) for row in rows]).mean()
    expected = imitation + 300.0 / 2 * spring
    wanted = torch.autograd.grad(expected, list(parameters.values()), allow_unused=True)
    assert 150.0 * float(spring.detach()) > 0.1

    trainer = StageTrainer(policy, None, None, recipe.objective(), TrainSettings(engine=engine), penalty)
    numbers = trainer.forward_backward(rows, where="here")
    assert numbers["loss"] == pytest.approx(expected.item(), rel=1e-4)
    assert numbers["penalty"] == pytest.approx(150.0 * float(spring.detach()), rel=1e-3)
    scale = max(float(g.abs().max()) for g in wanted if g is not None)
    for (name, parameter), gradient in zip(parameters.items(), wanted, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient, rtol=2e-3, atol=2e-4 * scale, msg=name)


def test_a_step_without_signal_leaves_the_weights_to_themselves(tiny_model: Path) -> None:
    policy = _policy(tiny_model)
    penalty = FisherHold(EWC().penalty(), policy)
    penalty.begin(1, lambda: fisher_information(policy, _rows(1, 1), TrainSettings()))
    _shift(policy, 0.01)
    before = {name: p.detach().clone() for name, p in policy.named_trainable().items()}
    trainer = StageTrainer(policy, None, None, EWC().objective(), TrainSettings(), penalty)
    numbers = trainer.step([Row(EXAMPLE, [1], [2])], 0.1, where="here")
    assert numbers["penalty"] is None
    assert all(torch.equal(before[name], p) for name, p in policy.named_trainable().items())


def test_over_stages_the_information_decays_and_the_anchor_moves(tiny_model: Path) -> None:
    policy = _policy(tiny_model)
    penalty = FisherHold(FisherPenalty(strength=1.0, decay=0.25), policy)
    name = next(iter(policy.named_trainable()))
    weight = policy.named_trainable()[name]
    ones = torch.ones_like(weight)
    penalty.begin(1, dict)
    assert penalty.add_gradient() == 0.0
    penalty.begin(2, lambda: {name: 8 * ones})
    _shift(policy, 0.1)
    penalty.begin(2, lambda: pytest.fail("a stage begins once"))
    assert not torch.equal(penalty.anchor[name], weight)
    penalty.begin(3, lambda: {name: 3 * ones})
    assert torch.equal(penalty.fisher[name], 5 * ones)
    assert torch.equal(penalty.anchor[name], weight)
    penalty.begin(4, dict)
    assert torch.equal(penalty.fisher[name], 1.25 * ones), "nothing new still lets the old decay"

    again = FisherHold(penalty.spec, policy)
    again.load_state({key: value.clone() for key, value in penalty.state().items()})
    again.load_progress(json.loads(json.dumps(penalty.progress())))
    _shift(policy, 0.1)
    values = [each.add_gradient() for each in (penalty, again)]
    assert values[0] == values[1] > 0
    again.load_state({})
    assert again.add_gradient() == 0.0


# --- Weights that earlier stages moved most ----------------------------------------------------------------------


def _largest(moved: Tensor, share: float) -> Tensor:
    """The mask of a tensor's entries that moved most, by sorting all of them; none that has not moved."""
    mask = torch.zeros(moved.numel(), dtype=torch.bool)
    order = sorted(range(moved.numel()), key=lambda i: -moved.flatten()[i].item())
    mask[order[: int(moved.numel() * share)]] = True
    return mask.view_as(moved) & (moved > 0)


@pytest.mark.parametrize("lora", [False, True])
def test_cpo_holds_what_earlier_stages_moved_most(tiny_model: Path, lora: bool) -> None:
    recipe = CPO(strength=3.0, protected_share=0.25)
    policy, rows = _policy(tiny_model, lora=lora), _rows(2, 3)
    parameters = policy.named_trainable()
    hold = MovementHold(recipe.penalty(), policy)
    starts: list[dict[str, Tensor]] = []
    for stage in (1, 2, 3):
        hold.begin(stage, dict)
        hold.begin(stage, lambda: pytest.fail("a stage begins once"))
        starts.append({name: p.detach().clone() for name, p in parameters.items()})
        if stage == 1:
            assert hold.add_gradient() == 0.0, "nothing is protected yet"
        _shift(policy, 0.01, seed=stage)
    masks = {
        name: _largest((starts[1][name] - starts[0][name]).abs(), 0.25)
        | _largest((starts[2][name] - starts[1][name]).abs(), 0.25)
        for name in parameters
    }
    name = max(parameters, key=lambda n: parameters[n].numel())
    assert 0.3 < float(masks[name].float().mean()) < 0.5, "those of two stages together"
    held = torch.stack([(p - starts[2][n]).abs()[masks[n]].mean() for n, p in parameters.items()]).sum()
    imitation = -torch.cat([_logprobs(policy, row) for row in rows]).mean()
    wanted = torch.autograd.grad(imitation + 3.0 * held, list(parameters.values()), allow_unused=True)

    trainer = StageTrainer(policy, None, None, EWC().objective(), TrainSettings(), hold)
    numbers = trainer.forward_backward(rows, where="here")
    assert numbers["penalty"] == pytest.approx(3.0 * float(held.detach()), rel=1e-4)
    scale = max(float(g.abs().max()) for g in wanted if g is not None)
    for (name, parameter), gradient in zip(parameters.items(), wanted, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient, rtol=2e-3, atol=2e-4 * scale, msg=name)

    again = MovementHold(hold.spec, policy)
    again.load_state({key: value.clone() for key, value in hold.state().items()})
    again.load_progress(json.loads(json.dumps(hold.progress())))
    again.begin(3, lambda: pytest.fail("the stage has begun"))
    assert again.add_gradient() == hold.add_gradient() > 0
    for each in (hold, again):
        each.begin(4, dict)
    assert all(torch.equal(hold.protected[name], again.protected[name]) for name in parameters)


def test_weights_that_did_not_move_are_not_protected(tiny_model: Path) -> None:
    policy = _policy(tiny_model)
    hold = MovementHold(MovementPenalty(strength=1.0, share=1.0), policy)
    hold.begin(1, dict)
    name, weight = max(policy.named_trainable().items(), key=lambda each: each[1].numel())
    with torch.no_grad():
        weight.flatten()[3] += 1.0
    hold.begin(2, dict)
    assert {n: int(mask.sum()) for n, mask in hold.protected.items() if mask.any()} == {name: 1}
    assert hold.protected[name].flatten()[3] == 1


def test_the_penalty_keeps_protected_weights_where_they_are(tiny_model: Path) -> None:
    """A wrong sign would drive them away."""
    moved = {}
    for strength in (0.0, 30.0):
        policy = _policy(tiny_model)
        hold = MovementHold(MovementPenalty(strength=strength, share=0.2), policy)
        hold.begin(1, dict)
        _shift(policy, 0.01)
        hold.begin(2, dict)
        trainer = StageTrainer(policy, None, None, EWC().objective(), TrainSettings(), hold)
        for step in range(8):
            trainer.step(_rows(step, 3), 1e-3, where="here")
        now = {name: (p.detach() - hold.start[name]).abs() for name, p in policy.named_trainable().items()}
        distance = [now[name][mask.bool()].mean() for name, mask in hold.protected.items() if mask.any()]
        free = [now[name][~mask.bool()].mean() for name, mask in hold.protected.items()]
        moved[strength] = float(torch.stack(distance).mean()), float(torch.stack(free).nanmean())
    assert moved[30.0][0] < 0.5 * moved[0.0][0], moved
    assert moved[30.0][1] > 0.5 * moved[0.0][1], moved


def test_a_share_of_protected_weights_is_a_share() -> None:
    with pytest.raises(ValueError, match="share of protected weights is 0"):
        MovementPenalty(strength=1.0, share=0.0)
    with pytest.raises(ValueError, match="gspo"):
        CPO(variant="grpo")


# --- What it is estimated from ------------------------------------------------------------------------------------


def _collector(folder: Path, recipe: Recipe, seed: int = 0) -> Collector:
    policy = load_policy(ModelSettings(path=str(folder)))
    made = Collector(policy, Sampler(policy), recipe, TrainSettings(max_completion_length=4), seed)
    for name in ("a", "b", "c"):
        examples = [Example(f"{name}{i}", (Message(role="user", content=f"{name}{i}"),), f"{i}") for i in range(8)]
        made.prepare(Task(name, examples, examples))
    made.prepare_prompts()
    return made


def _ids(rows: list[Row]) -> set[str]:
    return {row.example.id for row in rows}


def test_samples_are_of_the_task_before_and_at_first_of_the_stages_own(tiny_model: Path) -> None:
    made = _collector(tiny_model, EWC(num_sequences=5))
    for stage, task in ((1, "a"), (2, "a"), (3, "b")):
        rows = made.sequences_before(stage)
        assert len(rows) == 5
        assert {name[0] for name in _ids(rows)} == {task}
        assert all(row.is_sampled and row.verdict is None for row in rows)
    again = _collector(tiny_model, EWC(num_sequences=5)).sequences_before(3)
    assert [row.completion_ids for row in again] == [row.completion_ids for row in rows]
    other = _collector(tiny_model, EWC(num_sequences=5), seed=1).sequences_before(3)
    assert [row.completion_ids for row in other] != [row.completion_ids for row in rows]


def test_demonstrations_are_the_task_befores_and_none_at_first(tiny_model: Path) -> None:
    made = _collector(tiny_model, EWC(sequences="demonstrations", num_sequences=50))
    assert made.sequences_before(1) == []
    assert _ids(made.sequences_before(3)) == {f"b{i}" for i in range(8)}
    assert not any(row.is_sampled for row in made.sequences_before(2))


def test_a_file_of_prompts_stands_in_for_the_tasks(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "generic.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Tell me about {i}.", "id": f"g{i}"}) + "\n" for i in range(3)))
    made = _collector(tiny_model, EWC(prompts=str(file)))
    assert _ids(made.sequences_before(1)) == _ids(made.sequences_before(3)) == {"g0", "g1", "g2"}
    with pytest.raises(DataError, match="no such file"):
        _collector(tiny_model, EWC(prompts=str(tmp_path / "missing.jsonl")))
    with pytest.raises(ValueError, match="prompts are for sequences: samples"):
        EWC(prompts="x.jsonl", sequences="demonstrations")


# --- Runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ewc", "olora", "atesd", "sd_zero", "cpo", "rapo", "opr"])
def test_a_run_goes_on_in_the_middle_of_a_stage(tmp_path: Path, name: str) -> None:
    start("run", write_config(tmp_path, name), "-o", tmp_path / "whole").finish()
    run = tmp_path / "run"
    shutil.copytree(tmp_path / "whole", run)
    older, newest = sorted((run / "checkpoints").iterdir())
    assert json.loads((older / "position.json").read_text())["step"] > 0
    shutil.rmtree(newest)
    (run / "evals" / "stage-2.json").unlink()
    start("resume", run).finish()
    assert_same(tmp_path / "whole", run)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    if name == "sd_zero":
        assert [record["phase"] for record in records] == [1, 1, 1, 2, 2] * 2
        assert [record["teacher_refreshes"] for record in records] == [0, 0, 1, 2, 3] * 2
        return
    if name == "atesd":
        assert [("probe_loss" in record) for record in records] == [True, False, True, False, True] * 2
        assert len({record["exposure"] for record in records}) == 6
        assert [record["completions"] for record in records[:2]] == [4, 2], "the probe's count too"
        return
    if name == "opr":
        assert [record["completions"] for record in records] == [0] * 5 + [4] * 5
        assert any(record["replayed_fraction"] for record in records)
        return
    if name == "rapo":
        assert [record["drift"] for record in records[:5]] == [0.0] * 5, "not in the first stage"
        assert records[5]["drift"] < 1e-6, "nothing has moved yet"
        assert any(record["drift"] > 1e-6 for record in records[6:])
        known = [record["reward_std_average"] for record in records]
        # A batch moves the average by a tenth of the difference, at the start of a stage too.
        assert all(abs(now - before) <= 0.1 * 0.8 for before, now in pairwise(known) if before)
        assert records[-1]["running_std"] == known[-2]
        return
    assert records[0]["penalty"] == 0.0
    assert records[-1]["penalty"] > 0.0


# --- An adapter for each stage ------------------------------------------------------------------------------------


def _wide(folder: Path, stages: int = 3) -> Policy:
    settings = LoraSettings(r=2 * stages, lora_alpha=4 * stages)
    return load_policy(ModelSettings(path=str(folder), lora=settings))


def _delta(policy: Policy, blocks: slice) -> dict[str, Tensor]:
    """The product of a part of the adapter's rank for each weight, without the scale."""
    own = {name: p.detach().clone() for name, p in policy.named_trainable().items()}
    down = {name: value for name, value in own.items() if ".lora_A." in name}
    return {name: own[name.replace("_A.", "_B.")][:, blocks] @ value[blocks] for name, value in down.items()}


@pytest.mark.parametrize("engine", ["fused", "readable"])
def test_o_lora_holds_the_new_adapter_at_right_angles_to_the_old(tiny_model: Path, engine: Any) -> None:
    recipe = OLoRA(orthogonality=0.2, norm=0.3)
    policy, rows = _wide(tiny_model), _rows(2, 3)
    _shift(policy, 0.05)
    penalty = StageAdapters(recipe.penalty(), policy, 3)
    penalty.begin(2, dict)
    parameters = policy.named_trainable()
    downs = [p for name, p in parameters.items() if ".lora_A." in name]
    ups = [p for name, p in parameters.items() if ".lora_B." in name]
    crossing = torch.stack([(a[:2] @ a[2:4].T).abs().sum() for a in downs]).sum()
    size = torch.stack([a[2:4].norm() for a in downs] + [b[:, 2:4].norm() for b in ups]).sum()
    imitation = -torch.cat([_logprobs(policy, row) for row in rows]).mean()
    expected = imitation + 0.2 * crossing + 0.3 * size
    wanted = torch.autograd.grad(expected, list(parameters.values()))

    trainer = StageTrainer(policy, None, None, recipe.objective(), TrainSettings(engine=engine), penalty)
    numbers = trainer.forward_backward(rows, where="here")
    assert numbers["loss"] == pytest.approx(expected.item(), rel=1e-4)
    assert numbers["penalty"] == pytest.approx(float((0.2 * crossing + 0.3 * size).detach()), rel=1e-5)
    for (name, parameter), gradient in zip(parameters.items(), wanted, strict=True):
        found, held = (g if ".lora_A." in name else g.T for g in (parameter.grad, gradient))
        torch.testing.assert_close(found[2:4], held[2:4], rtol=1e-3, atol=1e-5, msg=name)
        assert not found[:2].any(), "earlier adapters are frozen"
        assert not found[4:].any(), "and later ones not there yet"


def test_stage_after_stage_adds_an_adapter_and_leaves_the_others(tiny_model: Path) -> None:
    policy, recipe = _wide(tiny_model), OLoRA()
    penalty = StageAdapters(recipe.penalty(), policy, 3)
    kept: list[dict[str, Tensor]] = []
    crossings = []
    for stage in (1, 2, 3):
        penalty.begin(stage, dict)
        trainer = StageTrainer(policy, None, None, recipe.objective(), TrainSettings(), penalty)
        crossings.append([trainer.step(_rows(stage, 3), 3e-3, where="here")["penalty"] for _ in range(6)])
        for before, each in enumerate(kept):
            now = _delta(policy, slice(2 * before, 2 * before + 2))
            assert all(torch.equal(now[name], value) for name, value in each.items())
        kept.append(_delta(policy, slice(2 * stage - 2, 2 * stage)))
        assert all(value.any() for value in kept[-1].values())
        assert not any(value.any() for value in _delta(policy, slice(2 * stage, None)).values())
    for name, whole in _delta(policy, slice(None)).items():
        torch.testing.assert_close(whole, torch.stack([each[name] for each in kept]).sum(0))
    assert crossings[0] == [0.0] * 6
    assert crossings[1][-1] < 0.8 * crossings[1][0], "they turn away from each other"


def test_an_adapter_is_made_as_wide_as_all_stages_together() -> None:
    data = {"tasks": ["lab:calculation", "lab:facts"], "recipe": "olora", "model": {"lora": {"r": 4, "lora_alpha": 6}}}
    made = adapted_model(parse_config(data, RunConfig)).lora
    assert made is not None
    assert (made.r, made.lora_alpha) == (8, 12)
    assert adapted_model(parse_config({**data, "recipe": "sft"}, RunConfig)).lora.r == 4
    with pytest.raises(ConfigError, match=r"'olora' trains an adapter for each stage, but model\.lora is not set"):
        adapted_model(parse_config({**data, "model": {}}, RunConfig))
    with pytest.raises(ConfigError, match=r"train\.weight_decay would shrink"):
        adapted_model(parse_config({**data, "train": {"weight_decay": 0.1}}, RunConfig))


@pytest.mark.slow
def test_an_exported_adapter_is_the_sum_of_all(tmp_path: Path) -> None:
    start("run", write_config(tmp_path, "olora"), "-o", tmp_path / "run").finish()
    export(tmp_path / "run", tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    kept = load_file(tmp_path / "run" / "models" / "stage-2" / "model.safetensors")
    assert written.keys() == kept.keys()
    assert all(torch.equal(written[name], value) for name, value in kept.items())
