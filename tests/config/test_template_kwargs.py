"""`holdfast.config.template_kwargs`: arguments of a chat template that are ours are refused, all others are passed."""

import inspect

import pytest
from transformers import PreTrainedTokenizerBase, ProcessorMixin
from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

from holdfast.config.load import parse_config
from holdfast.config.settings import RunConfig
from holdfast.config.template_kwargs import SPECIAL_TOKENS, TAKEN
from holdfast.errors import ConfigError

THE_TEMPLATES_OWN = {"kwargs", "documents"}


def test_every_argument_of_transformers_is_ours() -> None:
    functions = (
        PreTrainedTokenizerBase.apply_chat_template,
        ProcessorMixin.apply_chat_template,
        render_jinja_template,
    )
    arguments = {name for function in functions for name in inspect.signature(function).parameters}
    assert arguments - THE_TEMPLATES_OWN <= TAKEN
    # What is taken without being an argument is a name that transformers defines within every template.
    defined = set(_compile_jinja_template("").globals)
    assert TAKEN - arguments <= defined | {"messages"}
    assert set(PreTrainedTokenizerBase.SPECIAL_TOKENS_ATTRIBUTES) == SPECIAL_TOKENS


@pytest.mark.parametrize("name", sorted(TAKEN | SPECIAL_TOKENS))
def test_what_is_ours_is_refused_in_one_line(name: str) -> None:
    model = {"chat_template_kwargs": {"enable_thinking": False, name: True}}
    with pytest.raises(ConfigError, match=rf"model\.chat_template_kwargs: '{name}' is ") as caught:
        parse_config({"recipe": "sft", "tasks": ["lab:facts"], "model": model}, RunConfig)
    assert "\n" not in str(caught.value)


def test_what_templates_read_is_passed() -> None:
    kwargs = {"enable_thinking": False, "reasoning_effort": "low", "documents": [], "date_string": "1 May", "x": None}
    model = {"chat_template_kwargs": kwargs}
    config = parse_config({"recipe": "sft", "tasks": ["lab:facts"], "model": model}, RunConfig)
    assert config.model.chat_template_kwargs == kwargs
