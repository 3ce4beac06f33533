"""A verifier of your own: train with GRPO on rewards from a Python function.

    python examples/verifier.py

The prompts and answers come from the lab. They are written to a file, in the form that your own data would have.
"""

import json
import sys
from pathlib import Path

import holdfast
from holdfast.lab.tasks import lab_task


def verify(example: holdfast.Example, completion: str) -> holdfast.Verdict:
    """1 for the right numbers in brackets, such as `[ 1 5 ]`; 0.2 for other content in brackets; 0 otherwise.

    A reward is between 0 and 1, and 1 means correct. Every completion gets a verdict, however odd it is.
    """
    text = completion.strip()
    if not (text.startswith("[ ") and text.endswith(" ]")):
        return holdfast.Verdict(0.0, feedback="write the numbers in brackets", format_ok=False)
    numbers = text[2:-2]
    # The column `answer` is for the verifier only. It is never part of a prompt.
    return holdfast.Verdict(1.0 if numbers == example.answer else 0.2, answer=numbers)


def write_prompts(path: Path, examples: list[holdfast.Example]) -> Path:
    """One JSON record per line, with TRL's column names. Further columns would become `example.metadata`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [{"prompt": list(each.messages), "answer": each.answer.payload} for each in examples]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def main(output: Path) -> None:
    lab = lab_task("calculation")
    train = write_prompts(output / "train.jsonl", list(lab.train[:128]))
    test = write_prompts(output / "test.jsonl", list(lab.test[:32]))
    summary = holdfast.run(
        {
            "model": {"path": "lab"},
            # FILE:FUNCTION, without ".py". The file is in the working directory or on Python's path.
            "tasks": [{"name": "sums", "train": str(train), "test": str(test), "verifier": "verifier:verify"}],
            "suites": ["lab:old-skills"],
            # A group of 8 samples per prompt. A group with equal rewards has no advantage and teaches nothing.
            "recipe": {"name": "grpo", "num_generations": 8},
            "train": {
                "steps": 8,
                "prompts_per_step": 5,
                "learning_rate": 1e-4,
                "max_prompt_length": 160,
                "max_completion_length": 24,
            },
            "eval": {"max_items": 32, "kl_items": 0, "response_items": 0},
        },
        output / "run",
    )
    before, after = (evaluation["scores"]["sums"]["mean"] for evaluation in summary["evaluations"])
    print(f"correct before training: {before:.0%}, after 8 steps: {after:.0%}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples/verifier"))
