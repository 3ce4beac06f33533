"""Is a matched comparison fair to a fast learner, and does it still find real differences? A simulation.

    python -m benchmarks.matched            about 4 minutes on one core; writes benchmarks/results/matched.json

`rows`: two recipes learn one task. Both have the same curve, loss = 0.3 score³, but the first learns ten or three times
as fast: score = 1 − exp(−rate × step). With an excess, one of them loses excess × score more: the first if it is
positive, the second if it is negative. At each spacing of probes and each noise,
many comparisons of several seeds are made. Scores are shares of right answers, drawn anew at every probe; so items are
the only source of randomness, and answers to the same items do not correlate between steps, which is the worst case.

- Before: matched at the lower of the two best scores, at the first crossing between evenly spaced probes, with linear
  interpolation and the plain paired t test.
- After: `compare_matched`, on runs that probe steps between two probes where the score jumped (`step_between`).
  "claimed" is what a verdict claims: p < .05 (here of one pair of recipes), and a sign that does not depend on where
  the losses lie between two probes.

`streams`: two recipes learn two tasks after each other. Each loses 0.3 score³ of what the suite still had, so both have
the same curve again. "overall" is the loss since the base, which counts how far the first task was learned; "within" is
the loss within the stages, which verdicts compare.

`bias` is the mean of difference minus truth, in points, at the score at which each comparison was matched. `claimed` is
a share of all comparisons. With an excess of 0 it is the rate of false positives, nominally 5%. Otherwise it is the
power, and `claimed_wrongly` the share in which the other recipe is said to lose more.
"""

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.measure.matched import compare_matched, first_crossing, is_sign_open
from holdfast.measure.scores import mean
from holdfast.measure.statistics import paired_difference
from holdfast.stream.measuring import step_between

RESULTS = Path(__file__).parent / "results" / "matched.json"
STEPS = 30
GAP = 0.1
SPACINGS = (1, 2, 5, 10, 15)
NOISE: tuple[tuple[int, int] | None, ...] = (None, (96, 192), (48, 96))
"""Items of the new task, and of all earlier sets together. None: scores without noise."""
RATES = {"ten times": (0.5, 0.05), "three times": (0.15, 0.05)}
EXCESS = (0.0, 0.1, -0.1)
COMPARISONS = 400
SEEDS = 6


class Learner:
    """One simulated run.

    Args:
        rate: of learning, per step.
        excess: loss beyond that of the common curve, per score.
        items: as in `NOISE`.
    """

    def __init__(self, rate: float, excess: float, items: tuple[int, int] | None, rng: np.random.Generator) -> None:
        self.rate, self.excess, self.items, self.rng = rate, excess, items, rng
        self.scores: dict[int, Mapping[str, float]] = {}

    def probe(self, step: int) -> float:
        """Probe after a step, and return the score."""
        score = 1 - math.exp(-self.rate * step)
        kept = 1 - loss(score, self.excess)
        if self.items is not None and step:
            score = self.rng.binomial(self.items[0], score) / self.items[0]
            kept = self.rng.binomial(self.items[1], kept) / self.items[1]
        self.scores[step] = {"new": score, "old": kept}
        return score

    def train(self, spacing: int, gap: float) -> None:
        """Probe at the spacing, and with a gap also in between, in the order in which a run does."""
        self.probe(0)
        for step in [*range(spacing, STEPS, spacing), STEPS]:
            self.probe(step)
            kept = set(range(1, step)) - set(self.scores)
            while gap and (between := step_between(self.new(), kept, gap)) is not None:
                kept.discard(between)
                self.probe(between)

    def new(self) -> dict[int, float]:
        return {step: scores["new"] for step, scores in self.scores.items()}

    def summary(self) -> dict[str, Any]:
        """What `compare_matched` reads of a run's summary."""
        items = self.items or (10**9, 10**9)
        sizes = dict(zip(("new", "old"), items, strict=True))
        ends = [self.scores[step] for step in (0, STEPS)]
        return {
            "order": ["new"],
            "sets": [
                {"name": "new", "kind": "task", "n": items[0], "chance": 0.0},
                {"name": "old", "kind": "retention", "n": items[1], "chance": 0.0},
            ],
            "evaluations": [
                {"scores": {name: {"mean": value, "n": sizes[name]} for name, value in end.items()}} for end in ends
            ],
            "probes": [{"stage": 1, "step": step, "scores": own} for step, own in sorted(self.scores.items())],
            "probe_items": max(items),
        }


