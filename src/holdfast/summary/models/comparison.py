"""`summary.json` of a comparison."""

from typing import Annotated, Literal

from pydantic import Field

from holdfast.summary.models.evaluations import EvaluatedSet
from holdfast.summary.models.metrics import MetricName, RecipeMetrics, UntrainedMetrics
from holdfast.summary.models.part import STATUS, Amount, Count, IntervalField, Part, ShareField, Stage, Status
from holdfast.summary.models.prediction import ForgettingPrediction
from holdfast.summary.models.run import RunSummary, VerdictSentences
from holdfast.summary.version import SCHEMA_VERSION

_INTERVAL = (
    "95% interval of the paired t test. Its spread is that of the pairs and of one imagined pair that deviates by what "
    "the choice of items accounts for. Null below two pairs, or if all pairs differ by the same non-zero amount and "
    "that noise is not known."
)


_Ends = Annotated[list[float], Field(min_length=2, max_length=2)]


class ComparedRun(Part):
    """One run of the comparison."""

    label: str = Field(description="Label of its recipe.")
    seed: Count = Field(description="Its seed.")
    order_index: Count = Field(description="Index of its task order in `orders`.")
    path: str = Field(description="Its run directory, relative to the comparison's.")
    summary: RunSummary = Field(description="Its whole summary.")


class MeanSeconds(Part):
    """Mean wall-clock seconds."""

    train: Amount | None = Field(description="Training, sampling included.")
    eval: Amount | None = Field(description="Evaluations and probes.")


class MeanBudget(Part):
    """Mean of each budget field over the recipe's complete runs. Null without runs."""

    optimizer_steps: Amount | None = Field(description="Optimizer steps.")
    prompts: Amount | None = Field(description="Prompts drawn.")
    completions: Amount | None = Field(description="Completions.")
    generated_tokens: Amount | None = Field(description="Tokens sampled for training.")
    trained_tokens: Amount | None = Field(description="Completion tokens that a loss was computed for.")
    seconds: MeanSeconds = Field(description="Wall-clock time.")


class ComparedRecipe(Part):
    """One recipe over its complete runs."""

    label: str = Field(description="Label.")
    name: str | None = Field(description="Name of the recipe; null before its first run is complete.")
    runs: Count = Field(description="Number of complete runs.")
    stopped: Count = Field(
        description="Number of runs that the guard ended before their last stage. No statistic includes them."
    )
    metrics: RecipeMetrics = Field(description="Metrics over runs.")
    budget: MeanBudget = Field(description="Mean budget of its runs.")


class UntrainedArm(Part):
    """The base without a step of training. It has no run: its numbers are row 0 of the runs' evaluations."""

    label: Literal["untrained"] = Field(description="Label in tables.")
    metrics: UntrainedMetrics = Field(description="Each metric, as if every evaluation was the first one.")


class PairedDifference(Part):
    """Difference of one metric between two recipes."""

    a: str = Field(description="Label of the first recipe.")
    b: str = Field(description="Label of the second recipe.")
    metric: MetricName = Field(description="Name of the metric.")
    difference: float | None = Field(description="Mean of a − b over runs with the same seed and task order.")
    ci95: IntervalField | None = Field(description=_INTERVAL)
    p: ShareField | None = Field(description="Two-sided p of the same test.")
    n: Count = Field(description="Pairs of runs.")
    p_holm: ShareField | None = Field(
        description="The same p, corrected (Holm) for all pairs of recipes compared on this metric."
    )


class LossDifference(Part):
    """Forgetting of two recipes, compared over paired runs."""

    loss_a: float | None = Field(description="Mean loss of a over its paired runs. Positive means lost.")
    loss_b: float | None = Field(description="Mean loss of b over its paired runs.")
    difference: float | None = Field(description="Mean of a − b over paired runs.")
    ci95: IntervalField | None = Field(description=_INTERVAL)
    p: ShareField | None = Field(description="Two-sided p of the same test.")
    n: Count = Field(description="Paired runs for which the difference is defined.")
    p_holm: ShareField | None = Field(description="The same p, corrected (Holm) for all pairs of recipes.")


class LossBounds(Part):
    """What is measured around a match: the losses at the two points between which the score crosses it."""

    a: _Ends = Field(description="Mean loss of a at the point before the match, and at the point after it.")
    b: _Ends = Field(description="The same of b.")
    difference: _Ends = Field(
        description="Where a − b lies if each loss is anywhere between its two. A difference whose sign this leaves "
        "open is not claimed."
    )


class MatchedDifference(LossDifference):
    """Forgetting at a matched score, with the losses around it."""

    bounds: LossBounds | None = Field(None, description="The losses around the match; null without a match.")


class EndOfStage(LossDifference):
    """Forgetting at the end of each stage, regardless of the new-task scores."""

    new_task_a: float | None = Field(description="Mean score of the new task at the end of its stage, for a.")
    new_task_b: float | None = Field(description="Mean score of the new task at the end of its stage, for b.")
    new_task_gap: float | None = Field(description="a − b: how far from matched the two new-task scores are.")


