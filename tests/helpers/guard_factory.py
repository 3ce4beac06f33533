"""What a guard decides, made up and added to a synthetic summary."""

import copy
from collections.abc import Mapping
from typing import Any

from holdfast.data.seeds import numpy_rng


def guarded(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a run's or a comparison's summary whose guard acted on the runs of SDFT and SDPO."""
    summary = copy.deepcopy(dict(summary))
    for run in [summary] if summary["kind"] == "run" else [run["summary"] for run in summary["runs"]]:
        rng = numpy_rng("guarded", run["name"])
        for point in run["curves"]:
            point["entropy"] = 1.2 - 0.5 * point["step"] / 40 + 0.05 * float(rng.normal())
        run["decisions"], run["discarded"] = _decisions(run)
        run["guard"] = {
            "mode": "act",
            "rules": {
                "repetition": {"action": ["warn"], "above": 0.3},
                "entropy_collapse": {"action": ["roll_back", "freeze_teacher"], "below": 0.3},
            },
        }
    return summary


def _decisions(summary: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    if summary["recipe"]["name"] not in ("sdft", "sdpo") or len(summary["evaluations"]) < 2:
        return [], []
    first = [point for point in summary["curves"] if point["stage"] == 1]
    last = first[-1]["step"]
    kept = round(0.6 * last)
    undone = [
        {
            "step": step,
            "reward": 0.8 * max(0.0, 1 - 3 * (step - kept) / last),
            "entropy": 1.2 - 2 * (step - kept) / last,
        }
        for step in range(kept + 1, round(0.85 * last) + 1)
    ]
    decisions = [
        {"rule": "repetition", "stage": 1, "step": round(0.4 * last), "global_step": round(0.4 * last),
         "task": summary["order"][0], "severity": "warning", "saw": {"repetition": 0.34}, "actions": ["warn"],
         "message": "Repeated bigrams rose to 34 % of the answers' words.", "outcome": ""},
        {"rule": "entropy_collapse", "stage": 1, "step": round(0.85 * last), "global_step": round(0.85 * last),
         "task": summary["order"][0], "severity": "critical", "saw": {"entropy": 0.1, "reward": 0.21},
         "actions": ["roll_back", "freeze_teacher"],
         "message": "Entropy fell to a tenth of its start while the reward fell.",
         "outcome": f"back to step {kept} of stage 1; the teacher stands still from here"},
    ]  # fmt: skip
    return decisions, [
        {"stage": 1, "from_step": kept + 1, "to_step": round(0.85 * last), "decision": 1, "curve": undone}
    ]
