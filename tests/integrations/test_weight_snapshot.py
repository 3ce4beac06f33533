"""`holdfast.integrations.weight_snapshot`: what a watched training moves is what its merged weights move."""

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from adapter_kinds import LORA, lora, other, stir
from holdfast.evaluation.drift import drift
from holdfast.integrations import Watcher
from holdfast.integrations.weight_snapshot import write_weights
from watched_training import write_suite

WATCHED = ("dora", "modules to save", "trainable tokens", "experts", "transposed experts", "all biases", "gemma3")


def merged(model: Any) -> dict[str, torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: p.detach() for name, p in copy.deepcopy(model).merge_and_unload().named_parameters()}


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> dict[str, float]:
    """By name: the norm of what moved, experts each."""
    norms = {}
    for name, start in before.items():
        parts = zip(start, after[name]) if start.ndim == 3 and "expert" in name else [(start, after[name])]
        for index, (a, b) in enumerate(parts):
            label = f"{name}[{index}]" if start.ndim == 3 and "expert" in name else name
            norms[label] = float((b - a).double().norm())
    return {name: norm for name, norm in norms.items() if norm}


@pytest.mark.parametrize("kind", [*LORA, "IA3", "LOHA", "OFT", "VERA", "LN_TUNING"])
def test_the_drift_of_a_live_model_is_that_of_its_merged_weights(kind: str, tmp_path: Path) -> None:
    from peft import PeftType

    model = lora(kind) if kind in LORA else other(PeftType[kind])
    before = merged(model)
    write_weights(model, tmp_path / "a")
    stir(model)
    write_weights(model, tmp_path / "b")
    expected = moved(before, merged(model))
    result = drift(tmp_path / "a", tmp_path / "b")
    found = {each.name: each.measured.update_norm for each in result.matrices if each.measured.update_norm}
    assert found == pytest.approx(expected, rel=1e-3)
    assert not result.left_out


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    """A tokenizer whose ids the tiny models of all families know."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = ["<pad>", "<s>", "</s>", *map(chr, range(32, 123))]
    core = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    own = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", pad_token="<pad>")
    own.chat_template = "{% for m in messages %}{{ m.content }}</s>{% endfor %}"
    assert AutoTokenizer.from_pretrained(tiny_model).chat_template
    return own


@pytest.mark.parametrize("kind", WATCHED)
def test_a_watcher_reports_it(kind: str, tokenizer: Any, tmp_path: Path) -> None:
    model = lora(kind)
    before = merged(model)
    suite = write_suite(tmp_path / "sums.jsonl")
    watcher = Watcher([suite], tmp_path / "run", items=2, kl_items=1, max_new_tokens=2, probe_steps=0)
    watcher.start(model, tokenizer)
    stir(model, size=0.02)
    watcher.step({"loss": 1.0})
    watcher.finish()
    expected = moved(before, merged(model))
    entry = json.loads((tmp_path / "run/drift/stage-1.json").read_text())
    after = {each["name"]: each["relative_norm"] for each in entry["matrices"] if each["relative_norm"]}
    for name, relative in after.items():
        start = before[name.partition("[")[0]]
        size = float((start[int(name.partition("[")[2][:-1])] if "[" in name else start).norm())
        assert relative == pytest.approx(expected[name] / size, rel=1e-3), name
    assert len(after) == sum(before[name.partition("[")[0]].ndim > 1 for name in expected)


def test_a_kind_that_cannot_be_merged_is_said_and_the_training_goes_on(tokenizer: Any, tmp_path: Path) -> None:
    from peft import PeftType

    model = other(PeftType.LILY)
    suite = write_suite(tmp_path / "sums.jsonl")
    watcher = Watcher([suite], tmp_path / "run", items=2, kl_items=1, max_new_tokens=2, probe_steps=0)
    with pytest.warns(UserWarning, match="drift is not measured: .*adapters of kind LILY cannot be merged"):
        watcher.start(model, tokenizer)
    watcher.step({"loss": 1.0})
    assert watcher.finish()["status"] == "complete"
    assert not (tmp_path / "run/drift").exists() or not list((tmp_path / "run/drift").iterdir())