def loss(score: float, excess: float) -> float:
    return 0.3 * score**3 + excess * score


def before(pairs: list[tuple[Learner, Learner]]) -> dict[str, Any]:
    """A comparison as it was made before: matched at the lower maximum, on straight lines between all probes."""
    losses: dict[int, list[float]] = {0: [], 1: []}
    targets = []
    for pair in pairs:
        points = [[own.scores[step] for step in sorted(own.scores)] for own in pair]
        targets.append(min(max(point["new"] for point in own) for own in points))
        for side, own in enumerate(points):
            i, share = first_crossing([point["new"] for point in own], targets[-1])
            low, high = own[i]["old"], own[min(i + 1, len(own) - 1)]["old"]
            losses[side].append(1 - low - share * (high - low))
    found = paired_difference(losses[0], losses[1])
    return {"difference": found.difference, "p": found.p, "matched_score": mean(targets), "loss_a": mean(losses[0])}


def row(spacing: int, items: tuple[int, int] | None, rates: str, excess: float, comparisons: int, rule: str) -> Any:
    """One line of the table: many comparisons by one rule, "before" or "after"."""
    rng = np.random.default_rng([spacing, *(items or (0, 0)), int(100 * excess) + 100, len(rates)])
    found, probes = [], 0
    for _ in range(1 if items is None else comparisons):
        pairs = [
            (
                Learner(RATES[rates][0], max(0.0, excess), items, rng),
                Learner(RATES[rates][1], max(0.0, -excess), items, rng),
            )
            for _ in range(2 if items is None else SEEDS)
        ]
        for learner in (each for pair in pairs for each in pair):
            learner.train(spacing, GAP if rule == "after" else 0.0)
            probes += len(learner.scores) - 2
        if rule == "before":
            found.append(before(pairs))
        else:
            found.append(compare_matched("fast", "slow", [(a.summary(), b.summary()) for a, b in pairs]))
    matched = [each for each in found if each["difference"] is not None]
    errors = [each["difference"] - excess * each["matched_score"] for each in matched]
    claimed = [each["p"] is not None and each["p"] < 0.05 and not is_sign_open(each) for each in matched]
    wrong = [sure and each["difference"] * excess < 0 for sure, each in zip(claimed, matched, strict=True)]
    pairs_made = len(found) * len(pairs)
    return {
        "rule": rule,
        "spacing": spacing,
        "items": items,
        "faster": rates,
        "excess": excess,
        "bias": None if not errors else 100 * float(np.mean(errors)),
        "loss_of_fast": None if not matched else 100 * float(np.mean([each["loss_a"] for each in matched])),
        "claimed": None if items is None else float(np.sum(claimed)) / len(found),
        "claimed_wrongly": None if items is None or not excess else float(np.sum(wrong)) / len(found),
        "comparisons_matched": len(matched) / len(found),
        "pairs_matched": sum(each.get("stages_used", len(pairs)) for each in found) / pairs_made,
        "probes_per_run": probes / (2 * pairs_made),
    }


