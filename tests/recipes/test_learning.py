"""`holdfast.recipes`: every recipe learns a lab task, from the base to a stated gain in a stated number of steps.

Each entry is one line: what is run, and the least that the mean score over three worlds must rise. The tasks have eight
facts or eight verbs, so a dozen steps suffice. The base is right by chance: a quarter of the facts, and a third of the
verbs' tools. Further claims of a recipe have separate tests below.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from few_items import few_items
from holdfast.config.load import parse_config
from holdfast.config.settings import ModelSettings, RunConfig
from holdfast.data.rows import Row
from holdfast.data.task import Task
from holdfast.data.teacher_prompts import DEMONSTRATION_TEMPLATE
from holdfast.lab.tasks import lab_suite, lab_task
from holdfast.model.base import Base
from holdfast.model.load import load_policy
from holdfast.model.policy import Policy
from holdfast.rollouts.collect import Collector
from holdfast.sampling.sampler import Sampler
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.compare import baseline_of
from holdfast.stream.run import Run
from holdfast.tasks.given import GivenSets

BEFORE = 0.45
SEEDS = (0, 1, 2)
ITEMS = 64
FEW = ("facts", "tools")
"""Tasks of which a few items are taken."""


class Learns(NamedTuple):
    """A recipe with its settings, a task, a budget, and the gain that it must reach."""

    recipe: str
    gain: float = 0.25
    steps: int = 12
    prompts: int = 8
    rate: float = 4e-4
    task: str = "facts"
    settings: dict[str, Any] = {}  # noqa: RUF012 - read only
    lora: dict[str, Any] | None = None
    variant: str = ""
    """The name of these settings, if the recipe has several entries."""
    length: int = 56
    shows: str = ""
    """A metric that must have been above 0."""


GATED = {"num_loss_tokens_to_skip": 0, "teacher_kind": "gated", "refresh_every": 2, "refresh_length_margin": 2.0}
TRUSTED = {"num_loss_tokens_to_skip": 0, "teacher_kind": "trust_region", "trust_region_mix": 0.3}
LWF = {"beta": 1.0, "distillation_temperature": 2.0, "old_model": "stage_start"}
VOPD = {"template": DEMONSTRATION_TEMPLATE}
TOP_K = {"num_generations": 4, "baseline": "topk", "top_k": 5}
REVISES = {"num_generations": 4, "srt_part": 2, "revise_right_answers": True}

CASES = (
    Learns("sft"),
    Learns("sdft", settings={"num_loss_tokens_to_skip": 0}),
    Learns("sdft", variant="gated", steps=24, settings=GATED, shows="teacher_refreshes"),
    Learns("sdft", variant="trust region", settings=TRUSTED),
    Learns("sdpo"),
    Learns("grpo", steps=16, rate=2e-4),
    Learns("grpo", variant="held to the base", steps=16, rate=2e-4, settings={"beta": 0.04}),
    Learns("dft"),
    Learns("talr"),
    Learns("eaft"),
    Learns("asft"),
    Learns("tmkl"),
    Learns("opr"),
    Learns("rad"),
    Learns("rapo", steps=16, rate=2e-4),
    Learns("cpo", steps=16, rate=2e-4),
    Learns("kl_sft"),
    Learns("kl_sft", variant="LwF", settings=LWF),
    Learns("replay"),
    Learns("olora", rate=4e-3, lora={"r": 8}),
    Learns("ewc", settings={"num_sequences": 64}),
    Learns("rft", 0.15, steps=18),
    Learns("correct_only", steps=18, settings={"num_loss_tokens_to_skip": 0}),
    Learns("sc_sdpo", steps=18),
    Learns("rlsd", steps=18),
    Learns("sdpg"),
    Learns("sft_then_grpo", settings={"sft_steps": 6}),
    Learns("npo", settings={"scout_steps": 6}),
    # The lab's reward never stalls; with this it goes back nevertheless.
    Learns("auto_npo", settings={"every": 3, "patience": 1, "entropy_share": 1.0, "least_gain": 1.0}),
    Learns("isdft", settings={"num_loss_tokens_to_skip": 0, "ramp_steps": 8}),
    Learns("anchored"),
    Learns("opsd", settings={"clip": "token", "template": DEMONSTRATION_TEMPLATE}),
    Learns("beta_opsd", settings={"template": DEMONSTRATION_TEMPLATE}),
    Learns("stable_opd", settings={"template": DEMONSTRATION_TEMPLATE}),
    Learns("sd_zero", steps=32, prompts=12, task="tools", settings={**REVISES, "srt_steps": 22}),
    Learns(
        "atesd", 0.12, steps=30, prompts=16, task="steps", settings={"clip": "token", "hold": 5, "keep_answer": False}
    ),
    Learns("vopd", settings={"num_generations": 4, "template": DEMONSTRATION_TEMPLATE}),
    Learns("vopd", 0.15, variant="top-k baseline", settings={**VOPD, **TOP_K}),
    Learns("vopd", variant="top-k support", settings={**VOPD, "support": "topk_renormalized"}),
    # Most groups fail at first and use their references.
    Learns(
        "sort",
        steps=24,
        prompts=12,
        rate=1e-4,
        task="steps",
        settings={"num_generations": 4},
        shows="failed_group_fraction",
    ),
)


def task_of(case: Learns, seed: int) -> Task:
    return few_items(case.task, seed) if case.task in FEW else lab_task(case.task, seed)


def configured(case: Learns, seed: int) -> dict[str, Any]:
    return {
        "tasks": [{"name": case.task, "given": True}],
        "suites": [],
        "model": {"path": "lab", "lora": case.lora},
        "recipe": {"name": case.recipe, **case.settings},
        "seed": seed,
        "train": {
            "steps": case.steps,
            "prompts_per_step": case.prompts,
            "learning_rate": case.rate,
            "warmup_steps": 2,
            "max_prompt_length": 200,
            "max_completion_length": case.length,
        },
        # Only the score: other tests measure drift.
        "eval": {"max_items": ITEMS, "kl_items": 0, "samples": 0, "drift_weights": 0, "response_items": 0}
        | {"demonstration_items": 0},
    }


BEGINNINGS: dict[tuple[Any, ...], dict[str, Any]] = {}
"""Evaluations before training, shared by all cases with the same model and the same items."""


def trained(case: Learns, seed: int, folder: Path, suites: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The evaluations of a run before and after its only stage; it writes no report."""
    config = parse_config(configured(case, seed) | {"suites": [f"lab:{name}" for name in suites]}, RunConfig)
    directory, given = RunDirectory(folder), GivenSets.of([task_of(case, seed)], None)
    same = (case.task, seed, case.length, *suites)
    run = Run(config, directory, baseline=BEGINNINGS.get(same), given=given)
    evaluations: list[dict[str, Any]] = run.start()["evaluations"]
    BEGINNINGS.setdefault(same, baseline_of(directory))
    return evaluations


