"""What the lab's base can do before any stream: its skills on held-out items, answered greedily."""

from collections.abc import Mapping
from typing import Any

from holdfast.config.settings import EvalSettings
from holdfast.evaluate.evaluator import Evaluator
from holdfast.evaluate.standalone import LAB_LENGTHS
from holdfast.lab.tasks import lab_suite
from holdfast.model.policy import Policy
from holdfast.objective.head import OutputHead

SKILLS = {
    "a skill it was taught": "old-skills",
    "a demonstration never seen": "in-context",
    "a novel fact from context": "context-facts",
    "a fact from memory": "old-facts",
}
"""Skills of a base in words, and the suite that measures each."""

WIDE_SKILLS = {
    "known operations, step by step": "known-steps",
    "new operations by a plan": "planned-steps",
    "requests, first language": "useful-first",
    "requests, second language": "useful-second",
    "refusals, first language": "refused-first",
    "known quests over turns": "known-quests",
    "any song of a kind": "any-song",
}
"""Likewise of the wider base."""

ITEMS_WHILE_PRETRAINING = 128
"""Items of each suite that are looked at now and then during pretraining."""


def lab_skills(
    policy: Policy, items: int | None = None, skills: Mapping[str, str] = SKILLS
) -> dict[str, dict[str, Any]]:
    """Score a model on every skill of the lab.

    Args:
        items: use the first so many of each suite.
        skills: which ones.

    Returns:
        For every skill: "suite", "mean", "n" and "ci95", the 95% interval of the mean over items.
    """
    evaluator = Evaluator(policy, None, LAB_LENGTHS, EvalSettings(max_items=items, samples=0))
    suites = [lab_suite(name) for name in skills.values()]
    sets = evaluator.evaluate(0, None, [], suites).sets
    return {
        skill: {"suite": name} | {key: sets[name][key] for key in ("mean", "n", "ci95")}
        for skill, name in skills.items()
    }


def skills_while_pretraining(model: Any, tokenizer: Any, skills: Mapping[str, str] = SKILLS) -> dict[str, float]:
    """Mean score by suite of a model that is still being pretrained; it is left in the mode that it was in."""
    training = model.training
    eos_id = tokenizer.eos_token_id
    head = OutputHead(model.get_output_embeddings())
    policy = Policy(
        model, tokenizer, eos_ids=frozenset({eos_id}), pad_id=tokenizer.pad_token_id, head=head, source="lab"
    )
    scores = {skill["suite"]: skill["mean"] for skill in lab_skills(policy, ITEMS_WHILE_PRETRAINING, skills).values()}
    model.train(training)
    return scores
