"""What the training did and took: curves, budget, guard decisions and discarded steps."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from holdfast.summary.models.part import Amount, Count, Part, Stage


class CurvePoint(Part):
    """One point of the training curves: the mean over consecutive optimizer steps of one stage."""

    stage: Stage = Field(description="Stage, from 1.")
    step: Count = Field(description="Last optimizer step of the point, within the stage, from 1.")
    global_step: Count = Field(description="Optimizer step since the start of the stream.")
    task: str = Field(description="Task of the stage.")
    loss: float | None = Field(description="Loss.")
    reward: float | None = Field(description="Mean reward of the training completions; null without a verifier.")
    completion_length: float | None = Field(description="Mean completion length in tokens.")
    seconds: float | None = Field(description="Seconds per optimizer step.")
    entropy: float | None = Field(description="Entropy of the student's next-token distribution, in nats.")
    kl_teacher: float | None = Field(description="KL(student‖teacher), in nats per token.")
    teacher_divergence: float | None = Field(
        description="Divergence to the teacher that a watched trainer minimizes, if it does not log "
        "KL(student‖teacher)."
    )
    repetition: float | None = Field(description="Share of bigrams that occurred before in the same completion.")
    truncated_fraction: float | None = Field(description="Share of completions truncated at the length limit.")
    distinct_2: float | None = Field(description="Distinct bigrams divided by all bigrams of the step's completions.")
    grad_norm: float | None = Field(description="Gradient norm before clipping.")
    active_rows: float | None = Field(
        description="Rows of a step with a training signal; for a watched trainer, their share."
    )
    teacher_share: float | None = Field(description="Share of rows that have a teacher.")
    is_ratio_mean: float | None = Field(
        description="Mean importance ratio: probability of the sampled tokens under the trainer, divided by that under "
        "the sampler."
    )
    kl_base: float | None = Field(
        description="KL to the base as the objective measures it, in nats per token; null without such a term."
    )


class Seconds(Part):
    """Wall-clock seconds."""

    train: Amount = Field(description="All of training, sampling included.")
    eval: Amount = Field(description="Evaluations and probes.")


class Budget(Part):
    """What the training took. Recipes are compared at equal optimizer steps and prompts."""

    optimizer_steps: Amount = Field(description="Optimizer steps, discarded ones included.")
    prompts: Amount | None = Field(
        description="Prompts drawn, with repetition; null if a watched trainer does not log them."
    )
    completions: Amount | None = Field(
        description="Completions trained on or judged; null if a watched trainer does not log them."
    )
    generated_tokens: Amount | None = Field(
        description="Tokens sampled for training; null if a watched trainer does not log them."
    )
    trained_tokens: Amount | None = Field(
        description="Completion tokens that a loss was computed for; null if a watched trainer does not log them."
    )
    seconds: Seconds = Field(description="Wall-clock time.")


class GuardRecord(Part):
    """The guard's settings, defaults included."""

    model_config = ConfigDict(extra="allow")

    mode: Literal["warn", "act", "off"] = Field(
        description="`warn`: the guard changes nothing. `act`: it carries out its decisions. `off`: it does not look."
    )
    rules: dict[str, dict[str, Any]] = Field(description="Thresholds and actions of each rule.")


class GuardRuleRecord(Part):
    """What a rule of the guard could see in the run. A rule without data has found nothing, and ruled out nothing."""

    rule: str = Field(description="Name of the rule.")
    status: Literal["fired", "quiet", "not measured", "off"] = Field(
        description="`quiet`: it had data and did not fire. `not measured`: it never had the data that it compares. "
        "`off`: the guard, or the rule, is off."
    )
    needs: str = Field(description="What it needs, in words.")


class DecisionRecord(Part):
    """One decision during training."""

    rule: str = Field(description="Name of the rule.")
    stage: Stage = Field(description="Stage, from 1.")
    step: Stage = Field(description="Optimizer step within the stage, from 1.")
    global_step: Stage = Field(description="Optimizer step since the start of the stream.")
    task: str = Field(description="Task of the stage.")
    severity: Literal["note", "warning", "critical"] = Field(
        description="How serious it is. A `note` reports no problem."
    )
    actions: list[str] = Field(description="Actions that the rule asks for.")
    saw: dict[str, float | None] = Field(
        description="The numbers that made the rule fire; null for a number that is not finite."
    )
    message: str = Field(description="What the decision means, in words.")
    outcome: str = Field(description="What was done, in words; empty for a warning.")


class Discarded(Part):
    """Steps that one roll-back discarded. They count in the budget."""

    stage: Stage = Field(description="Stage, from 1.")
    from_step: Stage = Field(description="First step that was discarded.")
    to_step: Stage = Field(description="Last step that was discarded.")
    decision: Count = Field(description="Index of the decision in `decisions`, from 0.")
    curve: list[CurvePoint] = Field(description="The discarded steps, as in `curves`.")
