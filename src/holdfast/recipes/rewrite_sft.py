"""SFT on demonstrations that the model has rewritten in its own voice."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, model_validator

from holdfast.data.teacher_prompts import DEMONSTRATION_TEMPLATE
from holdfast.recipes.base.conditions import Condition
from holdfast.recipes.base.solution_template import shows_solution
from holdfast.recipes.parts.rewriting import RewriteCheck, Rewriting, Writer
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.recipes.sft import SFT


class RewriteSFT(SFT):
    """Self-distillation fine-tuning (arXiv 2402.13669), which its authors call SDFT too; here that is `sdft`.

    Before a stage, for each example (x, y):
    Rewrite  ỹ ~ writer(template(x, y)): greedy, then sampled, until one is right
    Keep     y' = ỹ if it is right, else y
    Then
    Rows     y' of each prompt; with replay also y' of earlier tasks
    Loss     −log p(y'_t | x, y'_<t), mean over all tokens of the batch
    """

    name: ClassVar[str] = "rewrite_sft"
    needs: ClassVar[frozenset[str]] = frozenset({"demonstration"})
    summary: ClassVar[str] = "Imitate demonstrations after the model has rewritten them in its own voice."
    source: ClassVar[str] = "Self-Distillation Bridges Distribution Gap, arXiv 2402.13669"
    cost: ClassVar[str] = "at most 2 generations per training example, once; 1 forward, 1 backward per prompt"
    when: ClassVar[str] = (
        "Demonstrations in a foreign voice, old skills matter, and the model can follow an example in its prompt. "
        "`holdfast check` measures how foreign they are."
    )
    single_turn: ClassVar[bool] = True

    used_if: ClassVar[Mapping[str, tuple[Condition, ...]]] = {"success_threshold": ({"check": ("verifier",)},)}

    writer: Writer = "base"
    """Who rewrites: the base, or the student as it is at the start of the stage. The paper has one stage, where both
    are the same."""
    check: RewriteCheck = "verifier"
    """What says that the content is right: the task's verifier, as the paper does where an answer can be read from the
    text; or `contains`, for tasks that nothing judges: the `answer`, or else the whole demonstration, stands in the
    text as words, and case does not count. An example whose rewritings are all wrong keeps its demonstration."""
    tries: int = Field(default=2, ge=1)
    """Rewritings per example, at most; those that are right get no further one. Reconstruction: the paper has one."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of the rewritings that are sampled."""
    greedy_first: bool = True
    """The first try is greedy."""
    success_threshold: float = Field(default=1.0, gt=0, le=1)
    """Reward from which a rewriting is right."""
    template: str = DEMONSTRATION_TEMPLATE
    """The last user message that the writer sees, with the places {prompt} and {demonstration}. Reconstruction: our
    words. `holdfast check` tries several."""

    _template_shows_the_demonstration = model_validator(mode="after")(shows_solution)

    def required(self) -> frozenset[str]:
        return self.needs | {"reward"} if self.check == "verifier" else self.needs

    def rollouts(self) -> RolloutSpec:
        rewriting = Rewriting(
            template=self.template,
            writer=self.writer,
            check=self.check,
            tries=self.tries,
            temperature=self.temperature,
            greedy_first=self.greedy_first,
            success_threshold=self.success_threshold,
        )
        return RolloutSpec(source="demonstrations", rewriting=rewriting)
