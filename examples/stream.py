"""A stream of three tasks: what each stage teaches, and what it takes from the earlier ones.

    python examples/stream.py

`anchored` is the recipe to start with. From the second stage on it also practices prompts of the earlier tasks.
"""

import sys
from pathlib import Path

import holdfast


def main(output: Path) -> None:
    summary = holdfast.run(
        {
            "model": {"path": "lab"},
            # The order of the list is the order of the stages.
            "tasks": ["lab:facts", "lab:tools", "lab:more-facts"],
            "suites": ["lab:old-skills", "lab:old-facts"],
            "recipe": "anchored",
            "train": {
                "steps": 6,  # optimizer steps per stage; the lab's tasks take about 60
                "prompts_per_step": 4,
                "learning_rate": 2e-4,
                "max_prompt_length": 160,
                "max_completion_length": 56,
            },
            "eval": {"max_items": 24, "kl_items": 0, "response_items": 0},
        },
        output,
    )
    names = [each["name"] for each in summary["sets"] if each["kind"] in ("task", "retention")]
    print("".join(f"{name:>14}" for name in ("after stage", *names)))
    # Stage 0 is the model before training.
    for evaluation in summary["evaluations"]:
        scores = [f"{evaluation['scores'][name]['mean']:.0%}" for name in names]
        print("".join(f"{cell:>14}" for cell in (evaluation["task"] or "(base)", *scores)))
    print(f"A model folder per stage: {output / 'models'}. If the run was interrupted: holdfast resume {output}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples/stream"))
