"""The claim about our own recipe, on task orders that its settings were never tuned on. Torch-free."""

from collections.abc import Mapping
from typing import Any

from holdfast.contexts import DEMONSTRATION_TEMPLATE
from holdfast.findings.claim import Arm, Claim, Evidence, Quantity, Summary
from holdfast.findings.read import metric

ORDERS: Mapping[str, list[str]] = {
    "tools-facts": ["lab:tools", "lab:facts"],
    "programs-calculation": ["lab:programs", "lab:calculation"],
}
"""Settings were chosen on calculation before tools and on facts before programs."""

# The lab's answers have few tokens, so that none is skipped; its base knows how a demonstration is shown to it.
_SKIPS_NONE = {"num_loss_tokens_to_skip": 0}
_AS_KNOWN = {"template": DEMONSTRATION_TEMPLATE}
RIVALS: Mapping[str, str | Mapping[str, Any]] = {
    "sft": "sft",
    "dft": "dft",
    "kl-sft": "kl_sft",
    "replay": {"name": "replay", "replay_ratio": 0.25},
    "sdft": {"name": "sdft", **_SKIPS_NONE},
    "isdft": {"name": "isdft", **_SKIPS_NONE, "ramp_steps": 0.5},
    "opsd": {"name": "opsd", **_AS_KNOWN, "clip": "token"},
    "beta-opsd": {"name": "beta_opsd", **_AS_KNOWN},
    "vopd": {"name": "vopd", **_AS_KNOWN},
    "stable-opd": {"name": "stable_opd", **_AS_KNOWN},
    "correct-only": {"name": "correct_only", **_SKIPS_NONE},
    "sdpo": "sdpo",
    "sc-sdpo": "sc_sdpo",
    "grpo": "grpo",
    "rlsd": "rlsd",
    "sdpg": "sdpg",
    "rft": "rft",
}
NEAREST = ("replay", "sdft", "isdft", "stable-opd")
"""What the quick form runs, on the first order: who came nearest in the full one, and who keeps earlier data too."""

_learned, _lost = metric("learned_score"), metric("loss_of_earlier")


def _net(summary: Summary) -> float | None:
    """Points learnt, right after the stages, less points lost of what was known before them."""
    learned, lost = _learned(summary), _lost(summary)
    return None if learned is None or lost is None else learned - lost


def _arms(rivals: Mapping[str, str | Mapping[str, Any]], orders: Mapping[str, list[str]]) -> tuple[Arm, ...]:
    recipes = {"holdfast": "holdfast", **rivals}
    return tuple(
        Arm(f"{label}/{order}", recipe, {"tasks": tasks})
        for order, tasks in orders.items()
        for label, recipe in recipes.items()
    )


def _front(found: Evidence) -> list[Quantity]:
    """Seeds and orders are the units; a rival that learns more, or loses less, by more than the other side pays."""
    pairs = [label.split("/") for label in found.summaries]
    orders = dict.fromkeys(order for _, order in pairs)
    quantities = []
    for rival in dict.fromkeys(label for label, _ in pairs if label != "holdfast"):
        values = [
            value for order in orders for value in found.difference(f"holdfast/{order}", f"{rival}/{order}", _net)
        ]
        reason = "Both learn nearly all that can be learnt in so few steps, and lose little of it."
        quantities.append(Quantity(f"learnt less lost, holdfast above {rival}", "points", values, reason))
    return quantities


OWN: tuple[Claim, ...] = (
    Claim(
        name="holdfast-on-the-front",
        statement="Under one default setting, holdfast learns more, less what it loses, than every other recipe.",
        source="our own, of arXiv 2609.24646, 2606.03532 and 2605.06188",
        arms=_arms(RIVALS, ORDERS),
        quick_arms=_arms({label: RIVALS[label] for label in NEAREST}, {"tools-facts": ORDERS["tools-facts"]}),
        measure=_front,
    ),
)
