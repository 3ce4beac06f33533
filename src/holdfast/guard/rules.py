"""The rules: which numbers of a stage each compares, and how close it is to firing.

A rule compares the latest window of steps with the first window of the stage, or with the best one. So no rule needs
tuning to a model or task. Every rule asks for a change that is large in itself, and large against the noise of the
steps. What also happens in a healthy run, such as falling entropy, counts only if the reward falls too. The reward is
averaged over two windows, because it comes from a few answers that are right or wrong.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from holdfast.guard.series import Series
from holdfast.guard.settings import Rules

ERRORS = 5.0
"""Standard errors that a change must exceed. The bound is high because every step is another look at the same series,
and because the best window is partly the best by chance."""

LOOKS = 3.5
"""Standard errors that a probe's score must fall by. Probes are rarer looks than steps."""

LEAST_REWARD = 0.1
"""A best reward below this has nothing to fall from, so it says nothing about a collapse."""

MetricsRecord = Mapping[str, Any]

Severity = Literal["note", "warning", "critical"]


@dataclass(frozen=True, slots=True)
class Sign:
    """How close a rule is to firing, and the numbers that it compared. `guard.messages` puts them into words."""

    level: float
    """The rule fires from 1 on."""
    values: dict[str, float]
    subject: str = ""
    """The retention suite that the values belong to, for `retention`."""


class StageMetrics:
    """The metrics of one stage so far.

    Args:
        window: steps in an average.
        reference: scores of the retention suites before the first stage, by name.
        probe_items: items that a probe uses of every suite, or of each by name; None if that is unknown.

    At the stage's end both become those of the full evaluation.
    """

    def __init__(
        self, window: int, reference: Mapping[str, float], probe_items: int | Mapping[str, int] | None
    ) -> None:
        self.window, self.reference, self.probe_items = window, reference, probe_items
        self.latest: MetricsRecord = {}
        self.probe: MetricsRecord = {}
        self._series: dict[str, Series] = {}

    def see(self, record: MetricsRecord) -> None:
        self.latest = record  # with values that are not finite, which the series leave out
        for key, value in record.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                window = 2 * self.window if key == "reward" else self.window
                self._series.setdefault(key, Series(window)).append(float(value))

    def series(self, key: str) -> Series | None:
        """The series of a metric; None until its first and latest window have no step in common."""
        series = self._series.get(key)
        return series if series is not None and series.is_long_enough else None

    def items_of(self, suite: str) -> int | None:
        """How many items a probe uses of a suite."""
        return self.probe_items.get(suite) if isinstance(self.probe_items, Mapping) else self.probe_items

    def knows(self, key: str) -> bool:
        """Whether any step has had this metric."""
        return key in self._series

    def ever(self, key: str) -> bool:
        """Whether the metric was different from 0 in any step."""
        return key in self._series and any(self._series[key].values)

    def tail(self, key: str, steps: int) -> list[float]:
        """The latest `steps` values of a metric; empty if there are fewer."""
        series = self._series.get(key)
        return series.values[-steps:] if series is not None and len(series.values) >= steps else []


Rule = Callable[[StageMetrics, Rules], Sign | None]
"""Returns None if the stage lacks the rule's metrics, and only then: the rule has then ruled out nothing."""


def _rise(series: Series, at_least: float, rise: float) -> float:
    """Level of a rise: the metric is high, and it has risen since the stage's start by more than noise."""
    return min(series.last / at_least, (series.last - series.first) / max(rise, ERRORS * series.error))


def _fall_to(series: Series, ratio: float) -> float:
    """Level of a metric that has fallen to a share of its value at the stage's start, by more than noise."""
    if series.first <= 0:
        return 0.0
    fall = series.first - series.last
    return min(fall / ((1 - ratio) * series.first), fall / max(1e-12, ERRORS * series.error))


def _reward_fall(reward: Series, fall: float) -> float:
    """Level of a reward that has fallen from its best: by `fall`, by a third of the best, and by more than noise."""
    drop = reward.best - reward.last
    return min(drop / max(fall, ERRORS * reward.error), drop / max(1e-12, abs(reward.best) / 3))


