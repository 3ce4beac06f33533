"""Writes `summary.json` of a run from the files of its directory."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from holdfast import __version__
from holdfast.config.settings import RunConfig, dump_recipe
from holdfast.data.task import Suite, Task
from holdfast.evaluation.evaluator import set_descriptions
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.intact import evaluation_of
from holdfast.summary.inputs import Measured, RunDescription, RunLogs
from holdfast.summary.run import build_run_summary


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
    """Write the summary of a run as far as it has come, and return it.

    Args:
        parameters: number of the model's parameters, and of those that are trained.
    """
    evaluations = [
        evaluation_of(directory, path) for n in range(len(tasks) + 1) if (path := directory.evaluation(n)).exists()
    ]
    finished = range(len(evaluations))
    logs = RunLogs.read(directory)
    total, trainable = parameters
    run = RunDescription(
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
        sets=set_descriptions(tasks, suites, {name: s["n"] for name, s in evaluations[0]["sets"].items()}),
        guard=config.guard.model_dump(mode="json"),
    )
    measured = Measured.from_records(
        evaluations,
        responses=[directory.read_checked(path) for n in finished if (path := directory.responses(n)).exists()],
        drift=[directory.read_checked(path)["entry"] for n in finished if (path := directory.drift(n)).exists()],
        probes=logs.probes,
        probe_items=config.eval.probe_items,
    )
    summary = build_run_summary(run, logs, measured)
    directory.write_json(directory.summary, summary)
    return summary
