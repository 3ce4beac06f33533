"""Similarity of texts by an embedding model: its last hidden states, pooled as the model's files say."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from holdfast.errors import ModelError
from holdfast.measure.statistics import mean_interval
from holdfast.tasks.files import first_line

BATCH = 32
"""Texts of one forward pass."""

LONGEST = 8192
"""Tokens of a text that are read, unless the model's own limit is smaller."""

Pooling = Literal["mean_tokens", "cls_token", "lasttoken"]

_POOLINGS: tuple[Pooling, ...] = ("mean_tokens", "cls_token", "lasttoken")


class Embedder:
    """An embedding model from a local folder.

    Args:
        folder: as written by `save_pretrained` of transformers or sentence-transformers, with weights as safetensors.
            The folder's own code is not run. Hidden states are averaged over a text's tokens, unless the files of
            sentence-transformers ask for the first or the last token's.

    Raises:
        ModelError: it cannot be loaded, or uses another kind of pooling.
    """

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu") -> None:
        where = f"embedding model {str(folder)!r}"
        if not (Path(folder) / "config.json").is_file():
            raise ModelError("there is no folder with a config.json", where=where, fix="name a local model folder")
        self.pooling = _pooling(Path(folder), where)
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
        """Pooled last hidden states [N, H] of texts; zeros for a text without tokens."""
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
            # A row without tokens has nothing to attend to, so its states may be NaN.
            hidden = hidden.masked_fill(mask[:, :, None] == 0, 0.0)
            pooled.append(self._pooled(hidden, mask.sum(1)).cpu())
        return torch.cat(pooled)

    def _pooled(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Pool hidden states [B, T, H], padded on the right with zeros, of texts with `lengths` [B] tokens: [B, H]."""
        if self.pooling == "mean_tokens":
            return hidden.sum(1) / lengths[:, None].clamp_min(1)
        place = lengths.clamp_min(1) - 1 if self.pooling == "lasttoken" else torch.zeros_like(lengths)
        return hidden[torch.arange(len(hidden), device=hidden.device), place]


def _pooling(folder: Path, where: str) -> Pooling:
    """The pooling in the files of sentence-transformers; the mean if there are none."""
    modules = _json(folder / "modules.json", where) or []
    kinds = [str(each.get("type", "")).rpartition(".")[2] for each in modules]
    others = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    place = next((str(each.get("path", "")) for each, kind in zip(modules, kinds) if kind == "Pooling"), "1_Pooling")
    settings = _json(folder / place / "config.json", where) or {"pooling_mode_mean_tokens": True}
    chosen = [
        key.removeprefix("pooling_mode_") for key, on in settings.items() if key.startswith("pooling_") and on is True
    ]
    pooling = next((each for each in _POOLINGS if chosen == [each]), None)
    if others or pooling is None:
        kind = ", ".join(others or chosen) or "an unknown pooling"
        fix = "name a model that pools by the mean, the first token or the last token"
        raise ModelError(f"its embeddings are pooled by {kind}, which is not supported", where=where, fix=fix)
    return pooling


def _json(path: Path, where: str) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        fix = "download the model again"
        raise ModelError(f"{path.name} cannot be read: {first_line(error)}", where=where, fix=fix) from error


def compare_embeddings(embedder: Embedder, a: Sequence[str], b: Sequence[str]) -> dict[str, Any]:
    """Cosine similarity of answers to the same prompts, with its t interval over prompts.

    `shuffled` is the mean similarity of A's answer to one prompt and B's answer to the next. It is the baseline for
    unrelated answers: mean-pooled states of many models have a large common part, so a similarity alone says little.
    """
    left, right = embedder.embed(a), embedder.embed(b)
    cosine = torch.nn.functional.cosine_similarity(left, right, dim=-1).tolist()
    cosine = [1.0 if x == y else value for x, y, value in zip(a, b, cosine, strict=True)]
    others = torch.nn.functional.cosine_similarity(left, right.roll(-1, dims=0), dim=-1).tolist()
    shuffled = sum(others) / len(others) if len(others) > 1 else None
    return {**mean_interval(cosine).as_json(), "shuffled": shuffled}
