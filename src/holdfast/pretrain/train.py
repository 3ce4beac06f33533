"""The pretraining of the lab's base: next-token training on the assistant turns of the world's documents.

Pretraining can resume exactly: the state is saved every `save_steps` steps, and the documents of a step come from a
seed that names the step.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from holdfast.data.seeds import derive_seed
from holdfast.errors import RunError
from holdfast.lab.documents import Document
from holdfast.objective.private_torch import has_bfloat16_products
from holdfast.pretrain.mixture import sample_document
from holdfast.pretrain.tokenizer import build_tokenizer


@dataclass(frozen=True)
class PretrainSettings:
    """Shape and training of the base. The bundled base was made with the defaults."""

    seed: int = 0
    steps: int = 1200
    documents_per_step: int = 128
    micro_batches: int = 2
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    hidden_size: int = 192
    intermediate_size: int = 512
    layers: int = 4
    heads: int = 6
    save_steps: int = 100
    compile: bool = True
    """Compile the backbone: half the time, the same computation. Needs a C++ compiler."""


def build_model(settings: PretrainSettings, tokenizer: Any) -> Any:
    """A Qwen3 of the lab's shape, with random weights."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(derive_seed(settings.seed, "lab", "init"))
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        head_dim=settings.hidden_size // settings.heads,
        tie_word_embeddings=True,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa",
    )
    return Qwen3ForCausalLM(config)


