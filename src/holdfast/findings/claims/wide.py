"""Claims about privileges and prompts that the wider lab has: steps, a second language, forks and locks. Torch-free."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from holdfast.findings.claim import Arm, Claim, Evidence, Quantity, Summary
from holdfast.findings.read import POINTS, generated_to, metric
from holdfast.measure.matched import stage_trajectory

_LANGUAGES: dict[str, Any] = {
    "model.path": "lab-wide",
    "tasks": ["lab:refusals"],
    "suites": ["lab:useful-first", "lab:useful-second", "lab:refused-first", "lab:refusals-ood"],
    "eval.probe_steps": 0,
}
# Thirty steps at the stream's rate teach these tasks to no recipe.
STEPS: dict[str, Any] = {
    "model.path": "lab-wide",
    "tasks": ["lab:steps"],
    "suites": ["lab:known-steps"],
    "train.learning_rate": 4e-4,
}
# At four times the rate GRPO and SORT lose all that they knew: here it is the stream's own rate, and more steps.
_SLOW_STEPS = {**STEPS, "train.learning_rate": 1e-4, "train.steps": 60}
HARD_STEPS = {**_SLOW_STEPS, "train.steps": 42, "tasks": ["lab:steps-hard"], "eval.probe_steps": 0}

MSD = Arm("msd", "msd", _LANGUAGES)
SORT = Arm("sort-hard", "sort", HARD_STEPS)
GRPO_HARD = Arm("grpo-hard", "grpo", HARD_STEPS)
# A clip by entry turns OPSD's gradient around wherever it bites, and on the lab it bites everywhere.
OPSD = Arm("opsd-steps", {"name": "opsd", "clip": "token"}, STEPS)
OPSD_SLOW = Arm("opsd-steps-slow", OPSD.recipe, _SLOW_STEPS)
GRPO_SLOW = Arm("grpo-steps-slow", "grpo", _SLOW_STEPS)

SCORE = 0.8


def gained(name: str) -> Callable[[Summary], float | None]:
    """How many points a set stands higher after the first stage than before it."""

    def read(summary: Summary) -> float | None:
        before, after = (e["scores"].get(name) for e in summary["evaluations"][:2])
        return None if before is None or after is None else POINTS * (after["mean"] - before["mean"])

    return read


def _carried_over(found: Evidence) -> list[Quantity]:
    def kept(summary: Summary) -> float | None:
        gain, lost = gained("refusals-ood")(summary), [gained(f"useful-{n}")(summary) for n in ("first", "second")]
        return None if gain is None or None in lost else gain + sum(each for each in lost if each is not None)

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
        Quantity(
            "that gain, less what allowed requests of both languages lost",
            "points",
            found.per_seed("msd", kept),
            "A model that refuses whatever it does not know loses what is allowed.",
        ),
    ]


def _sort_above_grpo(found: Evidence) -> list[Quantity]:
    learned = found.difference("sort-hard", "grpo-hard", metric("learned_score"))
    reason = "Few of the samples are right, and what a few rewards say may take away more than references bring."
    return [Quantity("hard questions in steps right after the stage, SORT above GRPO", "points", learned, reason)]


def _fewer_tokens(found: Evidence) -> list[Quantity]:
    def reached(summary: Summary) -> float | None:
        """Of a run that never gets there nothing is known that would speak for it."""
        trajectory = stage_trajectory(summary, 1)
        return None if trajectory is None or max(trajectory.new()) < SCORE else generated_to(SCORE)(summary)

    pairs = zip(
        found.per_seed("grpo-steps-slow", generated_to(SCORE)), found.per_seed("opsd-steps-slow", reached), strict=True
    )
    times: Sequence[float | None] = [math.log2(grpo / opsd) if grpo and opsd else None for grpo, opsd in pairs]
    reason = f"OPSD may not reach {SCORE:.0%} within the stage, and then there is nothing to compare."
    name = f"generated tokens to {SCORE:.0%}, GRPO over OPSD, in doublings"
    return [Quantity(name, "", times, reason)]


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
        statement="OPSD reaches the score of GRPO with fewer generated tokens.",
        source="arXiv 2601.18734",
        arms=(OPSD_SLOW, GRPO_SLOW),
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
