"""`summary.json` of a run."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from holdfast.summary.models.answers import Artifact, Repetition, ResponseDrift
from holdfast.summary.models.drift import StageDrift
from holdfast.summary.models.evaluations import (
    EvaluatedSet,
    EvaluationRecord,
    NllChangeRecord,
    ProbabilityChangeRecord,
    Probe,
    Sample,
    ScoreChangeRecord,
)
from holdfast.summary.models.metrics import RunMetrics
from holdfast.summary.models.part import STATUS, Count, Part, Status
from holdfast.summary.models.prediction import ForgettingPrediction
from holdfast.summary.models.training import Budget, CurvePoint, DecisionRecord, Discarded, GuardRecord, GuardRuleRecord
from holdfast.summary.models.voice import DemonstrationDistanceRecord, RewrittenTask
from holdfast.summary.version import SCHEMA_VERSION

VerdictSentences = Annotated[list[str], Field(min_length=1)]


class RecipeSettings(Part):
    """The recipe's name and every setting, defaults included. The settings depend on the recipe."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(description="Name of the recipe.")


class Wiring(Part):
    """The parts of the recipe, in words."""

    rollouts: str = Field(description="Where the training tokens come from.")
    teacher: str = Field(description="What supervises the student, and when its weights are updated.")
    signal: str = Field(description="The token-level signal.")
    reduction: str = Field(description="How the loss is averaged.")
    guidance: str = Field("", description="How prompts that fail get help, if they do.")
    guide: str = Field("", description="Whose correct answers the rows carry, if they do.")
    penalty: str = Field("", description="What penalizes changes of the weights themselves, if anything does.")
    controllers: str = Field("", description="Settings that change between steps, and what controls them.")


class TrainedModel(Part):
    """The model that was trained."""

    path: str = Field(description="Folder, hub id, or the name of a bundled base.")
    parameters: Count = Field(description="Number of parameters.")
    trainable_parameters: Count = Field(description="Number of parameters that were trained.")
    dtype: str = Field(description="Data type of the weights.")


class FailedJudgments(Part):
    """Answers that were not judged, and why."""

    timeouts: Count = Field(description="Judgments that took longer than `verifier_timeout`.")
    errors: Count = Field(description="Judgments that failed otherwise, with `verifier_errors: score_zero`.")
    first: list[str] = Field(description="The first ones in words.")


class RunSummary(Part):
    """One recipe, trained on one stream of tasks with one seed."""

    schema_version: Literal[SCHEMA_VERSION] = Field(  # type: ignore[valid-type]
        description="Version of this schema. A change that breaks readers raises it."
    )
    kind: Literal["run"] = Field(description="A single run.")
    name: str = Field(description="Name of the run.")
    label: str = Field(description="Label of its recipe.")
    holdfast_version: str = Field(description="Version of holdfast that wrote this file.")
    created: str = Field(description="When the summary was written, ISO 8601.")
    recipe: RecipeSettings = Field(description="The recipe's name and every setting.")
    wiring: Wiring = Field(description="How the recipe is built.")
    seed: Count = Field(description="Seed of the run.")
    order: list[str] = Field(min_length=1, description="Tasks in the order of their stages.")
    model: TrainedModel = Field(description="The trained model.")
    status: Status = Field(description=STATUS)
    budget: Budget = Field(description="What the training took.")
    sets: list[EvaluatedSet] = Field(description="Everything that was evaluated.")
    evaluations: list[EvaluationRecord] = Field(
        description="One before the first stage, and one after each finished stage."
    )
    score_changes: list[ScoreChangeRecord] = Field(
        description="How the scores changed, tested over the same items, and what became of the items."
    )
    nll_changes: list[NllChangeRecord] = Field(
        description="How the NLL of demonstrations changed: what sets without a score are judged by."
    )
    probability_changes: list[ProbabilityChangeRecord] = Field(
        default_factory=list,
        description="How the probability of the right answer changed, with its beginning forced: what the model knows, "
        "whatever its way of answering.",
    )
    metrics: RunMetrics | None = Field(description="Computed from the evaluations; null before the first evaluation.")
    curves: list[CurvePoint] = Field(description="Training curves, about 400 points at most.")
    probe_items: Count | None = Field(
        None, description="Items of each set that a probe uses, the first ones; null without probes."
    )
    probes: list[Probe] = Field(
        description="Scores within the stages, on the first items of each set. A probed stage also has its two ends "
        "(step 0 and the last step), taken from the evaluations around it."
    )
    drift: list[StageDrift] = Field(
        description="Drift of the weights after each stage, if `eval.drift_weights` is set."
    )
    responses: list[ResponseDrift] = Field(
        description="Drift of the answers, by stage and set, if `eval.response_items` is set."
    )
    artifacts: list[Artifact] = Field(
        description="Phrases that became more frequent, strongest evidence of each kind first."
    )
    repetition: list[Repetition] = Field(description="Repetition within the answers, after each stage.")
    forgetting_prediction: ForgettingPrediction = Field(
        description="KL to the base as a predictor of forgetting. A single run has no fit."
    )
    demonstrations: list[DemonstrationDistanceRecord] = Field(
        default_factory=list,
        description="How far demonstrations are from the base's own answers, by task, if `eval.demonstration_items` is "
        "set.",
    )
    rewriting: list[RewrittenTask] = Field(
        default_factory=list,
        description="What became of demonstrations that the model wrote in its own voice, by stage, for recipes that "
        "train on such.",
    )
    samples: list[Sample] = Field(description="Greedy answers to a few items, over the stages.")
    guard: GuardRecord | None = Field(description="The guard's settings; null if they are not known.")
    guard_rules: list[GuardRuleRecord] = Field(
        description="Every rule of the guard, and whether it had data. Empty if that is not known."
    )
    decisions: list[DecisionRecord] = Field(
        description="In order: guard rules that fired during training, and the roll-backs that the recipe planned "
        "(`near_future`)."
    )
    discarded: list[Discarded] = Field(description="Steps that roll-backs discarded. They count in the budget.")
    failed_judgments: FailedJudgments = Field(
        default_factory=lambda: FailedJudgments(timeouts=0, errors=0, first=[]),
        description="Answers that a verifier or an environment did not judge, in training, probes and evaluations, "
        "samples for pass@k included. Each scored 0.",
    )
    verdict: VerdictSentences = Field(description="Conclusions in plain sentences; the first is the headline.")
