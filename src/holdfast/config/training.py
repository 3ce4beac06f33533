"""The training and evaluation blocks of the configuration."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from holdfast.config.base import Settings


class TrainSettings(Settings):
    """One stage of training: the budget that all recipes of a comparison share."""

    steps: int = Field(default=40, ge=1)
    """Optimizer steps per stage."""
    prompts_per_step: int = Field(default=16, ge=1)
    """Prompts per optimizer step."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate of AdamW."""
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "constant"
    """The learning rate after the warmup: constant, or falling to 0 at the end of each stage."""
    warmup_steps: int = Field(default=5, ge=0)
    """Optimizer steps of linear warmup in each stage."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of AdamW."""
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    """β₁ of AdamW."""
    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    """β₂ of AdamW."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    max_prompt_length: int = Field(default=1024, ge=1)
    """Longest prompt of the student, in tokens."""
    max_reprompt_length: int | None = Field(default=None, ge=1)
    """Longest prompt of the teacher; by default the length of a prompt plus a completion."""
    max_completion_length: int = Field(default=256, ge=1)
    """Longest completion, in tokens."""
    long_prompts: Literal["refuse", "drop"] = "refuse"
    """What happens if a prompt is too long: the run is refused, or the example is dropped and counted. A prompt is
    never truncated."""
    micro_batch_tokens: int = Field(default=16384, ge=1)
    """Tokens per forward pass. Changes memory and speed, never the result."""
    bf16: bool = False
    """Matrix products in bfloat16; weights and optimizer state stay in float32 (autocast)."""
    engine: Literal["fused", "readable"] = "fused"
    """`readable` computes every loss by its definition, on padded rows and whole logits. It is slow, and for checks."""
    offload_teacher: bool = False
    """With full fine-tuning, keep teacher and base in host memory while they do not score."""
    save_steps: int = Field(default=20, ge=1)
    """Optimizer steps between checkpoints for `holdfast resume`."""
    verifier_workers: int | None = Field(default=None, ge=1)
    """The most child processes in which verifiers and environments judge at the same time; by default the number of
    cores, from 2 to 8, under torchrun a share of them. More are started only while answers wait. Changes speed and
    memory, never the result. A verifier that waits for a server may use many."""


class PassAtKSettings(Settings):
    """Several sampled answers to every item, beside the greedy one: pass@k and avg@k.

    pass@k is the probability that at least one of k samples gets the full reward, by the unbiased estimator of arXiv
    2107.03374. avg@k is the mean reward of all samples. A list, as in `pass_at_k: [1, 4, 8]`, is short for its `k`.
    """

    k: list[Annotated[int, Field(ge=1)]] = Field(default=[1, 4, 8], min_length=1)
    """The numbers of samples that pass@k is given for."""
    num_samples: int | None = Field(default=None, ge=1)
    """Samples for each item; by default the largest `k`. With more samples, pass@k varies less."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of the samples."""

    @model_validator(mode="after")
    def _enough_samples(self) -> Self:
        if len(set(self.k)) < len(self.k):
            raise ValueError(f"`k` {self.k} has a number twice; list each once")
        if self.num_samples is not None and self.num_samples < max(self.k):
            raise ValueError(f"pass@{max(self.k)} needs {max(self.k)} samples; raise `num_samples` to {max(self.k)}")
        return self

    @property
    def samples(self) -> int:
        """Samples for each item."""
        return self.num_samples or max(self.k)


def k_shorthand(value: Any) -> Any:
    """A number or a list of numbers as the `k` of `PassAtKSettings`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return {"k": [value]}
    return {"k": value} if isinstance(value, list) else value


class EvalSettings(Settings):
    """What is measured before the first and after each stage. Answers are greedy, but for `pass_at_k`."""

    score: Literal["accuracy", "reward"] = "accuracy"
    """The score of a set: the fraction of answers with the full reward of 1, or the mean reward. A set that nothing
    judges has no score. It has the NLL of its demonstrations."""
    pass_at_k: Annotated[PassAtKSettings | None, BeforeValidator(k_shorthand)] = None
    """pass@k and avg@k of every judged set, such as `[1, 4, 8]`; by default not measured. Each sample costs as much as
    a greedy answer. Suites of lm-evaluation-harness are left out, and so are evaluations within a stage."""
    max_items: int | None = Field(default=None, ge=1)
    """Use only this many items of every set, the first ones."""
    max_completion_length: int | None = Field(default=None, ge=1)
    """Longest answer, in tokens; by default `train.max_completion_length`."""
    batch_tokens: int = Field(default=65536, ge=1)
    """Tokens per batch of answers."""
    kl_items: int = Field(default=64, ge=0)
    """Prompts per task for the KL to the base, and demonstrations per task and retention suite for the KL on
    demonstrations; 0 switches both off."""
    probe_steps: int = Field(default=0, ge=0)
    """Steps between evaluations within a stage, on the tasks so far and the retention suites; 0 for none."""
    probe_gap: float = Field(default=0.1, ge=0, le=1)
    """If the score of the stage's task rises by more than this between two of these evaluations, steps in between are
    evaluated as well, down to single steps. So recipes can be compared at a matched score. The run directory holds the
    weights of the steps since the last evaluation. 0 switches it off."""
    probe_items: int = Field(default=128, ge=1)
    """Items of every set in these evaluations."""
    response_items: int = Field(default=32, ge=0)
    """Prompts per task and retention suite whose answers are compared with the base's. This gives the drift of
    responses and artifacts, and the KL if `kl_items` is not 0, on at most as many prompts as that. 0 switches all of it
    off."""
    demonstration_items: int = Field(default=32, ge=0)
    """Training prompts per task on which the distance of demonstrations from the base's own answers is measured, before
    the first stage; 0 switches it off."""
    embedder: str | None = None
    """Folder of an embedding model; it adds the similarity of these answers to the base's."""
    drift_weights: int = Field(default=300_000_000, ge=0)
    """Number of weights whose singular values and subspaces are compared with the base's after each stage. In a larger
    model this is done for evenly spaced layers, and only norms are compared in the others. 0 switches drift off."""
    samples: int = Field(default=4, ge=0)
    """Completions per set that are kept for the report."""
