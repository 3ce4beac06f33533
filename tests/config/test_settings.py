"""`holdfast.config.settings`: what a comparison refuses before anything is loaded."""

from typing import Any

import pytest

from holdfast.config.load import parse_config
from holdfast.config.settings import CompareConfig
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
