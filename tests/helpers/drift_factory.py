"""Weights, model folders and an independent implementation of the metrics, for tests of parameter drift."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from holdfast.evaluate.drift import Metrics

Weights = Mapping[str, Tensor]


def save_model(folder: Path, weights: Weights, shards: int = 1, **config: Any) -> Path:
    """Write a folder with weights in safetensors and a config.json with the given keys."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    weights = {name: tensor.contiguous() for name, tensor in weights.items()}
    if shards == 1:
        save_file(dict(weights), folder / "model.safetensors")
        return folder
    parts = [dict(list(weights.items())[index::shards]) for index in range(shards)]
    where = {}
    for index, part in enumerate(parts):
        name = f"model-{index + 1:05d}-of-{shards:05d}.safetensors"
        save_file(part, folder / name)
        where |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def orthonormal(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(random(rows, columns, seed=seed).double()).Q


NAMES = {
    "model.embed_tokens.weight": (50, 16),
    "model.layers.0.self_attn.q_proj.weight": (24, 16),
    "model.layers.0.mlp.down_proj.weight": (16, 40),
    "model.layers.0.input_layernorm.weight": (16,),
    "model.layers.10.self_attn.q_proj.weight": (24, 16),
    "model.layers.2.self_attn.q_proj.weight": (24, 16),
    "model.norm.weight": (16,),
}


def weights(seed: int = 0) -> dict[str, Tensor]:
    return {name: random(*shape, seed=seed + i) for i, (name, shape) in enumerate(NAMES.items())}


def trained(start: Weights, size: float = 1e-2, seed: int = 100) -> dict[str, Tensor]:
    return {name: w + size * random(*w.shape, seed=seed + i) for i, (name, w) in enumerate(start.items())}


def by_numpy(before: Tensor, after: Tensor, k: int, share: float) -> dict[str, float]:
    """All metrics by their definitions, from numpy's full SVD in float64."""
    w, v = (tensor.float().numpy().astype(np.float64) for tensor in (before, after))
    (u0, s0, vh0), (u1, s1, vh1) = (np.linalg.svd(each, full_matrices=False) for each in (w, v))
    step = np.linalg.svd(v - w, compute_uv=False)
    taken = round(share * w.size)

    def angle(a: np.ndarray, b: np.ndarray) -> float:
        return math.degrees(math.acos(min(1.0, np.linalg.svd(a.T @ b, compute_uv=False).min())))

    def top(u: np.ndarray, s: np.ndarray, vh: np.ndarray) -> np.ndarray:
        size = np.abs((u[:, :k] * s[:k]) @ vh[:k])
        return size >= np.sort(size, axis=None)[-taken]

    principal, now = top(u0, s0, vh0), top(u1, s1, vh1)
    low = np.abs(w) <= np.sort(np.abs(w), axis=None)[taken - 1]
    changed = np.abs(v - w) > 1e-3 * np.maximum(np.abs(v), np.abs(w))
    return {
        "norm": np.linalg.norm(w),
        "update_norm": np.linalg.norm(v - w),
        "relative_norm": np.linalg.norm(v - w) / np.linalg.norm(w),
        "unchanged": 1 - changed.mean(),
        "spectral_shift": np.linalg.norm(s1 - s0) / np.linalg.norm(s0),
        "left_angle": angle(u0[:, :k], u1[:, :k]),
        "right_angle": angle(vh0[:k].T, vh1[:k].T),
        "gap": 1 - s0[k] / s0[k - 1],
        "stable_rank": (step**2).sum() / step[0] ** 2,
        "principal_overlap": (principal & now).sum() / principal.sum(),
        "principal_changed": (principal & changed).sum() / principal.sum(),
        "changes_in_principal": (principal & changed).sum() / changed.sum(),
        "changes_in_low": (low & changed).sum() / changed.sum(),
    }


def assert_same(found: Metrics, expected: Mapping[str, float | None], rel: float = 1e-4) -> None:
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, rel=rel, abs=1e-12), name
