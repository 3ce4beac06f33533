"""One optimizer step on the same rows: this project's `StageTrainer` and a TRL trainer.

Both sides compute the loss of the same objective on the same tokens with the same weights, its gradient, and the
gradient's norm, and clip it. Neither moves the weights, so every repeat is the first step. Rows, teacher prompts and
advantages are what a rollout would return.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine.measure import Side
from benchmarks.engine.models import Shape, Tokens, Workload, draw_tokens, load
from holdfast.config.settings import TrainSettings
from holdfast.data.example import Example
from holdfast.data.rows import Row
from holdfast.model.base import Base
from holdfast.model.policy import Policy
from holdfast.recipes import RECIPES
from holdfast.recipes.base.recipe import Recipe
from holdfast.train.step import StageTrainer
from holdfast.train.teacher import Teacher


@dataclass(frozen=True)
class Method:
    """A recipe, with the settings for which TRL's trainer of the same name optimizes the same loss.

    Attributes:
        trl: the method's name in `peers_trl`.
        what: the objective in words.
    """

    recipe: str
    trl: str
    what: str
    settings: dict[str, Any] = field(default_factory=dict)


METHODS = {
    "sdft_jsd_full": Method(
        "sdft", "sdft_jsd_full", "JSD(.5) over the full vocabulary", {"divergence": "jsd", "support": "full"}
    ),
    "sdft_kl_full": Method(
        "sdft", "sdft_kl_full", "forward KL over the full vocabulary", {"divergence": "forward_kl", "support": "full"}
    ),
    "sdft_topk": Method(
        "sdft",
        "sdft_topk",
        "JSD(.5) on the student's top 100, renormalized",
        {"divergence": "jsd", "support": "topk_renormalized", "top_k": 100},
    ),
    "sdpo_topk": Method("sdpo", "sdpo_topk", "JSD(.5) on the student's top 100 and a tail"),
    "grpo": Method("grpo", "grpo", "clipped policy gradient, mean over all tokens", {"aggregation": "token_mean"}),
}


def make_recipe(method: str, teacher: str) -> Recipe:
    """The recipe as both sides run it: every token counts, and the teacher's weights do not change."""
    kind = METHODS[method]
    settings = dict(kind.settings)
    if kind.recipe != "grpo":
        settings |= {"teacher_kind": "live" if teacher == "live" else "frozen", "stage_start": "base"}
    if kind.recipe == "sdft":
        settings["num_loss_tokens_to_skip"] = 0
    return RECIPES[kind.recipe].model_validate(settings)


def make_rows(method: str, tokens: Tokens) -> list[Row]:
    """Rows as they are after the collector and the recipe's `annotate`."""
    example = Example(id="benchmark", messages=())
    rows = []
    for prompt, teacher, completion, signal, advantage in zip(
        tokens.prompts, tokens.teacher_prompts, tokens.completions, tokens.signal, tokens.advantages, strict=True
    ):
        row = Row(example=example, prompt_ids=prompt, completion_ids=completion)
        if method == "grpo":
            row.advantage = advantage * signal
        elif signal:
            row.div, row.teacher_prompt_ids = 1.0, teacher
        rows.append(row)
    return rows


class OurStep:
    """`StageTrainer.forward_backward` on the rows of one optimizer step, and gradient clipping."""

    def __init__(self, policy: Policy, recipe: Recipe, rows: list[Row], settings: TrainSettings) -> None:
        spec = recipe.teacher()
        base = Base(policy) if spec is not None and spec.kind == "frozen" else None
        teacher = Teacher(spec, policy, base) if spec is not None else None
        self.trainer = StageTrainer(policy, teacher, base, recipe.objective(), settings)
        self.rows = rows

    def run(self) -> dict[str, float]:
        numbers = self.trainer.forward_backward(self.rows, where="benchmark")
        norm = torch.nn.utils.clip_grad_norm_(self.trainer.parameters.values(), self.trainer.settings.max_grad_norm)
        self.trainer.optimizer.zero_grad(set_to_none=True)
        return {"loss": float(numbers["loss"]), "grad_norm": float(norm)}


def ours(job: dict[str, Any]) -> Side:
    """This project's side of a job made by `job_of`."""
    workload, method = Workload(**job["workload"]), job["method"]
    tokens = draw_tokens(workload, job["vocabulary"])
    policy = load(job["folder"], job["device"])
    settings = TrainSettings(
        max_completion_length=workload.new_tokens,
        bf16=job["dtype"] == "bfloat16",
        micro_batch_tokens=job.get("micro_batch_tokens", TrainSettings().micro_batch_tokens),
    )
    return OurStep(policy, make_recipe(method, job["teacher"]), make_rows(method, tokens), settings)


def trl(job: dict[str, Any]) -> Side:
    """TRL's side of a job made by `job_of`."""
    from benchmarks.engine.peers_trl import TrlStep, build_trainer, training_batch

    workload, method = Workload(**job["workload"]), METHODS[job["method"]].trl
    trainer = build_trainer(
        method,
        Path(job["folder"]),
        workload,
        bf16=job["dtype"] == "bfloat16",
        device=job["device"],
        teacher=job["teacher"],
    )
    tokens = draw_tokens(workload, job["vocabulary"])
    return TrlStep(trainer, training_batch(method, tokens, trainer.accelerator.device))


def job_of(
    method: str, shape: Shape, workload: Workload, folder: Path, *, dtype: str, device: str, teacher: str = "base"
) -> dict[str, Any]:
    """The part of a job that both sides share; add `side`.

    Args:
        dtype: of matrix products: float32, or bfloat16 by autocast with float32 weights, as in both trainers.
        teacher: "base", a frozen copy of the weights, or "live", the student's own.
    """
    return {
        "method": method,
        "vocabulary": shape.vocabulary,
        "workload": asdict(workload),
        "folder": str(folder),
        "dtype": dtype,
        "device": device,
        "teacher": teacher,
    }