def _confirmation(stage: StageMetrics, other: str, ratio: float) -> tuple[float, dict[str, float]] | None:
    """Level and values of the second metric that must fall before lower entropy or diversity counts as a collapse.

    The second metric is the reward, if the reward was ever high enough to fall. Otherwise it is `other`: diversity for
    entropy, and entropy for diversity.

    Returns:
        None if the stage has neither metric.
    """
    reward = stage.series("reward")
    if reward is None and stage.knows("reward"):
        return None  # too few steps to see whether it falls
    if reward is not None and reward.best >= LEAST_REWARD:
        return _reward_fall(reward, 0.15), {"best_reward": reward.best, "reward": reward.last}
    series = stage.series(other)
    if series is None:
        return None
    return _fall_to(series, ratio), {f"{other}_first": series.first, other: series.last}


def agreement_without_success(stage: StageMetrics, rules: Rules) -> Sign | None:
    """Teacher and student agree more and more while the reward falls.

    The collapse of arXiv 2607.01763 (finding 6): the student repeats a formatting token, the teacher's average adopts
    it, and their divergence goes to 0 together with the accuracy.
    """
    # Other trainers log the divergence that they minimize, whichever that is.
    key = "kl_teacher" if stage.knows("kl_teacher") else "teacher_divergence"
    kl, reward, own = stage.series(key), stage.series("reward"), rules.agreement_without_success
    if kl is None or reward is None:
        return None
    values = {f"{key}_first": kl.first, key: kl.last, "best_reward": reward.best, "reward": reward.last}
    return Sign(min(_fall_to(kl, own.kl_ratio), _reward_fall(reward, own.reward_fall)), values)


def reward_collapse(stage: StageMetrics, rules: Rules) -> Sign | None:
    """The reward has fallen to half of its best or less, whatever the other metrics are.

    In the thread lasgroup/SDPO #25, tool use with self-distillation falls from 65 points to 0 within 100 steps.
    """
    reward = stage.series("reward")
    if reward is None:
        return None
    if reward.best < LEAST_REWARD:
        return Sign(0.0, {})
    drop = reward.best - reward.last
    level = min(_reward_fall(reward, rules.reward_collapse.reward_fall), drop / (reward.best / 2))
    return Sign(level, {"best_reward": reward.best, "reward": reward.last})


def entropy_collapse(stage: StageMetrics, rules: Rules) -> Sign | None:
    """The entropy collapses, and the reward falls with it; without a reward, the diversity of answers.

    DAPO (arXiv 2503.14476, 3.1) calls it a collapse if entropy is lost without success. Entropy alone is no sign: it
    falls in every run that learns.
    """
    entropy, confirmation = stage.series("entropy"), _confirmation(stage, "distinct_2", 0.7)
    if entropy is None or confirmation is None:
        return None
    level, values = confirmation
    level = min(level, _fall_to(entropy, rules.entropy_collapse.ratio))
    return Sign(level, {"entropy_first": entropy.first, "entropy": entropy.last} | values)


def distinct_collapse(stage: StageMetrics, rules: Rules) -> Sign | None:
    """Answers to different prompts become the same, and the reward falls with it; without a reward, the entropy.

    distinct-n is from Li et al. (arXiv 1510.03055); arXiv 2607.01763 uses it as a sign of collapse.
    """
    diversity, confirmation = stage.series("distinct_2"), _confirmation(stage, "entropy", 0.25)
    if diversity is None or confirmation is None:
        return None
    level, values = confirmation
    level = min(level, _fall_to(diversity, rules.distinct_collapse.ratio))
    return Sign(level, {"distinct_2_first": diversity.first, "distinct_2": diversity.last} | values)


def repetition(stage: StageMetrics, rules: Rules) -> Sign | None:
    """Completions repeat themselves, as in StableOPD (arXiv 2604.08527): the teacher becomes confident on loops."""
    series, own = stage.series("repetition"), rules.repetition
    if series is None:
        return None
    values = {"repetition_first": series.first, "repetition": series.last}
    return Sign(_rise(series, own.at_least, own.rise), values)


def truncation(stage: StageMetrics, rules: Rules) -> Sign | None:
    """Most completions reach their length limit: StableOPD's other detector, and CGTR's length gate (2606.03532)."""
    series, own = stage.series("truncated_fraction"), rules.truncation
    if series is None:
        return None
    values = {"truncated_first": series.first, "truncated": series.last}
    return Sign(_rise(series, own.at_least, own.rise), values)


