"""The claim about our own recipe, on task orders that were not used to tune its settings. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from holdfast.data.teacher_prompts import DEMONSTRATION_TEMPLATE
from holdfast.findings.claim import Claim, ClaimArm, Evidence, Quantity, SummaryJson, Table, minus
from holdfast.findings.claims.keeping import LWF, OLORA
from holdfast.findings.claims.two_stages import SDFT, SDPO_FROZEN
from holdfast.findings.read import POINTS, generated_tokens, metric
from holdfast.measure.scores import mean
from holdfast.measure.statistics import mean_interval

ORDERS: Mapping[str, list[str]] = {
    "facts-calculation": ["lab:facts", "lab:calculation"],
    "tools-programs": ["lab:tools", "lab:programs"],
}
"""The settings were chosen on four other orders: calculation → tools, facts → programs, tools → facts, and programs →
calculation. These two orders were never run before."""

# The lab's answers have few tokens, so none is skipped.
_SKIPS_NONE = {"num_loss_tokens_to_skip": 0}

# The lab's base was pretrained with this prompt template for demonstrations.
_KNOWN_TEMPLATE = {"template": DEMONSTRATION_TEMPLATE}

_Recipe = str | Mapping[str, Any]

OURS = "anchored"
"""Our recipe, and its label."""

RIVALS: Mapping[str, _Recipe] = {
    "sft": "sft",
    "dft": "dft",
    "talr": "talr",
    "eaft": "eaft",
    "asft": "asft",
    "kl-sft": "kl_sft",
    "lwf": LWF.recipe,
    "tmkl": "tmkl",
    "ewc": "ewc",
    "olora": OLORA.recipe,
    "replay": {"name": "replay", "replay_ratio": 0.5},
    "replay-of-base": {"name": "replay", "replay_ratio": 0.5, "replay_source": "base"},
    "opr": {"name": "opr", "replay_ratio": 0.5},
    "rad": {"name": "rad", "replay_ratio": 0.5},
    "sdft": SDFT.recipe,
    "sdft-frozen": {"name": "sdft", **_SKIPS_NONE, "teacher_kind": "frozen"},
    "sdft-gated": {"name": "sdft", **_SKIPS_NONE, "teacher_kind": "gated"},
    "sdft-trust-region": {"name": "sdft", **_SKIPS_NONE, "teacher_kind": "trust_region"},
    "isdft": {"name": "isdft", **_SKIPS_NONE, "ramp_steps": 0.5},
    "opsd": {"name": "opsd", **_KNOWN_TEMPLATE, "clip": "token"},
    "beta-opsd": {"name": "beta_opsd", **_KNOWN_TEMPLATE},
    "vopd": {"name": "vopd", **_KNOWN_TEMPLATE},
    "stable-opd": {"name": "stable_opd", **_KNOWN_TEMPLATE},
    "correct-only": {"name": "correct_only", **_SKIPS_NONE},
    "sdpo": "sdpo",
    "sdpo-frozen": SDPO_FROZEN.recipe,
    "sc-sdpo": "sc_sdpo",
    "grpo": "grpo",
    "grpo-kl": {"name": "grpo", "beta": 0.04},
    "rapo": "rapo",
    "cpo": "cpo",
    "sft-then-grpo": "sft_then_grpo",
    "npo": {"name": "npo", "scout_steps": 10},
    "auto-npo": "auto_npo",
    "rlsd": "rlsd",
    "sdpg": "sdpg",
    "rft": "rft",
    "sd-zero": {"name": "sd_zero", "srt_steps": 10},
    "ssd": "ssd",
}
"""Every recipe that these tasks have data for, and variants that are known to forget less. The others need plans,
steps, translations or an expert's actions. Replay uses as many earlier prompts as `anchored`. Settings counted in steps
are shortened to the length of a stage."""

NEAREST = ("beta-opsd", "replay")
"""The rivals of the quick form: the closest one on other orders, and the one that also keeps earlier data."""

_learned = metric("learned_score")


def _lost(summary: SummaryJson) -> float | None:
    """Forgetting: the mean loss on earlier tasks and retention suites, in points, where a gain counts as 0.

    A gain on one set does not offset a loss on another. Otherwise a recipe that learned a task badly in its stage, and
    still practices it, would seem to forget less than a recipe that learned it well.
    """
    lost = mean(max(0.0, each) for each in summary["metrics"]["loss_of_earlier"]["per_set"].values())
    return None if lost is None else POINTS * lost


def _net(summary: SummaryJson) -> float | None:
    """Improvement minus forgetting: the score on new tasks after their stages, minus `_lost`; in points."""
    learned, lost = _learned(summary), _lost(summary)
    return None if learned is None or lost is None else learned - lost


def _arms(rivals: Mapping[str, _Recipe]) -> tuple[ClaimArm, ...]:
    recipes = {OURS: OURS, **rivals}
    return tuple(
        ClaimArm(
            f"{label}/{order}",
            recipe,
            {
                **(OLORA.settings if label == "olora" else {}),
                "tasks": tasks,
                "eval.probe_steps": 0,
                "eval.kl_items": 0,
            },
        )
        for order, tasks in ORDERS.items()
        for label, recipe in recipes.items()
    )


def _front(evidence: Evidence) -> list[Quantity]:
    """Seeds are the units. The two orders are averaged within each seed."""
    ours, *rivals = _recipes(evidence)
    reason = "Orders and seeds differ more than the two recipes, or the steps are too few for both to learn."
    return [
        Quantity(
            f"improvement minus forgetting, {ours} − {rival}",
            "points",
            _difference(evidence, ours, rival, _net),
            reason,
        )
        for rival in rivals
    ]


def _improvement_and_forgetting(evidence: Evidence) -> Table:
    """Means over seeds, best recipe first, and each recipe's difference from ours in both."""
    ours, *rivals = _recipes(evidence)
    rows = []
    for recipe in (ours, *rivals):
        learned, lost, net = (mean_interval(_by_seed(evidence, recipe, n)).mean for n in (_learned, _lost, _net))
        if net is None:
            continue
        by_order = [_of_order(evidence, recipe, order) for order in ORDERS]
        differences: tuple[str, ...] = ("", "")
        if recipe != ours:
            differences = tuple(_with_interval(_difference(evidence, recipe, ours, n)) for n in (_learned, _lost))
        tokens = f"{mean_interval(_by_seed(evidence, recipe, generated_tokens)).mean or 0:,.0f}"
        rows.append((net, (recipe, f"{net:.1f}", f"{learned:.1f}", f"{lost:.1f}", *by_order, *differences, tokens)))
    orders = [f"improvement / forgetting, {order.replace('-', ' → ')}" for order in ORDERS]
    compared = (f"improvement − {ours}'s", f"forgetting − {ours}'s")
    head = (
        "recipe",
        "improvement minus forgetting",
        "improvement",
        "forgetting",
        *orders,
        *compared,
        "generated tokens",
    )
    return Table(head, [row for _, row in sorted(rows, key=lambda each: -each[0])])


