"""Comparisons of recipes on the lab over seeds: learning and forgetting with 95% intervals.

    python benchmarks/lab.py lab         four recipes, three seeds
    python benchmarks/lab.py sft_sdft    two recipes, six seeds

NAME.yaml in this folder configures the comparison. Results go to results/NAME.json. The runs go to runs/NAME, or to a
directory given as the second argument. A stopped comparison is resumed, and a finished one is read.
"""

import json
import sys
from pathlib import Path

import holdfast

HERE = Path(__file__).parent
KEPT = ("schema_version", "name", "holdfast_version", "created", "labels", "seeds", "orders", "recipes", "paired")


def main(name: str, directory: Path) -> None:
    if (directory / "config.yaml").exists():
        summary = holdfast.resume(directory)
    else:
        summary = holdfast.compare(HERE / f"{name}.yaml", directory)
    result = {key: summary[key] for key in (*KEPT, "matched", "pareto", "verdict")}
    result["matrices"] = [
        {
            "label": run["label"],
            "seed": run["seed"],
            "scores": [{k: round(v["mean"], 4) for k, v in e["scores"].items()} for e in run["summary"]["evaluations"]],
        }
        for run in summary["runs"]
    ]
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join(summary["verdict"]))
    print(f"results: {path}")


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "lab"
    main(chosen, Path(sys.argv[2] if len(sys.argv) > 2 else f"runs/{chosen}"))