def build_optimizers(model: Any, settings: PretrainSettings) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for embeddings and norms. AdamW alone takes twice the steps."""
    named = dict(model.named_parameters())
    matrices = [p for name, p in named.items() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in named.items() if p.ndim != 2 or "embed" in name]
    lr, decay = settings.learning_rate, settings.weight_decay
    return [
        torch.optim.Muon(matrices, lr=lr, momentum=0.95, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def encode_document(tokenizer: Any, document: Document) -> tuple[list[int], list[int]]:
    """Token ids of a conversation, and its labels: −100 except on the assistant's tokens and its end-of-turn tokens."""
    ids: list[int] = []
    labels: list[int] = []
    for place, message in enumerate(document.messages, 1):
        head = [tokenizer.convert_tokens_to_ids(f"<|{message['role']}|>")]
        if place == len(document.messages) and document.given:
            head += tokenizer(document.given, add_special_tokens=False).input_ids
        body = [*tokenizer(message["content"], add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        ids += head + body
        labels += [-100] * len(head) + (body if message["role"] == "assistant" else [-100] * len(body))
    return ids, labels


def micro_batches(
    documents: list[tuple[list[int], list[int]]], parts: int, pad_id: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields `parts` micro-batches of documents, sorted by length, each padded to its longest document."""
    documents = sorted(documents, key=lambda d: len(d[0]))
    size = math.ceil(len(documents) / parts)
    for start in range(0, len(documents), size):
        part = documents[start : start + size]
        width = max(len(ids) for ids, _ in part)
        input_ids = torch.full((len(part), width), pad_id)
        labels = torch.full((len(part), width), -100)
        for row, (ids, targets) in enumerate(part):
            input_ids[row, : len(ids)] = torch.tensor(ids)
            labels[row, : len(ids)] = torch.tensor(targets)
        yield input_ids, labels


def _loss_sum(model: Any, backbone: Any, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Summed cross-entropy. The head is applied to labeled positions only."""
    hidden = backbone(input_ids=input_ids).last_hidden_state[:, :-1]
    labeled = labels[:, 1:] != -100
    logits = model.lm_head(hidden[labeled])
    return torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][labeled], reduction="sum")


def pretrain(
    folder: Path,
    settings: PretrainSettings | None = None,
    *,
    evaluate: Callable[[Any, Any], dict[str, float]] | None = None,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Pretrain the base in `folder`, resuming from a saved state, and return the folder of the finished model.

    Args:
        folder: working folder. It gets state.safetensors, log.jsonl and, at the end, model/.
        evaluate: called with (model, tokenizer) whenever the state is saved. Its scores are logged.
        on_step: called with every log record, for progress display.

    Raises:
        RunError: the folder has a pretraining with other settings.
    """
    from transformers import AutoTokenizer

    settings = settings or PretrainSettings()
    folder.mkdir(parents=True, exist_ok=True)
    build_tokenizer(folder / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    model = build_model(settings, tokenizer)
    optimizers = build_optimizers(model, settings)
    backbone = torch.compile(model.model, dynamic=True) if settings.compile else model.model
    first = _restore(folder, settings, model, optimizers)
    log = folder / "log.jsonl"
    _cut_log(log, first)
    started = time.perf_counter()
    with log.open("a") as log_file:
        for step in range(first, settings.steps):
            rng = Random(derive_seed(settings.seed, "lab", "documents", step))
            documents = [encode_document(tokenizer, sample_document(rng)) for _ in range(settings.documents_per_step)]
            targets = sum(label != -100 for _, labels in documents for label in labels)
            lr = settings.learning_rate * _schedule(step, settings)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = lr
            total = 0.0
            for input_ids, labels in micro_batches(documents, settings.micro_batches, tokenizer.pad_token_id):
                # Without bfloat16 instructions such products are many times slower than in float32.
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bfloat16_products()):
                    loss = _loss_sum(model, backbone, input_ids, labels) / targets
                loss.backward()
                total += loss.item()
            if not math.isfinite(total):
                raise RunError(f"the loss is {total} at step {step + 1}", where=str(folder), fix="lower learning_rate")
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            line: dict[str, Any] = {"step": step + 1, "loss": round(total, 5), "learning_rate": lr}
            line["seconds"] = round(time.perf_counter() - started, 1)
            done = step + 1 == settings.steps
            if (step + 1) % settings.save_steps == 0 or done:
                if evaluate is not None:
                    line["skills"] = evaluate(model, tokenizer)
                log_file.write(json.dumps(line) + "\n")
                log_file.flush()
                _save(folder, settings, model, optimizers, step + 1)
            else:
                log_file.write(json.dumps(line) + "\n")
            if on_step is not None:
                on_step(line)
    export(model, tokenizer, folder / "model")
    return folder / "model"


def export(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the model as bfloat16 safetensors, with its tokenizer and a greedy generation configuration."""
    half = type(model)(model.config)
    half.load_state_dict(model.state_dict())
    half.to(torch.bfloat16)
    half.generation_config.do_sample = False
    half.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _schedule(step: int, settings: PretrainSettings) -> float:
    """Learning rate factor: linear warm-up, then linear decay to 1/20."""
    warmup = min(1.0, (step + 1) / settings.warmup_steps)
    return warmup * (1 - 0.95 * step / settings.steps)


def _save(folder: Path, settings: PretrainSettings, model: Any, optimizers: Sequence[Any], step: int) -> None:
    names = {p: name for name, p in model.named_parameters()}
    tensors = {f"model.{name}": p.detach().contiguous() for p, name in names.items()}
    for optimizer in optimizers:
        for p, state in optimizer.state.items():
            tensors |= {f"optimizer/{k}/{names[p]}": torch.as_tensor(v).contiguous() for k, v in state.items()}
    temporary = folder / "state.safetensors.tmp"
    save_file(tensors, temporary, metadata={"step": str(step), "settings": json.dumps(asdict(settings))})
    os.replace(temporary, folder / "state.safetensors")


def _restore(folder: Path, settings: PretrainSettings, model: Any, optimizers: Sequence[Any]) -> int:
    """Load the state that `_save` wrote. Returns the number of completed steps, 0 without a state."""
    path = folder / "state.safetensors"
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    if _identity(json.loads(metadata["settings"])) != _identity(asdict(settings)):
        raise RunError("has a pretraining with other settings", where=str(folder), fix="choose an empty folder")
    tensors = load_file(path)
    named = dict(model.named_parameters())
    for name, p in named.items():
        p.data.copy_(tensors[f"model.{name}"])
    for optimizer in optimizers:
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for key, value in tensors.items():
            kind, _, rest = key.partition("/")
            field, _, name = rest.partition("/")
            if kind == "optimizer" and id(named[name]) in own:
                optimizer.state[named[name]][field] = value.clone()
    return int(metadata["step"])


def _identity(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that identify a pretraining: all except `compile`, which does not change the computation."""
    return {key: value for key, value in settings.items() if key != "compile"}


def _cut_log(log: Path, steps: int) -> None:
    """Drop log lines after the saved state."""
    lines = log.read_text().splitlines()[:steps] if log.exists() else []
    log.write_text("".join(line + "\n" for line in lines))
