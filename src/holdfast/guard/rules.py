"""The named rules: what each sees in the live numbers of a stage, and how near it is to firing.

A rule compares the latest window of steps with the stage's first or best one, so that none needs tuning to a model or a
task. Each asks for a change that is large in itself and large against the noise of the steps. What also happens in
healthy learning, such as entropy that falls, counts only together with a reward that falls. The reward, a few answers
that are right or wrong, is averaged over two windows.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from holdfast.guard.series import Series
from holdfast.guard.settings import Rules

ERRORS = 5.0
"""Standard errors that a change must exceed: every step is a look, and the best window is so by chance too."""

LOOKS = 3.5
"""Standard errors that a probe's score must fall by."""

TO_LOSE = 0.1
"""A best reward below this has nothing to fall from, and tells nothing."""

MetricsRecord = Mapping[str, Any]

Severity = Literal["note", "warning", "critical"]


@dataclass(frozen=True, slots=True)
class Sign:
    """How far a rule's sign has come: it fires from a level of 1 on; and what it was seen in."""

    level: float
    saw: dict[str, float]
    message: str


class Stage:
    """The live numbers of one stage so far.

    Args:
        reference: scores of the retention suites before the first stage, by name.
        probe_items: items that a probe uses of every suite, or of each by name; None where that is not known.
    """

    def __init__(
        self, window: int, reference: Mapping[str, float], probe_items: int | Mapping[str, int] | None
    ) -> None:
        self.window, self.reference, self.probe_items = window, reference, probe_items
        self.latest: MetricsRecord = {}
        self.probe: MetricsRecord = {}
        self._series: dict[str, Series] = {}

    def see(self, record: MetricsRecord) -> None:
        self.latest = record
        for key, value in record.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                window = 2 * self.window if key == "reward" else self.window
                self._series.setdefault(key, Series(window)).append(float(value))

    def series(self, key: str) -> Series | None:
        """A number's series once it is long enough to compare its ends."""
        found = self._series.get(key)
        return found if found is not None and found.is_long_enough else None

    def items_of(self, suite: str) -> int | None:
        """How many items a probe uses of a suite."""
        return self.probe_items.get(suite) if isinstance(self.probe_items, Mapping) else self.probe_items

    def knows(self, key: str) -> bool:
        """Whether a number has been seen at all."""
        return key in self._series

    def ever(self, key: str) -> bool:
        """Whether a number was anything but 0 in any step."""
        return key in self._series and any(self._series[key].values)

    def tail(self, key: str, steps: int) -> list[float]:
        """The latest values of a number, none where there are fewer."""
        found = self._series.get(key)
        return found.values[-steps:] if found is not None and len(found.values) >= steps else []


Rule = Callable[[Stage, Rules], Sign | None]


def _rise(series: Series, at_least: float, rise: float) -> float:
    """Level of a number that is high, and higher than at the stage's start by more than noise."""
    return min(series.last / at_least, (series.last - series.first) / max(rise, ERRORS * series.error))


def _fall_to(series: Series, ratio: float) -> float:
    """Level of a number that has fallen to a share of what it was at the stage's start, by more than noise."""
    if series.first <= 0:
        return 0.0
    fall = series.first - series.last
    return min(fall / ((1 - ratio) * series.first), fall / max(1e-12, ERRORS * series.error))


def _reward_fall(reward: Series, fall: float) -> float:
    """Level of a reward that has fallen from its best: by so much, by a third of it, and by more than noise."""
    lost = reward.best - reward.last
    return min(lost / max(fall, ERRORS * reward.error), lost / max(1e-12, abs(reward.best) / 3))


def _company(stage: Stage, other: str, ratio: float) -> tuple[float, dict[str, float]] | None:
    """Level of what must go along with a falling entropy or variety before it is a collapse and not learning.

    The reward, where there is any to lose; else the other of the two. None where neither is known.
    """
    reward = stage.series("reward")
    if reward is None and stage.knows("reward"):
        return None  # too few steps to say whether it falls
    if reward is not None and reward.best >= TO_LOSE:
        return _reward_fall(reward, 0.15), {"best_reward": reward.best, "reward": reward.last}
    series = stage.series(other)
    if series is None:
        return None
    return _fall_to(series, ratio), {f"{other}_first": series.first, other: series.last}