class StreamLearner:
    """One simulated run of two stages. The suite keeps 1 − loss(score) of what it had in each, and so does the first
    task in the second.

    Args:
        rate, items: as for `Learner`, without an excess.
    """

    TASKS = ("first", "second")

    def __init__(self, rate: float, items: tuple[int, int] | None, rng: np.random.Generator) -> None:
        self.rate, self.items, self.rng = rate, items, rng
        self.stages: tuple[dict[int, Mapping[str, float]], dict[int, Mapping[str, float]]] = ({}, {})

    def probe(self, stage: int, step: int) -> None:
        """Probe after a step of a stage, 0 or 1."""
        scores = [1 - math.exp(-self.rate * steps) for steps in ((step, 0), (STEPS, step))[stage]]
        first_kept, second_kept = (1 - loss(score, 0.0) for score in scores)
        truth = {"first": scores[0] * second_kept, "second": scores[1], "old": first_kept * second_kept}
        sizes = self.sizes()
        if self.items is not None and (stage, step) != (0, 0):
            truth = {name: self.rng.binomial(sizes[name], value) / sizes[name] for name, value in truth.items()}
        self.stages[stage][step] = truth

    def train(self, spacing: int, gap: float) -> None:
        """As `Learner.train`, twice."""
        self.probe(0, 0)
        for stage, scores in enumerate(self.stages):
            if stage:
                scores[0] = self.stages[0][STEPS]
            for step in [*range(spacing, STEPS, spacing), STEPS]:
                self.probe(stage, step)
                kept = set(range(1, step)) - set(scores)
                while (between := step_between(self.new(stage), kept, gap)) is not None:
                    kept.discard(between)
                    self.probe(stage, between)

    def new(self, stage: int) -> dict[int, float]:
        return {step: scores[self.TASKS[stage]] for step, scores in self.stages[stage].items()}

    def sizes(self) -> dict[str, int]:
        tasks, suite = self.items or (10**9, 10**9)
        return {"first": tasks, "second": tasks, "old": suite}

    def summary(self) -> dict[str, Any]:
        """As `Learner.summary`."""
        sizes = self.sizes()
        ends = [self.stages[0][0], self.stages[0][STEPS], self.stages[1][STEPS]]
        return {
            "order": list(self.TASKS),
            "sets": [
                {"name": name, "kind": "retention" if name == "old" else "task", "n": n, "chance": 0.0}
                for name, n in sizes.items()
            ],
            "evaluations": [
                {"scores": {name: {"mean": value, "n": sizes[name]} for name, value in end.items()}} for end in ends
            ],
            "probes": [
                {"stage": stage, "step": step, "scores": own}
                for stage, scores in enumerate(self.stages, 1)
                for step, own in sorted(scores.items())
            ],
            "probe_items": max(sizes.values()),
        }


def stream_row(items: tuple[int, int] | None, rates: str, comparisons: int) -> dict[str, Any]:
    """Many comparisons of two recipes with the same curve over two stages."""
    rng = np.random.default_rng([*(items or (0, 0)), len(rates)])
    found = []
    for _ in range(1 if items is None else comparisons):
        pairs = [tuple(StreamLearner(rate, items, rng) for rate in RATES[rates]) for _ in range(SEEDS)]
        for learner in (each for pair in pairs for each in pair):
            learner.train(5, GAP)
        found.append(compare_matched("fast", "slow", [(a.summary(), b.summary()) for a, b in pairs]))
    line: dict[str, Any] = {"items": items, "faster": rates}
    for name, entries in (("overall", found), ("within", [each["within_stage"] for each in found])):
        matched = [each for each in entries if each["difference"] is not None]
        claimed = [each["p"] is not None and each["p"] < 0.05 and not is_sign_open(each) for each in matched]
        line[f"bias_{name}"] = 100 * float(np.mean([each["difference"] for each in matched]))
        line[f"claimed_{name}"] = None if items is None else float(np.sum(claimed)) / len(found)
    return line


def table(comparisons: int = COMPARISONS) -> list[Any]:
    return [
        row(spacing, items, rates, excess, comparisons, rule)
        for items in NOISE
        for rates in RATES
        for excess in EXCESS
        for spacing in SPACINGS
        for rule in ("before", "after")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=COMPARISONS, help="comparisons per row with noise")
    settings = parser.parse_args()
    rows = table(settings.comparisons)
    streams = [stream_row(items, rates, settings.comparisons) for items in NOISE for rates in RATES]
    result = {"comparisons": settings.comparisons, "seeds": SEEDS, "rows": rows, "streams": streams}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    for each in [*rows, *streams]:
        print({key: round(value, 3) if isinstance(value, float) else value for key, value in each.items()})


if __name__ == "__main__":
    main()
