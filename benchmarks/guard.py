"""The guard on the lab: does it save a run that collapses, and how often does it raise a false alarm?

    python -m benchmarks.guard collapse     5 seeds without and with the guard; about 25 minutes on one core
    python -m benchmarks.guard healthy      20 seeds of each of 4 recipes; about 40 minutes on one core
    python -m benchmarks.guard results      write the finished runs to benchmarks/results/guard.json

guard_collapse.yaml and guard_healthy.yaml configure the runs. `--seeds 0 1` selects some of the seeds, so that several
processes can share them. Runs are in runs/guard, or in `--into`. A stopped run is resumed, and a finished one is read.
Each result lists its seeds. Healthy runs take turns over recipes and seeds, so that partial results cover all of them
equally.

Collapse: the score of the last probe against the best probe of the same run, and against the best probe of the
unguarded run with the same seed. Healthy: the share of runs in which a rule fired, and which rules.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch

import holdfast
from holdfast.config.load import load_config
from holdfast.config.settings import Arm, CompareConfig, dump_recipe
from holdfast.guard.settings import RetentionSettings
from holdfast.measure.statistics import score_interval
from holdfast.summary.read import read_summary

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "guard.json"
COLLAPSE = {"unguarded": "warn", "guarded": "act"}


def compare(name: str, directory: Path, seed: int, overrides: dict[str, Any]) -> None:
    """Run one seed as its own comparison, or resume it."""
    if (directory / "config.yaml").exists():
        holdfast.resume(directory)
    else:
        holdfast.compare(HERE / f"{name}.yaml", directory, seeds=[seed], **overrides)


def config_of(name: str) -> CompareConfig:
    return load_config(HERE / f"{name}.yaml", CompareConfig)


def run_collapse(seeds: list[int], into: Path) -> None:
    for seed in seeds:
        for label, mode in COLLAPSE.items():
            compare("guard_collapse", into / f"{label}-{seed}", seed, {"guard.mode": mode})


def healthy_folder(into: Path, recipe: Arm, seed: int) -> Path:
    return into / f"healthy-{recipe.label}-{seed}"


def run_healthy(seeds: list[int], into: Path) -> None:
    recipes = config_of("guard_healthy").recipes
    for turn in range(len(recipes)):
        for seed in seeds:
            recipe = recipes[(seed + turn) % len(recipes)]
            compare(
                "guard_healthy", healthy_folder(into, recipe, seed), seed, {"recipes": [dump_recipe(recipe.recipe)]}
            )


def finished(folder: Path) -> list[dict[str, Any]]:
    """The runs of a finished comparison; none if it is not finished."""
    path = folder / "summary.json"
    summary = read_summary(path) if path.exists() else {"status": "running"}
    return (
        [run["summary"] | {"label": run["label"]} for run in summary["runs"]] if summary["status"] != "running" else []
    )


def collapse_entry(seed: int, into: Path) -> dict[str, Any] | None:
    """One seed's scores with and without the guard; None if a run is missing."""
    entry: dict[str, Any] = {"seed": seed}
    for label in COLLAPSE:
        runs = finished(into / f"{label}-{seed}")
        if not runs:
            return None
        scores = [next(iter(probe["scores"].values())) for probe in runs[0]["probes"]]
        fired = [f"{d['rule']} at {d['step']}: {d['outcome'] or 'warned'}" for d in runs[0]["decisions"]]
        entry[label] = {"best": max(scores), "end": scores[-1], "decisions": fired}
        entry[label]["steps"] = runs[0]["budget"]["optimizer_steps"]
    end = entry["guarded"]["end"]
    entry["below_own_best"] = entry["guarded"]["best"] - end
    entry["below_unguarded_best"] = entry["unguarded"]["best"] - end
    return entry


def is_true(decision: dict[str, Any], run: dict[str, Any]) -> bool:
    """Whether an alarm in a healthy run is true.

    It is if a retention suite has fallen, and its score on all test items at the end of the stage confirms it. An alarm
    of any other rule is false there.
    """
    if decision["rule"] != "retention":
        return False
    fall = RetentionSettings().fall
    suites = [each["name"] for each in run["sets"] if each["kind"] == "retention"]
    before, after = (
        next(e["scores"] for e in run["evaluations"] if e["stage"] == stage) for stage in (0, decision["stage"])
    )
    return any(before[name]["mean"] - after[name]["mean"] >= fall for name in suites)


def healthy_entry(into: Path) -> dict[str, Any]:
    """In how many healthy runs a rule fired, by recipe and rule, and in how many of them without cause."""
    config = config_of("guard_healthy")
    runs = [
        run | {"seed": seed}
        for recipe in config.recipes
        for seed in config.seeds
        for run in finished(healthy_folder(into, recipe, seed))
    ]
    false = [float(any(not is_true(d, run) for d in run["decisions"])) for run in runs]
    rules = Counter(rule for run in runs for rule in {d["rule"] for d in run["decisions"]})
    without_cause = Counter(
        rule for run in runs for rule in {d["rule"] for d in run["decisions"] if not is_true(d, run)}
    )
    recipes = {
        label: {"runs": len(own), "fired": sum(bool(run["decisions"]) for run in own)}
        for label in dict.fromkeys(run["label"] for run in runs)
        for own in [[run for run in runs if run["label"] == label]]
    }
    return {
        "seeds": sorted({run["seed"] for run in runs}),
        "runs": len(runs),
        "fired": sum(bool(run["decisions"]) for run in runs),
        "fired_without_cause": int(sum(false)),
        "share_without_cause_ci95": list(score_interval(false)) if false else None,
        "by_rule": dict(rules),
        "by_rule_without_cause": dict(without_cause),
        "by_recipe": recipes,
    }


def results(into: Path) -> dict[str, Any]:
    entries = [collapse_entry(seed, into) for seed in config_of("guard_collapse").seeds]
    return {
        "holdfast_version": holdfast.__version__,
        "collapse": [entry for entry in entries if entry is not None],
        "healthy": healthy_entry(into),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("collapse", "healthy", "results"))
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--into", type=Path, default=Path("runs/guard"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.part != "results":
        run = run_collapse if given.part == "collapse" else run_healthy
        run(given.seeds or config_of(f"guard_{given.part}").seeds, given.into)
    measured = results(given.into)
    RESULTS.write_text(json.dumps(measured, indent=1) + "\n")
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
