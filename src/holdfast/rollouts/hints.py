"""The least hint with which a prompt that fails is solved: rollouts with the first of somebody's actions in the prompt.

Torch-free. What is sampled with a hint is trained on without it: rows have the student's own prompt, and beside it the
probabilities that they were written with.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from holdfast.data.rows import Group, Row
from holdfast.recipes.parts.rollouts import HintSpec


@dataclass(frozen=True, slots=True)
class Hinted:
    """Rollouts that are wanted: of which group of the batch, with how many actions shown, how many, and for what."""

    place: int
    actions: int
    count: int
    purpose: str


Roll = Callable[[Sequence[Hinted]], list[list[Row]]]
"""Samples, all together: for each that is wanted its rows, as the student's own of the prompt without the hint."""


@dataclass(slots=True)
class _Search:
    """The least length that helps, between `low` and `high`; `best` so far is the whole trace."""

    place: int
    low: int
    high: int
    best: int

    @property
    def middle(self) -> int:
        return (self.low + self.high) // 2


def guide_failing(groups: Sequence[Group], spec: HintSpec, roll: Roll) -> None:
    """Add rows to the groups that fail: as many as they have, with the fewest actions in the prompt that help.

    Of each the length is searched by bisection (ActGuide-RL, arXiv 2605.12004): it helps where any probe succeeds.
    Where none does, the whole trace is shown. The rows that failed stay; a recipe decides which count.

    Args:
        groups: with the student's own samples.
        roll: samples; searches of all groups go on together.
    """
    failing = [place for place, group in enumerate(groups) if group.example.actions and spec.fails(group.rows)]
    searches = []
    for place in failing:
        actions = groups[place].example.actions
        assert actions is not None
        searches.append(_Search(place, 1, len(actions), len(actions)))
    for _ in range(spec.most_probe_steps):
        open_ones = [each for each in searches if each.low < each.high]
        if not open_ones:
            break
        probes = roll([Hinted(each.place, each.middle, spec.probes, "probe") for each in open_ones])
        for each, rows in zip(open_ones, probes, strict=True):
            _charge(groups[each.place], rows)
            if spec.fails(rows):
                each.low = each.middle + 1
            else:
                each.best = each.high = each.middle
    wanted = [Hinted(each.place, each.best, len(groups[each.place].rows), "guided") for each in searches]
    for hinted, rows in zip(wanted, roll(wanted) if wanted else [], strict=True):
        group = groups[hinted.place]
        _charge(group, rows)
        group.shown_actions = hinted.actions
        group.rows += [replace(row, source_logprobs=row.sampled_logprobs, sampled_logprobs=None) for row in rows]


def _charge(group: Group, rows: Sequence[Row]) -> None:
    group.more_completions += len(rows)
    group.more_tokens += sum(len(row.own_ids()) for row in rows)
