"""Your own data: compare SFT with SDFT on demonstrations from a JSON Lines file.

    python examples/own_data.py

SFT imitates the demonstration. SDFT shows it to a teacher only, and trains the student on the student's own samples.
The settings are tiny: the example takes seconds and teaches nothing. For a real comparison, set `model.path` to a
Hugging Face model, use at least three seeds, and raise `steps` and `prompts_per_step`.
"""

import json
import sys
from pathlib import Path

import holdfast

QUEUES = {"printer": "hardware", "screen": "hardware", "invoice": "billing", "refund": "billing", "login": "access"}
NAMES = ("Ana", "Ben", "Cleo", "Dev")


def write_data(folder: Path) -> None:
    """A task (prompt, demonstration and answer) and a retention suite (prompt and answer), in TRL's column names."""
    folder.mkdir(parents=True, exist_ok=True)
    routing = [
        # The answer makes the task judged, by exact match. Free-form demonstrations need a verifier, or are not judged.
        {"prompt": f"{name}: my {thing} fails. Queue?", "completion": f"queue: {queue}", "answer": f"queue: {queue}"}
        for name in NAMES
        for thing, queue in QUEUES.items()
    ]
    sums = [{"prompt": f"{a} + {b} =", "answer": str(a + b)} for a in range(3, 7) for b in range(3, 7)]
    for name, records in (("routing", routing), ("sums", sums)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def main(output: Path) -> None:
    write_data(output / "data")
    summary = holdfast.compare(
        {
            "name": "own-data",
            "model": {"path": "lab"},  # for example "Qwen/Qwen3-0.6B"
            # A tenth of the prompts is held out as the test set, because no test file is named.
            "tasks": [{"name": "routing", "train": str(output / "data" / "routing.jsonl")}],
            # What the model must not forget. It is evaluated before the first stage and after each stage.
            "suites": [{"name": "sums", "test": str(output / "data" / "sums.jsonl")}],
            "recipes": [
                "sft",
                # By default SDFT leaves the first 3 tokens out of the loss. These answers are too short for that.
                {"name": "sdft", "num_loss_tokens_to_skip": 0},
            ],
            "seeds": [0],
            "train": {"steps": 2, "prompts_per_step": 4, "max_prompt_length": 200, "max_completion_length": 24},
            "eval": {"max_items": 8, "kl_items": 4},
        },
        output / "comparison",
    )
    for arm in summary["recipes"]:
        learned, retention = (arm["metrics"][name]["mean"] for name in ("learned_score", "retention"))
        # A suite on which the model is not above chance before training has nothing to lose, so there is no change.
        change = "nothing to lose on the suite" if retention is None else f"change on the suite {retention:+.1%}"
        print(f"{arm['label']}: score on the new task {learned:.0%}, {change}")
    print(f"report: {output / 'comparison' / 'report.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples/own-data"))
