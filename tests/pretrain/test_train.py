"""`holdfast.pretrain.train`: pretraining resumes exactly, and the bundled base has its skills."""

import json
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from holdfast.config.settings import ModelSettings
from holdfast.errors import RunError
from holdfast.model.load import load_policy
from holdfast.pretrain.skills import SKILLS, lab_skills
from holdfast.pretrain.train import PretrainSettings, pretrain

TINY = PretrainSettings(
    steps=6,
    documents_per_step=8,
    micro_batches=2,
    hidden_size=32,
    intermediate_size=64,
    layers=2,
    heads=2,
    warmup_steps=2,
    save_steps=2,
    compile=False,
)


def test_the_bundled_base_is_small_and_has_no_pickle() -> None:
    folder = Path(str(files("holdfast.lab") / "base"))
    assert sum(f.stat().st_size for f in folder.iterdir()) <= 10_000_000
    assert {f.suffix for f in folder.iterdir()} <= {".json", ".safetensors", ".jinja", ".jsonl"}


def test_the_bundled_base_was_made_with_the_default_settings() -> None:
    log = (files("holdfast.lab") / "base" / "pretraining.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["step"] == len(log) == PretrainSettings().steps
    assert PretrainSettings().seed == 0


@pytest.mark.slow
def test_the_bundled_base_has_its_skills_before_any_stream() -> None:
    skills = lab_skills(load_policy(ModelSettings(path="lab")))
    assert skills.keys() == SKILLS.keys()
    for skill, measured in skills.items():
        assert measured["n"] == 640
        assert measured["mean"] >= 0.9, skill


def test_an_interrupted_pretraining_resumes_bit_for_bit(tmp_path: Path) -> None:
    def stop_after(step: int) -> None:
        def on_step(line: dict[str, object]) -> None:
            if line["step"] == step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pretrain(tmp_path / "stopped", TINY, on_step=on_step)

    whole = pretrain(tmp_path / "whole", TINY)
    stop_after(3)
    stop_after(5)
    resumed = pretrain(tmp_path / "stopped", TINY)
    a, b = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    logs = [(tmp_path / f / "log.jsonl").read_text().splitlines() for f in ("whole", "stopped")]
    whole_losses, losses = ([json.loads(line)["loss"] for line in log] for log in logs)
    assert losses == whole_losses


def test_pretraining_with_other_settings_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    pretrain(tmp_path / "p", replace(TINY, steps=2))
    with pytest.raises(RunError, match="other settings"):
        pretrain(tmp_path / "p", replace(TINY, steps=4))


def test_pretraining_lowers_the_loss(tmp_path: Path) -> None:
    from dataclasses import replace

    pretrain(tmp_path / "p", replace(TINY, steps=40, learning_rate=1e-2))
    losses = [json.loads(line)["loss"] for line in (tmp_path / "p" / "log.jsonl").read_text().splitlines()]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
