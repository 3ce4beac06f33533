"""The process of one side: reads commands as JSON lines, answers each with one.

build   {"side": name, …}   make the side; what it needs is in the rest of the command
run                         do its work once: {"seconds", "values"}
check                       {"values"} that are not worked out in every run
memory                      do its work once: {"bytes"} at the highest beyond what there was before
drop                        let go of everything
"""

import gc
import importlib
import json
import os
import sys
from typing import Any

import torch

from benchmarks.engine.measure import Side, peak_bytes, seconds_of

SIDES = {
    "step.ours": "benchmarks.engine.step:ours",
    "step.trl": "benchmarks.engine.step:trl",
    "generation.ours": "benchmarks.engine.generation:ours",
    "generation.trl": "benchmarks.engine.generation:trl",
    "objective.ours": "benchmarks.engine.objective:ours",
    "objective.trl": "benchmarks.engine.objective:trl",
    "objective.trl_chunked": "benchmarks.engine.objective:trl_chunked",
    "objective.liger": "benchmarks.engine.objective:liger",
    "peaks": "benchmarks.engine.peaks:side",
}


def build(job: dict[str, Any]) -> Side:
    """Make the side that a job describes; its module is imported only now, so that no side pays for another's."""
    module, _, function = SIDES[job["side"]].partition(":")
    side: Side = getattr(importlib.import_module(module), function)(job)
    return side


def main() -> None:
    # Answers have a channel of their own: libraries may print what they like.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    side: Side | None = None
    device = torch.device("cpu")
    for line in sys.stdin:
        command = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            match command.pop("command"):
                case "build":
                    device = torch.device(command["device"])
                    side = build(command)
                case "run":
                    assert side is not None
                    answer["seconds"], answer["values"] = seconds_of(side, device)
                case "check":
                    answer["values"] = getattr(side, "check", dict)()
                case "memory":
                    assert side is not None
                    answer["bytes"] = peak_bytes(side.run, device)
                case "drop":
                    side = None
                    gc.collect()
        except Exception as error:  # the other side must learn of it, whatever it is
            answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
            side = None
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
