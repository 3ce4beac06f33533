"""ActGuide-RL: if all samples fail, show the fewest expert actions that help, and train on the prompt without them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Self

from pydantic import Field, model_validator

from holdfast.data.rows import Group
from holdfast.data.teacher_prompts import ACTIONS_TEMPLATE, require_places
from holdfast.recipes.grpo import GRPO
from holdfast.recipes.parts.objective import Aggregation, Objective
from holdfast.recipes.parts.rollouts import HintSpec


class ActGuide(GRPO):
    """ActGuide-RL (arXiv 2605.12004): policy optimization with minimal action guidance.

    Rows     y_1..y_8 ~ student(x), temperature 1, judged; if all fail, eight of student(x, g_k) instead
    Context  g_k, the first k actions of an expert who succeeded, in the prompt of these rollouts only; k is the
             smallest with which any of 2 probes succeeds, by bisection
    Signal   A_i = (R_i − mean R) / (std R + 1e-4)
    Loss     −min(ρ A, clip(ρ, 1 ± .2) A) per token, and at most −3 A if A < 0 (the released code's dual clip);
             ρ = p(y_t | x) / the probability that y_t was sampled with: p_old(y_t | x), or with guidance
             p_old(y_t | x, g_k); + beta · k3 estimate of KL to the base; mean over all tokens
    """

    name: ClassVar[str] = "actguide"
    needs: ClassVar[frozenset[str]] = frozenset({"actions", "reward"})
    summary: ClassVar[str] = "GRPO with hints: if all samples fail, show the fewest of an expert's actions that help."
    source: ClassVar[str] = "ActGuide-RL, arXiv 2605.12004"
    cost: ClassVar[str] = (
        "8 generations per prompt; 1 forward, 1 backward per row with signal, 1 base forward; for failed prompts up to "
        "10 probes and 8 generations more"
    )
    when: ClassVar[str] = "A verifier or an environment, an expert's actions, and prompts that no sample solves."

    hard_threshold: float = Field(default=0.0, ge=0, lt=1)
    """A prompt fails if no sample has a higher reward; a probe succeeds if its reward is higher."""
    probes: int = Field(default=2, ge=1)
    """Rollouts per hint length that is tried."""
    most_probe_steps: int = Field(default=5, ge=0)
    """Maximum number of lengths that are tried; 0 shows all actions at once."""
    luffy_gamma: float = Field(default=0.0, ge=0)
    """Above 0, hinted rows have the ratio 1 and advantages times ρ/(ρ + luffy_gamma), detached. Off in the paper."""
    beta: float = Field(default=0.001, ge=0)
    """Coefficient of the KL to the base."""
    dual_clip: float | None = Field(default=3.0, gt=1)
    aggregation: Aggregation = "token_mean"
    template: str = ACTIONS_TEMPLATE
    """The last user message with a hint, with the places {prompt} and {actions}. Reconstruction: our words; like the
    paper's they say that the hint may be partial."""

    @model_validator(mode="after")
    def _template_shows_the_actions(self) -> Self:
        require_places("template", self.template, "prompt", "actions")
        return self

    def hints(self) -> HintSpec:
        return HintSpec(
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
        used, with_hint, shown = [], 0, 0.0
        for group in groups:
            hinted = [row for row in group.rows if row.source_logprobs is not None]
            own = [row for row in group.rows if row.source_logprobs is None]
            for row in own if hinted else ():
                row.excluded = True
            used.append(Group(group.example, hinted or own))
            with_hint += bool(hinted)
            shown += group.shown_actions / len(group.example.actions or "1") if hinted else 0.0
        rewards = [row.reward for group in used for row in group.rows if row.source_logprobs is not None]
        return {
            **super().annotate(used),
            "guided_fraction": with_hint / max(1, len(groups)),
            "shown_fraction": shown / max(1, with_hint),
            "guided_reward": sum(rewards) / max(1, len(rewards)),
        }
