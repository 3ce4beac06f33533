"""What one optimiser step of a recipe costs beside SFT's on the same prompts, counted from its wiring. Torch-free.

Counted in forward passes over a row, a prompt with its completion: a backward pass is worth two forward passes, and so
is what training takes at least per row (one forward, one backward: three). A sampled completion is worth one forward
pass in operations; in seconds it takes longer, because every token reads all weights.
"""

from dataclasses import dataclass

from holdfast.methods.base import Recipe
from holdfast.objective.spec import FisherPenalty, TeacherSpec

BACKWARD = 2
"""Forward passes that a backward pass is worth."""
STATE = 4
"""Weights, gradients and AdamW's two averages: what full fine-tuning holds of each weight, in units of the weights."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Per training prompt and optimiser step, at most: rows without a signal cost nothing.

    Attributes:
        completions: sampled.
        forwards: passes over a row, the student's own and those of teacher and base.
        backwards: passes over a row.
        copies: of all weights, beside the student's, under full fine-tuning; under LoRA there are none.
    """

    completions: float
    forwards: float
    backwards: float
    copies: int

    @property
    def passes(self) -> float:
        """In forward passes, sampling included."""
        return self.completions + self.forwards + BACKWARD * self.backwards

    def relative_to(self, other: "Cost") -> float:
        """How many times what `other` costs, in operations, at equal lengths of prompts and completions."""
        return self.passes / other.passes

    def memory_relative_to(self, other: "Cost") -> float:
        """Weights, gradients, optimiser and copies beside those of `other`, under full fine-tuning."""
        return (STATE + self.copies) / (STATE + other.copies)


def cost_of(recipe: Recipe) -> Cost:
    """The cost of a recipe as it is set."""
    rollouts, teacher, objective = recipe.rollouts(), recipe.teacher(), recipe.objective()
    rows = rollouts.num_generations if rollouts.is_sampled else 1
    replayed = rollouts.replay_ratio
    imitated = rollouts.demonstration_share if rollouts.with_demonstration else 0
    asks_base = objective.asks_base
    # A trust region asks two models.
    scored = (teacher is not None) + (teacher is not None and teacher.kind == "trust_region") + asks_base
    # What sampler, teacher and base say serves all optimiser steps on one rollout batch.
    share = 1 / rollouts.num_iterations
    # A run that goes back for guides takes at most a whole stage again, each time.
    guide = recipe.guide()
    times, asked = (1, 0) if guide is None else (1 + guide.rounds, guide.samples * guide.rounds)
    guidance = recipe.guidance()
    hinted = 0 if guidance is None else rows + guidance.probes * guidance.most_probe_steps
    again = rollouts.replay_ratio * (rollouts.replay_source == "base")
    # The Fisher information, and the weights at the stage's start.
    held = 2 if isinstance(recipe.penalty(), FisherPenalty) else 0
    asks_base |= "base" in (rollouts.source, rollouts.replay_source)
    return Cost(
        completions=times * (rows + hinted) * share + asked if rollouts.is_sampled else again,
        forwards=times * (rows * (1 + scored * share) + imitated + replayed),
        backwards=times * (rows + imitated + replayed),
        copies=_copies(teacher, asks_base=asks_base) + held,
    )


def _copies(teacher: TeacherSpec | None, *, asks_base: bool) -> int:
    """The base is a copy where it is asked or a teacher restarts from it; a teacher that moves or waits is another."""
    restarts = teacher is not None and teacher.kind != "live" and teacher.stage_start == "base"
    is_base = teacher is not None and teacher.kind in ("frozen", "trust_region") and teacher.stage_start == "base"
    own = teacher is not None and teacher.kind != "live" and not is_base
    return int(own) + int(asks_base or restarts)
