"""What a user reads when a rule fires: the numbers, their condition, and how to fix it. Importable without torch."""

import math
from collections.abc import Callable, Mapping

RuleValues = Mapping[str, float]

CALMER = "Lower the learning rate or freeze the teacher."
"""How to fix most collapses."""

DIVERSITY = "the share of distinct bigrams"


def message(rule: str, values: RuleValues, subject: str = "") -> str:
    """The message of a rule that has fired.

    Args:
        values: the numbers that it compared, in the user's own units.
        subject: the retention suite, for `retention`.
    """
    return MESSAGES[rule](values, subject)


def _capitalized(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _reward(values: RuleValues) -> str:
    return f"the reward is {values['reward']:.3g}, down from its best of {values['best_reward']:.3g}"


def _from_start(values: RuleValues, key: str, name: str) -> str:
    return f"{name} is {values[key]:.3g}, down from {values[f'{key}_first']:.3g} at the start of the stage"


def _agreement_without_success(values: RuleValues, _: str) -> str:
    key = "kl_teacher" if "kl_teacher" in values else "teacher_divergence"
    divergence = _from_start(values, key, "The divergence of student and teacher")
    return f"{divergence}, but {_reward(values)}. They agree on worse answers. {CALMER}"


def _reward_collapse(values: RuleValues, _: str) -> str:
    return f"{_capitalized(_reward(values))}. {CALMER}"


def _entropy_collapse(values: RuleValues, _: str) -> str:
    other = _reward(values) if "reward" in values else _from_start(values, "distinct_2", DIVERSITY)
    return f"{_from_start(values, 'entropy', 'The entropy')}, and {other}. {CALMER}"


def _distinct_collapse(values: RuleValues, _: str) -> str:
    other = _reward(values) if "reward" in values else _from_start(values, "entropy", "the entropy")
    diversity = _from_start(values, "distinct_2", DIVERSITY)
    return f"{_capitalized(diversity)}, and {other}. Answers to different prompts become the same. {CALMER}"


def _repetition(values: RuleValues, _: str) -> str:
    before, now = values["repetition_first"], values["repetition"]
    return (
        f"{now:.0%} of bigrams repeat within their completion, up from {before:.0%} at the start of the stage. {CALMER}"
    )


def _truncation(values: RuleValues, _: str) -> str:
    before, now = values["truncated_first"], values["truncated"]
    return (
        f"{now:.0%} of completions reach max_completion_length, up from {before:.0%} at the start of the stage. "
        f"{CALMER} If correct answers are that long, raise max_completion_length."
    )


def _silent_stall(values: RuleValues, _: str) -> str:
    if "teacher_share" in values:
        return (
            "0% of rows have had a teacher for three windows of steps, although some had one before. The model no "
            "longer learns from it. Check where teacher prompts come from: demonstrations, correct samples or feedback."
        )
    return (
        "0 rows have carried a training signal for three windows of steps. The model learns nothing, although the loss "
        "is 0. Use easier prompts, more samples per prompt, or feedback."
    )


def _stale_sampler(values: RuleValues, _: str) -> str:
    return (
        f"The mean probability ratio of trainer to sampler is {values['is_ratio_mean']:.3g}; it should be 1. "
        "Completions come from other weights than the trained ones. Update the sampler's weights after every step."
    )


def _kl_budget(values: RuleValues, _: str) -> str:
    return (
        f"KL to the base is {values['kl_to_base']:.3g} nats per token, above the budget of {values['budget']:g}. "
        "Stop here, lower the learning rate, or raise the budget."
    )


def _not_finite(values: RuleValues, _: str) -> str:
    names = {"loss": "the loss", "grad_norm": "the gradient norm"}
    bad = [f"{name} is {values[key]}" for key, name in names.items() if not math.isfinite(values.get(key, 0))]
    return f"{_capitalized(' and '.join(bad))}. Lower the learning rate, and look at the data of this step."


def _retention(values: RuleValues, suite: str) -> str:
    return (
        f"{suite} scores {values['score']:.1%}, down from {values['base']:.1%} before training: the model forgets it. "
        "Lower the learning rate, or replay earlier data."
    )


MESSAGES: Mapping[str, Callable[[RuleValues, str], str]] = {
    "not_finite": _not_finite,
    "stale_sampler": _stale_sampler,
    "agreement_without_success": _agreement_without_success,
    "reward_collapse": _reward_collapse,
    "entropy_collapse": _entropy_collapse,
    "distinct_collapse": _distinct_collapse,
    "repetition": _repetition,
    "truncation": _truncation,
    "silent_stall": _silent_stall,
    "kl_budget": _kl_budget,
    "retention": _retention,
}
"""By rule."""

NEEDS: Mapping[str, str] = {
    "not_finite": "the loss or the gradient norm of a step",
    "stale_sampler": "a window of probability ratios of trainer and sampler",
    "agreement_without_success": "two windows of divergences to a teacher, and four windows of rewards",
    "reward_collapse": "four windows of rewards",
    "entropy_collapse": "two windows of entropies, and four windows of rewards or two of diversity",
    "distinct_collapse": "two windows of diversity, and four windows of rewards or two of entropies",
    "repetition": "two windows of repetition",
    "truncation": "two windows of truncated shares",
    "silent_stall": "three windows of rows with a signal",
    "kl_budget": "KL to the base: at a probe, at the end of a stage, or in the loss",
    "retention": "a retention suite that the base can do, scored at a probe or at the end of a stage",
}
"""What each rule needs before it can say anything. A window is the guard's `window` of logged steps of one stage."""
