"""`holdfast.integrations.watcher` with two processes, each with the model: they share the items, and one writes."""

import json
from pathlib import Path

import pytest
import torch.distributed as dist

from holdfast.integrations import Watcher
from processes import server
from watched_training import load, write_suite


def watch(rank: int, size: int, folder: str, output: str) -> None:
    """Watch a model that does not change, in one process of several."""
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{output}.store", rank=rank, world_size=size)
    model, tokenizer = load(Path(folder))
    settings = {"max_new_tokens": 6, "probe_steps": 1, "drift": False}
    watcher = Watcher([Path(output).parent / "sums.jsonl"], output, **settings)
    watcher.start(model, tokenizer)
    watcher.step({"loss": 1.0 if rank == 0 else 2.0})
    watcher.finish()


@pytest.mark.processes
def test_processes_find_together_what_one_finds_alone(tiny_model, tmp_path):
    write_suite(tmp_path / "sums.jsonl")
    for size in (1, 2):
        output = str(tmp_path / f"run-{size}")
        started = [server().Process(target=watch, args=(rank, size, str(tiny_model), output)) for rank in range(size)]
        for process in started:
            process.start()
        for process in started:
            process.join(120)
            assert process.exitcode == 0
    for name in (
        "responses/stage-0.json",
        "responses/stage-1.json",
        "start/base.json",
        "metrics.jsonl",
        "probes.jsonl",
    ):
        alone, together = (_untimed((tmp_path / run / name).read_text()) for run in ("run-1", "run-2"))
        assert alone == together, name


def _untimed(text: str) -> list:
    values = [json.loads(text)] if text.startswith("{\n") else [json.loads(line) for line in text.splitlines()]
    return [{key: value for key, value in each.items() if key != "seconds"} for each in values]
