"""What was evaluated, and the scores: sets, evaluations, probes and sample answers."""

from typing import Annotated

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


class Score(Part):
    """Score of one set in one evaluation. Answers are greedy."""

    mean: ShareField = Field(
        description="Mean score over the items: the share answered with the full reward, or the mean reward, depending "
        "on `eval.score`."
    )
    n: Annotated[int, Field(ge=1)] = Field(description="Items answered.")
    ci95: IntervalField = Field(
        description="95% interval over items: Wilson's for rewards of 0 and 1, otherwise a t interval clipped to [0, "
        "1]."
    )
    format_ok: ShareField = Field(description="Share of answers in the requested format.")
    length: Amount = Field(description="Mean completion length in tokens.")
    truncated: ShareField = Field(description="Share of completions truncated at the length limit.")
    kl_to_base: float | None = Field(
        description="KL(base‖model) on this task's prompts, in nats per token; null for suites and if it was not "
        "measured."
    )
    kl_to_base_se: float | None = Field(description="Standard error of `kl_to_base` over prompts.")


class EvaluationRecord(Part):
    """One evaluation of all sets."""

    stage: Count = Field(description="Number of finished stages; 0 is the base model.")
    task: str | None = Field(description="Task of the stage that has just finished; null for the base model.")
    scores: dict[str, Score] = Field(description="Score by set.")


class Probe(Part):
    """A quick evaluation within a stage, on the first items of each set."""

    stage: Stage = Field(description="Stage, from 1.")
    step: Count = Field(description="Optimizer step within the stage, from 1; 0 is before the first step.")
    global_step: Count = Field(description="Optimizer step since the start of the stream.")
    task: str = Field(description="Task of the stage.")
    scores: dict[str, float] = Field(description="Mean score by set.")
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
    reward: ShareField = Field(description="The verifier's reward.")


class Sample(Part):
    """One item, and the greedy answers to it over the stages."""

    set: str = Field(description="Set of the item.")
    kind: SetKind = Field(description="Kind of the set.")
    id: str = Field(description="Id of the example.")
    prompt: str = Field(description="Last user message.")
    system: str | None = Field(description="System prompt, if any.")
    completions: list[SampleAnswer] = Field(description="Answers in the order of the stages.")
