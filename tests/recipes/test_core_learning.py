"""`holdfast.recipes`: sft, sdft, sdpo and grpo learn in the lab; wrong signs and teachers without context fail."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import holdfast
from few_items import few_items
from holdfast.config.load import parse_config
from holdfast.config.settings import RunConfig
from holdfast.data.rows import Row
from holdfast.objective.head import TensorHead
from holdfast.objective.signals import HiddenSignal
from holdfast.store.run_directory import RunDirectory
from holdfast.stream.run import Run
from holdfast.train.signal_sources import SignalSources

FACTS = [few_items("facts", 0)]
LEARN: dict[str, Any] = {
    "suites": [],
    "train": {
        "steps": 30,
        "prompts_per_step": 8,
        "learning_rate": 2e-4,
        "max_prompt_length": 200,
        "max_completion_length": 56,
    },
    "eval": {"max_items": 96, "kl_items": 0, "samples": 0, "response_items": 0}
    | {"drift_weights": 0, "demonstration_items": 0},
}
SETTINGS: dict[str, dict[str, Any]] = {"sdft": {"num_loss_tokens_to_skip": 0}}


def _metrics(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.learning
@pytest.mark.parametrize("name", ["sft", "sdft", "sdpo", "grpo"])
def test_the_first_recipes_learn_a_task(tmp_path: Path, name: str) -> None:
    recipe = {"name": name, **SETTINGS.get(name, {})}
    summary = holdfast.run(LEARN, tmp_path / "run", tasks=FACTS, recipe=recipe)
    before, after = (e["scores"]["facts"]["mean"] for e in summary["evaluations"])
    assert before < 0.4
    assert after > before + 0.35
    if name == "sdpo":
        metrics = _metrics(tmp_path / "run")
        assert all(0 <= m["reprompt_fraction"] <= 1 for m in metrics)
        assert sum(m["reward"] for m in metrics[-5:]) > sum(m["reward"] for m in metrics[:5])


@pytest.mark.learning
@pytest.mark.parametrize("name", ["sdft", "sdpo"])
def test_a_teacher_without_its_context_teaches_nothing(tmp_path: Path, name: str) -> None:
    """A live teacher with the student's own prompt is the student, so there is nothing to learn."""
    config = parse_config(
        {**LEARN, "tasks": ["lab:facts"], "recipe": {"name": name, "teacher_kind": "live"}}, RunConfig
    )
    config = config.model_copy(update={"train": config.train.model_copy(update={"steps": 3})})
    run = Run(config, RunDirectory(tmp_path / "run"))

    def blind(self: Any, row: Any) -> list[int]:
        return list(row.prompt_ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("holdfast.rollouts.prompt_encoder.PromptEncoder.teacher_prompt", blind)
        run.start()
    assert any(line["active_rows"] for line in _metrics(tmp_path / "run"))
    for line in _metrics(tmp_path / "run"):
        assert abs(line["loss"]) < 1e-6


@pytest.mark.learning
def test_prompts_without_success_or_feedback_give_exactly_no_gradient(tmp_path: Path) -> None:
    recipe = {"name": "sdpo", "feedback": "never", "success_threshold": 1.0}
    config = parse_config({**LEARN, "tasks": ["lab:facts"], "recipe": recipe}, RunConfig)
    config = config.model_copy(update={"train": config.train.model_copy(update={"steps": 2})})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("holdfast.data.task.Task.verify", lambda *_: holdfast.Verdict(0.0))
        run = Run(config, RunDirectory(tmp_path / "run"))
        run.prepare()
        before = {name: p.detach().clone() for name, p in run.policy.named_trainable().items()}
        run.start()
    for line in _metrics(tmp_path / "run"):
        assert (line["loss"], line["grad_norm"], line["active_rows"], line["reprompt_fraction"]) == (0, 0, 0, 0)
    assert all(torch.equal(before[name], p) for name, p in run.policy.named_trainable().items())


@pytest.mark.learning
def test_the_privileged_teacher_is_far_better_than_the_student_before_training() -> None:
    for recipe in ({"name": "sdft"}, {"name": "sdpo"}):
        found = holdfast.check({**LEARN, "recipe": recipe}, items=50, tasks=FACTS)["teacher"][0]
        assert found["verdict"] == "better"
        assert found["teacher"] > found["student"] + 0.4
        assert found["items"] == 50


@pytest.mark.learning
def test_the_guard_fires_if_a_teacher_prefers_one_token(tmp_path: Path) -> None:
    """A forced collapse: the teacher's logits prefer one token, so the student repeats it."""
    config = {**LEARN, "recipe": {"name": "sdft", "num_loss_tokens_to_skip": 0}}
    config["train"] = {**LEARN["train"], "learning_rate": 1e-3}
    original = SignalSources._scored

    def bent(self: SignalSources, source: str, rows: list[Row]) -> HiddenSignal:
        signal = original(self, source, rows)
        bias = torch.zeros(signal.head.weight.shape[0])
        bias[300] = 30
        return HiddenSignal(signal.hidden, TensorHead(signal.head.weight, bias))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SignalSources, "_scored", bent)
        summary = holdfast.run(config, tmp_path / "run", tasks=FACTS)
    assert "repetition" in {decision["rule"] for decision in summary["decisions"]}
    logged = [json.loads(line)["rule"] for line in (tmp_path / "run" / "decisions.jsonl").read_text().splitlines()]
    assert logged == [decision["rule"] for decision in summary["decisions"]]
