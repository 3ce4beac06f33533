"""ATESD: OPSD in which how much of the solution the teacher sees is learned on the way."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from holdfast.data.rows import Group
from holdfast.data.teacher_prompts import demonstration_prompt, exposed_steps
from holdfast.recipes.base.recipe import Condition
from holdfast.recipes.opsd import OPSD
from holdfast.recipes.parts.controllers import Controller, LearningProbe
from holdfast.recipes.parts.exposure import BetaExposure


class ATESD(OPSD):
    """Adaptive Teacher Exposure for Self-Distillation (arXiv 2605.11458).

    Rows     y ~ student(x), one per prompt
    Context  the first ⌈α n⌉ of the n steps of the reference solution, and its answer, in the teacher's prompt only
    Loss     OPSD's, with the model before training as the teacher
    α        ~ Beta(a, b), (a, b) = 1 + softplus(W s + u), s what training says of itself; held for 10 steps;
             W and u learn by REINFORCE from how far the loss on a probe falls, at one and the same exposure, anew in
         every stage
    """

    name: ClassVar[str] = "atesd"
    needs: ClassVar[frozenset[str]] = frozenset({"solution"})
    summary: ClassVar[str] = "OPSD that learns how much of a solution to show the teacher."
    source: ClassVar[str] = "Adaptive Teacher Exposure for Self-Distillation, arXiv 2605.11458"
    cost: ClassVar[str] = "as opsd, and every 10 steps 16 generations, forwards and teacher forwards for the probe"
    when: ClassVar[str] = "Solutions in steps that say more than the student can follow at once."

    read_where: ClassVar[Mapping[str, tuple[Condition, ...]]] = dict.fromkeys(
        ("hold", "discount", "entropy_weight", "controller_rate", "probe_exposure", "probe_prompts"),
        ({"exposure": (None,)},),
    )

    exposure: float | None = Field(default=None, ge=0, le=1)
    """A fixed α, for comparison; by default it is learned. 1 shows the whole solution: that is OPSD, but for examples
    with a demonstration or a privileged context beside their solution, which OPSD shows in its place."""
    keep_answer: bool = True
    """Whether the last step, which states the answer, is shown at every exposure. Reconstruction: not stated."""
    hold: int = Field(default=10, ge=1)
    """Optimizer steps for which an exposure is held. Reconstruction, as all below."""
    discount: float = Field(default=0.5, ge=0, le=1)
    """What progress in the next window counts for in a choice's reward. Nearer to 1 every choice is credited with what
    many others did, and a policy of a few dozen windows wanders off."""
    entropy_weight: float = Field(default=1e-2, ge=0)
    controller_rate: float = Field(default=0.1, ge=0)
    """Of the policy, on advantages in standard deviations: thirty windows take its mean a quarter of the way and more
    to the exposure that gains most."""
    probe_exposure: float = Field(default=1.0, ge=0, le=1)
    """Fixed: at the exposure in use, showing less would lower the probe's loss by itself."""
    probe_prompts: int = Field(default=16, ge=1)
    """Training prompts whose loss is the probe; each time the same, with fresh samples from the same draws."""

    def controllers(self) -> dict[str, Controller]:
        if self.exposure is not None:
            return {}
        policy = BetaExposure(
            hold=self.hold,
            discount=self.discount,
            entropy_weight=self.entropy_weight,
            rate=self.controller_rate,
        )
        return {"exposure": policy}

    def probe(self) -> LearningProbe | None:
        if self.exposure is not None:
            return None
        return LearningProbe(every=self.hold, prompts=self.probe_prompts, settings={"exposure": self.probe_exposure})

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        exposure = 1.0 if self.exposure is None else self.exposure  # the longest, where nothing is set yet
        for group in groups:
            messages, solution = group.example.messages, group.example.solution
            assert solution is not None  # guaranteed by `needs`
            shown = exposed_steps(solution, exposure, keep_answer=self.keep_answer)
            for row in group.rows:
                row.teacher_messages = demonstration_prompt(messages, shown, self.template) if shown else messages
                row.div = 1.0
                self.mask_tokens(row)
        return {}
