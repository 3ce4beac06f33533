"""The arms of the front: recipes with and without replay and blending, on three tasks in two orders. Torch-free.

Every recipe has the same replay, or none, and a learning rate of its own. The rate is chosen in the first order, on the
tuning worlds, and serves both orders: nobody knows the order of tasks to come.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from holdfast.findings.arm import RATES, ClaimArm
from holdfast.findings.arms import sdft
from holdfast.findings.stream import REVERSED, SEQUENCE, Stream
from holdfast.recipes import RECIPES

REPLAY_RATIO = 0.5
"""Prompts of earlier tasks per prompt of the stage."""

BLEND_SHARE = 0.7
"""Share of the trained weights after each stage, for arms that blend. Of two that were tried in a pilot with SDFT and
replay on the tuning worlds, it ended higher: .7 at 83 points, .5 at 75."""

BLENDED_RATES = tuple(2 * rate for rate in RATES)
"""The rates that arms with blending choose from. Going back a part of the way, they can go further."""

ORDERS: tuple[Stream, ...] = (SEQUENCE, REVERSED)


@dataclass(frozen=True)
class FrontArm:
    """A recipe, with or without replay and blending.

    Attributes:
        recipe: the recipe with its settings.
        replays: whether it replays earlier tasks, so that their data must be stored.
        blends: whether weights go a part of the way back to the base after each stage.
    """

    name: str
    recipe: Mapping[str, Any]
    replays: bool
    blends: bool

    @property
    def label(self) -> str:
        """In tables."""
        parts = [self.name, *["replay"] * (self.replays and self.name != "opr"), *["blending"] * self.blends]
        return " + ".join(parts)

    @property
    def first_order(self) -> ClaimArm:
        """The arm in the order in which its rate is chosen."""
        replay = {"replay_ratio": REPLAY_RATIO} if self.replays else {}
        blending = {"blend_share": BLEND_SHARE} if self.blends else {}
        label = f"{self.label.replace(' + ', '-')}@{SEQUENCE.name}"
        rates = BLENDED_RATES if self.blends else RATES
        return ClaimArm(label, {**self.recipe, **replay, **blending}, SEQUENCE, rates=rates)

    @property
    def needs(self) -> frozenset[str]:
        """What every training example must have: "demonstration", "reward". A demonstration is privileged context."""
        names = {"privileged_context": "demonstration"}
        kind = RECIPES[self.recipe["name"]]
        settings = {key: value for key, value in self.recipe.items() if key != "name"}
        return frozenset(names.get(need, need) for need in kind(**settings).required())

    def in_order(self, order: Stream, rate: float) -> ClaimArm:
        """The arm in an order, at the chosen rate."""
        first = self.first_order
        label = first.label.replace(f"@{first.stream.name}", f"@{order.name}")
        return replace(first, label=label, stream=order, rate=rate)


PLAIN: Mapping[str, Mapping[str, Any]] = {
    "sft": {"name": "sft"},
    "rewrite-sft": {"name": "rewrite_sft"},
    "sdft": sdft(),
    "beta-opsd": {"name": "beta_opsd"},
    "vopd": {"name": "vopd"},
    "sdpo": {"name": "sdpo"},
    "grpo": {"name": "grpo"},
    "anchored": {"name": "anchored", "replay_ratio": 0.0},
}

REPLAYED: Mapping[str, Mapping[str, Any]] = {**PLAIN, "opr": {"name": "opr"}}
"""SFT with replay and OPR differ in whose answers are replayed. OPR without replay is SFT."""

BLENDED = ("sft", "rewrite-sft", "sdft", "beta-opsd", "sdpo", "grpo")
"""With replay, each kind of recipe also blends; without replay, those that learn from demonstrations."""

FRONT_ARMS: tuple[FrontArm, ...] = (
    *(FrontArm(name, recipe, replays=False, blends=False) for name, recipe in PLAIN.items()),
    *(FrontArm(name, PLAIN[name], replays=False, blends=True) for name in BLENDED[:3]),
    *(FrontArm(name, recipe, replays=True, blends=False) for name, recipe in REPLAYED.items()),
    *(FrontArm(name, PLAIN[name], replays=True, blends=True) for name in BLENDED),
)
