"""Learning and forgetting step by step: eight recipes on the new facts, over all worlds. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from holdfast.findings.arms import BETA_OPSD, DFT, GRPO, REWRITTEN, RFT, SDFT, SDPO, SFT
from holdfast.findings.record import POINTS, RunRecord
from holdfast.reporting.figure import COLORS, SYMBOLS, Figure, Spec, layout, line

CURVE_ARMS = (SFT, DFT, REWRITTEN, SDFT, BETA_OPSD, RFT, SDPO, GRPO)

COLUMNS = ("recipe", "rate", "steps", "new task", "sd over worlds", "old skills", "sd over worlds")


@dataclass(frozen=True)
class StepScores:
    """Scores at a step in points: means and standard deviations over worlds."""

    step: int
    task: float
    task_sd: float
    suites: float
    suites_sd: float


def curves(by_arm: Mapping[str, Sequence[RunRecord]]) -> dict[str, list[StepScores]]:
    """The points of each arm's probes.

    Args:
        by_arm: by label, the runs in all worlds, at least two.
    """
    found = {}
    for label, runs in by_arm.items():
        steps = [point["step"] for point in runs[0].data["curve"]]
        points = [[next(p for p in run.data["curve"] if p["step"] == step) for run in runs] for step in steps]
        found[label] = [_point(step, at_step) for step, at_step in zip(steps, points, strict=True)]
    return found


def _point(step: int, worlds: Sequence[Mapping[str, float]]) -> StepScores:
    task, suites = ([POINTS * each[name] for each in worlds] for name in ("task", "suites"))
    return StepScores(step, fmean(task), stdev(task), fmean(suites), stdev(suites))


def curve_rows(found: Mapping[str, Sequence[StepScores]], rates: Mapping[str, float]) -> list[tuple[str, ...]]:
    """One row per recipe and step."""
    rows = []
    for label, points in found.items():
        for place, p in enumerate(points):
            head = (label, f"{rates[label]:g}") if place == 0 else ("", "")
            numbers = (f"{value:.1f}" for value in (p.task, p.task_sd, p.suites, p.suites_sd))
            rows.append((*head, str(p.step), *numbers))
    return rows


def curve_figures(found: Mapping[str, Sequence[StepScores]], rates: Mapping[str, float]) -> list[Figure]:
    """One figure of the new task's score and one of the old skills', with standard deviations over worlds."""
    return [
        _figure("learning", "New task", "task", found, rates),
        _figure("forgetting", "Old skills", "suites", found, rates),
    ]


def _figure(
    name: str, title: str, field: str, found: Mapping[str, Sequence[StepScores]], rates: Mapping[str, float]
) -> Figure:
    traces: list[Spec] = []
    for place, (label, points) in enumerate(found.items()):
        shade = f"c{place % COLORS}"
        spreads = {
            "type": "data",
            "array": [getattr(point, f"{field}_sd") for point in points],
            "color": f"@{shade}/0.4",
            "thickness": 1,
            "width": 3,
        }
        # Beside each other, so that whiskers of several recipes at one step can be told apart.
        steps = [point.step + 0.5 * (place - len(found) / 2) for point in points]
        values = [getattr(point, field) for point in points]
        marks = {"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 8, "color": f"@{shade}"}
        traces.append(
            line(steps, values, shade) | {"mode": "lines+markers", "marker": marks, "error_y": spreads, "name": label}
        )
    ends = "; ".join(f"{label} {getattr(points[-1], field):.0f}" for label, points in found.items())
    return Figure(
        id=f"fig-{name}",
        title=f"{title} by step",
        note="Means over worlds, with standard deviations.",
        alt=f"Line plot. At the end: {ends}.",
        spec={
            "data": traces,
            "layout": layout(
                height=420,
                xaxis={"title": {"text": "Optimizer steps"}},
                yaxis={"title": {"text": f"{title}, score in %"}},
            ),
        },
        headers=COLUMNS,
        rows=tuple(curve_rows(found, rates)),
    )
