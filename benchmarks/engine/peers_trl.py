"""TRL's trainers on given rows: their training step, loss and generation.

The batch has the layout of `_prepare_training_batch` of the SDFT and SDPO trainers and of
`_generate_and_score_completions` of the GRPO trainer: prompts padded on the left, completions on the right, once for
all rows. The settings favor TRL: all rows are one micro-batch, gradient checkpointing is off (it makes TRL slower), and
completions have equal lengths, so padding costs least.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.engine.models import PAD_ID, Tokens, Workload

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

METHODS = ("sdft_jsd_full", "sdft_kl_full", "sdft_topk", "sdpo_topk", "grpo")


def build_trainer(method: str, folder: Path, workload: Workload, *, bf16: bool, device: str, teacher: str) -> Any:
    """The trainer as a user would build it, with the settings that define the loss.

    Args:
        method: one of `METHODS`.
        bf16: matrix products in bfloat16 by autocast; the weights are float32.
        teacher: "base", a frozen second copy, or "live", the student itself.
    """
    from datasets import Dataset

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    common: dict[str, Any] = {
        "output_dir": str(folder.parent / "trl"),
        "per_device_train_batch_size": workload.rows,
        "gradient_accumulation_steps": 1,
        "num_generations": workload.generations,
        "max_completion_length": workload.new_tokens,
        "temperature": 1.0,
        "bf16": bf16,
        "use_cpu": device == "cpu",
        "gradient_checkpointing": False,
        "max_grad_norm": 1.0,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    rows = Dataset.from_list([{"prompt": "t1", "privileged_context": "t2"}] * workload.rows)
    shared: dict[str, Any] = {
        "model": model,
        "train_dataset": rows,
        "processing_class": tokenizer,
    }
    if method == "grpo":
        from trl import GRPOConfig, GRPOTrainer

        # TRL's defaults: loss_type dapo (mean over all tokens), epsilon .2, beta 0, one iteration.
        return GRPOTrainer(reward_funcs=_no_reward, args=GRPOConfig(**common), **shared)
    if method == "sdpo_topk":
        from trl.experimental.sdpo import SDPOConfig, SDPOTrainer

        # As in the paper's experiments. TRL's default is the sampled token only.
        loss: dict[str, Any] = {
            "distillation_mode": "topk_logits",
            "distillation_alpha": 0.5,
            "distillation_add_tail": True,
        }
        config = SDPOConfig(**common, **loss, distillation_topk=100, teacher_model_kind=teacher)
        return SDPOTrainer(reward_funcs=_no_reward, args=config, **shared)
    from trl.experimental.sdft import SDFTConfig, SDFTTrainer

    settings: dict[str, Any] = {
        "sdft_jsd_full": {"distillation_mode": "full_logits", "distillation_alpha": 0.5},
        "sdft_kl_full": {"distillation_mode": "full_logits", "distillation_alpha": 0.0},
        "sdft_topk": {"distillation_mode": "topk_logits", "distillation_alpha": 0.5},  # the default: 100, renormalized
    }[method]
    return SDFTTrainer(args=SDFTConfig(**common, **settings, teacher_model_kind=teacher), **shared)


def _no_reward(**_: Any) -> list[float]:
    raise AssertionError("rows have advantages already")


def training_batch(method: str, tokens: Tokens, device: torch.device) -> dict[str, Tensor]:
    """The batch that the trainer would make of these rows."""

    def padded(rows: list[list[int]], side: str) -> tuple[Tensor, Tensor]:
        from trl.trainer.utils import pad

        ids = pad([torch.tensor(row) for row in rows], padding_value=PAD_ID, padding_side=side)
        mask = pad([torch.ones(len(row), dtype=torch.long) for row in rows], padding_value=0, padding_side=side)
        return ids.to(device), mask.to(device)

    prompt_ids, prompt_mask = padded(tokens.prompts, "left")
    completion_ids, completion_mask = padded(tokens.completions, "right")
    batch = {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
    }
    if method == "grpo":
        advantages = torch.tensor(tokens.advantages, device=device)
        return batch | {"advantages": advantages, "num_items_in_batch": completion_mask.sum()}
    teacher_ids, teacher_mask = padded(tokens.teacher_prompts, "left")
    batch["teacher_input_ids"] = torch.cat([teacher_ids, completion_ids], dim=1)
    batch["teacher_attention_mask"] = torch.cat([teacher_mask, completion_mask], dim=1)
    if method == "sdpo_topk":
        batch["self_distillation_mask"] = torch.tensor(tokens.signal, dtype=torch.float32, device=device)
    return batch


class TrlStep:
    """`training_step` of a TRL trainer (forward passes, loss and backward), and gradient clipping."""

    def __init__(self, trainer: Any, batch: dict[str, Tensor]) -> None:
        self.trainer, self.batch = trainer, batch
        trainer.current_gradient_accumulation_steps = 1  # `train` sets it before its first step
        trainer._prepare_inputs = lambda inputs: inputs  # the rows are given, so nothing is generated
        trainer.model_wrapped = trainer.accelerator.prepare_model(trainer.model)

    def run(self) -> dict[str, float]:
        trainer = self.trainer
        loss = trainer.training_step(trainer.model_wrapped, self.batch, None)
        norm = trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), trainer.args.max_grad_norm)
        trainer.model.zero_grad(set_to_none=True)
        return {"loss": float(loss), "grad_norm": float(norm)}


class TrlGeneration:
    """The generation of a TRL step: `model.generate` as the trainer calls it, truncated at the end of sequence."""

    def __init__(self, trainer: Any, prompts: list[list[int]]) -> None:
        self.trainer, self.prompts = trainer, prompts
        trainer.model_wrapped = trainer.accelerator.prepare_model(trainer.model)

    def run(self) -> dict[str, float]:
        self.trainer.model.train()
        _, self.completions = self.trainer._generate_transformers(self.prompts)
        return {"new_tokens": float(sum(map(len, self.completions)))}

    def check(self) -> dict[str, float]:
        from benchmarks.engine.models import score

        return {"loss": -float(score(self.trainer.model, self.prompts, self.completions).mean())}
