"""`holdfast.recipes`: every recipe learns a lab task, from the base to a stated score in a stated number of steps.

Each entry is one line: what is run, and the least mean score over three seeds that it must reach. Before training the
base scores below `BEFORE`. Further claims of a recipe have separate tests below.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from holdfast.findings.runs import beginning_of

from holdfast.config.load import parse_config
from holdfast.config.settings import ModelSettings, RunConfig
from holdfast.data.rows import Row
from holdfast.data.teacher_prompts import DEMONSTRATION_TEMPLATE
from holdfast.lab.tasks import lab_suite
from holdfast.model.base import Base
from holdfast.model.load import load_policy
from holdfast.model.policy import Policy
from holdfast.rollouts.collect import Collector
from holdfast.sampling.sampler import Sampler
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.compare import baseline_of
from holdfast.stream.run import Run
from holdfast.tasks.load import load_stream

BEFORE = 0.4
SEEDS = (0, 1, 2)
ITEMS = 48


class Learns(NamedTuple):
    """A recipe with its settings, a task, a budget, and the score that it must reach."""

    recipe: str
    score: float
    steps: int = 12
    prompts: int = 8
    rate: float = 4e-4
    task: str = "calculation"
    settings: dict[str, Any] = {}  # noqa: RUF012 - read only
    lora: dict[str, Any] | None = None
    base: str = "lab"
    variant: str = ""
    """The name of these settings, if the recipe has several entries."""
    length: int = 32
    shows: str = ""
    """A metric that must have been above 0."""


GATED = {"num_loss_tokens_to_skip": 0, "teacher_kind": "gated", "refresh_every": 4}
TRUSTED = {"num_loss_tokens_to_skip": 0, "teacher_kind": "trust_region", "trust_region_mix": 0.3}
LWF = {"beta": 1.0, "distillation_temperature": 2.0, "old_model": "stage_start"}
VOPD = {"template": DEMONSTRATION_TEMPLATE}
TOP_K = {"num_generations": 4, "baseline": "topk", "top_k": 5}
REVISES = {"num_generations": 4, "srt_part": 2, "revise_right_answers": True}

CASES = (
    Learns("sft", 0.8),
    Learns("sdft", 0.7, settings={"num_loss_tokens_to_skip": 0}),
    Learns("sdft", 0.7, variant="gated", settings=GATED, shows="teacher_refreshes"),
    Learns("sdft", 0.7, variant="trust region", settings=TRUSTED),
    Learns("sdpo", 0.6),
    Learns("grpo", 0.8, steps=20, prompts=12, rate=2e-4),
    Learns("grpo", 0.8, variant="held to the base", steps=20, prompts=12, rate=2e-4, settings={"beta": 0.04}),
    Learns("dft", 0.6),
    Learns("talr", 0.6),
    Learns("eaft", 0.6),
    Learns("asft", 0.6),
    Learns("tmkl", 0.6),
    Learns("opr", 0.6),
    Learns("rad", 0.6),
    Learns("rapo", 0.8, steps=20, prompts=12, rate=2e-4),
    Learns("cpo", 0.6, steps=20, prompts=12, rate=2e-4),
    Learns("kl_sft", 0.6),
    Learns("kl_sft", 0.6, variant="LwF", settings=LWF),
    Learns("replay", 0.6),
    Learns("olora", 0.6, rate=4e-3, lora={"r": 8}),
    Learns("ewc", 0.6, settings={"num_sequences": 64}),
    Learns("rft", 0.6),
    # As many right answers of the base as it has, the same in every epoch: fewer than half as much is learned.
    Learns("rft", 0.2, variant="samples drawn once", settings={"samples": "once"}),
    Learns("correct_only", 0.6, settings={"num_loss_tokens_to_skip": 0}),
    Learns("sc_sdpo", 0.6),
    Learns("rlsd", 0.6),
    Learns("sdpg", 0.6),
    Learns("sft_then_grpo", 0.6, settings={"sft_steps": 6}),
    Learns("npo", 0.6, settings={"scout_steps": 6}),
    # The lab's reward rises to the end of so short a stage; with this it goes back nevertheless.
    Learns("auto_npo", 0.6, settings={"every": 3, "patience": 1, "entropy_share": 1.0, "least_gain": 1.0}),
    Learns("isdft", 0.6, settings={"num_loss_tokens_to_skip": 0, "ramp_steps": 8}),
    Learns("anchored", 0.6),
    # The lab's base knows SDFT's template. With the default clip by entry it learns no new answer, because the clip
    # turns the gradient around when it is active: 0.0, 0.0 and 0.04 with it, 0.0 with the default template, and 0.08,
    # from 0.15, on the wider lab's steps.
    Learns("opsd", 0.6, settings={"clip": "token", "template": DEMONSTRATION_TEMPLATE}),
    Learns("beta_opsd", 0.6, settings={"template": DEMONSTRATION_TEMPLATE}),
    Learns("stable_opd", 0.6, settings={"template": DEMONSTRATION_TEMPLATE}),
    # The base corrects no wrong answer of the lab, so only revisions of right answers are there to learn from.
    Learns("sd_zero", 0.2, steps=32, prompts=12, task="tools", settings={**REVISES, "srt_steps": 22}),
    Learns(
        "atesd",
        0.6,
        steps=30,
        prompts=16,
        task="steps",
        base="lab-wide",
        settings={"clip": "token", "hold": 5, "keep_answer": False},
    ),
    Learns("vopd", 0.4, settings={"num_generations": 4, "template": DEMONSTRATION_TEMPLATE}),
    Learns("vopd", 0.55, variant="top-k baseline", settings={**VOPD, **TOP_K}),
    Learns("vopd", 0.6, variant="top-k support", settings={**VOPD, "support": "topk_renormalized"}),
    # Most groups fail at first and use their references. Without references GRPO ends at 0.02, 0.19 and 0.13.
    Learns(
        "sort",
        0.75,
        steps=24,
        prompts=12,
        rate=1e-4,
        task="steps",
        base="lab-wide",
        length=40,
        settings={"num_generations": 4},
        shows="failed_group_fraction",
    ),
)


def configured(case: Learns, seed: int) -> dict[str, Any]:
    return {
        "tasks": [f"lab:{case.task}"],
        "suites": [],
        "model": {"path": case.base, "lora": case.lora},
        "recipe": {"name": case.recipe, **case.settings},
        "seed": seed,
        "train": {
            "steps": case.steps,
            "prompts_per_step": case.prompts,
            "learning_rate": case.rate,
            "warmup_steps": 2,
            "max_prompt_length": 160,
            "max_completion_length": case.length,
        },
        # Only the score: other tests measure drift.
        "eval": {"max_items": ITEMS, "kl_items": 0, "samples": 0, "drift_weights": 0, "response_items": 0},
    }


BEGINNINGS: dict[str, dict[str, Any]] = {}
"""Evaluations before training, shared by all cases with the same model and the same evaluation settings."""


def trained(config: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The evaluations of a run before and after its only stage; it writes no report."""
    parsed, directory = parse_config(config, RunConfig), RunDirectory(folder)
    asked = beginning_of(parsed)
    evaluations: list[dict[str, Any]] = Run(parsed, directory, baseline=BEGINNINGS.get(asked)).start()["evaluations"]
    BEGINNINGS.setdefault(asked, baseline_of(directory))
    return evaluations