@pytest.mark.learning
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.recipe} {case.variant}".strip())
def test_a_recipe_learns(tmp_path: Path, case: Learns) -> None:
    before, after = [], []
    for seed in SEEDS:
        # The worlds that are left can lose no more than what the base can do. Often two of three decide.
        if sum(after) - sum(before) >= len(SEEDS) * case.gain + (len(SEEDS) - len(after)) * BEFORE:
            break
        evaluations = trained(case, seed, tmp_path / str(seed))
        for found, evaluation in zip((before, after), evaluations, strict=True):
            found.append(evaluation["scores"][case.task]["mean"])
        if case.shows:
            log = (tmp_path / str(seed) / "metrics.jsonl").read_text().splitlines()
            assert any(json.loads(line)[case.shows] > 0 for line in log)
    print(case.recipe, case.variant, before, after)
    assert sum(before) / len(before) < BEFORE
    assert sum(after) / len(after) >= sum(before) / len(before) + case.gain, (before, after)


@pytest.mark.learning
@pytest.mark.parametrize("privilege", ["stranger", "none"])
def test_a_teacher_that_does_not_see_the_demonstration_teaches_little(tmp_path: Path, privilege: str) -> None:
    case = Learns("sdft", 0.0, settings={"num_loss_tokens_to_skip": 0, "privilege": privilege})
    evaluations = [trained(case, seed, tmp_path / str(seed)) for seed in SEEDS]
    before, after = ([each[k]["scores"][case.task]["mean"] for each in evaluations] for k in (0, 1))
    assert sum(after) / len(SEEDS) < sum(before) / len(SEEDS) + 0.15, (before, after)


