"""`holdfast.model.context_length`: defaults give way to the model's context, and what the user wrote is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import holdfast
from commands import Commands
from holdfast import api
from holdfast.config.load import dump_config, load_config, parse_config
from holdfast.config.settings import EvalSettings, ModelSettings, RunConfig, TrainSettings
from holdfast.errors import ConfigError
from holdfast.model.context_length import configured_context, fit_lengths, fit_to_context, lowered_lengths
from tiny_model import SAMPLE_TEXTS, build_tiny_model

LENGTHS = ("max_prompt_length", "max_completion_length", "max_reprompt_length")
some_lengths = st.dictionaries(st.sampled_from(LENGTHS), st.integers(1, 3000))


@given(some_lengths, st.none() | st.integers(1, 3000), st.integers(2, 3000))
def test_lengths_fit_or_are_refused(written: dict[str, int], answer: int | None, limit: int) -> None:
    """What is written is kept. Defaults are never raised, and never a reason to refuse."""
    before, evaluation = TrainSettings(**written), EvalSettings(max_completion_length=answer)
    must_fit = [written.get("max_prompt_length", 1) + max(written.get("max_completion_length", 1), answer or 1)]
    must_fit.append(written.get("max_reprompt_length", 1) + written.get("max_completion_length", 1))
    if max(must_fit) > limit:
        with pytest.raises(ConfigError, match=rf"context length is {limit} tokens \(lower"):
            fit_lengths(before, evaluation, limit)
        return
    after = fit_lengths(before, evaluation, limit)
    assert {name: getattr(after, name) for name in written} == written
    assert after.max_prompt_length + max(after.max_completion_length, answer or 0) <= limit
    assert (after.max_reprompt_length or 0) + after.max_completion_length <= limit
    assert 1 <= after.max_prompt_length <= before.max_prompt_length
    assert 1 <= after.max_completion_length <= before.max_completion_length
    assert fit_lengths(after, evaluation, limit) == after
    assert len(lowered_lengths(before, after, limit)) == sum(getattr(before, n) != getattr(after, n) for n in LENGTHS)


@given(some_lengths)
def test_without_a_known_context_nothing_changes(written: dict[str, int]) -> None:
    settings = TrainSettings(**written)
    assert fit_lengths(settings, EvalSettings(), None) is settings


def _short_model(folder: Path, context: int) -> Path:
    build_tiny_model(folder, hidden_size=32, layers=1, vocab_size=300, texts=SAMPLE_TEXTS)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": context}))
    return folder


def _config(folder: Path, **train: int) -> dict[str, Any]:
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"say {i}", "completion": f"{i}"}) + "\n" for i in range(8)))
    return {
        "model": {"path": str(folder / "model")},
        "tasks": [{"name": "say", "train": str(data), "test_fraction": 0.25}],
        "recipe": "sft",
        "train": {"steps": 1, "prompts_per_step": 2, "warmup_steps": 0, **train},
        "eval": {"kl_items": 0, "response_items": 0, "drift_weights": 0},
    }


def test_a_model_with_a_short_context_is_trained_with_the_default_lengths(tmp_path: Path) -> None:
    """And its run directory holds the lengths that were used, so that it resumes."""
    _short_model(tmp_path / "model", 128)
    holdfast.run(_config(tmp_path), tmp_path / "run")
    kept = load_config(tmp_path / "run" / "config.yaml", RunConfig)
    assert (kept.train.max_prompt_length, kept.train.max_completion_length) == (96, 32)
    assert holdfast.resume(tmp_path / "run")["status"] == "complete"


def test_a_comparison_keeps_the_lengths_that_were_used(tmp_path: Path) -> None:
    _short_model(tmp_path / "model", 128)
    config = {k: v for k, v in _config(tmp_path).items() if k != "recipe"} | {"recipes": ["sft"], "seeds": [0]}
    holdfast.compare(config, tmp_path / "run")
    holdfast.resume(tmp_path / "run")


@pytest.mark.parametrize("path", ["run", "check"])
def test_lengths_that_were_written_are_refused_before_weights_and_data_are_read(
    command: Commands, tmp_path: Path, path: str
) -> None:
    _short_model(tmp_path / "model", 128)
    config = _config(tmp_path, max_completion_length=128)
    (tmp_path / "model" / "model.safetensors").write_text("no weights")
    (tmp_path / "data.jsonl").write_text("no data")
    outcome = command(path, command.config(config))
    assert outcome.code == 2
    assert outcome.err == (
        "holdfast: error: train.max_completion_length is 128, which leaves no room for a prompt: the model's context "
        "length is 128 tokens (lower it below 128)\n"
    )


def test_check_says_which_defaults_it_lowered(command: Commands, tmp_path: Path) -> None:
    _short_model(tmp_path / "model", 128)
    outcome = command("check", command.config(_config(tmp_path)), "--json", tmp_path / "check.json")
    assert outcome.code == 0, outcome.err
    assert "train.max_prompt_length is 96 instead of 1024: the model's context has 128 tokens" in outcome.out
    lengths = json.loads((tmp_path / "check.json").read_text())["recipes"]["sft"]["lengths"]
    assert lengths["context"] == 128
    assert lengths["max_completion_length"] == 32


def test_a_config_that_is_given_with_overrides_keeps_its_defaults_as_defaults(tmp_path: Path) -> None:
    _short_model(tmp_path / "model", 128)
    config = parse_config(_config(tmp_path), RunConfig)
    summary = holdfast.run(config, tmp_path / "run", seed=1)
    assert summary["status"] == "complete"


def test_the_context_is_read_from_the_configuration_alone(tmp_path: Path) -> None:
    folder = _short_model(tmp_path / "model", 200)
    (folder / "model.safetensors").unlink()
    assert configured_context(ModelSettings(path=str(folder))) == 200
    raw = json.loads((folder / "config.json").read_text())
    for broken in ("not JSON", json.dumps(raw | {"model_type": "unheard-of"}), json.dumps({}), "[]"):
        (folder / "config.json").write_text(broken)
        assert configured_context(ModelSettings(path=str(folder))) is None
    assert configured_context(ModelSettings(path=str(tmp_path / "absent"))) is None


def test_a_fitted_configuration_reads_back_as_it_is() -> None:
    config = parse_config({"tasks": ["lab:facts"], "recipe": "sft"}, RunConfig)
    fitted = fit_to_context(config, 300)
    again = fit_to_context(parse_config(load_yaml(dump_config(fitted)), RunConfig), 300)
    assert again == fitted
    assert fit_to_context(config, 5000) is config


def load_yaml(text: str) -> dict[str, Any]:
    import yaml

    return dict(yaml.safe_load(text))


def test_the_teachers_prompts_get_what_the_context_leaves(tmp_path: Path) -> None:
    _short_model(tmp_path / "model", 300)
    config = {**_config(tmp_path), "recipe": {"name": "sdft", "num_loss_tokens_to_skip": 0}}
    lengths = api.check(config, items=2)["lengths"]
    assert lengths["max_prompt_length"] + lengths["max_completion_length"] == 300
    assert lengths["max_reprompt_length"] == 300 - lengths["max_completion_length"]
    assert any("train.max_reprompt_length is 225 instead of 300" in each for each in lengths["lowered"])


def test_eval_fits_defaults_and_refuses_what_was_written(tmp_path: Path) -> None:
    _short_model(tmp_path / "model", 128)
    assert api.evaluate(_config(tmp_path))["sets"]["say"]["n"] == 2
    (tmp_path / "model" / "model.safetensors").write_text("no weights")
    with pytest.raises(ConfigError, match="leaves no room for a prompt"):
        api.evaluate(_config(tmp_path, max_completion_length=200))