@pytest.mark.learning
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.recipe} {case.variant}".strip())
def test_a_recipe_learns(tmp_path: Path, case: Learns) -> None:
    reached = []
    for seed in SEEDS:
        evaluations = trained(configured(case, seed), tmp_path / str(seed))
        before, after = (evaluations[stage]["scores"][case.task]["mean"] for stage in (0, 1))
        assert before < BEFORE
        reached.append(after)
        if case.shows:
            log = (tmp_path / str(seed) / "metrics.jsonl").read_text().splitlines()
            assert any(json.loads(line)[case.shows] > 0 for line in log)
    print(case.recipe, case.variant, reached)
    assert sum(reached) / len(reached) >= case.score, reached


@pytest.mark.learning
@pytest.mark.parametrize("privilege", ["stranger", "none"])
def test_a_teacher_that_does_not_see_the_demonstration_teaches_nothing(tmp_path: Path, privilege: str) -> None:
    """With its own demonstration, the first case of SDFT above reaches .7 and more."""
    case = Learns("sdft", 0.0, settings={"num_loss_tokens_to_skip": 0, "privilege": privilege})
    reached = [trained(configured(case, seed), tmp_path / str(seed))[1]["scores"][case.task]["mean"] for seed in SEEDS]
    print(privilege, reached)
    assert sum(reached) / len(reached) <= 0.2, reached


