"""The callback in transformers' and TRL's own trainers: it sees what is there, and changes nothing."""

import json
from pathlib import Path

import pytest
import torch

from holdfast.integrations import HoldfastCallback
from watched_training import KINDS, make_trainer, weights, write_suite


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def watch(tmp_path: Path, **settings) -> HoldfastCallback:
    suite = write_suite(tmp_path / "sums.jsonl")
    return HoldfastCallback([suite], tmp_path / "watched", **{"max_new_tokens": 6, "probe_steps": 2, **settings})


@pytest.mark.parametrize("kind", KINDS)
def test_a_watched_training_is_the_same_bit_for_bit(kind, tiny_model, tmp_path):
    def trained(callbacks):
        trainer = make_trainer(kind, tiny_model, tmp_path / "out", callbacks)
        trainer.train()
        return weights(trainer.model), trainer.state.log_history

    alone, logged = trained([])
    watched, logged_too = trained([watch(tmp_path)])
    assert all(torch.equal(alone[name], watched[name]) for name in alone)
    for a, b in zip(logged[:-1], logged_too[:-1], strict=True):
        a, b = ({k: v for k, v in x.items() if "time" not in k} for x in (a, b))
        assert a == b
    run = tmp_path / "watched"
    assert [line["step"] for line in lines(run / "metrics.jsonl")] == [1, 2, 3, 4]
    assert [line["step"] for line in lines(run / "probes.jsonl")] == [2]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "complete" and [e["stage"] for e in summary["evaluations"]] == [0, 1]
