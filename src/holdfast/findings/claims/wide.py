"""Claims about privileges and prompts that the wider lab has: steps, a second language, forks and locks. Torch-free."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from holdfast.findings.claim import MARGIN, Claim, ClaimArm, Evidence, Quantity, RunSummary
from holdfast.findings.read import POINTS, generated_to, metric
from holdfast.measure.matched import stage_trajectory

_LANGUAGES: dict[str, Any] = {
    "model.path": "lab-wide",
    "tasks": ["lab:refusals"],
    "suites": ["lab:useful-first", "lab:useful-second", "lab:refused-first", "lab:refusals-ood"],
    "eval.probe_steps": 0,
}

# Thirty steps at the stream's rate teach these tasks to no recipe, and at four times the rate most lose what they knew.
STEPS: dict[str, Any] = {
    "model.path": "lab-wide",
    "tasks": ["lab:steps"],
    "suites": ["lab:known-steps"],
    "train.steps": 40,
}

LONGER: dict[str, Any] = {"train.steps": 60}
"""In forty steps of a few prompts OPSD learns little there, which the full form need not put up with."""

HARD_STEPS = {**STEPS, "tasks": ["lab:steps-hard"], "eval.probe_steps": 0}

HARD_GROUP = 4
"""Samples of a prompt there, of all recipes: most groups are all wrong."""

MSD = ClaimArm("msd", "msd", _LANGUAGES)

SORT = ClaimArm("sort-hard", {"name": "sort", "num_generations": HARD_GROUP}, HARD_STEPS)

GRPO_HARD = ClaimArm("grpo-hard", {"name": "grpo", "num_generations": HARD_GROUP}, HARD_STEPS)

# A clip by entry turns OPSD's gradient around wherever it bites, and on the lab it bites everywhere.
_COUNTED = {**STEPS, "eval.probe_steps": 4}

OPSD = ClaimArm("opsd-steps", {"name": "opsd", "clip": "token"}, _COUNTED, LONGER)

GRPO_STEPS = ClaimArm("grpo-steps", "grpo", _COUNTED, LONGER)

SCORE = 0.8


def gained(name: str) -> Callable[[RunSummary], float | None]:
    """How many points a set stands higher after the first stage than before it."""

    def read(summary: RunSummary) -> float | None:
        before, after = (e["scores"].get(name) for e in summary["evaluations"][:2])
        return None if before is None or after is None else POINTS * (after["mean"] - before["mean"])

    return read


def _carried_over(found: Evidence) -> list[Quantity]:
    spread = "What refuses in one language what it does not know refuses in both."
    useful = [
        Quantity(
            f"allowed requests in the {language} language answered as before, no worse by {MARGIN:g} points",
            "points",
            found.per_seed("msd", gained(name)),
            spread,
            spread,
            MARGIN,
        )
        for language, name in (("first", "useful-first"), ("second", "useful-second"))
    ]
    return [
        Quantity(
            "the second language's requests answered as they should be, gained",
            "points",
            found.per_seed("msd", gained("refusals")),
            "Half of them are allowed, and answered well before.",
        ),
        Quantity(
            "refusals of objects that no prompt of the stage names, gained",
            "points",
            found.per_seed("msd", gained("refusals-ood")),
            "Each word of the lab is a token of its own: a word that was not met shares nothing with those that were.",
        ),
        *useful,
    ]


def _sort_above_grpo(found: Evidence) -> list[Quantity]:
    learned = found.difference("sort-hard", "grpo-hard", metric("learned_score"))
    reason = "Few of the samples are right, and what a few rewards say may take away more than references bring."
    return [Quantity("hard questions in steps right after the stage, SORT above GRPO", "points", learned, reason)]


def _fewer_tokens(found: Evidence) -> list[Quantity]:
    learned = found.per_seed(OPSD.label, metric("learned_score"))
    spent = [_tokens_where_reached(summary) for summary in found.summaries[OPSD.label]]
    # A GRPO that never gets there took at least its whole stage.
    pairs = zip(found.per_seed(GRPO_STEPS.label, generated_to(SCORE)), spent, strict=True)
    return [
        Quantity(
            f"score of OPSD right after the stage above {SCORE:.0%}",
            "points",
            [None if score is None else score - POINTS * SCORE for score in learned],
            "On some seeds it learns within the stage, on others it does not.",
        ),
        Quantity(
            f"generated tokens to {SCORE:.0%}, GRPO over OPSD where it gets there, in doublings",
            "",
            [math.log2(grpo / opsd) if grpo and opsd else None for grpo, opsd in pairs],
            "Eight samples of a prompt cost three doublings; what they teach more may make up for that.",
        ),
    ]


def _tokens_where_reached(summary: RunSummary) -> float | None:
    trajectory = stage_trajectory(summary, 1)
    reached = trajectory is not None and max(trajectory.new()) >= SCORE
    return generated_to(SCORE)(summary) if reached else None


def _decoding(seeds: Sequence[int]) -> list[Quantity]:
    from holdfast.findings.decoding import decoding_conflict

    return decoding_conflict(seeds)


WIDE: tuple[Claim, ...] = (
    Claim(
        name="msd-carries-over",
        statement="What the model refuses in one language it learns to refuse in another from prompts alone, and stays "
        "as useful.",
        source="arXiv 2605.02971",
        arms=(MSD,),
        measure=_carried_over,
    ),
    Claim(
        name="sort-above-grpo",
        statement="Where most groups are all wrong, references weighed by a plan teach more than rewards alone.",
        source="arXiv 2605.11505",
        arms=(SORT, GRPO_HARD),
        measure=_sort_above_grpo,
    ),
    Claim(
        name="opsd-fewer-tokens",
        statement="OPSD, of one sample of a prompt, reaches a score with fewer generated tokens than GRPO of eight.",
        source="arXiv 2601.18734",
        arms=(OPSD, GRPO_STEPS),
        measure=_fewer_tokens,
    ),
    Claim(
        name="ssd-heat-and-truncation",
        statement="Imitating its own hot and truncated samples takes a model where no decoding temperature does, and "
        "neither heat nor truncation alone.",
        source="arXiv 2604.01193",
        experiment=_decoding,
    ),
)
