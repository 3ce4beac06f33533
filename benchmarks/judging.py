"""Judging in child processes: 256 answers of a verifier of 50 ms, and of one that takes no time, by 1 to 16 processes.

    python -m benchmarks.judging            half a minute on two cores; writes benchmarks/results/judging.json

The verifier of 50 ms waits, as one does that asks a server; one that computes is limited by the cores. `here` judges
one by one in the process of the run. The first pass starts the processes; the second finds them there.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from holdfast.data.example import Example, Message
from holdfast.data.task import Task, Verify
from holdfast.judging.answers import AnswerToJudge, judge_answers
from holdfast.judging.named import NamedVerifier
from holdfast.judging.pool import judging

RESULTS = Path(__file__).parent / "results" / "judging.json"

ANSWERS = 256
WORKERS = (1, 2, 4, 8, 16)


def waits(example: Example, completion: str) -> float:
    """A verifier of 50 ms."""
    time.sleep(0.05)
    return float(completion == example.answer)


def at_once(example: Example, completion: str) -> float:
    """A verifier that takes no time: what remains is the cost of the way to another process and back."""
    return float(completion == example.answer)


VERIFIERS = {"50 ms": waits, "no time": at_once}


def row(name: str, workers: int | None, answers: int) -> dict[str, Any]:
    """Seconds of two passes over the same answers. `workers` is None for the process of the run."""
    function = VERIFIERS[name]
    verifier: Verify = function if workers is None else NamedVerifier(f"benchmarks.judging:{function.__name__}")
    task = Task("sums", [], [], verifier)
    asked = [
        AnswerToJudge(task, Example(f"e{i}", (Message(role="user", content="q"),), answer="0"), str(i % 4))
        for i in range(answers)
    ]
    seconds = []
    with judging():
        for _ in range(2):
            started = time.perf_counter()
            verdicts = judge_answers(asked, workers=workers)
            seconds.append(time.perf_counter() - started)
            right = sum(verdict is not None and verdict.reward == 1.0 for verdict in verdicts)
            assert right == (answers + 3) // 4
    return {
        "verifier": name,
        "processes": "here" if workers is None else workers,
        "answers": answers,
        "seconds_first": seconds[0],
        "seconds": seconds[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=ANSWERS, help="answers per pass")
    answers = parser.parse_args().answers
    rows = [row(name, workers, answers) for name in VERIFIERS for workers in (None, *WORKERS)]
    RESULTS.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=1) + "\n")
    for each in rows:
        print({key: round(value, 3) if isinstance(value, float) else value for key, value in each.items()})


if __name__ == "__main__":
    main()
