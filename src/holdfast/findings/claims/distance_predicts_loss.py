"""The measure of a foreign voice, and what SFT loses."""

from holdfast.findings.arm import ClaimArm
from holdfast.findings.claim import Claim
from holdfast.findings.correlation import rank_correlation
from holdfast.findings.precondition import success
from holdfast.findings.quantity import Quantity, WorldRuns
from holdfast.findings.record import RunRecord
from holdfast.findings.stream import FACTS
from holdfast.findings.voices import distance_of_demonstrations

RATE = 2e-4

VOICES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of demonstrations in a foreign voice. Tics rise with them, from the base's own rate."""

ARMS = tuple(
    ClaimArm(
        f"sft-voice-{voice:g}",
        "sft",
        FACTS,
        {"tasks.0.lab_settings.voice": voice, "tasks.0.lab_settings.tics": round(0.06 + 0.24 * voice, 2)},
        extra=distance_of_demonstrations,
    ).at(RATE)
    for voice in VOICES
)


def _distance(run: RunRecord) -> float | None:
    return run.extra("distance")


def _correlation(runs: WorldRuns) -> float | None:
    known = rank_correlation([_distance(run) for run in runs.values()], [run.lost() for run in runs.values()])
    return None if known is None else known - 0.5


def _slope(runs: WorldRuns) -> float | None:
    """Points lost per nat, from the least to the most foreign voice."""
    own, foreign = (runs[arm.label] for arm in (ARMS[0], ARMS[-1]))
    near, far, kept, lost = _distance(own), _distance(foreign), own.lost(), foreign.lost()
    if near is None or far is None or kept is None or lost is None or far <= near:
        return None
    return (lost - kept) / (far - near)


CLAIM = Claim(
    name="distance-predicts-loss",
    statement="How far demonstrations are from the model's own answers, in nats per token before training, predicts "
    "how much SFT loses on them.",
    source="our own, on the lab and on a real model",
    arms=ARMS,
    preconditions=(success("facts", at_most=0.5),),
    quantities=(
        Quantity("rank correlation of distance and loss over five voices, minus 0.5", "", _correlation, 0.1),
        Quantity("points lost per nat of distance", "points", _slope, 1),
    ),
    against="Demonstrations that are further away cost no more.",
)