def silent_stall(stage: StageMetrics, rules: Rules) -> Sign | None:
    """For three windows no row has carried a signal, or none has had a teacher although some had before.

    The loss is then 0, which looks like success; rlhf-book #387 reports it for the SDPO of small models. A reward near
    its maximum means instead that the task is solved.
    """
    steps = 3 * stage.window
    reward = stage.tail("reward", stage.window)
    tails = {key: tail for key in ("active_rows", "teacher_share") if (tail := stage.tail(key, steps))}
    if not tails:
        return None
    if reward and sum(reward) / len(reward) >= rules.silent_stall.solved:
        return Sign(0.0, {})
    for key, tail in tails.items():
        # A recipe without a teacher has a share of 0 throughout. Only a recipe that had teachers can lose them.
        if not any(tail) and (key == "active_rows" or stage.ever(key)):
            return Sign(1.0, {key: 0.0})
    return Sign(0.0, {})


def stale_sampler(stage: StageMetrics, rules: Rules) -> Sign | None:
    """Sampler and trainer differ: in every step of a window, the mean ratio of their probabilities is far from 1.

    The expectation of the ratio is 1 while the sampler has the trainer's weights. TRL #5312, whose sampler had the
    base's weights, logged 1e-7.
    """
    ratios = stage.tail("is_ratio_mean", stage.window)
    if not ratios:
        return None
    bound = math.log1p(rules.stale_sampler.deviation)
    level = min(abs(math.log(max(ratio, 1e-300))) / bound for ratio in ratios)
    return Sign(level, {"is_ratio_mean": ratios[-1]})


def kl_budget(stage: StageMetrics, rules: Rules) -> Sign | None:
    """KL to the base, from a probe, the stage's end or the objective itself, exceeds the user's budget.

    KL to the base on the new task's prompts predicts forgetting in arXiv 2509.04259.
    """
    budget, live = rules.kl_budget.budget, stage.tail("kl_base", stage.window)
    if budget is None:
        return None
    known = [sum(live) / len(live)] if live else []
    known += [stage.probe["kl_to_base"]] if stage.probe.get("kl_to_base") is not None else []
    if not known:
        return None
    return Sign(max(known) / budget, {"kl_to_base": max(known), "budget": budget})


def not_finite(stage: StageMetrics, rules: Rules) -> Sign | None:
    """Loss or gradient norm of the step is not finite; torchtitan checks the same before weights move."""
    values = {key: stage.latest[key] for key in ("loss", "grad_norm") if isinstance(stage.latest.get(key), float)}
    if not values:
        return None
    bad = not all(map(math.isfinite, values.values()))
    return Sign(float(bad), values if bad else {})


def retention(stage: StageMetrics, rules: Rules) -> Sign | None:
    """A retention suite's score at a probe or at the stage's end is below the base's, by a bound and more than chance.

    The standard error is that of two independent scores at their pooled rate. One correct and one wrong answer are
    added to each (Agresti & Caffo 2000), so that the error is not 0 if all answers are correct. It is cautious, because
    the items are in fact the same ones. `LOOKS` errors are asked for, because every suite of every probe is a look.

    A suite on which the base scores 0 cannot fall, so it says nothing.
    """
    worst: Sign | None = None
    for name, before in stage.reference.items():
        now = stage.probe.get("scores", {}).get(name)
        if now is None or before <= 0:
            continue
        error = 0.0
        if items := stage.items_of(name):
            rate = ((before + now) * items + 2) / (2 * items + 4)
            error = math.sqrt(2 * rate * (1 - rate) / (items + 2))
        level = (before - now) / max(rules.retention.fall, LOOKS * error)
        if worst is None or level > worst.level:
            worst = Sign(level, {"base": before, "score": now}, name)
    return worst


RULES: Mapping[str, tuple[Rule, Severity]] = {
    "not_finite": (not_finite, "critical"),
    "stale_sampler": (stale_sampler, "critical"),
    "agreement_without_success": (agreement_without_success, "critical"),
    "reward_collapse": (reward_collapse, "critical"),
    "entropy_collapse": (entropy_collapse, "critical"),
    "distinct_collapse": (distinct_collapse, "critical"),
    "repetition": (repetition, "critical"),
    "truncation": (truncation, "critical"),
    "silent_stall": (silent_stall, "warning"),
    "kl_budget": (kl_budget, "warning"),
    "retention": (retention, "critical"),
}
"""Every rule by name with its severity, in the order in which they are asked."""

PROBE_RULES = frozenset({"kl_budget", "retention"})
"""The rules that are asked after a probe and at a stage's end. `kl_budget` is also asked after every step."""
