"""ActGuide-RL: where all samples fail, the least of somebody's actions is shown, and learned from as if it were not."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Self

from pydantic import Field, model_validator

from holdfast.data.rows import Group
from holdfast.data.teacher_prompts import ACTIONS_TEMPLATE, require_places
from holdfast.recipes.grpo import GRPO
from holdfast.recipes.parts.objective import Aggregation, Objective
from holdfast.recipes.parts.rollouts import GuidanceSpec


class ActGuide(GRPO):
    """ActGuide-RL (arXiv 2605.12004): policy optimization with minimal action guidance.

    Rows     y_1..y_8 ~ student(x), temperature 1, judged; where all fail, eight of student(x, g_k) in their place
    Context  g_k, the first k of the actions of somebody who succeeded, in the prompt of these rollouts only; k is the
             least with which any of 2 probes succeeds, by bisection
    Signal   A_i = (R_i − mean R) / (std R + 1e-4)
    Loss     −min(ρ A, clip(ρ, 1 ± .2) A) per token, ρ = p(y_t | x) / what y_t was sampled with: p_old(y_t | x), or with
             guidance p_old(y_t | x, g_k); + beta · k3 estimate of KL to the base; mean over all tokens
    """

    name: ClassVar[str] = "actguide"
    needs: ClassVar[frozenset[str]] = frozenset({"actions", "reward"})
    summary: ClassVar[str] = "GRPO that is shown as few of an expert's actions as it needs, where all samples fail."
    source: ClassVar[str] = "ActGuide-RL, arXiv 2605.12004"
    cost: ClassVar[str] = (
        "8 generations per prompt; 1 forward, 1 backward per row with signal, 1 base forward; of failed prompts up to "
        "10 probes and 8 generations more"
    )
    when: ClassVar[str] = "A verifier or an environment, traces of actions alone, and prompts that no sample solves."

    hard_threshold: float = Field(default=0.0, ge=0, lt=1)
    """A prompt fails where no sample has a higher reward; a probe succeeds where its reward is higher."""
    probes: int = Field(default=2, ge=1)
    """Rollouts that try out one length of the hint."""
    most_probe_steps: int = Field(default=5, ge=0)
    """Lengths that are tried out at most; 0 shows all actions at once."""
    luffy_gamma: float = Field(default=0.0, ge=0)
    """Above 0, guided rows have the ratio 1, and advantages times ρ/(ρ + luffy_gamma), detached; off in the paper."""
    beta: float = Field(default=0.001, ge=0)
    """Coefficient of KL to the base."""
    aggregation: Aggregation = "token_mean"
    template: str = ACTIONS_TEMPLATE
    """Of the prompt with guidance. Reconstruction: our words; the paper's too say that the hint may be partial."""

    @model_validator(mode="after")
    def _template_shows_the_actions(self) -> Self:
        require_places("template", self.template, "prompt", "actions")
        return self

    def guidance(self) -> GuidanceSpec:
        return GuidanceSpec(
            template=self.template,
            hard_threshold=self.hard_threshold,
            probes=self.probes,
            most_probe_steps=self.most_probe_steps,
        )

    def objective(self) -> Objective:
        plain = super().objective()
        assert plain.policy_gradient is not None
        gradient = replace(plain.policy_gradient, off_policy="ratio")
        if self.luffy_gamma:
            gradient = replace(gradient, off_policy="shaped", off_policy_gamma=self.luffy_gamma)
        return replace(plain, policy_gradient=gradient)

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        used, guided, shown = [], 0, 0.0
        for group in groups:
            helped = [row for row in group.rows if row.source_logprobs is not None]
            own = [row for row in group.rows if row.source_logprobs is None]
            for row in own if helped else ():
                row.excluded = True
            used.append(Group(group.example, helped or own))
            guided += bool(helped)
            shown += group.shown_actions / len(group.example.actions or "1") if helped else 0.0
        rewards = [row.reward for group in used for row in group.rows if row.source_logprobs is not None]
        return {
            **super().annotate(used),
            "guided_fraction": guided / max(1, len(groups)),
            "shown_fraction": shown / max(1, guided),
            "guided_reward": sum(rewards) / max(1, len(rewards)),
        }
