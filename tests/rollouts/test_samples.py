"""`holdfast.rollouts.sources.samples`: completions of the student for every batch, or of the base once for all."""

from pathlib import Path

import pytest
import torch

from holdfast.config.settings import ModelSettings, TrainSettings
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.task import Task
from holdfast.model.base import Base
from holdfast.model.load import load_policy
from holdfast.recipes import RFT
from holdfast.recipes.parts.rollouts import RolloutSpec
from holdfast.rollouts.collect import Collector
from holdfast.sampling.sampler import Sampler


def _verify(example: Example, completion: str) -> Verdict:
    """A reward that half of all random texts get."""
    return Verdict(float(sum(map(ord, completion)) % 2 == 0))


def test_samples_drawn_once_are_the_bases_and_the_same_in_every_epoch(tiny_model: Path) -> None:
    """Whatever the student has become meanwhile. Fresh ones differ."""
    task = Task("t", [Example(f"e{i}", (Message(role="user", content=f"{i} ?"),)) for i in range(4)], [], _verify)
    found: dict[str, list[dict[str, list[list[int]]]]] = {}
    for samples in ("once", "fresh"):
        policy = load_policy(ModelSettings(path=str(tiny_model)))
        base = Base(policy)
        train = TrainSettings(prompts_per_step=4, max_completion_length=6)
        recipe = RFT(samples=samples, num_generations=2)  # type: ignore[arg-type]
        made = Collector(policy, Sampler(policy), recipe, train, 0, base if recipe.uses_base() else None)
        made.prepare(task)
        found[samples] = []
        for batch in (0, 1):
            groups, _ = made.collect(task, 1, batch)
            found[samples].append({g.example.id: [row.completion_ids for row in g.rows] for g in groups})
            with torch.no_grad():
                for parameter in policy.named_trainable().values():
                    parameter.mul_(1.5)
    assert found["once"][0] == found["once"][1]
    assert len({tuple(ids) for each in found["once"][0].values() for ids in each}) > 4, "they differ between samples"
    assert found["fresh"][0] != found["fresh"][1]


def test_right_answers_drawn_once_are_imitated_without_a_correction() -> None:
    recipe = RFT(samples="once")
    assert recipe.uses_base()
    assert recipe.objective().importance == "none"
    assert RFT().objective().importance == "token"
    with pytest.raises(ValueError, match="importance_cap is used only if samples is fresh, but samples is once"):
        RFT(samples="once", importance_cap=3.0)
    with pytest.raises(ValueError, match="once is for samples of the base"):
        RolloutSpec(source="student", once=True)
