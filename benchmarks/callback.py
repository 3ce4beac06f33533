"""What the callback costs a TRL trainer at its default cadence, and what it finds on the way.

The same training runs with and without it, in turns, on a small model of random weights. The start and the end of a
run, which are measured once, are given apart from its steps.

    python benchmarks/callback.py sft            # or grpo, sdft; adds to results/callback.json
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "src"), str(HERE.parent / "tests")]

from holdfast.integrations import HoldfastCallback  # noqa: E402
from tiny_model import SAMPLE_TEXTS, build_tiny_model  # noqa: E402
from watched_training import make_trainer, write_suite  # noqa: E402

STEPS = {"sft": 80, "grpo": 40, "sdft": 40}
SETTINGS: dict[str, dict[str, Any]] = {
    "sft": {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 2},
    "grpo": {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 32},
    "sdft": {"per_device_train_batch_size": 8, "num_generations": 1, "max_completion_length": 32},
}
"""Of each trainer. The callback is at its defaults, but for `max_new_tokens`, 32 as in the trainings that sample."""


class Clock(TrainerCallback):
    """Seconds from the beginning of the first step to the end of the last one."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0:
            self.ends.append(time.perf_counter())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        return self.ends[-1] - self.ends[0]


def train(kind: str, model: Path, folder: Path, watched: bool) -> dict[str, float]:
    """One training: seconds of all its steps together, of the whole `train()`, and of what is done once."""
    clock = Clock()
    suite = write_suite(folder / "sums.jsonl")
    callback = HoldfastCallback([suite], folder / "watched", max_new_tokens=32)
    settings = {**SETTINGS[kind], "max_steps": STEPS[kind], "logging_steps": 5}
    trainer = make_trainer(kind, model, folder / "out", [callback, clock] if watched else [clock], **settings)
    began = time.perf_counter()
    trainer.train()
    whole = time.perf_counter() - began
    log = folder / "watched" / "probes.jsonl"
    probes = [json.loads(line)["seconds"] for line in log.read_text().splitlines()] if log.exists() else []
    once = whole - clock.seconds
    return {"steps": clock.seconds, "once": once, "probes": len(probes), "probe_seconds": sum(probes)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=sorted(STEPS))
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as temporary:
        model = build_tiny_model(
            Path(temporary) / "model", texts=SAMPLE_TEXTS, hidden_size=256, layers=4, vocab_size=2048
        )
        for repeat in range(-1, chosen.repeats):  # the first warms up
            for watched in (False, True) if repeat % 2 else (True, False):
                folder = Path(temporary) / f"{repeat}-{watched}"
                folder.mkdir()
                seconds = train(chosen.kind, model, folder, watched)
                if repeat >= 0:
                    found[watched].append(seconds)
    alone = [each["steps"] for each in found[False]]
    seen = [each["steps"] for each in found[True]]
    record = {
        "steps": STEPS[chosen.kind],
        "seconds_per_step": statistics.median(alone) / STEPS[chosen.kind],
        "share": statistics.median(seen) / statistics.median(alone) - 1,
        "share_of_each_pair": [b / a - 1 for a, b in zip(alone, seen, strict=True)],
        "spread_without": (max(alone) - min(alone)) / statistics.median(alone),
        "probes": statistics.median(each["probes"] for each in found[True]),
        "probe_seconds": statistics.median(each["probe_seconds"] for each in found[True]),
        "seconds_once": statistics.median(each["once"] for each in found[True])
        - statistics.median(each["once"] for each in found[False]),
        "settings": SETTINGS[chosen.kind],
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
    }
    path = HERE / "results" / "callback.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results[chosen.kind] = record
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(chosen.kind, json.dumps(record))


if __name__ == "__main__":
    main()