KEPT = ("old-skills", "instruction-format", "old-facts", "in-context")


@pytest.mark.learning
def test_self_replay_learns_and_retains_what_sft_forgets(tmp_path: Path) -> None:
    """With each demonstration it replays the base's answer to a prompt of another kind, which is not evaluated."""
    prompts = tmp_path / "prompts.jsonl"
    others = [example for name in KEPT for example in lab_suite(name, max(SEEDS) + 1).test]
    prompts.write_text("".join(json.dumps({"id": e.id, "prompt": list(e.messages)}) + "\n" for e in others))
    replay = {"replay_source": "base", "replay_ratio": 1.0, "prompts": str(prompts)}
    learned: dict[str, list[float]] = {}
    lost: dict[str, list[float]] = {}
    for case in (Learns("sft", steps=20), Learns("replay", steps=20, settings=replay)):
        for seed in SEEDS:
            before, after = trained(case, seed, tmp_path / f"{case.recipe}-{seed}", KEPT)
            first, last = before["scores"], after["scores"]
            assert all(first[name]["mean"] > 0.95 for name in KEPT)
            learned.setdefault(case.recipe, []).append(last[case.task]["mean"] - first[case.task]["mean"])
            lost.setdefault(case.recipe, []).append(
                sum(first[name]["mean"] - last[name]["mean"] for name in KEPT) / len(KEPT)
            )
    print(learned, lost)
    assert sum(learned["replay"]) / len(SEEDS) >= 0.3
    assert sum(lost["replay"]) < 0.5 * sum(lost["sft"])
    assert sum(lost["sft"]) / len(SEEDS) >= 0.1
    assert all(own < sfts for own, sfts in zip(lost["replay"], lost["sft"], strict=True))


@pytest.mark.learning
def test_ssds_truncated_distribution_becomes_more_probable(tmp_path: Path) -> None:
    """With the paper's settings, on prompts and samples that were not trained on."""
    case = Learns("ssd", steps=30, prompts=32, rate=1e-4, task="songs")
    found = []
    for seed in SEEDS:
        trained(case, seed, tmp_path / str(seed))
        config = parse_config(configured(case, seed), RunConfig)
        base = load_policy(config.model)
        student = load_policy(ModelSettings(path=str(tmp_path / str(seed) / "models" / "stage-1")))
        collector = Collector(base, Sampler(base), config.recipe, config.train, seed + 100, Base(base))
        task = task_of(case, seed)
        unseen = replace(task, train=task.test[:128])
        collector.prepare(unseen)
        groups = [group for batch in range(4) for group in collector.collect(unseen, 1, batch)[0]]
        rows = [row for group in groups for row in group.rows]
        found.append((less_probable(base, rows), less_probable(student, rows)))
    print(found)
    assert all(before > 0.05 for before, _ in found), "the decoder is another distribution than the base"
    assert all(after < 0.75 * before for before, after in found), found


def less_probable(policy: Policy, rows: Sequence[Row]) -> float:
    """KL from the distribution that these rows were sampled from to a policy at temperature 1; nats per token."""
    gaps = []
    for row in rows:
        assert row.sampled_logprobs is not None
        with torch.no_grad():
            logits = policy.model(torch.tensor([row.prompt_ids + row.completion_ids])).logits[0]
        found = logits.float().log_softmax(-1)[len(row.prompt_ids) - 1 : -1]
        own = found[range(len(row.completion_ids)), row.completion_ids]
        gaps.append(torch.tensor(row.sampled_logprobs) - own)
    return float(torch.cat(gaps).mean())
