"""How the answers changed: distance from the base's answers, artifacts and repetition."""

from typing import Annotated, Literal

from pydantic import Field

from holdfast.summary.models.part import Amount, Count, IntervalField, Part, ShareField, Stage


class MovedAnswer(Part):
    """One prompt whose answer changed."""

    id: str = Field(description="Id of the example.")
    prompt: str = Field(description="Last user message.")
    base: str = Field(description="The base model's answer.")
    model: str = Field(description="The model's answer.")
    edit_distance: ShareField = Field(description="Edit distance between the two.")
    reward_base: float | None = Field(description="The verifier's reward of the base model's answer.")
    reward: float | None = Field(description="The verifier's reward of the model's answer.")


class ResponseDrift(Part):
    """How far answers to the first prompts of one set moved from the base's, after one stage."""

    stage: Stage = Field(description="Stage, from 1.")
    task: str = Field(description="Task of the stage.")
    set: str = Field(description="Set that the prompts are from.")
    kind: Literal["task", "retention"] = Field(description="Kind of the set.")
    n: Annotated[int, Field(ge=1)] = Field(description="Number of prompts.")
    n_kl: Count = Field(
        description="Number of prompts, the first ones, that KL and entropy are measured on; 0 if they were not "
        "measured."
    )
    kl_base_to_model: float | None = Field(
        description="KL(base‖model) on the base's samples, in nats per token, exact over the vocabulary at every token."
    )
    kl_base_to_model_se: float | None = Field(description="Standard error of `kl_base_to_model` over prompts.")
    kl_model_to_base: float | None = Field(
        description="KL(model‖base) on the model's samples, in nats per token, exact over the vocabulary at every "
        "token."
    )
    kl_model_to_base_se: float | None = Field(description="Standard error of `kl_model_to_base` over prompts.")
    entropy: float | None = Field(description="Entropy of the model on its samples, in nats per token.")
    entropy_base: float | None = Field(description="Entropy of the base on its samples, in nats per token.")
    equal_answers: ShareField = Field(description="Share of greedy answers that are identical to the base's.")
    edit_distance: ShareField = Field(
        description="Mean Levenshtein distance over words, divided by the length of the longer answer."
    )
    length: Amount = Field(description="Mean number of words and punctuation marks in the model's greedy answers.")
    length_base: Amount = Field(description="The same for the base's greedy answers.")
    distinct_2: ShareField = Field(
        description="Distinct bigrams divided by all bigrams. Both answers to a prompt are cut to the length of the "
        "shorter one."
    )
    distinct_2_base: ShareField = Field(description="The same for the base's answers.")
    embedding_similarity: float | None = Field(
        description="Mean cosine similarity of the answers' embeddings; null without an embedding model."
    )
    embedding_similarity_unlike: float | None = Field(
        description="The same between the base's answer to one prompt and the model's answer to the next prompt: the "
        "similarity of unrelated answers."
    )
    moved: list[MovedAnswer] = Field(description="The greedy answers that moved most, largest edit distance first.")


class ShareWithin(Part):
    """One probe."""

    stage: Stage = Field(description="Stage, from 1.")
    step: Stage = Field(description="Optimizer step within the stage.")
    share: ShareField = Field(description="Share of answers that contain the phrase.")


class Artifact(Part):
    """A phrase that became more frequent in greedy answers than in the base's.

    It is significant after at least one stage, corrected for the number of stages.
    """

    phrase: str = Field(description="The phrase: words and punctuation marks, separated by spaces.")
    set: str | None = Field(description="Set whose prompts it is counted on; null for all sets.")
    kind: Literal["grown", "marker", "teacher_phrase"] = Field(
        description="`grown`: an n-gram that more answers contain. `marker`: a marker of one task, in answers to "
        "another set's prompts. `teacher_phrase`: a phrase of the teacher's prompt."
    )
    marker_of: str | None = Field(description="Task that the marker belongs to.")
    stages: list[Count] = Field(description="Stages measured; 0 is the base model.")
    shares: list[ShareField] = Field(description="Share of answers that contain the phrase, after each of `stages`.")
    within: list[ShareWithin] = Field(
        description="The same share at probes within stages, on the first items of each set. Probes that did not ask "
        "all of the sets are left out."
    )
    share_demonstrations: float | None = Field(
        description="Share of the demonstrations that contain the phrase: of all tasks, or for a marker, of the task "
        "whose prompts it is counted on."
    )
    z: float | None = Field(
        description="Log-odds ratio divided by its standard error, at the stage with the strongest evidence; null if "
        "another test was used."
    )
    q: float | None = Field(
        description="False-discovery rate at that stage, compared with the base, times the number of tested stages; at "
        "most 1."
    )
    q_beyond: float | None = Field(description="The same, compared with the base and the demonstrations at once.")
    growth: float | None = Field(
        description="Factor by which the share grows per stage. It is biased upward: phrases are selected for growing."
    )
    growth_ci95: IntervalField | None = Field(description="95% interval of `growth`; null if `growth` is null.")
    examples: list[str] = Field(description="Prompts to look at, as set/id.")


class Repetition(Part):
    """Repetition within the greedy answers to the same prompts; means over answers."""

    stage: Count = Field(description="Number of finished stages; 0 is the base model.")
    compression: Amount = Field(description="Size in bytes divided by size after DEFLATE.")
    repeated_4grams: ShareField = Field(description="Share of 4-grams that occurred before in the same answer.")
    looping: ShareField = Field(description="Share of answers with a compression above 2.4.")
    truncated: ShareField = Field(description="Share of answers truncated at the length limit.")
