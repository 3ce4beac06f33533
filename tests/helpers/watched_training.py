"""Trainings that tests watch: trainers of transformers and TRL on a tiny model, a few steps each."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig

from holdfast.integrations import HoldfastCallback

QUESTIONS = [f"What is {a} plus {b}?" for a, b in ((1, 2), (3, 4), (5, 6), (7, 8), (2, 9), (4, 4))]
KINDS = ("transformers", "sft", "grpo", "sdft", "sdpo")
COMMON: dict[str, Any] = {
    "max_steps": 4,
    "per_device_train_batch_size": 2,
    "learning_rate": 5e-3,
    "logging_steps": 1,
    "report_to": [],
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
    "seed": 3,
}
SAMPLED: dict[str, Any] = {"max_completion_length": 8, "num_generations": 2, "gradient_accumulation_steps": 2}

LORA = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=True)


def lines(path: Path) -> list[dict[str, Any]]:
    """The records of a log; none if it does not exist."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def watch(folder: Path, **settings: Any) -> HoldfastCallback:
    """A callback with a suite of small sums, which writes to the folder `watched`."""
    suite = write_suite(folder / "sums.jsonl")
    return HoldfastCallback([suite], folder / "watched", **{"max_new_tokens": 6, "probe_steps": 2, **settings})


def write_suite(path: Path, answers: list[str] | None = None) -> Path:
    """Write a suite file of small sums. Every answer is 7 unless `answers` is given."""
    rows = [{"prompt": q, "answer": (answers or ["7"] * len(QUESTIONS))[i]} for i, q in enumerate(QUESTIONS)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def load(folder: Path) -> tuple[Any, Any]:
    """A new copy of a model, and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(folder)


def reward(completions: list[Any], **_: Any) -> list[float]:
    """Rewards that differ within a group."""
    texts = [c[0]["content"] if isinstance(c, list) else c for c in completions]
    return [float(len(text) % 3) / 2 for text in texts]


def make_trainer(kind: str, folder: Path, output: Path, callbacks: list[Any], **changes: Any) -> Any:
    """A trainer of one of `KINDS`, on a new copy of the model in a folder.

    Args:
        changes: override the training arguments; `peft_config` and `model` go to the trainer itself.
    """
    from datasets import Dataset

    model, tokenizer = load(folder)
    model = changes.pop("model", model)
    peft = {"peft_config": changes.pop("peft_config")} if "peft_config" in changes else {}
    chat = [[{"role": "user", "content": q}] for q in QUESTIONS]
    shared = {"model": model, "processing_class": tokenizer, "callbacks": callbacks, **peft}
    settings = {**COMMON, "output_dir": str(output), **({} if kind in ("transformers", "sft") else SAMPLED), **changes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "transformers":
            from transformers import Trainer, TrainingArguments

            ids = [tokenizer(q)["input_ids"][:8] for q in QUESTIONS]
            data = [{"input_ids": row, "labels": row} for row in ids]
            return Trainer(
                args=TrainingArguments(**settings), train_dataset=data, eval_dataset=data, data_collator=pad, **shared
            )
        if kind == "sft":
            from trl import SFTConfig, SFTTrainer

            data = Dataset.from_dict(
                {"prompt": chat, "completion": [[{"role": "assistant", "content": "7"}]] * len(chat)}
            )
            return SFTTrainer(args=SFTConfig(**settings), train_dataset=data, **shared)
        if kind == "grpo":
            from trl import GRPOConfig, GRPOTrainer

            data = Dataset.from_dict({"prompt": chat})
            return GRPOTrainer(args=GRPOConfig(**settings), reward_funcs=reward, train_dataset=data, **shared)
        data = Dataset.from_dict({"prompt": chat, "privileged_context": ["The answer is 7."] * len(chat)})
        if kind == "sdft":
            from trl.experimental.sdft import SDFTConfig, SDFTTrainer

            return SDFTTrainer(args=SDFTConfig(**settings), train_dataset=data, **shared)
        from trl.experimental.sdpo import SDPOConfig, SDPOTrainer

        return SDPOTrainer(args=SDPOConfig(**settings), reward_funcs=reward, train_dataset=data, **shared)


def pad(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Pad rows to the length of the longest."""
    longest = max(len(row["input_ids"]) for row in rows)
    ids = [row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in rows]
    labels = [row["labels"] + [-100] * (longest - len(row["labels"])) for row in rows]
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}


def weights(model: Any) -> dict[str, torch.Tensor]:
    """A copy of all weights."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
