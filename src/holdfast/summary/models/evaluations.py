"""What was evaluated, and the scores: sets, evaluations, probes and sample answers."""

from typing import Annotated, Literal

from pydantic import Field

from holdfast.summary.models.part import Amount, Count, IntervalField, Part, SetKind, ShareField, Stage


class EvaluatedSet(Part):
    """A set of held-out items. It is evaluated before the first stage and after each stage."""

    name: str = Field(description="Name; unique among tasks and suites.")
    kind: SetKind = Field(
        description="`task`: the test split of a stage's task. `retention`: a skill that the base model has. "
        "`ood`: a task's skill in a new surface form."
    )
    n: Count = Field(description="Number of items.")
    description: str = Field(description="What the items ask for.")
    chance: ShareField = Field(
        description="Mean score of a model that lacks the skill, such as .25 with four options. A set on which a model "
        "is not significantly above it has nothing to lose. The test takes .01 if it is lower."
    )


class PassAtK(Part):
    """pass@k for one k."""

    k: Annotated[int, Field(ge=1)] = Field(description="Number of samples of which at least one must be right.")
    mean: ShareField = Field(
        description="Probability that at least one of k samples gets the full reward, by the unbiased estimator "
        "1 − C(n − c, k) / C(n, k); mean over items."
    )
    ci95: IntervalField = Field(description="95% interval of `mean` over items.")


class Sampled(Part):
    """Several sampled answers to each item of one set."""

    num_samples: Annotated[int, Field(ge=1)] = Field(description="Samples for each item.")
    temperature: float = Field(description="Their temperature.")
    avg_at_k: ShareField = Field(description="Mean reward of all samples.")
    avg_at_k_ci95: IntervalField = Field(description="95% interval of `avg_at_k` over items.")
    pass_at_k: list[PassAtK] = Field(description="pass@k for each k of `eval.pass_at_k`, ascending.")


class MostFrequentAnswer(Part):
    """One answer, and how often it was given to the items of one set."""

    answer: str = Field(description="The answer as the verifier read it, or else the whole text; cut to 80 characters.")
    count: Annotated[int, Field(ge=1)] = Field(description="Number of items that it was given to.")


class ForcedAnswers(Part):
    """Targets of one set's items, after the forced beginnings of right answers."""

    nll: Amount = Field(description="Negative log-likelihood of the whole target in nats; mean over items.")
    nll_se: Amount | None = Field(description="Standard error of `nll` over items; null with one item.")
    nll_per_token: Amount = Field(description="The sum over all tokens of all targets, divided by their number.")
    probability: ShareField = Field(description="Probability of the target, exp(−NLL); mean over items.")
    probability_se: Amount | None = Field(description="Standard error of `probability` over items; null with one item.")
    n: Annotated[int, Field(ge=1)] = Field(description="Items with a target.")


class Calibration(Part):
    """Whether the probability of the greedy answers of one set says how often they are right."""

    ece: ShareField = Field(
        description="Expected calibration error over at most 15 bins with equal numbers of items: the distance between "
        "the share of right answers and the mean confidence. Biased upwards for few items."
    )
    ece_if_calibrated: ShareField = Field(
        description="Expected `ece` of a perfectly calibrated model with the same confidences, exactly: the bias."
    )
    confidence: ShareField = Field(
        description="Probability of the whole greedy answer at temperature 1; mean over items."
    )
    n: Annotated[int, Field(ge=1)] = Field(description="Items.")


class Score(Part):
    """Score of one set in one evaluation. Answers are greedy, except in `sampled`."""

    mean: ShareField | None = Field(
        description="Mean score over the items: the share answered with the full reward, or the mean reward, depending "
        "on `eval.score`. Null for a set that nothing judges."
    )
    n: Annotated[int, Field(ge=1)] = Field(description="Items answered.")
    ci95: IntervalField | None = Field(
        description="95% interval over items: Wilson's for rewards of 0 and 1, otherwise the t interval of the rewards "
        "and two more, a 0 and a 1. Null for a set that nothing judges."
    )
    format_ok: ShareField | None = Field(
        description="Share of answers in the requested format. Null for a set that nothing judges."
    )
    length: Amount = Field(description="Mean completion length in tokens.")
    truncated: ShareField = Field(description="Share of completions truncated at the length limit.")
    nll: float | None = Field(
        description="Negative log-likelihood of the items' demonstrations, in nats per token: the sum over all tokens, "
        "divided by their number. Null if no item has a demonstration, and for sets of several turns."
    )
    nll_se: float | None = Field(description="Standard error of `nll` over items; null with one item.")
    forced: ForcedAnswers | None = Field(
        None, description="Targets after forced beginnings; null if no item has a target."
    )
    calibration: Calibration | None = Field(
        None, description="Calibration of the answers; null for a set that nothing judges, and if it was not measured."
    )
    sampled: Sampled | None = Field(description="pass@k and avg@k; null if `eval.pass_at_k` is not set.")
    kl_to_base: float | None = Field(
        description="KL(base‖model) on this task's prompts, in nats per token; null for suites and if it was not "
        "measured."
    )
    kl_to_base_se: float | None = Field(description="Standard error of `kl_to_base` over prompts.")
    most_frequent: MostFrequentAnswer | None = Field(
        description="The answer that was given most often; null if it is not known."
    )
    kl_on_demonstrations: Amount | None = Field(
        None,
        description="KL(base‖model) on the demonstrations of the first `eval.kl_items` items, in nats per token; null "
        "for out-of-distribution suites and sets without demonstrations, and if it was not measured.",
    )
    kl_on_demonstrations_se: Amount | None = Field(
        None, description="Standard error of `kl_on_demonstrations` over items; null with one item."
    )


