"""`holdfast.stream.kept_weights`: what is kept comes back bit for bit, and a damaged file counts as not kept."""

from pathlib import Path

import pytest
import torch

from holdfast.config.settings import ModelSettings
from holdfast.model.load import load_policy
from holdfast.model.policy import Policy
from holdfast.stream.kept_weights import KeptWeights
from tiny_model import SAMPLE_TEXTS, build_tiny_model


@pytest.fixture(params=[{}, {"lora": {"r": 4}}], ids=["whole", "adapter"])
def policy(request: pytest.FixtureRequest, tmp_path: Path) -> Policy:
    folder = build_tiny_model(tmp_path / "model", hidden_size=32, layers=2, vocab_size=300, texts=SAMPLE_TEXTS)
    return load_policy(ModelSettings.model_validate({"path": str(folder), **request.param}), seed=0)


@torch.no_grad()
def _stir(policy: Policy) -> dict[str, torch.Tensor]:
    for weight in policy.named_trainable().values():
        weight += torch.randn_like(weight)
    return {name: weight.clone() for name, weight in policy.named_trainable().items()}


def _is(policy: Policy, weights: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(weight, weights[name]) for name, weight in policy.named_trainable().items())


def test_kept_weights_come_back(policy: Policy, tmp_path: Path) -> None:
    kept, at = KeptWeights(tmp_path / "kept-weights", policy), {}
    for step in (1, 2, 10):
        at[step] = _stir(policy)
        kept.keep(1, step)
    assert kept.steps(1) == {1, 2, 10}
    assert kept.steps(2) == set()
    for step in (2, 1, 10):
        assert kept.load(1, step)
        assert _is(policy, at[step])
    at[2] = _stir(policy)
    kept.keep(1, 2)
    assert kept.load(1, 1)
    assert kept.load(1, 2)
    assert _is(policy, at[2])
    kept.remove(1, lambda step: step < 10)
    assert kept.steps(1) == {10}
    kept.remove_folder()
    assert kept.steps(1) == set()
    assert not kept.folder.exists()


def test_a_damaged_or_missing_step_changes_nothing(policy: Policy, tmp_path: Path) -> None:
    kept = KeptWeights(tmp_path / "kept-weights", policy)
    kept.keep(1, 1)
    (file,) = kept.folder.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    now = _stir(policy)
    assert not kept.load(1, 1)
    assert not kept.load(1, 2)
    assert _is(policy, now)
