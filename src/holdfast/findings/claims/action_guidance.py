"""Claims about showing an expert's actions, on the quests of the wider lab. The base solves 0.8% of them. Torch-free.

All arms take the same number of steps on the same number of prompts. Action guidance samples up to 2.3 times as many
completions, because it samples again when a prompt fails; the table shows the numbers next to the scores.
"""

from holdfast.findings.claim import MARGIN, Claim, ClaimArm, Evidence, Quantity
from holdfast.findings.read import metric, suites_lost

QUESTS = {
    "model.path": "lab-wide",
    "tasks": ["lab:quests"],
    "suites": ["lab:known-quests", "lab:any-song"],
    "eval.probe_steps": 0,
    # More steps than elsewhere, on fewer prompts: the model has to discover a chain of three tools.
    "train.steps": 30,
    "train.prompts_per_step": 4,
    "train.max_completion_length": 32,
}

ACTGUIDE = ClaimArm("actguide", "actguide", QUESTS)

SFT_THEN_GRPO = ClaimArm("sft-then-grpo", {"name": "sft_then_grpo", "sft_steps": 15}, QUESTS)

GRPO_QUESTS = ClaimArm("grpo-quests", "grpo", QUESTS)

learned = metric("learned_score")


def _reaches_sft_then_rl(evidence: Evidence) -> list[Quantity]:
    return [
        Quantity(
            "score on new quests after the stage, ActGuide − GRPO",
            "points",
            evidence.difference(ACTGUIDE.label, GRPO_QUESTS.label, learned),
            "Quests are hardly ever solved, so rewards teach little, and so do hints.",
            "the hinted actions are the same in all rows of a group. Their advantages cancel, except for what the clip "
            "removes from failures, and they count with the student's own low probability.",
        ),
        Quantity(
            f"score on new quests after the stage, ActGuide − SFT then GRPO, not below −{MARGIN:g}",
            "points",
            evidence.difference(ACTGUIDE.label, SFT_THEN_GRPO.label, learned),
            "The hints suffice on some seeds only.",
            "with the whole trace in the prompt, all samples succeed, and a group without variance teaches nothing. "
            "Imitation learns from every trace, including its first actions.",
            MARGIN,
        ),
        Quantity(
            "loss on retention suites, SFT then GRPO − ActGuide",
            "points",
            evidence.difference(SFT_THEN_GRPO.label, ACTGUIDE.label, suites_lost),
            "The traces have the form in which the base writes its known quests, so imitation costs little.",
        ),
    ]


ACTION_GUIDANCE: tuple[Claim, ...] = (
    Claim(
        name="actguide-reaches-sft-then-rl",
        statement="If no sample succeeds, the fewest helpful expert actions in the prompt let reinforcement learning "
        "reach the score of SFT on the traces followed by reinforcement learning. It forgets less, and samples up to "
        "2.3 times as much.",
        source="arXiv 2605.12004",
        arms=(ACTGUIDE, SFT_THEN_GRPO, GRPO_QUESTS),
        measure=_reaches_sft_then_rl,
    ),
)
