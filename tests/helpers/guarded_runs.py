"""Runs of a tiny model that the guard rolls back because they exceed a budget of KL to the base."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from processes import start
from small_runs import write_config

STEPS = 8


@cache
def kl_at_probes(folder: Path) -> dict[int, float]:
    """KL to the base at the probes of the first stage of an unguarded run."""
    start("run", guard_config(folder, None), "-o", folder / "unguarded").finish()
    probes = read_lines(folder / "unguarded" / "probes.jsonl")
    return {p["step"]: p["kl_to_base"] for p in probes if p["stage"] == 1}


def guard_config(folder: Path, budget: float | None, *, action: list[str] | None = None, most: int = 2) -> Path:
    rule = {"budget": budget, "action": action or ["roll_back", "refresh_teacher", "freeze_teacher", "lower_rate"]}
    mode = "warn" if budget is None else "act"
    guard = {"mode": mode, "window": 2, "max_roll_backs": most, "rules": {"kl_budget": rule}}
    return write_config(folder, "sdpo", train={"steps": STEPS, "warmup_steps": STEPS}, guard=guard)


def guarded_config(folder: Path, **settings: Any) -> Path:
    """A configuration that exceeds its budget at step 6 of the first stage. Step 2 is healthy by then."""
    spent = kl_at_probes(folder)
    assert 0 < spent[4] < 0.7 * spent[6]
    return guard_config(folder, spent[6] * 0.99, **settings)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