def _difference(
    evidence: Evidence, a: str, b: str, number: Callable[[SummaryJson], float | None]
) -> list[float | None]:
    return minus(_by_seed(evidence, a, number), _by_seed(evidence, b, number))


def _with_interval(values: Sequence[float | None]) -> str:
    """A difference with its 95% interval over seeds."""
    known = mean_interval(values)
    if known.mean is None:
        return "–"
    return f"{known.mean:+.1f}" + ("" if known.ci95 is None else f" ({known.ci95[0]:+.1f} to {known.ci95[1]:+.1f})")


def _recipes(evidence: Evidence) -> list[str]:
    """Labels of the recipes, ours first."""
    return list(dict.fromkeys(label.split("/")[0] for label in evidence.summaries))


def _by_seed(evidence: Evidence, recipe: str, number: Callable[[SummaryJson], float | None]) -> list[float | None]:
    """The mean over orders, seed by seed; None if it is not defined for one of the orders."""
    by_order = zip(*(evidence.per_seed(f"{recipe}/{order}", number) for order in ORDERS), strict=True)
    return [None if None in values else mean(v for v in values if v is not None) for values in by_order]


def _of_order(evidence: Evidence, recipe: str, order: str) -> str:
    means = [mean_interval(evidence.per_seed(f"{recipe}/{order}", number)).mean for number in (_learned, _lost)]
    return " / ".join("–" if each is None else f"{each:.1f}" for each in means)


OWN: tuple[Claim, ...] = (
    Claim(
        name="anchored-on-the-front",
        statement="With one default setting, the recipe anchored has a higher improvement minus forgetting than every "
        "other recipe that the lab's tasks have data for. Improvement is the mean score on the new tasks, each right "
        "after its stage. Forgetting is the mean loss on earlier tasks and retention suites, where a gain counts as "
        "0. The recipe also practices earlier tasks, on up to 50% additional prompts.",
        source="our own, of arXiv 2607.28582 and 2609.24646",
        arms=_arms(RIVALS),
        quick_arms=_arms({label: RIVALS[label] for label in NEAREST}),
        measure=_front,
        table=_improvement_and_forgetting,
        title="Comparison of all recipes",
    ),
)
