"""SDFT: the model with the demonstration in its prompt teaches the model without it, on the latter's samples."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from holdfast.data.rows import Group
from holdfast.data.teacher_prompts import DEMONSTRATION_TEMPLATE, privileged_text, strip_thinking
from holdfast.recipes.base.conditions import Condition
from holdfast.recipes.base.distillation import DivergenceSettings, TeacherSettings
from holdfast.recipes.base.privilege import PrivilegeSettings
from holdfast.recipes.base.solution_template import shows_solution
from holdfast.recipes.parts.objective import Aggregation, Objective
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.recipes.parts.teacher import StageStart


class SDFT(DivergenceSettings, TeacherSettings, PrivilegeSettings):
    """Self-Distillation Fine-Tuning (arXiv 2601.19897), as run: forward KL, where the paper's Eq. 1 writes reverse.

    Rows     y ~ student(x), one per prompt, temperature 1
    Context  the demonstration, in the teacher's prompt only
    Teacher  a slow EMA of the student, kept in fp32
    Loss     w · mean_{t ≥ skip} KL(teacher_t ‖ student_t) over the full vocabulary, mean over rows;
             w = mean_t min(p_train/p_sampler, cap), one number per row, as in the released code
    """

    name: ClassVar[str] = "sdft"
    needs: ClassVar[frozenset[str]] = frozenset({"privileged_context"})
    summary: ClassVar[str] = (
        "Learn from demonstrations on-policy: the model with the demonstration teaches the model without it."
    )
    source: ClassVar[str] = "Self-Distillation Enables Continual Learning, arXiv 2601.19897"
    cost: ClassVar[str] = "1 generation, 1 teacher forward, 1 forward, 1 backward per prompt"
    when: ClassVar[str] = "Demonstrations, old skills matter, and the model can follow an example in its prompt."

    context_from_example: ClassVar[bool] = True

    used_if: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "remove_thinking_from_demonstration": ({"privilege": ("own", "stranger")},)
    }

    num_generations: int = Field(default=1, ge=1)
    """Samples per prompt."""
    top_k_by: Literal["divergence", "student", "teacher"] = "student"
    """Whose most likely entries a top-k `support` has. The student's for every divergence, as in SDPO's code; the paper
    runs the full vocabulary. `divergence`: the teacher's for the forward KL, the student's otherwise."""
    num_loss_tokens_to_skip: int = Field(default=3, ge=0)
    """Tokens at the start of a completion that are left out of the loss: they repeat the teacher's lead-in phrases."""
    remove_thinking_from_demonstration: bool = False
    """Show the teacher the demonstration without its reasoning. This is an arm of arXiv 2607.01763, which finds that
    long reasoning in the teacher's context is noise. A demonstration of reasoning alone then gives no loss."""
    stage_start: StageStart = "base"
    """The teacher at the start of a stage. The paper does not say. A teacher must be able to follow a demonstration;
    earlier stages weaken this in the student, and the base has it in full. The released code runs one skill at a time,
    which amounts to `student`."""
    importance_cap: float = Field(default=2.0, ge=1)
    """Cap on a token's ratio p_train/p_sampler. The divergence is multiplied by the mean ratio of the row."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of the samples and of both distributions in the loss."""
    aggregation: Aggregation = "sequence_mean"
    """How the loss is averaged over tokens and rows."""
    template: str = DEMONSTRATION_TEMPLATE
    """The teacher's last user message, with the places {prompt} and {demonstration}."""

    _template_shows_the_demonstration = model_validator(mode="after")(shows_solution)

    def rollouts(self) -> RolloutSpec:
        return RolloutSpec(source="student", num_generations=self.num_generations, temperature=self.temperature)

    def objective(self) -> Objective:
        plain = self.divergence_from_teacher()
        return replace(plain, aggregation=self.aggregation, temperature=self.temperature)

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        for group in groups:
            example = self.shown_example(group)
            shown = "" if example is None else privileged_text(example)
            if self.remove_thinking_from_demonstration and not (shown := strip_thinking(shown)).strip():
                continue
            for row in group.rows:
                row.teacher_messages = self.conversation(group, shown, self.template)
                row.skip_tokens = self.num_loss_tokens_to_skip
                row.div = 1.0
                self.mask_tokens(row)
        return {}