def agreement_without_success(stage: Stage, rules: Rules) -> Sign | None:
    """Teacher and student agree more and more while the reward falls.

    The collapse of arXiv 2607.01763 (finding 6): a formatting token is repeated, the teacher's average takes it over,
    and their divergence goes to 0 with the accuracy.
    """
    # Other trainers log whatever divergence they minimize.
    key = "kl_teacher" if stage.knows("kl_teacher") else "teacher_divergence"
    kl, reward, own = stage.series(key), stage.series("reward"), rules.agreement_without_success
    if kl is None or reward is None:
        return None
    saw = {f"{key}_first": kl.first, key: kl.last, "best_reward": reward.best, "reward": reward.last}
    level = min(_fall_to(kl, own.kl_ratio), _reward_fall(reward, own.reward_fall))
    return Sign(level, saw, "teacher and student agree more and more while the reward falls")


def reward_collapse(stage: Stage, rules: Rules) -> Sign | None:
    """The reward has fallen to half of its best or less, whatever else is seen.

    Tool use with self-distillation goes from 65 points to 0 within 100 steps in the thread lasgroup/SDPO #25.
    """
    reward = stage.series("reward")
    if reward is None or reward.best < TO_LOSE:
        return None
    lost = reward.best - reward.last
    level = min(_reward_fall(reward, rules.reward_collapse.reward_fall), lost / (reward.best / 2))
    return Sign(level, {"best_reward": reward.best, "reward": reward.last}, "the reward has fallen off")


def entropy_collapse(stage: Stage, rules: Rules) -> Sign | None:
    """The entropy falls off, and success with it; without a reward, the variety of the answers.

    Entropy that is spent without success is what DAPO (arXiv 2503.14476, 3.1) calls its collapse. Entropy alone is no
    sign: it falls in every run that learns.
    """
    entropy, company = stage.series("entropy"), _company(stage, "distinct_2", 0.7)
    if entropy is None or company is None:
        return None
    level, saw = company
    level = min(level, _fall_to(entropy, rules.entropy_collapse.ratio))
    return Sign(level, {"entropy_first": entropy.first, "entropy": entropy.last} | saw, "the entropy falls off")


def distinct_collapse(stage: Stage, rules: Rules) -> Sign | None:
    """The answers to different prompts become the same, and success falls; without a reward, the entropy.

    distinct-n is Li et al.'s (arXiv 1510.03055); as a sign of collapse, arXiv 2607.01763.
    """
    variety, company = stage.series("distinct_2"), _company(stage, "entropy", 0.25)
    if variety is None or company is None:
        return None
    level, saw = company
    level = min(level, _fall_to(variety, rules.distinct_collapse.ratio))
    saw = {"distinct_2_first": variety.first, "distinct_2": variety.last} | saw
    return Sign(level, saw, "answers to different prompts become the same")


def repetition(stage: Stage, rules: Rules) -> Sign | None:
    """Completions repeat themselves: StableOPD (arXiv 2604.08527), where a teacher grows confident on loops."""
    series, own = stage.series("repetition"), rules.repetition
    if series is None:
        return None
    saw = {"repetition_first": series.first, "repetition": series.last}
    return Sign(_rise(series, own.at_least, own.rise), saw, "completions repeat themselves more and more")


def truncation(stage: Stage, rules: Rules) -> Sign | None:
    """Most completions run into their limit: StableOPD's other detector, and the length gate of CGTR (2606.03532)."""
    series, own = stage.series("truncated_fraction"), rules.truncation
    if series is None:
        return None
    saw = {"truncated_first": series.first, "truncated": series.last}
    return Sign(_rise(series, own.at_least, own.rise), saw, "most completions run into max_completion_length")


