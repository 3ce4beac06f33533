"""Recipes: one short file each. A recipe combines shared parts and has its paper's defaults.

A recipe file needs two others to be understood: `base/recipe.py`, the methods that a recipe has, and for those with a
teacher `base/distillation.py`, the settings that they share.
"""

from holdfast.recipes.actguide import ActGuide
from holdfast.recipes.anchored import Anchored
from holdfast.recipes.atesd import ATESD
from holdfast.recipes.auto_npo import AutoNPO
from holdfast.recipes.base.recipe import Recipe
from holdfast.recipes.beta_opsd import BetaOPSD
from holdfast.recipes.correct_only import CorrectOnly
from holdfast.recipes.dft import DFT
from holdfast.recipes.ewc import EWC
from holdfast.recipes.grpo import GRPO
from holdfast.recipes.isdft import ISDFT
from holdfast.recipes.kl_sft import KLSFT
from holdfast.recipes.msd import MSD
from holdfast.recipes.npo import NPO
from holdfast.recipes.olora import OLoRA
from holdfast.recipes.opsd import OPSD
from holdfast.recipes.replay import Replay
from holdfast.recipes.rewrite_sft import RewriteSFT
from holdfast.recipes.rft import RFT
from holdfast.recipes.rlsd import RLSD
from holdfast.recipes.sc_sdpo import SCSDPO
from holdfast.recipes.sd_zero import SDZero
from holdfast.recipes.sdft import SDFT
from holdfast.recipes.sdpg import SDPG
from holdfast.recipes.sdpo import SDPO
from holdfast.recipes.sft import SFT
from holdfast.recipes.sft_then_grpo import SFTThenGRPO
from holdfast.recipes.sort import SORT
from holdfast.recipes.ssd import SSD
from holdfast.recipes.stable_opd import StableOPD
from holdfast.recipes.vopd import VOPD

RECIPES: dict[str, type[Recipe]] = {
    recipe.name: recipe
    for recipe in (
        Anchored,
        SFT,
        RewriteSFT,
        DFT,
        KLSFT,
        Replay,
        EWC,
        OLoRA,
        SDFT,
        ISDFT,
        OPSD,
        BetaOPSD,
        ATESD,
        VOPD,
        StableOPD,
        MSD,
        CorrectOnly,
        SDPO,
        SCSDPO,
        GRPO,
        SFTThenGRPO,
        SORT,
        NPO,
        AutoNPO,
        ActGuide,
        RLSD,
        SDPG,
        RFT,
        SDZero,
        SSD,
    )
}
"""All recipes by name. `register` adds your own."""


def register(recipe: type[Recipe]) -> type[Recipe]:
    """Add a recipe under its name; works as a class decorator."""
    RECIPES[recipe.name] = recipe
    return recipe
