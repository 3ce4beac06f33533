"""What the callback costs a TRL trainer with its default settings.

The same training runs with and without the callback, in turns, on a small model with random weights. Three overheads
are reported, as shares of the time without the callback. Each is the mean over pairs with its 95% t interval:

- `inside`: the callback's own time during the steps, relative to the rest of the same steps
- `steps`: by how much all steps together are longer, from the start of the first to the end of the last
- `whole`: by how much `train()` is longer, including the evaluations at its start and end

    python benchmarks/callback.py sft            # or grpo, sdft, sdpo

adds pairs to results/callback.json until it has five of this trainer. The file is written after every pair.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "src"), str(HERE.parent / "tests" / "helpers")]

from holdfast.integrations import HoldfastCallback  # noqa: E402
from holdfast.measure.statistics import mean_interval  # noqa: E402
from tiny_model import SAMPLE_TEXTS, build_tiny_model  # noqa: E402
from watched_training import make_trainer, write_suite  # noqa: E402

PAIRS = 5
STEPS = {"sft": 250, "grpo": 120, "sdft": 120, "sdpo": 120}
SETTINGS: dict[str, dict[str, Any]] = {
    "sft": {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 2},
    "grpo": {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 32},
    "sdft": {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "num_generations": 1,
        "max_completion_length": 32,
    },
    "sdpo": {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 32},
}
"""By trainer. The callback has its defaults, except `max_new_tokens`: 32, as in the trainings that sample."""


class Clock(TrainerCallback):
    """Measures the seconds from the start of the first step to the end of the last one."""

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
    """The callback, which also measures its own seconds during the steps."""

    inside = 0.0

    def on_step_begin(self, *given: Any, **kwargs: Any) -> None:
        began = time.perf_counter()
        super().on_step_begin(*given, **kwargs)
        self.inside += time.perf_counter() - began

    def on_pre_optimizer_step(self, *given: Any, **kwargs: Any) -> None:
        began = time.perf_counter()
        super().on_pre_optimizer_step(*given, **kwargs)
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
    """Run one training. Returns the seconds of its steps, of `train()` and of the callback, and its probes' number."""
    folder.mkdir(parents=True)
    clock = Clock()
    suite = write_suite(folder / "sums.jsonl")
    callback = Timed([suite], folder / "watched", max_new_tokens=32)
    settings = {**SETTINGS[kind], "max_steps": steps, "logging_steps": 5}
    trainer = make_trainer(kind, model, folder / "out", [callback, clock] if watched else [clock], **settings)
    began = time.perf_counter()
    trainer.train()
    whole = time.perf_counter() - began
    log = folder / "watched" / "probes.jsonl"
    probes = len(log.read_text().splitlines()) if log.exists() else 0
    return {"steps": clock.seconds, "whole": whole, "inside": callback.inside, "probes": probes}


def shares(pair: dict[str, dict[str, float]]) -> dict[str, float]:
    """The callback's overheads in one pair, as shares of the time without it."""
    alone, seen = pair["without"], pair["with"]
    return {
        "inside": seen["inside"] / (seen["steps"] - seen["inside"]),
        "steps": seen["steps"] / alone["steps"] - 1,
        "whole": seen["whole"] / alone["whole"] - 1,
    }


def summarize(pairs: Sequence[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """The overheads over pairs: mean, 95% interval, number of pairs."""
    each = [shares(pair) for pair in pairs]
    return {name: mean_interval([share[name] for share in each]).as_json() for name in ("inside", "steps", "whole")}


def measure(kind: str, model: Path, folder: Path, number: int) -> dict[str, dict[str, float]]:
    """Measure one pair. Every second pair starts with the watched training."""
    order = (False, True) if number % 2 == 0 else (True, False)
    results = {watched: train(kind, model, folder / str(watched), watched, STEPS[kind]) for watched in order}
    return {"without": results[False], "with": results[True]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(STEPS))
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"Number of pairs in total ({PAIRS}).")
    parser.add_argument("--fresh", action="store_true", help="Ignore pairs from earlier runs.")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    path = HERE / "results" / "callback.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    before = [] if chosen.fresh else results.get(chosen.kind, {}).get("pairs", [])
    pairs = [pair for pair in before if "without" in pair and "with" in pair]
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        model = build_tiny_model(scratch / "model", texts=SAMPLE_TEXTS, hidden_size=256, layers=4, vocab_size=2048)
        train(chosen.kind, model, scratch / "warm-up", watched=True, steps=10)
        while len(pairs) < chosen.pairs:
            pairs.append(measure(chosen.kind, model, scratch / f"pair-{len(pairs)}", len(pairs)))
            results[chosen.kind] = {
                "steps": STEPS[chosen.kind],
                "shares": summarize(pairs),
                "settings": SETTINGS[chosen.kind],
                "threads": torch.get_num_threads(),
                "machine": platform.processor() or platform.machine(),
                "pairs": pairs,
            }
            path.write_text(json.dumps(results, indent=1) + "\n")
            print(chosen.kind, len(pairs), json.dumps(results[chosen.kind]["shares"]), flush=True)


if __name__ == "__main__":
    main()
