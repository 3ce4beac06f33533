"""The process of one side. It reads commands as JSON lines and answers each with one line.

build   {"side": name, …}   create the side from the rest of the command
run                         do its work once; returns {"seconds", "values"}
check                       returns {"values"} that are not computed in every run
memory                      do its work once; returns the peak beyond the memory before it, {"bytes"}
drop                        free the side
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
    """Create the side of a job. Its module is imported only now: no side's memory includes another's imports."""
    module, _, function = SIDES[job["side"]].partition(":")
    side: Side = getattr(importlib.import_module(module), function)(job)
    return side


def main() -> None:
    # Answers use a copy of stdout, and stdout itself goes to stderr: whatever libraries print cannot mix with answers.
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
        except Exception as error:  # any error of a side is reported as an answer, and the process stays usable
            answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
            side = None
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
