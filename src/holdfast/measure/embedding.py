"""Similarity of texts by an embedding model: the mean of its last hidden states."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from holdfast.errors import ModelError
from holdfast.measure.statistics import mean_interval
from holdfast.tasks.files import first_line

BATCH = 32
LONGEST = 8192
"""Tokens of a text that are read, where the model's own limit is not smaller."""


class Embedder:
    """An embedding model from a local folder.

    Args:
        folder: what `save_pretrained` wrote; weights as safetensors, and no code of its own is run.

    Raises:
        ModelError: it cannot be loaded.
    """

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu") -> None:
        where = f"embedding model {str(folder)!r}"
        if not (Path(folder) / "config.json").is_file():
            raise ModelError("no folder with a config.json", where=where, mend="name a local model folder")
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
            self.model = AutoModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).eval().to(device)
        except Exception as error:
            raise ModelError(f"cannot be loaded: {first_line(error)}", where=where) from error
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.tokenizer.padding_side = "right"
        limit = getattr(self.model.config, "max_position_embeddings", LONGEST)
        self.longest = min(LONGEST, limit, self.tokenizer.model_max_length)

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Mean-pooled last hidden states [N, H] of texts; of a text without any token, zeros."""
        pooled = []
        for start in range(0, len(texts), BATCH):
            batch = self.tokenizer(
                list(texts[start : start + BATCH]),
                padding=True,
                truncation=True,
                max_length=self.longest,
                return_tensors="pt",
            ).to(self.model.device)
            ids, mask = batch["input_ids"].long(), batch["attention_mask"].long()
            if ids.shape[1] == 0:
                pooled.append(torch.zeros(len(ids), self.model.config.hidden_size))
                continue
            hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            # Where a row has no token at all, attention has nothing to look at and may give NaN.
            hidden = hidden.masked_fill(mask[:, :, None] == 0, 0.0)
            pooled.append((hidden.sum(1) / mask.sum(1, keepdim=True).clamp_min(1)).cpu())
        return torch.cat(pooled)


def compare_embeddings(embedder: Embedder, a: Sequence[str], b: Sequence[str]) -> dict[str, Any]:
    """Cosine similarity of answers to the same prompts, with its t interval over prompts.

    `shuffled` is the mean between A's answer to one prompt and B's to the next: what unlike answers of this kind have
    in common. Mean-pooled states of many models have a large common part, and a similarity says little without it.
    """
    left, right = embedder.embed(a), embedder.embed(b)
    cosine = torch.nn.functional.cosine_similarity(left, right, dim=-1).tolist()
    cosine = [1.0 if x == y else value for x, y, value in zip(a, b, cosine, strict=True)]
    others = torch.nn.functional.cosine_similarity(left, right.roll(-1, dims=0), dim=-1).tolist()
    shuffled = sum(others) / len(others) if len(others) > 1 else None
    return {**mean_interval(cosine).as_json(), "shuffled": shuffled}
