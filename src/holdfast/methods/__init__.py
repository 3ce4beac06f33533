"""One short file per recipe: a wiring of the shared parts, and its paper's defaults."""

from holdfast.methods.actguide import ActGuide
from holdfast.methods.atesd import ATESD
from holdfast.methods.auto_npo import AutoNPO
from holdfast.methods.base import Recipe
from holdfast.methods.beta_opsd import BetaOPSD
from holdfast.methods.correct_only import CorrectOnly
from holdfast.methods.dft import DFT
from holdfast.methods.ewc import EWC
from holdfast.methods.grpo import GRPO
from holdfast.methods.holdfast import Holdfast
from holdfast.methods.isdft import ISDFT
from holdfast.methods.kl_sft import KLSFT
from holdfast.methods.msd import MSD
from holdfast.methods.npo import NPO
from holdfast.methods.olora import OLoRA
from holdfast.methods.opsd import OPSD
from holdfast.methods.replay import Replay
from holdfast.methods.rft import RFT
from holdfast.methods.rlsd import RLSD
from holdfast.methods.sc_sdpo import SCSDPO
from holdfast.methods.sd_zero import SDZero
from holdfast.methods.sdft import SDFT
from holdfast.methods.sdpg import SDPG
from holdfast.methods.sdpo import SDPO
from holdfast.methods.sft import SFT
from holdfast.methods.sft_then_grpo import SFTThenGRPO
from holdfast.methods.sort import SORT
from holdfast.methods.ssd import SSD
from holdfast.methods.stable_opd import StableOPD
from holdfast.methods.vopd import VOPD

RECIPES: dict[str, type[Recipe]] = {
    recipe.name: recipe
    for recipe in (
        Holdfast,
        SFT,
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
"""Every known recipe by name; a recipe of one's own is added with `register`."""


def register(recipe: type[Recipe]) -> type[Recipe]:
    """Make a recipe known under its name; usable as a class decorator."""
    RECIPES[recipe.name] = recipe
    return recipe
