"""A recipe in one file, outside the package: imitate the shortest correct answer.

    python examples/recipe.py

A recipe says where the rows come from, how the loss is computed, and what each row counts for. It touches no tensor.
docs/add-a-recipe.md explains every part.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

import holdfast
from holdfast.data.rows import Group
from holdfast.recipes.parts.objective import Objective
from holdfast.recipes.parts.rollouts import RolloutSpec


@holdfast.register
class ShortestCorrect(holdfast.Recipe):
    """Rejection sampling that prefers short answers.

    Rows     y_1..y_4 ~ student(x), temperature 1, scored by the verifier
    Loss     −log p(y_t | x, y_<t) on the shortest correct answer; mean over its tokens, then over prompts that have one
    """

    name: ClassVar[str] = "shortest_correct"
    needs: ClassVar[frozenset[str]] = frozenset({"reward"})  # a task without a verifier is refused
    summary: ClassVar[str] = "Imitate the shortest correct sample."
    source: ClassVar[str] = "an example"
    cost: ClassVar[str] = "4 generations per prompt; 1 forward, 1 backward per prompt"
    when: ClassVar[str] = "Answers are correct, but longer than they need to be."

    # Fields are settings: checked when the configuration is read, and saved with the run.
    num_generations: int = Field(default=4, ge=1)

    def rollouts(self) -> RolloutSpec:
        return RolloutSpec(source="student", num_generations=self.num_generations)

    def objective(self) -> Objective:
        # Rows without signal do not count in the denominator.
        return Objective(aggregation="sequence_mean", count_silent_rows=False)

    def annotate(self, groups: Sequence[Group]) -> Mapping[str, float]:
        imitated = 0
        for group in groups:
            correct = [row for row in group.rows if row.reward >= 1]
            if correct:
                min(correct, key=lambda row: len(row.completion_ids)).ce = 1.0
                imitated += 1
        # Logged at every step, in metrics.jsonl.
        return {"imitated_fraction": imitated / len(groups)}


def main(output: Path) -> None:
    summary = holdfast.compare(
        {
            "name": "own-recipe",
            "model": {"path": "lab"},
            "tasks": ["lab:calculation"],
            "suites": ["lab:old-skills"],
            "recipes": ["shortest_correct", "rft"],
            "seeds": [0],
            "train": {"steps": 3, "prompts_per_step": 4, "max_prompt_length": 160, "max_completion_length": 40},
            "eval": {"max_items": 16, "kl_items": 0, "response_items": 0},
        },
        output,
    )
    print(summary["verdict"][0])
    print(f"report: {output / 'report.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples/recipe"))
