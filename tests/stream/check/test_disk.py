"""`holdfast.stream.check.disk`: the estimate against what a run really writes."""

from pathlib import Path

import pytest

import holdfast
from holdfast import api
from holdfast.stream.kept_weights import KeptWeights
from small_runs import RUNS, write_config


def _size(folder: Path) -> int:
    """Of the files that grow with the model: weights and the tokenizer."""
    grows = [*folder.rglob("*.safetensors"), *folder.rglob("tokenizer.json")]
    return sum(file.stat().st_size for file in grows)


@pytest.mark.parametrize("name", ["grpo", "sdpo", "sdft with LoRA", "ewc", "olora", "npo"])
def test_it_is_what_a_run_writes(tmp_path: Path, name: str) -> None:
    """Up to the headers of the files."""
    lora = {"lora": {"r": 16}} if "lora" in RUNS[name].get("model", {}) else {}
    model = {"path": str(tmp_path / "model"), **lora}
    path = write_config(tmp_path, name, train={"steps": 3, "save_steps": 1}, model=model)
    expected = api.check(path, items=2)["disk"]
    holdfast.run(path, tmp_path / "run")
    assert expected["stages"] == 2
    assert _size(tmp_path / "run" / "models" / "stage-2") == pytest.approx(expected["stage"], abs=14_000)
    written = [_size(each) for each in (tmp_path / "run" / "checkpoints").iterdir()]
    assert max(written) == pytest.approx(expected["checkpoint"], abs=40_000)
    # At the end a run holds two checkpoints; while one is written, it holds three, and more if it may go back.
    assert expected["checkpoints"] >= 3
    assert _size(tmp_path / "run" / "checkpoints") <= (expected["checkpoints"] - 1) * (expected["checkpoint"] + 40_000)
    others = expected["checkpoint"] * expected["checkpoints"] + 2 * expected["stage"]
    assert expected["total"] == others + expected["kept_weights"]


def test_weights_that_are_kept_for_probes_are_what_a_run_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_config(tmp_path, "grpo", train={"steps": 7, "save_steps": 3})
    changes = {"eval.probe_steps": 3}
    expected = api.check(path, items=2, **changes)["disk"]["kept_weights"]
    keep, sizes = KeptWeights.keep, []

    def measured(self: KeptWeights, stage: int, step: int) -> None:
        keep(self, stage, step)
        sizes.append(_size(self.folder))

    monkeypatch.setattr(KeptWeights, "keep", measured)
    holdfast.run(path, tmp_path / "run", **changes)
    assert expected / 2 < max(sizes) <= expected + 7 * 14_000
    for off in ({"eval.probe_gap": 0.0}, {"eval.probe_steps": 0}, {"eval.probe_steps": 1}):
        assert api.check(path, items=2, **off)["disk"]["kept_weights"] == 0


def test_a_guard_that_acts_keeps_more_checkpoints(tmp_path: Path) -> None:
    path = write_config(tmp_path, "grpo")
    watched, acting = (api.check(path, items=2, **{"guard.mode": mode})["disk"] for mode in ("warn", "act"))
    assert acting["checkpoints"] > watched["checkpoints"]