@pytest.mark.learning
def test_auto_npo_goes_back_by_itself_when_its_reward_stays(tmp_path: Path) -> None:
    """With its default settings. The reward of facts rises for about thirty steps, and the entropy halves."""
    case = Learns("auto_npo", 0.0, steps=60, prompts=8, rate=1e-4, task="facts")
    config = configured(case, 1)
    config["train"] = {**config["train"], "lr_scheduler_type": "constant", "warmup_steps": 0}
    trained(config, tmp_path)
    decisions = [json.loads(line) for line in (tmp_path / "decisions.jsonl").read_text().splitlines()]
    back = [each for each in decisions if each["outcome"].startswith("back to step")]
    assert len(back) == 1
    assert 25 < back[0]["step"] < 60
    assert back[0]["saw"]["quality"] > 0.3
    log = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert any(line["guided_fraction"] > 0 for line in log)
    watched = [line["sample_entropy"] for line in log]
    assert min(watched) < 0.8 * watched[0]


KEPT = ("old-skills", "instruction-format", "old-facts")


@pytest.mark.learning
def test_self_replay_learns_and_retains_what_sft_forgets(tmp_path: Path) -> None:
    """With each demonstration it replays the base's answer to a prompt of another kind, which is not evaluated."""
    prompts = tmp_path / "prompts.jsonl"
    others = [example for name in KEPT for example in lab_suite(name).test[ITEMS:]]
    prompts.write_text("".join(json.dumps({"id": e.id, "prompt": list(e.messages)}) + "\n" for e in others))
    replay = {"replay_source": "base", "replay_ratio": 1.0, "prompts": str(prompts)}
    learned: dict[str, list[float]] = {}
    kept: dict[str, list[float]] = {}
    for case in (Learns("sft", 0.0, steps=20), Learns("replay", 0.0, steps=20, settings=replay)):
        for seed in SEEDS:
            config = configured(case, seed) | {"suites": [f"lab:{name}" for name in KEPT]}
            before, after = trained(config, tmp_path / f"{case.recipe}-{seed}")
            assert before["scores"][case.task]["mean"] < BEFORE
            assert all(before["scores"][name]["mean"] > 0.95 for name in KEPT)
            learned.setdefault(case.recipe, []).append(after["scores"][case.task]["mean"])
            kept.setdefault(case.recipe, []).append(sum(after["scores"][name]["mean"] for name in KEPT) / len(KEPT))
    print(learned, kept)
    assert sum(learned["replay"]) / len(SEEDS) >= 0.7
    assert sum(kept["replay"]) / len(SEEDS) >= 0.8
    assert all(own > sfts + 0.2 for own, sfts in zip(kept["replay"], kept["sft"], strict=True))


@pytest.mark.learning
def test_ssds_truncated_distribution_becomes_more_probable(tmp_path: Path) -> None:
    """With the paper's settings, on prompts and samples that were not trained on."""
    case = Learns("ssd", 0.0, steps=30, prompts=32, rate=1e-4, task="songs", base="lab-wide")
    found = []
    for seed in SEEDS:
        trained(configured(case, seed), tmp_path / str(seed))
        config = parse_config(configured(case, seed), RunConfig)
        base = load_policy(config.model)
        student = load_policy(ModelSettings(path=str(tmp_path / str(seed) / "models" / "stage-1")))
        collector = Collector(base, Sampler(base), config.recipe, config.train, seed + 100, Base(base))
        task = load_stream(config)[0][0]
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
