"""KL to the base as a predictor of forgetting."""

from typing import Annotated

from pydantic import Field

from holdfast.summary.models.part import Count, IntervalField, Part, Stage


class PredictionPoint(Part):
    """One stage of one run."""

    label: str = Field(description="Label of the run's recipe.")
    seed: Count = Field(description="Seed of the run.")
    order_index: Count = Field(description="Index of the task order, from 0.")
    stage: Stage = Field(description="Stage, from 1.")
    kl: float = Field(
        description="KL(base‖model) on the base's samples, in nats per token; mean over the tasks learned so far."
    )
    kl_old: float | None = Field(
        None,
        description="KL(base‖model) on the demonstrations of retention suites, in nats per token; mean over suites. "
        "Null if it was not measured.",
    )
    forgetting: float = Field(
        description="Mean loss of earlier tasks since they were learned, and of retention suites since the base: "
        "`loss_of_earlier` at this stage."
    )


class ForgettingFit(Part):
    """Least-squares line of forgetting over KL."""

    slope: float = Field(description="Forgetting per nat per token.")
    slope_ci95: IntervalField = Field(description="95% t interval of the slope.")
    r2: float = Field(description="Share of the variance that the line explains.")
    spearman: float = Field(description="Rank correlation.")
    n: Annotated[int, Field(ge=3)] = Field(description="Number of runs.")


class ForgettingPrediction(Part):
    """KL to the base on the tasks' prompts and on old skills, together with forgetting."""

    points: list[PredictionPoint] = Field(description="One point after each stage of each run.")
    fit: ForgettingFit | None = Field(
        description="Fit over `kl` in the last stages of complete runs, one point per run; null with fewer than three "
        "runs, or if all runs have the same KL."
    )
    fit_old: ForgettingFit | None = Field(None, description="The same fit over `kl_old`.")
