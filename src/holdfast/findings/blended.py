"""The model half-way between the base and a run's last model, for claims about averaged weights."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from holdfast.findings.record import POINTS
from holdfast.measure.scores import mean
from holdfast.store.run_directory import RunDirectory
from holdfast.summary.read import read_summary

AVERAGED = 0.5
"""Share of the trained weights in the averaged model."""


def half_way(directory: Path) -> Mapping[str, Any]:
    """Evaluate the mean of base and trained weights in the same way as the trained model.

    Returns:
        "kept": its score on the retention suites minus the trained model's, in points; "learned": the same on the
        tasks; "net": their sum.
    """
    from holdfast.evaluation.standalone import evaluate_model, evaluation_plan
    from holdfast.model.blend import Blend

    run = RunDirectory(directory)
    summary = read_summary(run.summary)
    after = {name: each["mean"] for name, each in summary["evaluations"][-1]["scores"].items()}
    with TemporaryDirectory() as folder:
        between = Path(folder) / "between"
        Blend("lab", [str(run.model(len(summary["order"])))]).write(AVERAGED, between)
        scored = evaluate_model(evaluation_plan(run.config, (), None, False).for_model(str(between)))
    gains = {name: POINTS * (scored["sets"][name]["mean"] - score) for name, score in after.items()}
    suites = [each["name"] for each in summary["sets"] if each["kind"] == "retention"]
    kept, learned = (mean(gains[name] for name in names) or 0.0 for names in (suites, summary["order"]))
    return {"kept": kept, "learned": learned, "net": kept + learned}
