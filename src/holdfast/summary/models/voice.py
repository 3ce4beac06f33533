"""The voice of demonstrations: how far they are from the model's own answers, and what rewriting made of them."""

from pydantic import Field

from holdfast.summary.models.part import Amount, Count, IntervalField, Part, ShareField, Stage


class ForeignPhrase(Part):
    """A phrase that more demonstrations have than the model's own answers."""

    text: str = Field(description="The phrase: words and punctuation marks, separated by spaces.")
    share_demonstrations: ShareField = Field(description="Share of the demonstrations that contain it.")
    share_own: ShareField = Field(description="Share of the model's own answers that contain it.")


class DemonstrationDistanceRecord(Part):
    """How far the demonstrations of one task are from the base's own answers to the same prompts."""

    task: str = Field(description="The task.")
    prompts: Stage = Field(description="Training prompts that were measured.")
    top_k: Stage = Field(description="A token outside of this many most likely ones counts as unlikely.")
    nll_demonstrations: Amount = Field(description="NLL of the demonstrations under the base, in nats per token.")
    nll_samples: Amount = Field(description="The same of the base's own samples at temperature 1.")
    distance: float = Field(description="`nll_demonstrations` minus `nll_samples`.")
    ci95: IntervalField | None = Field(description="Of `distance`, over prompts; null for a single prompt.")
    outside_demonstrations: ShareField = Field(description="Share of the demonstrations' tokens that are unlikely.")
    outside_samples: ShareField = Field(description="The same of the samples' tokens.")
    length_demonstrations: Amount = Field(description="Mean tokens of the demonstrations.")
    length_samples: Amount = Field(description="Mean tokens of the samples.")
    length_greedy: Amount = Field(description="Mean tokens of the base's greedy answers.")
    phrases: list[ForeignPhrase] = Field(description="Strongest evidence first.")
    is_far: bool = Field(description="Whether the lower bound of `ci95` is above 0.25 nats per token.")
    sentence: str = Field(description="All of it in words.")


class RewrittenTask(Part):
    """What became of a task's demonstrations when the model wrote them in its own voice, before its stage."""

    stage: Stage = Field(description="Stage, from 1.")
    task: str = Field(description="The task.")
    examples: Count = Field(description="Number of demonstrations.")
    outcomes: dict[str, Count] = Field(
        description="By outcome, the number of demonstrations. After `rewritten` and `same words` the model's text is "
        "trained on; after `wrong`, `cut off`, `too long` and `other form` the demonstration."
    )
    completions: Count = Field(description="Texts that the model wrote. They count in the budget.")
    generated_tokens: Count = Field(description="Tokens of these texts. They count in the budget.")
    seconds: Amount = Field(description="How long it took. It counts in the budget.")
