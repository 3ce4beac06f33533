"""Claims that need the wider lab: questions in steps, a second language, forks and locks. Torch-free."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from holdfast.findings.claim import MARGIN, Claim, ClaimArm, Evidence, Quantity, SummaryJson
from holdfast.findings.read import POINTS, generated_to, metric
from holdfast.measure.matched import stage_trajectory

_LANGUAGES: dict[str, Any] = {
    "model.path": "lab-wide",
    "tasks": ["lab:refusals"],
    "suites": ["lab:useful-first", "lab:useful-second", "lab:refused-first", "lab:refusals-ood"],
    "eval.probe_steps": 0,
}

# 30 steps at the stream's learning rate teach these tasks to no recipe. At four times the rate, most recipes forget.
STEPS: dict[str, Any] = {
    "model.path": "lab-wide",
    "tasks": ["lab:steps"],
    "suites": ["lab:known-steps"],
    "train.steps": 40,
}

LONGER: dict[str, Any] = {"train.steps": 60}
"""OPSD learns little in 40 steps with few prompts, so the full form takes more."""

HARD_STEPS = {**STEPS, "tasks": ["lab:steps-hard"], "eval.probe_steps": 0}

HARD_GROUP = 4
"""Samples per prompt on these tasks, for all recipes. In most groups all samples are wrong."""

MSD = ClaimArm("msd", "msd", _LANGUAGES)

SORT = ClaimArm("sort-hard", {"name": "sort", "num_generations": HARD_GROUP}, HARD_STEPS)

GRPO_HARD = ClaimArm("grpo-hard", {"name": "grpo", "num_generations": HARD_GROUP}, HARD_STEPS)

# Clipping per entry reverses OPSD's gradient at clipped entries, and on the lab it clips everywhere.
_COUNTED = {**STEPS, "eval.probe_steps": 4}

OPSD = ClaimArm("opsd-steps", {"name": "opsd", "clip": "token"}, _COUNTED, LONGER)

GRPO_STEPS = ClaimArm("grpo-steps", "grpo", _COUNTED, LONGER)

SCORE = 0.8


def gained(name: str) -> Callable[[SummaryJson], float | None]:
    """A function that reads a set's change over the first stage, in points."""

    def read(summary: SummaryJson) -> float | None:
        before, after = (e["scores"].get(name) for e in summary["evaluations"][:2])
        return None if before is None or after is None else POINTS * (after["mean"] - before["mean"])

    return read


def _carried_over(evidence: Evidence) -> list[Quantity]:
    spread = "A model that learns to refuse unknown objects refuses them in both languages."
    useful = [
        Quantity(
            f"change on allowed requests in the {language} language, not below −{MARGIN:g}",
            "points",
            evidence.per_seed("msd", gained(name)),
            spread,
            spread,
            MARGIN,
        )
        for language, name in (("first", "useful-first"), ("second", "useful-second"))
    ]
    return [
        Quantity(
            "change of the score on requests in the second language",
            "points",
            evidence.per_seed("msd", gained("refusals")),
            "Half of them are allowed, and the base answers those well.",
        ),
        Quantity(
            "change of refusals of objects that no prompt of the stage names",
            "points",
            evidence.per_seed("msd", gained("refusals-ood")),
            "Each word of the lab is one token, so an unseen word shares nothing with the seen words.",
        ),
        *useful,
    ]


def _sort_above_grpo(evidence: Evidence) -> list[Quantity]:
    learned = evidence.difference("sort-hard", "grpo-hard", metric("learned_score"))
    reason = "Few samples are correct. A few rewards may remove more than the references add."
    return [Quantity("score on hard step questions after the stage, SORT − GRPO", "points", learned, reason)]


def _fewer_tokens(evidence: Evidence) -> list[Quantity]:
    learned = evidence.per_seed(OPSD.label, metric("learned_score"))
    spent = [_tokens_where_reached(summary) for summary in evidence.summaries[OPSD.label]]
    # A GRPO run that never reaches the score counts with the tokens of its whole stage, a lower bound.
    pairs = zip(evidence.per_seed(GRPO_STEPS.label, generated_to(SCORE)), spent, strict=True)
    return [
        Quantity(
            f"OPSD's score after the stage − {SCORE:.0%}",
            "points",
            [None if score is None else score - POINTS * SCORE for score in learned],
            "It learns within the stage on some seeds only.",
        ),
        Quantity(
            f"log2 of generated tokens to {SCORE:.0%}, GRPO / OPSD, if OPSD reaches it",
            "",
            [math.log2(grpo / opsd) if grpo and opsd else None for grpo, opsd in pairs],
            "Eight samples per prompt cost a factor of 8 (log2 = 3), but may also teach more.",
        ),
    ]


def _tokens_where_reached(summary: SummaryJson) -> float | None:
    trajectory = stage_trajectory(summary, 1)
    reached = trajectory is not None and max(trajectory.new()) >= SCORE
    return generated_to(SCORE)(summary) if reached else None


def _decoding(seeds: Sequence[int]) -> list[Quantity]:
    from holdfast.findings.decoding import decoding_conflict

    return decoding_conflict(seeds)


WIDE: tuple[Claim, ...] = (
    Claim(
        name="msd-carries-over",
        statement="From prompts alone, the model learns to refuse in a second language what it refuses in the first, "
        "and stays as useful.",
        source="arXiv 2605.02971",
        arms=(MSD,),
        measure=_carried_over,
    ),
    Claim(
        name="sort-above-grpo",
        statement="If all samples of most groups are wrong, references weighted with a plan teach more than rewards "
        "alone.",
        source="arXiv 2605.11505",
        arms=(SORT, GRPO_HARD),
        measure=_sort_above_grpo,
    ),
    Claim(
        name="opsd-fewer-tokens",
        statement="OPSD with one sample per prompt reaches a score with fewer generated tokens than GRPO with eight.",
        source="arXiv 2601.18734",
        arms=(OPSD, GRPO_STEPS),
        measure=_fewer_tokens,
    ),
    Claim(
        name="ssd-heat-and-truncation",
        statement="Imitating its own samples, drawn at high temperature and truncated, improves a model more than any "
        "decoding temperature does. High temperature or truncation alone does not.",
        source="arXiv 2604.01193",
        experiment=_decoding,
    ),
)
