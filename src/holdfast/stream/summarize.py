"""`summary.json` of a run, from what its directory holds."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from holdfast import __version__
from holdfast.config.settings import RunConfig, dump_recipe
from holdfast.data.task import Suite, Task
from holdfast.evaluate.evaluator import set_descriptions
from holdfast.store.files import read_json, write_json
from holdfast.store.run_directory import RunDirectory
from holdfast.summary.build import build_run_summary
from holdfast.summary.responses import artifact_entries, repetition_entries, response_entries


def summarize(
    directory: RunDirectory,
    config: RunConfig,
    label: str,
    tasks: Sequence[Task],
    suites: Sequence[Suite],
    *,
    parameters: tuple[int, int],
    status: str,
) -> dict[str, Any]:
    """Write the summary of a run as it stands, and return it.

    Args:
        parameters: of the model, all and those that are trained.
    """
    evaluations = [read_json(path) for n in range(len(tasks) + 1) if (path := directory.evaluation(n)).exists()]
    records = [read_json(path) for n in range(len(evaluations)) if (path := directory.responses(n)).exists()]
    drifts = [read_json(path)["entry"] for n in range(len(evaluations)) if (path := directory.drift(n)).exists()]
    probes = list(directory.records("probes.jsonl"))
    counts = {name: s["n"] for name, s in evaluations[0]["sets"].items()}
    total, trainable = parameters
    summary = build_run_summary(
        name=config.name,
        label=label,
        holdfast_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=dump_recipe(config.recipe),
        wiring=config.recipe.wiring(),
        seed=config.seed,
        order=[task.name for task in tasks],
        model={
            "path": config.model.path,
            "parameters": total,
            "trainable_parameters": trainable,
            "dtype": config.model.dtype,
        },
        status=status,
        sets=set_descriptions(tasks, suites, counts),
        evaluations=evaluations,
        metrics=list(directory.records("metrics.jsonl")),
        probes=probes,
        probe_items=config.eval.probe_items if probes else None,
        drift=drifts,
        responses=response_entries(records),
        artifacts=artifact_entries(records, probes),
        repetition=repetition_entries(records),
        guard=config.guard.model_dump(mode="json"),
        decisions=list(directory.records("decisions.jsonl")),
        discarded=list(directory.records("discarded.jsonl")),
        eval_seconds=sum(e["seconds"] for e in evaluations) + sum(p["seconds"] for p in probes),
    )
    write_json(directory.summary, summary)
    return summary
