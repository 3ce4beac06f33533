"""The lab's comparison over seeds: who learns, who forgets, with intervals; writes benchmarks/results/lab.json.

    python benchmarks/lab.py [DIRECTORY]     (default runs/lab; one that was stopped goes on, a finished one is read)

`lab.yaml` beside this file says what is compared. About 25 minutes on two cores.
"""

import json
import sys
from pathlib import Path

import holdfast

HERE = Path(__file__).parent
KEPT = ("schema_version", "name", "holdfast_version", "created", "labels", "seeds", "orders", "recipes", "paired")


def main(directory: Path) -> None:
    if (directory / "config.yaml").exists():
        summary = holdfast.resume(directory)
    else:
        summary = holdfast.compare(HERE / "lab.yaml", directory)
    result = {key: summary[key] for key in (*KEPT, "matched", "pareto", "verdict")}
    result["matrices"] = [
        {
            "label": run["label"],
            "seed": run["seed"],
            "scores": [{k: round(v["mean"], 4) for k, v in e["scores"].items()} for e in run["summary"]["evaluations"]],
        }
        for run in summary["runs"]
    ]
    path = HERE / "results" / "lab.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join(summary["verdict"]))
    print(f"results: {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/lab"))