class EvaluationRecord(Part):
    """One evaluation of all sets."""

    stage: Count = Field(description="Number of finished stages; 0 is the base model.")
    task: str | None = Field(description="Task of the stage that has just finished; null for the base model.")
    scores: dict[str, Score] = Field(description="Score by set.")


class ScoreChangeRecord(Part):
    """The change of one set's score between two evaluations, paired over the same items."""

    set: str = Field(description="Name of the set.")
    what: Literal["learning", "forgetting", "transfer"] = Field(
        description="`learning`: of a task in its own stage. `forgetting`: of an earlier task since it was learned, or "
        "of a retention suite since the base. `transfer`: of an out-of-distribution suite since the base."
    )
    from_stage: Count = Field(description="Stage of the first evaluation; 0 is the base model.")
    to_stage: Stage = Field(description="Stage of the second evaluation.")
    n: Annotated[int, Field(ge=1)] = Field(description="Items.")
    before: ShareField = Field(description="Score in the first evaluation.")
    after: ShareField = Field(description="Score in the second evaluation.")
    change: float = Field(description="after − before.")
    has_to_lose: bool = Field(
        description="Whether `before` is significantly above the set's chance level (exact binomial test, one-sided, "
        "5%). A set that has nothing to lose does not count in metrics of forgetting and retention."
    )
    kept: Count | None = Field(
        description="Items that were scored before and not less afterwards; null if single items were not kept."
    )
    lost: Count | None = Field(description="Items with a lower score afterwards.")
    gained: Count | None = Field(description="Items with a higher score afterwards.")
    never: Count | None = Field(description="Items with a score of 0 both times.")
    ci95: IntervalField | None = Field(
        description="95% score interval of `change` over items (Tango's for scores of 0 and 1)."
    )
    p: ShareField | None = Field(
        description="Two-sided p over items: McNemar's exact test for scores of 0 and 1, otherwise an exact bootstrap."
    )
    p_holm: ShareField | None = Field(
        description="The same p, corrected (Holm) for all changes of this `what`. Null for `forgetting` of a set that "
        "has nothing to lose."
    )
    outcome: Literal["fell", "rose", "not shown", "not tested"] = Field(
        description="Whether `p_holm` shows a change. `not tested`: single items were not kept."
    )


class PairedChange(Part):
    """A change of one set between two evaluations, paired over the same tokens of the same items."""

    set: str = Field(description="Name of the set.")
    what: Literal["learning", "forgetting", "transfer"] = Field(
        description="`learning`: of a task in its own stage. `forgetting`: of an earlier task since it was learned, or "
        "of a retention suite since the base. `transfer`: of an out-of-distribution suite since the base."
    )
    from_stage: Count = Field(description="Stage of the first evaluation; 0 is the base model.")
    to_stage: Stage = Field(description="Stage of the second evaluation.")
    judged: bool = Field(description="Whether the set also has a score.")
    n: Annotated[int, Field(ge=1)] = Field(description="Items.")
    ci95: IntervalField | None = Field(description="95% t interval of `change` over items; null with one item.")
    outcome: Literal["fell", "rose", "not shown"] = Field(
        description="Whether the interval is below 0, above 0, or neither. A change of less than 0.0001 is never shown."
    )


class NllChangeRecord(PairedChange):
    """The change of one set's NLL between two evaluations."""

    before: float = Field(description="NLL in the first evaluation, in nats per token.")
    after: float = Field(description="NLL in the second evaluation, in nats per token.")
    change: float = Field(description="after − before. Negative means that the demonstrations are more probable.")


class ProbabilityChangeRecord(PairedChange):
    """The change of one set's probability of the right answer, with its beginning forced, between two evaluations."""

    before: ShareField = Field(description="Mean probability in the first evaluation.")
    after: ShareField = Field(description="Mean probability in the second evaluation.")
    change: float = Field(description="after − before.")


class Probe(Part):
    """A quick evaluation within a stage, on the first items of each set."""

    stage: Stage = Field(description="Stage, from 1.")
    step: Count = Field(description="Optimizer step within the stage, from 1; 0 is before the first step.")
    global_step: Count = Field(description="Optimizer step since the start of the stream.")
    task: str = Field(description="Task of the stage.")
    scores: dict[str, float] = Field(description="Mean score by set. Sets that nothing judges are not there.")
    nll: dict[str, float] = Field(description="NLL of demonstrations by set, in nats per token.")
    probability: dict[str, float] = Field(
        default_factory=dict,
        description="Mean probability of the right answer with its beginning forced, by set. Sets without targets are "
        "not there.",
    )
    kl_to_base: float | None = Field(
        description="Mean KL(base‖model) on the tasks' prompts, in nats per token; null if it was not measured."
    )
    relative_norm: Amount | None = Field(
        description="Norm of the weights' change from the base, divided by the norm of the base's weights, as in "
        "`drift`; null if it was not measured."
    )


class SampleAnswer(Part):
    """One greedy answer."""

    stage: Count = Field(description="Number of finished stages; 0 is the base model.")
    text: str = Field(description="The completion.")
    reward: ShareField | None = Field(description="The verifier's reward; null if nothing judges the set.")


class Sample(Part):
    """One item, and the greedy answers to it over the stages."""

    set: str = Field(description="Set of the item.")
    kind: SetKind = Field(description="Kind of the set.")
    id: str = Field(description="Id of the example.")
    prompt: str = Field(description="Last user message.")
    system: str | None = Field(description="System prompt, if any.")
    completions: list[SampleAnswer] = Field(description="Answers in the order of the stages.")
