"""Which parts of a recipe fit together. Checked when a configuration is read, before anything is loaded."""

from holdfast.recipes.parts.objective import Objective
from holdfast.recipes.parts.rollouts import RolloutSpec


def check_wiring(
    rollouts: RolloutSpec, objective: Objective, *, adds_rows: bool = False, context_from_example: bool = False
) -> None:
    """Refuse rollouts and an objective that do not fit together.

    Args:
        adds_rows: the recipe has hints or answers of its near future.
        context_from_example: the teacher's prompts follow from the examples alone.

    Raises:
        ValueError: what does not fit, and why.
    """
    has_ratios = objective.importance != "none" or objective.policy_gradient is not None
    if rollouts.source == "student" and rollouts.temperature != objective.temperature:
        raise ValueError("rollouts and objective have different temperatures, which biases the importance ratios")
    if adds_rows and rollouts.source != "student":
        raise ValueError("hints and near-future answers need rollouts of the student, and there are none")
    if rollouts.prompt == "teacher" and not context_from_example:
        raise ValueError("the teacher's prompt depends on the answers here, so answers cannot be sampled from it")
    if has_ratios:
        _check_ratios(rollouts)
    _check_estimates(rollouts, objective)


def _check_ratios(rollouts: RolloutSpec) -> None:
    """Importance ratios divide the student's probability by the sampler's, for the same prompt and distribution."""
    if rollouts.prompt == "teacher":
        raise ValueError("importance ratios need answers to the student's own prompt, not to the teacher's")
    if rollouts.source == "base":
        raise ValueError("importance ratios need samples of the student, not of the base")
    if rollouts.is_sampled and rollouts.truncates:
        raise ValueError("importance ratios need the full distribution; with top_k or top_p the sampler has another")


def _check_estimates(rollouts: RolloutSpec, objective: Objective) -> None:
    """Estimates from single tokens are unbiased only if the tokens are drawn from the full distribution."""
    estimates_base_kl = objective.reference_kl > 0 and objective.reference_kl_form != "forward_kl"
    estimates = estimates_base_kl or objective.support == "sampled"
    if rollouts.source == "student" and rollouts.truncates and estimates:
        raise ValueError(
            "with top_k or top_p, estimates from sampled tokens are biased; support: sampled and the KL to the base "
            "are such estimates"
        )
