"""What the callback costs a TRL trainer at its default cadence, and what it finds on the way.

Each call runs the same training with and without it, in turns, on a small model of random weights. The start and the
end of a run, which are measured once, are given apart from its steps.

    python benchmarks/callback.py sft            # or grpo, sdft; adds a pair to results/callback.json
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

STEPS = {"sft": 250, "grpo": 120, "sdft": 120}
SETTINGS: dict[str, dict[str, Any]] = {
    "sft": {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 2},
    "grpo": {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 32},
    "sdft": {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "num_generations": 1,
        "max_completion_length": 32,
    },
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


class Timed(HoldfastCallback):
    """The callback, with the seconds that it takes itself while steps are taken."""

    inside = 0.0

    def on_step_begin(self, *given: Any, **kwargs: Any) -> None:
        began = time.perf_counter()
        super().on_step_begin(*given, **kwargs)
        self.inside += time.perf_counter() - began

    def on_step_end(self, *given: Any, **kwargs: Any) -> None:
        began = time.perf_counter()
        super().on_step_end(*given, **kwargs)
        self.inside += time.perf_counter() - began

    def on_log(self, *given: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        control = super().on_log(*given, **kwargs)
        self.inside += time.perf_counter() - began
        return control


def train(kind: str, model: Path, folder: Path, watched: bool, steps: int) -> dict[str, float]:
    """One training: seconds of all its steps together, of the whole `train()`, and of what is done once."""
    clock = Clock()
    suite = write_suite(folder / "sums.jsonl")
    callback = Timed([suite], folder / "watched", max_new_tokens=32)
    settings = {**SETTINGS[kind], "max_steps": steps, "logging_steps": 5}
    trainer = make_trainer(kind, model, folder / "out", [callback, clock] if watched else [clock], **settings)
    began = time.perf_counter()
    trainer.train()
    whole = time.perf_counter() - began
    log = folder / "watched" / "probes.jsonl"
    probes = log.read_text().splitlines() if log.exists() else []
    once = whole - clock.seconds
    return {"steps": clock.seconds, "once": once, "probes": len(probes), "inside": callback.inside}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=sorted(STEPS))
    parser.add_argument("--fresh", action="store_true", help="Forget the pairs that were measured before.")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    path = HERE / "results" / "callback.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    pairs = [] if chosen.fresh else results.get(chosen.kind, {}).get("pairs", [])
    found: dict[bool, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        model = build_tiny_model(
            Path(temporary) / "model", texts=SAMPLE_TEXTS, hidden_size=256, layers=4, vocab_size=2048
        )
        (Path(temporary) / "warm-up").mkdir()
        train(chosen.kind, model, Path(temporary) / "warm-up", watched=True, steps=10)
        for watched in (False, True) if len(pairs) % 2 == 0 else (True, False):
            folder = Path(temporary) / str(watched)
            folder.mkdir()
            found[watched] = train(chosen.kind, model, folder, watched, STEPS[chosen.kind])
    alone, seen = found[False], found[True]
    pairs.append(
        {
            "seconds_without": alone["steps"],
            "seconds_with": seen["steps"],
            "share": seen["steps"] / alone["steps"] - 1,
            "probes": seen["probes"],
            "seconds_inside": seen["inside"],
            "seconds_once": seen["once"] - alone["once"],
        }
    )
    results[chosen.kind] = {
        "steps": STEPS[chosen.kind],
        # By the callback's own clock: of what the same steps take without what it does. Pairs differ by the machine's
        # noise as well.
        "share_inside": statistics.fmean(
            p["seconds_inside"] / (p["seconds_with"] - p["seconds_inside"]) for p in pairs
        ),
        "share_of_pairs": statistics.fmean(pair["share"] for pair in pairs),
        "settings": SETTINGS[chosen.kind],
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "pairs": pairs,
    }
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(chosen.kind, json.dumps(results[chosen.kind]))


if __name__ == "__main__":
    main()
