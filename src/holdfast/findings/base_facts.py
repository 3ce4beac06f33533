"""What the base does in a world before any stage, for preconditions. Needs torch."""

from dataclasses import asdict
from typing import Any

from holdfast.config.settings import ModelSettings
from holdfast.findings.precondition import BaseFacts
from holdfast.model.load import load_policy
from holdfast.pretrain.success import before_stages

PROMPTS = 64
"""Training prompts of each task, with eight samples each."""


def base_facts(world: int) -> BaseFacts:
    """By task and what the prompt shows beside the question: success and style of sampled answers."""
    facts: dict[str, Any] = {}
    for each in before_stages(load_policy(ModelSettings()), PROMPTS, world):
        style = {} if each.style is None else asdict(each.style)
        facts.setdefault(each.task, {})[each.shown] = {"mean": each.mean, "all_failed": each.all_failed, **style}
    return facts
