"""`holdfast.evaluate.against_base`: divergences, compared with the models' own logits over single sequences."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from holdfast.config.settings import EvalSettings, ModelSettings
from holdfast.data.seeds import derive_seed
from holdfast.evaluate.against_base import AgainstBase, mean_per_token
from holdfast.model.base import Base
from holdfast.model.load import load_policy
from holdfast.sampling.sampler import Completion, Request, Sampler

PROMPTS = {"one": [[5, 6, 7], [8, 9]], "two": [[10, 11, 12, 13]]}


@pytest.mark.parametrize("lora", [None, {"r": 2}])
@pytest.mark.parametrize("batch_tokens", [4, 4096])
def test_divergences_are_those_of_the_models_own_logits(tiny_model: Path, lora: Any, batch_tokens: int) -> None:
    settings = {"path": str(tiny_model), "lora": lora}
    before = load_policy(ModelSettings.model_validate(settings))
    policy = load_policy(ModelSettings.model_validate(settings))
    base = Base(policy)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in policy.named_trainable().values():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    asked: list[int] = []

    def generate(sampler: Sampler, requests: Sequence[Request]) -> list[Completion]:
        return sampler.generate(requests, max_new_tokens=5, batch_tokens=4096)

    def counted(sampler: Sampler, requests: Sequence[Request]) -> list[Completion]:
        asked.append(len(requests))
        return generate(sampler, requests)

    against = AgainstBase(policy, base, EvalSettings(batch_tokens=batch_tokens), counted)
    places = [(name, i, ids) for name, own in PROMPTS.items() for i, ids in enumerate(own)]
    for found, sampled in ((against.on_base_answers(PROMPTS), before), (against.on_own_answers(PROMPTS), policy)):
        answers = _answers(sampled, places)
        each = iter([one for own in found.values() for one in own])
        for (_, _, prompt), answer in zip(places, answers, strict=True):
            p, q = (_log_probabilities(model, prompt, answer) for model in (before, policy))
            got = next(each)
            assert got.tokens == len(answer)
            assert got.kl_ab == pytest.approx(float((p.exp() * (p - q)).sum()), rel=1e-3)
            assert got.kl_ba == pytest.approx(float((q.exp() * (q - p)).sum()), rel=1e-3)
            assert got.entropy_a == pytest.approx(float(-(p.exp() * p).sum()), rel=1e-4)
            assert got.entropy_b == pytest.approx(float(-(q.exp() * q).sum()), rel=1e-4)
    # The base's answers are sampled only once, even if other sets are asked together later.
    asked.clear()
    again = against.on_base_answers({"two": PROMPTS["two"]})["two"]
    assert asked == []
    whole = against.on_base_answers(PROMPTS)["two"]
    assert mean_per_token(again, "kl_ab").mean == pytest.approx(mean_per_token(whole, "kl_ab").mean, rel=1e-4)


def _answers(policy: Any, places: Sequence[tuple[str, int, list[int]]]) -> list[list[int]]:
    requests = [Request(ids, seed=derive_seed("kl_to_base", name, i), temperature=1.0) for name, i, ids in places]
    return [c.ids for c in Sampler(policy).generate(requests, max_new_tokens=5, batch_tokens=4096)]


def _log_probabilities(policy: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return logits.double().log_softmax(-1)
