"""Claims about showing somebody's actions, on the wider lab's quests, of which the base solves .8%. Torch-free.

All arms take as many steps on as many prompts; of prompts that fail, action guidance samples up to 2.3 times as much,
which stands beside its score.
"""

from holdfast.findings.claim import MARGIN, Claim, ClaimArm, Evidence, Quantity
from holdfast.findings.read import metric, suites_lost

QUESTS = {
    "model.path": "lab-wide",
    "tasks": ["lab:quests"],
    "suites": ["lab:known-quests", "lab:any-song"],
    "eval.probe_steps": 0,
    # More steps than elsewhere, on fewer prompts: there is a chain of three tools to be found.
    "train.steps": 30,
    "train.prompts_per_step": 4,
    "train.max_completion_length": 32,
}

ACTGUIDE = ClaimArm("actguide", "actguide", QUESTS)

SFT_THEN_GRPO = ClaimArm("sft-then-grpo", {"name": "sft_then_grpo", "sft_steps": 15}, QUESTS)

GRPO_QUESTS = ClaimArm("grpo-quests", "grpo", QUESTS)

learned = metric("learned_score")


def _reaches_sft_then_rl(found: Evidence) -> list[Quantity]:
    return [
        Quantity(
            "new quests right after the stage, ActGuide above GRPO",
            "points",
            found.difference(ACTGUIDE.label, GRPO_QUESTS.label, learned),
            "Rewards alone, of quests that are hardly ever solved, teach little, and so do hints.",
            "the actions that a hint names are the same in all rows of a group: their advantages cancel but for what "
            "the clip takes from the failures, and count with the student's own low probability.",
        ),
        Quantity(
            f"new quests right after the stage, ActGuide no worse by {MARGIN:g} points than SFT then GRPO",
            "points",
            found.difference(ACTGUIDE.label, SFT_THEN_GRPO.label, learned),
            "On some seeds the hints take it there, on others they do not.",
            "with the whole trace in the prompt all samples succeed, and a group without variance teaches nothing; "
            "imitation learns from every trace, the actions that come first as well.",
            MARGIN,
        ),
        Quantity(
            "retention suites lost, SFT then GRPO above ActGuide",
            "points",
            found.difference(SFT_THEN_GRPO.label, ACTGUIDE.label, suites_lost),
            "The traces are in the very form that the base writes its known quests in, so that imitating them costs "
            "little.",
        ),
    ]


ACTION_GUIDANCE: tuple[Claim, ...] = (
    Claim(
        name="actguide-reaches-sft-then-rl",
        statement="Where no sample succeeds, the least of an expert's actions in the prompt takes reinforcement "
        "learning to what SFT on the traces and then reinforcement learning reach, and keeps more, with up to 2.3 "
        "times as many samples.",
        source="arXiv 2605.12004",
        arms=(ACTGUIDE, SFT_THEN_GRPO, GRPO_QUESTS),
        measure=_reaches_sft_then_rl,
    ),
)
