"""`holdfast.config.settings`: what is refused before anything is loaded, and shorthands."""

from typing import Any

import pytest

from holdfast.config.load import parse_config
from holdfast.config.settings import CompareConfig, RunConfig
from holdfast.errors import ConfigError

COMPARISON: dict[str, Any] = {"tasks": ["lab:calculation", "lab:facts"], "recipes": ["sft", "sdft"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [0, 1, 0]}, "seed 0 is listed twice; list each seed once"),
        (
            {"orders": [["facts", "calculation"], ["facts", "calculation"]]},
            r"order \['facts', 'calculation'\] is listed twice; list each order once",
        ),
        ({"orders": [["facts"]]}, "is not a permutation of the tasks"),
        ({"recipes": ["sft", "sft"]}, "two recipes are labeled 'sft'"),
    ],
)
def test_a_comparison_that_repeats_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(COMPARISON | changes, CompareConfig)


@pytest.mark.parametrize(
    ("written", "k", "samples", "temperature"),
    [
        ([1, 4, 8], [1, 4, 8], 8, 1.0),
        (4, [4], 4, 1.0),
        ({}, [1, 4, 8], 8, 1.0),
        ({"k": [2], "num_samples": 16, "temperature": 0.6}, [2], 16, 0.6),
    ],
)
def test_pass_at_k_is_a_list_or_a_block(written: Any, k: list[int], samples: int, temperature: float) -> None:
    config = parse_config({"tasks": ["lab:facts"], "recipe": "sft", "eval": {"pass_at_k": written}}, RunConfig)
    block = config.eval.pass_at_k
    assert block is not None
    assert (block.k, block.samples, block.temperature) == (k, samples, temperature)
    again = parse_config(config.model_dump(), RunConfig)
    assert again.eval.pass_at_k == block


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ([], "eval.pass_at_k.k"),
        ([0], "eval.pass_at_k.k"),
        ([1, 1], "has a number twice; list each once"),
        ([True], "eval.pass_at_k.k"),
        (True, "eval.pass_at_k"),
        ("8", "eval.pass_at_k"),
        ({"k": [8], "num_samples": 4}, "pass@8 needs 8 samples; raise `num_samples` to 8"),
        ({"temperature": 0.0}, "eval.pass_at_k.temperature"),
        ({"temprature": 1.0}, "eval.pass_at_k.temprature"),
    ],
)
def test_a_pass_at_k_that_cannot_be_is_refused_in_one_line(written: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"tasks": ["lab:facts"], "recipe": "sft", "eval": {"pass_at_k": written}}, RunConfig)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [object(), {"inner": [object()]}, lambda: 1], ids=["alone", "within", "a function"])
def test_a_value_that_no_file_can_hold_is_refused_before_anything_is_written(value: object) -> None:
    task = {"name": "sums", "gym": "chain_sum", "gym_settings": {"max_terms": value}}
    with pytest.raises(ConfigError, match=r"a value cannot be kept with the run: .*give text, numbers, lists"):
        parse_config({"tasks": [task], "recipe": "sft"}, RunConfig)