def silent_stall(stage: Stage, rules: Rules) -> Sign | None:
    """No row has carried a signal, or had a teacher where rows had one, for three windows, and the task is not solved.

    The loss is then 0 and looks like success; the SDPO of small models in rlhf-book #387.
    """
    steps = 3 * stage.window
    reward = stage.tail("reward", stage.window)
    if reward and sum(reward) / len(reward) >= rules.silent_stall.solved:
        return None
    for key in ("active_rows", "teacher_share"):
        tail = stage.tail(key, steps)
        # A recipe without a teacher has a share of 0 throughout; only one that had some can lose it.
        if tail and not any(tail) and (key == "active_rows" or stage.ever(key)):
            message = "no row has carried a signal for several steps: nothing is learned"
            return Sign(1.0, {key: 0.0}, message)
    return None


def stale_sampler(stage: Stage, rules: Rules) -> Sign | None:
    """Sampler and trainer part: the mean ratio of their probabilities of sampled tokens is not 1, in every step.

    Its expectation is 1 while the sampler has the trainer's weights; TRL #5312, a sampler with the base's, had 1e-7.
    """
    ratios = stage.tail("is_ratio_mean", stage.window)
    if not ratios:
        return None
    bound = math.log1p(rules.stale_sampler.deviation)
    level = min(abs(math.log(max(ratio, 1e-300))) / bound for ratio in ratios)
    saw = {"is_ratio_mean": ratios[-1]}
    return Sign(level, saw, "sampler and trainer part: completions come from other weights than are trained")


def kl_budget(stage: Stage, rules: Rules) -> Sign | None:
    """KL to the base, from probes or the objective's own, exceeds what the user will spend.

    KL to base on the new task's prompts predicts forgetting in arXiv 2509.04259.
    """
    budget, live = rules.kl_budget.budget, stage.tail("kl_base", stage.window)
    if budget is None:
        return None
    known = [sum(live) / len(live)] if live else []
    known += [stage.probe["kl_to_base"]] if stage.probe.get("kl_to_base") is not None else []
    if not known:
        return None
    saw = {"kl_to_base": max(known), "budget": budget}
    return Sign(max(known) / budget, saw, "the budget of KL to the base is spent")


def not_finite(stage: Stage, rules: Rules) -> Sign | None:
    """Loss or gradient norm of the step is not a finite number: the check that torchtitan makes before weights move."""
    values = {key: stage.latest[key] for key in ("loss", "grad_norm") if isinstance(stage.latest.get(key), float)}
    if not values:
        return None
    bad = [key for key, value in values.items() if not math.isfinite(value)]
    return Sign(float(bool(bad)), values if bad else {}, f"{' and '.join(bad)} not finite" if bad else "")


def retention(stage: Stage, rules: Rules) -> Sign | None:
    """A retention suite's probe falls below the base's score by a bound, and by more than its items can explain.

    The library's own measure. The standard error is that of two independent scores at their pooled rate, with one right
    and one wrong answer added to each (Agresti & Caffo 2000), so that it is not 0 where all are right; that the items
    are the same ones makes it cautious, and so do `LOOKS` errors, for every suite of every probe is a look.
    """
    worst: Sign | None = None
    for name, before in stage.reference.items():
        now = stage.probe.get("scores", {}).get(name)
        if now is None:
            continue
        error = 0.0
        if items := stage.items_of(name):
            rate = ((before + now) * items + 2) / (2 * items + 4)
            error = math.sqrt(2 * rate * (1 - rate) / (items + 2))
        level = (before - now) / max(rules.retention.fall, LOOKS * error)
        if worst is None or level > worst.level:
            worst = Sign(level, {"base": before, "score": now}, f"what was known is being lost: {name}")
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
"""Every rule by name, with its severity, in the order in which they are asked."""

PROBE_RULES = frozenset({"kl_budget", "retention"})
"""What is asked when a probe has been taken; `kl_budget` after every step too."""
