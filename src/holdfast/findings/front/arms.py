"""The arms of the front: recipes with and without replay, on three tasks in two orders. Torch-free.

Every recipe has the same replay, or none, and a learning rate of its own. The rate is chosen in the first order, on the
tuning worlds, and serves both orders: nobody knows the order of tasks to come.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from holdfast.findings.arm import ClaimArm
from holdfast.findings.arms import GRPO_SEQUENCE, SDFT_SEQUENCE, SFT_SEQUENCE, sdft, sdpo
from holdfast.findings.stream import REVERSED, SEQUENCE, Stream
from holdfast.recipes import RECIPES

REPLAY_RATIO = 0.5
"""Prompts of earlier tasks per prompt of the stage."""

ORDERS: tuple[Stream, ...] = (SEQUENCE, REVERSED)


@dataclass(frozen=True)
class FrontArm:
    """A recipe, with or without replay.

    Attributes:
        label: in tables.
        first_order: the arm in the order in which its rate is chosen.
        stores_data: whether it needs data of earlier tasks.
        uses_verifier: whether it uses a verifier that its recipe could do without.
    """

    label: str
    first_order: ClaimArm
    stores_data: bool
    uses_verifier: bool = False

    @property
    def recipe(self) -> str:
        """The recipe's name."""
        recipe = self.first_order.recipe
        return recipe if isinstance(recipe, str) else str(recipe["name"])

    @property
    def needs(self) -> frozenset[str]:
        """What every training example must have: "demonstration", "reward". A demonstration is privileged context."""
        names = {"privileged_context": "demonstration"}
        needs = frozenset(names.get(need, need) for need in RECIPES[self.recipe].needs)
        return needs | {"reward"} if self.uses_verifier else needs

    def in_order(self, order: Stream, rate: float) -> ClaimArm:
        """The arm in an order, at the chosen rate."""
        if order == self.first_order.stream:
            return self.first_order
        recipe = self.first_order.label.partition("@")[0]
        return replace(self.first_order, label=f"{recipe}@{order.name}", stream=order, rate=rate)


WITHOUT_REPLAY: Mapping[str, ClaimArm] = {
    "sft": SFT_SEQUENCE,
    "rewrite-sft": ClaimArm("rewrite-sft@sequence", "rewrite_sft", SEQUENCE),
    "sdft": SDFT_SEQUENCE,
    "beta-opsd": ClaimArm("beta-opsd@sequence", "beta_opsd", SEQUENCE),
    "vopd": ClaimArm("vopd@sequence", "vopd", SEQUENCE),
    "sdpo": ClaimArm("sdpo@sequence", sdpo(), SEQUENCE),
    "grpo": GRPO_SEQUENCE,
    "anchored": ClaimArm("anchored@sequence", {"name": "anchored", "replay_ratio": 0.0}, SEQUENCE),
}

REPLAYED: Mapping[str, Mapping[str, Any]] = {
    "sft": {"name": "sft"},
    "opr": {"name": "opr"},
    "rewrite-sft": {"name": "rewrite_sft"},
    "sdft": sdft(),
    "beta-opsd": {"name": "beta_opsd"},
    "vopd": {"name": "vopd"},
    "sdpo": sdpo(),
    "grpo": {"name": "grpo"},
    "anchored": {"name": "anchored"},
}

FRONT_ARMS: tuple[FrontArm, ...] = (
    *(
        FrontArm(label, arm, stores_data=False, uses_verifier=label == "rewrite-sft")
        for label, arm in WITHOUT_REPLAY.items()
    ),
    *(
        FrontArm(
            "opr" if label == "opr" else f"{label} + replay",
            ClaimArm(f"{label}-replay@sequence", {**recipe, "replay_ratio": REPLAY_RATIO}, SEQUENCE),
            stores_data=True,
            uses_verifier=label == "rewrite-sft",
        )
        for label, recipe in REPLAYED.items()
    ),
)
"""SFT with replay of demonstrations and OPR differ in whose answers are replayed. OPR without replay is SFT."""
