"""The skills of the lab's base before any stream, on held-out items, with greedy decoding."""

from collections.abc import Mapping
from typing import Any

from holdfast.config.settings import EvalSettings
from holdfast.evaluation.evaluator import Evaluator
from holdfast.evaluation.standalone import LAB_LENGTHS
from holdfast.lab.tasks import lab_suite
from holdfast.model.policy import Policy
from holdfast.objective.head import OutputHead

SKILLS = {
    "a fact from pretraining": "old-facts",
    "a skill from pretraining": "old-skills",
    "the form that a header asks for": "instruction-format",
    "a new demonstration": "in-context",
    "steps with known operations": "known-steps",
    "steps with new operations and a plan": "planned-steps",
    "requests, first language": "useful-first",
    "requests, second language": "useful-second",
    "refusals, first language": "refused-first",
    "known quests, over several turns": "known-quests",
    "any song of a kind": "any-song",
}
"""Skills of the base, with the suite that measures each."""

ITEMS_WHILE_PRETRAINING = 128
"""Items of each suite that are evaluated during pretraining, whenever the state is saved."""


def lab_skills(
    policy: Policy, items: int | None = None, skills: Mapping[str, str] = SKILLS
) -> dict[str, dict[str, Any]]:
    """Score a model on every skill of the lab.

    Args:
        items: number of items per suite, from its start; None for all.
        skills: the skills, with their suites.

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
    """Mean score by suite, for a model during pretraining. Its training mode is restored afterwards."""
    training = model.training
    eos_id = tokenizer.eos_token_id
    head = OutputHead(model.get_output_embeddings())
    policy = Policy(
        model, tokenizer, eos_ids=frozenset({eos_id}), pad_id=tokenizer.pad_token_id, head=head, source="lab"
    )
    scores = {skill["suite"]: skill["mean"] for skill in lab_skills(policy, ITEMS_WHILE_PRETRAINING, skills).values()}
    model.train(training)
    return scores
