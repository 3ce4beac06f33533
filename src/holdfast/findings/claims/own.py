"""The claim about our own recipe, on task orders that its settings were never tuned on. Torch-free."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from holdfast.contexts import DEMONSTRATION_TEMPLATE
from holdfast.findings.claim import Arm, Claim, Evidence, Quantity, Summary, Table
from holdfast.findings.claims.keeping import LWF, OLORA
from holdfast.findings.claims.two_stages import SDFT, SDPO_FROZEN
from holdfast.findings.read import metric
from holdfast.measure.forgetting import mean

ORDERS: Mapping[str, list[str]] = {
    "tools-facts": ["lab:tools", "lab:facts"],
    "programs-calculation": ["lab:programs", "lab:calculation"],
}
"""Settings were chosen on calculation before tools and on facts before programs."""

# The lab's answers have few tokens, so that none is skipped; its base knows how a demonstration is shown to it.
_SKIPS_NONE = {"num_loss_tokens_to_skip": 0}
_AS_KNOWN = {"template": DEMONSTRATION_TEMPLATE}
_Recipe = str | Mapping[str, Any]
RIVALS: Mapping[str, _Recipe] = {
    "sft": "sft",
    "dft": "dft",
    "kl-sft": "kl_sft",
    "lwf": LWF.recipe,
    "ewc": "ewc",
    "olora": OLORA.recipe,
    "replay": {"name": "replay", "replay_ratio": 0.25},
    "replay-of-base": {"name": "replay", "replay_ratio": 0.25, "replay_source": "base"},
    "sdft": SDFT.recipe,
    "sdft-frozen": {"name": "sdft", **_SKIPS_NONE, "teacher_kind": "frozen"},
    "sdft-gated": {"name": "sdft", **_SKIPS_NONE, "teacher_kind": "gated"},
    "sdft-trust-region": {"name": "sdft", **_SKIPS_NONE, "teacher_kind": "trust_region"},
    "isdft": {"name": "isdft", **_SKIPS_NONE, "ramp_steps": 0.5},
    "opsd": {"name": "opsd", **_AS_KNOWN, "clip": "token"},
    "beta-opsd": {"name": "beta_opsd", **_AS_KNOWN},
    "vopd": {"name": "vopd", **_AS_KNOWN},
    "stable-opd": {"name": "stable_opd", **_AS_KNOWN},
    "correct-only": {"name": "correct_only", **_SKIPS_NONE},
    "sdpo": "sdpo",
    "sdpo-frozen": SDPO_FROZEN.recipe,
    "sc-sdpo": "sc_sdpo",
    "grpo": "grpo",
    "grpo-kl": {"name": "grpo", "beta": 0.04},
    "sft-then-grpo": "sft_then_grpo",
    "npo": {"name": "npo", "scout_steps": 10},
    "auto-npo": "auto_npo",
    "rlsd": "rlsd",
    "sdpg": "sdpg",
    "rft": "rft",
    "sd-zero": {"name": "sd_zero", "srt_steps": 10},
    "ssd": "ssd",
}
"""Every recipe that these tasks have the data for, and variants that are known to keep more. Those left out want plans,
steps, translations or an expert's actions. Settings counted in steps are cut to the length of a stage."""
NEAREST = ("replay", "sdft", "isdft", "stable-opd")
"""What the quick form runs, on the first order: who came nearest in the full one, and who keeps earlier data too."""

_learned, _lost = metric("learned_score"), metric("loss_of_earlier")


def _net(summary: Summary) -> float | None:
    """Points learnt, right after the stages, less points lost of what was known before them."""
    learned, lost = _learned(summary), _lost(summary)
    return None if learned is None or lost is None else learned - lost


def _arms(rivals: Mapping[str, _Recipe], orders: Mapping[str, list[str]]) -> tuple[Arm, ...]:
    recipes = {"holdfast": "holdfast", **rivals}
    return tuple(
        Arm(
            f"{label}/{order}",
            recipe,
            {**(OLORA.settings if label == "olora" else {}), "tasks": tasks, "eval.probe_steps": 0},
        )
        for order, tasks in orders.items()
        for label, recipe in recipes.items()
    )


def _front(found: Evidence) -> list[Quantity]:
    """Seeds and orders are the units."""
    recipes, orders = _parts(found)
    quantities = []
    for rival in recipes[1:]:
        values = [
            value for order in orders for value in found.difference(f"holdfast/{order}", f"{rival}/{order}", _net)
        ]
        reason = "Orders and seeds differ by more than the two recipes do."
        quantities.append(Quantity(f"learnt less lost, holdfast above {rival}", "points", values, reason))
    return quantities


def _learnt_and_lost(found: Evidence) -> Table:
    """Means over seeds and orders, the largest difference first; on the front nothing learns more and loses less."""
    recipes, orders = _parts(found)
    points = {}
    for recipe in recipes:
        learned, lost = (_over(found, recipe, orders, number) for number in (_learned, _lost))
        if learned is not None and lost is not None:
            points[recipe] = learned, lost
    rows = []
    for recipe, (learned, lost) in sorted(points.items(), key=lambda each: each[1][1] - each[1][0]):
        is_beaten = any(a >= learned and b <= lost and (a, b) != (learned, lost) for a, b in points.values())
        numbers = (f"{learned:.1f}", f"{lost:.1f}", f"{learned - lost:.1f}")
        rows.append((recipe, *numbers, "" if is_beaten else "yes"))
    return Table(("recipe", "learnt, points", "lost, points", "learnt less lost", "on the front"), rows)


def _parts(found: Evidence) -> tuple[list[str], list[str]]:
    """Labels of recipes, holdfast's first, and of orders."""
    pairs = [label.split("/") for label in found.summaries]
    return list(dict.fromkeys(recipe for recipe, _ in pairs)), list(dict.fromkeys(order for _, order in pairs))


def _over(
    found: Evidence, recipe: str, orders: Iterable[str], number: Callable[[Summary], float | None]
) -> float | None:
    values = [value for order in orders for value in found.per_seed(f"{recipe}/{order}", number)]
    return mean(value for value in values if value is not None)


OWN: tuple[Claim, ...] = (
    Claim(
        name="holdfast-on-the-front",
        statement="Under one default setting, holdfast learns more, less what it loses, than every other recipe.",
        source="our own, of arXiv 2609.24646, 2606.03532 and 2605.06188",
        arms=_arms(RIVALS, ORDERS),
        quick_arms=_arms({label: RIVALS[label] for label in NEAREST}, {"tools-facts": ORDERS["tools-facts"]}),
        measure=_front,
        table=_learnt_and_lost,
    ),
)
