"""`holdfast.stream.learner`: weights that are blended with the base's after each stage."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import holdfast
from holdfast.config.load import load_config
from holdfast.config.settings import RunConfig
from holdfast.errors import ConfigError
from holdfast.stop import Stopped
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.measuring import Measuring
from small_runs import assert_same, write_config


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def run(folder: Path, output: Path, share: float, **more: Any) -> RunDirectory:
    """A run of SFT with a share of trained weights."""
    config = load_config(write_config(folder, "sft with blending", **more), RunConfig)
    recipe = config.recipe.model_copy(update={"blend_share": share})
    holdfast.run(config.model_copy(update={"recipe": recipe}), output)
    return RunDirectory(output)


@pytest.mark.parametrize("lora", [None, {"r": 2}])
def test_the_model_after_a_stage_is_the_blend_of_base_and_trained_weights(
    tmp_path: Path, lora: dict[str, int] | None
) -> None:
    model = {"path": str(tmp_path / "model"), "lora": lora}
    whole = run(tmp_path, tmp_path / "whole", 1.0, model=model)
    blended = run(tmp_path, tmp_path / "blended", 0.25, model=model)
    base, trained, between = weights(tmp_path / "model"), weights(whole.model(1)), weights(blended.model(1))
    assert any(not torch.equal(trained[name], start) for name, start in base.items())
    for name, start in base.items():
        torch.testing.assert_close(between[name], start + 0.25 * (trained[name] - start), atol=1e-6, rtol=1e-5)


def test_the_next_stage_begins_with_the_blended_weights(tmp_path: Path) -> None:
    nothing = {"train": {"learning_rate": 1e-12}}
    moved = run(tmp_path, tmp_path / "moved", 0.5)
    first, second = weights(moved.model(1)), weights(moved.model(2))
    still = run(tmp_path, tmp_path / "still", 0.5, **nothing)
    base = weights(tmp_path / "model")
    for name, start in base.items():
        torch.testing.assert_close(weights(still.model(2))[name], start, atol=1e-6, rtol=1e-5)
    assert any(not torch.equal(first[name], second[name]) for name in base)


@pytest.mark.parametrize("name", ["sft with blending", "sft with blending and LoRA"])
def test_a_stop_after_blending_does_not_blend_twice(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(write_config(tmp_path, name), RunConfig)
    holdfast.run(config, tmp_path / "whole")
    evaluate = Measuring.evaluate

    def interrupted(self: Measuring, stage: int) -> None:
        if stage == 1:
            raise Stopped(signal.SIGTERM)
        evaluate(self, stage)

    monkeypatch.setattr(Measuring, "evaluate", interrupted)
    with pytest.raises(Stopped):
        holdfast.run(config, tmp_path / "stopped")
    monkeypatch.undo()
    holdfast.resume(tmp_path / "stopped")
    assert_same(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan"), True, "half"])
def test_a_share_that_is_none_is_refused(tmp_path: Path, share: object) -> None:
    with pytest.raises(ConfigError, match="blend_share"):
        load_config(write_config(tmp_path, "sft with blending"), RunConfig, {"recipe.blend_share": share})
