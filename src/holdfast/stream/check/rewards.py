"""What a recipe that learns from rewards finds to learn from: how often the model succeeds, and if rewards differ."""

from dataclasses import dataclass
from typing import Any

from holdfast.data.rows import Row
from holdfast.recipes.base.recipe import Recipe
from holdfast.stream.check.trial import Trial


@dataclass(frozen=True)
class RewardCheck:
    """The rewards of a task's first rollout batches.

    Attributes:
        temperature: that was sampled at, which is training's.
        prompts: with samples; each is a group.
        samples: of the model itself, in all groups.
        success_threshold: reward from which a sample succeeds: the recipe's, or else 1.
        success: share of the samples that succeed.
        mean_reward: of the samples.
        mixed: share of the groups in which rewards differ; None with one sample per prompt.
        with_signal: share of the groups in which a row has a loss, apart from a KL to the base.
    """

    task: str
    recipe: str
    temperature: float
    prompts: int
    samples: int
    success_threshold: float
    success: float
    mean_reward: float
    mixed: float | None
    with_signal: float
    hears_feedback: bool = False
    """Whether the recipe has a use for the verifier's feedback."""
    by_difference: bool = False
    """Whether rewards that differ have given a row its loss, so that partial rewards are enough to learn from."""

    @property
    def is_problem(self) -> bool:
        """Whether there is little or nothing to learn from."""
        return self.success == 1 or self.with_signal == 0 or (self.success == 0 and not self.by_difference)

    def sentence(self) -> str:
        """The result, and what it means for the recipe, in words."""
        differ = "" if self.mixed is None else f", and rewards differ in {self.mixed:.0%} of {self.prompts} groups"
        found = (
            f"{self.task}: {round(self.success * self.samples)} of {self.samples} samples at temperature "
            f"{self.temperature:g} succeed "
            f"(mean reward {self.mean_reward:.2f}){differ}"
        )
        return f"{found}. {self._meaning()}"

    def _meaning(self) -> str:
        or_feedback = " or feedback" if self.hears_feedback else ""
        share = f"{self.with_signal:.0%} of the groups"
        if self.success == 1:
            rest = "there is nothing left to learn" if not self.with_signal else f"{share} still give a signal"
            return f"Always a success: {rest}. Take harder prompts"
        if self.success == 0 and not self.with_signal:
            return (
                f"Never a success: {self.recipe} learns nothing here. Train on demonstrations first, take easier "
                f"prompts, let the verifier give part of the reward{or_feedback}, or sample more per prompt"
            )
        if self.success == 0 and self.by_difference:
            return f"Never a success, but rewards are graded: {share} give {self.recipe} a signal"
        if self.success == 0:
            return f"Never a success: {self.recipe} learns only from what else {share} have, not from successes"
        if not self.with_signal:
            return (
                f"No group gives a signal: {self.recipe} learns nothing here. Sample more per prompt, or let the "
                "verifier give part of the reward"
            )
        return f"{share[0].upper()}{share[1:]} give {self.recipe} a signal"


def learns_from_rewards(recipe: Recipe) -> bool:
    """Whether a recipe samples and needs the samples' rewards."""
    return recipe.rollout_spec().is_sampled and "reward" in recipe.required()


def check_rewards(trial: Trial) -> RewardCheck | None:
    """The rewards of a trial; None if it has no judged samples."""
    groups = trial.samples()
    rewards = [row.reward for rows in groups for row in rows]
    if not rewards:
        return None
    settings: dict[str, Any] = trial.recipe.model_dump()
    threshold = float(settings.get("success_threshold", 1.0))
    several = any(len(rows) > 1 for rows in groups)
    return RewardCheck(
        task=trial.task.name,
        recipe=trial.recipe.name,
        temperature=trial.recipe.rollout_spec().temperature,
        prompts=len(groups),
        samples=len(rewards),
        success_threshold=threshold,
        success=sum(reward >= threshold for reward in rewards) / len(rewards),
        mean_reward=sum(rewards) / len(rewards),
        mixed=sum(len({row.reward for row in rows}) > 1 for rows in groups) / len(groups) if several else None,
        with_signal=sum(any(map(_has_own_signal, group.rows)) for group in trial.groups) / len(trial.groups),
        hears_feedback=settings.get("feedback", "never") != "never",
        by_difference=any(
            row.has_signal and row.advantage for rows in groups if len({row.reward for row in rows}) > 1 for row in rows
        ),
    )


def _has_own_signal(row: Row) -> bool:
    return row.has_signal and any((row.ce, row.div, row.advantage))