class MatchedStage(Part):
    """One stage, means over runs."""

    stage: Stage = Field(description="Stage, from 1.")
    n: Count = Field(description="Runs matched in this stage.")
    too_wide: Count = Field(0, description="Runs that were not matched, as in `stages_too_wide`.")
    matched_score: float | None = Field(description="Matched score of the new task.")
    loss_a: float | None = Field(description="Loss of a at the match.")
    loss_b: float | None = Field(description="Loss of b at the match.")
    within_a: float | None = Field(description="Loss of a at the match, counted from the start of the stage.")
    within_b: float | None = Field(description="Loss of b at the match, counted from the start of the stage.")
    gap_a: float | None = Field(
        None, description="By how much the score of a rises between the two points around the match."
    )
    gap_b: float | None = Field(None, description="The same of b.")
    end_loss_a: float | None = Field(description="Loss of a at the end of the stage.")
    end_loss_b: float | None = Field(description="Loss of b at the end of the stage.")
    new_task_a: float | None = Field(description="Score of the new task at the end of the stage, for a.")
    new_task_b: float | None = Field(description="Score of the new task at the end of the stage, for b.")


class MatchedComparison(MatchedDifference):
    """Forgetting of two recipes at a matched new-task score.

    In each stage of each pair of runs, the matched score lies nine tenths of the way from the higher start to the lower
    of the two best scores on the new task, after points that fall back were pooled with those before. Where a
    trajectory crosses it, the mean loss is read off: of earlier tasks, since just after each was learned, and of
    retention suites, since the base. The losses are averaged over stages, then compared over runs. A set
    with nothing to lose in either run does not count. Verdicts compare `within_stage`.
    """

    a: str = Field(description="Label of the first recipe.")
    b: str = Field(description="Label of the second recipe.")
    method: Literal["interpolated", "end points"] = Field(
        description="`interpolated`: matched between probes. `end points`: there are no probes, so the losses are "
        "those at the end of each stage, unmatched."
    )
    matched_score: float | None = Field(description="Mean matched score of the new task; null without a match.")
    stages_used: Count = Field(description="Stages, over all paired runs, that enter the losses.")
    stages_skipped: Count = Field(
        description="Stages without a match: there are no probes, one of the two runs never rose above both "
        "starting scores, or a gap is too wide."
    )
    stages_too_wide: Count = Field(
        0,
        description="Stages without a match because the score of a run rises by more than 15 points between the two "
        "points around it. Interpolation over such a gap favors the slower learner.",
    )
    within_stage: MatchedDifference | None = Field(
        description="Forgetting at the match, counted from the start of the stage: the cost of this one task, without "
        "the losses of earlier stages. A set that either run has nothing left to lose of there does not count. Null "
        "without probes."
    )
    end_of_stage: EndOfStage = Field(description="The same numbers at the end of each stage.")
    stages: list[MatchedStage] = Field(description="Means over runs, by stage.")


class ComparisonSummary(Part):
    """Recipes × seeds × task orders at equal budget."""

    schema_version: Literal[SCHEMA_VERSION] = Field(  # type: ignore[valid-type]
        description="Version of this schema. A change that breaks readers raises it."
    )
    kind: Literal["comparison"] = Field(description="A comparison.")
    name: str = Field(description="Name of the comparison.")
    holdfast_version: str = Field(description="Version of holdfast that wrote this file.")
    created: str = Field(description="When the summary was written, ISO 8601.")
    status: Status = Field(description=STATUS)
    labels: Annotated[list[str], Field(min_length=1, json_schema_extra={"uniqueItems": True})] = Field(
        description="Recipe labels in the order of the configuration."
    )
    seeds: Annotated[list[Count], Field(min_length=1)] = Field(description="Seeds.")
    orders: Annotated[list[list[str]], Field(min_length=1)] = Field(description="Task orders.")
    tasks: Annotated[list[str], Field(min_length=1)] = Field(description="The tasks, in the first order.")
    sets: list[EvaluatedSet] = Field(description="Everything that was evaluated.")
    runs: list[ComparedRun] = Field(description="All runs so far, whatever their status.")
    recipes: list[ComparedRecipe] = Field(description="Each recipe over its complete runs.")
    untrained: UntrainedArm = Field(description="The base itself, which stands beside the recipes in tables.")
    paired: list[PairedDifference] = Field(
        description="Every metric for every pair of recipes; a is before b in `labels`."
    )
    matched: list[MatchedComparison] = Field(description="Every pair of recipes at a matched new-task score.")
    pareto: list[str] = Field(
        description="Labels on the Pareto front: no other recipe beats them on both `final_score` (up) and "
        "`loss_of_earlier` (down), by their means. Equal recipes are both on it."
    )
    forgetting_prediction: ForgettingPrediction = Field(
        description="KL to the base as a predictor of forgetting, over all runs."
    )
    verdict: VerdictSentences = Field(description="Conclusions in plain sentences; the first is the headline.")
