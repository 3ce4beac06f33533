"""What a summary is made from: what was run, what it logged, and what was measured.

These are plain records, as the files of a run directory hold them. docs/run-directory.md describes the files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.store.run_directory import RunDirectory
from holdfast.summary.responses import artifact_entries, repetition_entries, response_entries

JsonRecord = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunDescription:
    """What a run is. These values go into the summary as they are; `RunSummary` describes them.

    Attributes:
        recipe: name and every setting, as `dump_recipe` gives them.
        wiring: the recipe's parts in words, as `Recipe.wiring()` gives them.
        order: the tasks in the order of their stages.
        model: `path`, `parameters`, `trainable_parameters` and `dtype`.
        status: `running`, `complete` or `stopped`.
        sets: `name`, `kind`, `n` and `description` of everything evaluated.
        guard: the guard's settings; None if they are not known.
    """

    name: str
    label: str
    holdfast_version: str
    created: str
    recipe: JsonRecord
    wiring: Mapping[str, str]
    seed: int
    order: Sequence[str]
    model: JsonRecord
    status: str
    sets: Sequence[JsonRecord]
    guard: JsonRecord | None = None


@dataclass(frozen=True, kw_only=True)
class RunLogs:
    """The lines of a run's logs.

    Attributes:
        metrics: of `metrics.jsonl`. `step` counts from 1 within the stage.
        probes: of `probes.jsonl`.
        decisions: of `decisions.jsonl`.
        discarded: of `discarded.jsonl`.
        rewriting: of each `rewritten/stage-S.json`, all but the texts.
    """

    metrics: Sequence[JsonRecord]
    probes: Sequence[JsonRecord] = ()
    decisions: Sequence[JsonRecord] = ()
    discarded: Sequence[JsonRecord] = ()
    rewriting: Sequence[JsonRecord] = ()

    @classmethod
    def read(cls, directory: RunDirectory) -> "RunLogs":
        """The logs of a run directory. A log that does not exist is empty."""
        return cls(
            metrics=list(directory.records("metrics.jsonl")),
            probes=list(directory.records("probes.jsonl")),
            decisions=list(directory.records("decisions.jsonl")),
            discarded=list(directory.records("discarded.jsonl")),
            rewriting=list(directory.rewriting()),
        )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured before the first stage and after each finished stage.

    Attributes:
        evaluations: contents of `evals/stage-S.json` for stages 0 to the last finished one, in order. `items` (scores
            by set) and `samples` (by set: `id`, `prompt`, `system`, `text`, `reward`) may be absent.
        probe_items: how many items, the first ones, a probe uses of each set. The ends of a probed stage are then
            scored on the same items, so that the test set does not change along a trajectory.
        drift: the `entry` of each `drift/stage-S.json`.
        responses, artifacts, repetition: these blocks of the summary, as `holdfast.summary.responses` makes them.
        eval_seconds: time that evaluations and probes took.
    """

    evaluations: Sequence[JsonRecord]
    probe_items: int | None = None
    drift: Sequence[JsonRecord] = ()
    responses: Sequence[JsonRecord] = ()
    artifacts: Sequence[JsonRecord] = ()
    repetition: Sequence[JsonRecord] = ()
    eval_seconds: float = 0.0

    @classmethod
    def from_records(
        cls,
        evaluations: Sequence[JsonRecord],
        *,
        responses: Sequence[JsonRecord],
        drift: Sequence[JsonRecord],
        probes: Sequence[JsonRecord],
        probe_items: int | None,
    ) -> "Measured":
        """From the records of a run directory.

        Args:
            responses: contents of `responses/stage-S.json`, in order.
            probes: lines of `probes.jsonl`. Their answers show when an artifact appeared.
        """
        return cls(
            evaluations=evaluations,
            probe_items=probe_items if probes else None,
            drift=drift,
            responses=response_entries(responses),
            artifacts=artifact_entries(responses, probes),
            repetition=repetition_entries(responses),
            eval_seconds=sum(e["seconds"] for e in evaluations) + sum(p["seconds"] for p in probes),
        )


@dataclass(frozen=True, kw_only=True)
class ComparisonDescription:
    """What a comparison is. `ComparisonSummary` describes the values.

    Attributes:
        status: `complete` if no run is left to do, otherwise `running`.
        labels: one per recipe, in the order of the configuration.
        orders: task orders.
    """

    name: str
    holdfast_version: str
    created: str
    status: str
    labels: Sequence[str]
    seeds: Sequence[int]
    orders: Sequence[Sequence[str]]
