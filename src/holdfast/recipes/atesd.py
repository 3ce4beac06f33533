"""ATESD: OPSD that learns how much of the solution to show to the teacher."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from holdfast.data.rows import Group
from holdfast.data.teacher_prompts import exposed_steps
from holdfast.recipes.base.conditions import Condition
from holdfast.recipes.opsd import OPSD
from holdfast.recipes.parts.controllers import Controller, LearningProbe
from holdfast.recipes.parts.exposure import BetaExposure


class ATESD(OPSD):
    """Adaptive Teacher Exposure for Self-Distillation (arXiv 2605.11458).

    Rows     y ~ student(x), one per prompt
    Context  the first ⌈α n⌉ of the n steps of the reference solution, and its answer, in the teacher's prompt only
    Loss     OPSD's, with the model before training as the teacher
    α        ~ Beta(a, b), (a, b) = 1 + softplus(W s + u), s features of the training metrics; held for 10 steps;
             REINFORCE on W and u, reward: the decrease of the loss on a probe, always at the same exposure;
             reset in every stage
    """

    name: ClassVar[str] = "atesd"
    needs: ClassVar[frozenset[str]] = frozenset({"solution"})
    summary: ClassVar[str] = "OPSD that learns how much of a solution to show the teacher."
    source: ClassVar[str] = "Adaptive Teacher Exposure for Self-Distillation, arXiv 2605.11458"
    cost: ClassVar[str] = "as opsd, and every 10 steps 16 generations, forwards and teacher forwards for the probe"
    when: ClassVar[str] = "Solutions in steps that show more than the student can follow at once."

    used_if: ClassVar[Mapping[str, tuple[Condition, ...]]] = dict.fromkeys(
        ("hold", "discount", "entropy_weight", "controller_rate", "probe_exposure", "probe_prompts"),
        ({"exposure": (None,)},),
    )

    exposure: float | None = Field(default=None, ge=0, le=1)
    """A fixed α, for comparison; none learns it. 1 shows the whole solution. That is OPSD, except for examples that
    have a demonstration or a privileged context too: OPSD shows these instead of the solution."""
    keep_answer: bool = True
    """Show the last step, which states the answer, at every exposure. Reconstruction: not stated."""
    hold: int = Field(default=10, ge=1)
    """Optimizer steps per exposure: a window. Reconstruction, as are all controller settings below."""
    discount: float = Field(default=0.5, ge=0, le=1)
    """Weight of the next window's progress in a choice's reward. Close to 1, every choice is credited with the effects
    of many others, and a policy with a few dozen windows drifts."""
    entropy_weight: float = Field(default=1e-2, ge=0)
    """Coefficient of the policy's entropy bonus."""
    controller_rate: float = Field(default=0.1, ge=0)
    """Learning rate of the policy; its advantages are in standard deviations. In thirty windows its mean moves a
    quarter of the way or more to the best exposure."""
    probe_exposure: float = Field(default=1.0, ge=0, le=1)
    """Exposure of the probe. It is fixed: at the exposure in use, showing less would by itself lower the probe's
    loss."""
    probe_prompts: int = Field(default=16, ge=1)
    """Training prompts of the probe: always the same, with new samples from the same random draws."""

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
        # Before the controller has set an exposure, prompts are checked for length: with the longest context.
        exposure = 1.0 if self.exposure is None else self.exposure
        for group in groups:
            example, shown = self.shown_example(group), ""
            if example is not None:
                assert example.solution is not None  # guaranteed by `needs`
                shown = exposed_steps(example.solution, exposure, keep_answer=self.keep_answer)
            is_plain = example is not None and not shown
            conversation = group.example.messages if is_plain else self.conversation(group, shown, self.template)
            for row in group.rows:
                row.teacher_messages = conversation
                row.div = 1.0
                self.mask_tokens(row)
        return {}
