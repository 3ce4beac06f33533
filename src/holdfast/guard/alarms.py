"""Alarms: named rules over the metrics of one stage. They warn and are written down; they change nothing.

Each compares the latest steps with the first ones of the same stage, so that none needs tuning to a model or a task.
The signs are those of the collapse in arXiv 2607.01763: the model repeats a formatting token, teacher and student come
to agree on it, and the reward falls all the same.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

WINDOW = 4
"""Steps in an average; also how many a stage must have before its latest steps are compared with its first."""

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Alarm:
    """One rule that fired: where, on what numbers, and what it means."""

    rule: str
    stage: int
    step: int
    task: str
    saw: dict[str, float]
    message: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def _mean(records: Iterable[Record], key: str) -> float | None:
    values = [r[key] for r in records if r.get(key) is not None]
    return sum(values) / len(values) if values else None


def _ends(records: Sequence[Record], key: str) -> tuple[float, float] | None:
    """Means of a number over the first and over the latest steps; None where either is missing."""
    first, last = _mean(records[:WINDOW], key), _mean(records[-WINDOW:], key)
    return None if first is None or last is None else (first, last)


def _repeats(records: Sequence[Record]) -> tuple[dict[str, float], str] | None:
    ends = _ends(records, "repetition")
    if ends is None or ends[1] < 0.3 or ends[1] - ends[0] < 0.2:
        return None
    return {"repetition_first": ends[0], "repetition": ends[1]}, "completions repeat themselves more and more"


def _is_cut_short(records: Sequence[Record]) -> tuple[dict[str, float], str] | None:
    ends = _ends(records, "truncated_fraction")
    if ends is None or ends[1] < 0.5 or ends[1] - ends[0] < 0.3:
        return None
    seen = {"truncated_first": ends[0], "truncated": ends[1]}
    return seen, "most completions run into max_completion_length"


def _agrees_without_success(records: Sequence[Record]) -> tuple[dict[str, float], str] | None:
    agreement, reward = _ends(records, "kl_teacher"), _ends(records, "reward")
    if agreement is None or reward is None or agreement[1] > 0.5 * agreement[0]:
        return None
    means = [_mean(records[i : i + WINDOW], "reward") or 0.0 for i in range(len(records) - WINDOW + 1)]
    if reward[1] > max(means) - 0.2:
        return None
    seen = {
        "kl_teacher_first": agreement[0],
        "kl_teacher": agreement[1],
        "best_reward": max(means),
        "reward": reward[1],
    }
    return seen, "teacher and student agree more and more while the reward falls"


def _has_stalled(records: Sequence[Record]) -> tuple[dict[str, float], str] | None:
    if any(r["active_rows"] for r in records[-WINDOW:]):
        return None
    return {"active_rows": 0.0}, "no row has carried a signal for several steps: nothing is learnt"


RULES: dict[str, Callable[[Sequence[Record]], tuple[dict[str, float], str] | None]] = {
    "repetition": _repeats,
    "truncation": _is_cut_short,
    "agreement_without_success": _agrees_without_success,
    "silent_stall": _has_stalled,
}
"""Every rule by name."""


class Alarms:
    """Watches a run step by step; each rule fires at most once per stage."""

    def __init__(self, earlier: Iterable[Record] = ()) -> None:
        """`earlier`: the lines of metrics.jsonl that a resumed run goes on from."""
        self._records: list[Record] = []
        self._fired: set[str] = set()
        for record in earlier:
            self.see(record)

    def see(self, record: Record) -> list[Alarm]:
        """Take in a line of metrics.jsonl; the alarms that it sets off."""
        if self._records and self._records[-1]["stage"] != record["stage"]:
            self._records, self._fired = [], set()
        self._records.append(record)
        if len(self._records) < 2 * WINDOW:
            return []
        alarms = []
        for name, rule in RULES.items():
            found = None if name in self._fired else rule(self._records)
            if found is not None:
                self._fired.add(name)
                alarms.append(Alarm(name, record["stage"], record["step"], record["task"], *found))
        return alarms
