"""Adapters of peft that somebody else trains or trained: their base, and the weights that they give it.

An adapter of any kind is merged by peft's own code, so the merged weights are those that the adapted model computes
with. A kind that peft cannot merge is refused. LoRA that holdfast trains itself is in `holdfast.model.lora`.
"""

import copy
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from peft.utils.save_and_load import load_peft_weights
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils.hub import has_file
from transformers.utils.peft_utils import find_adapter_config_file

from holdfast.errors import ModelError
from holdfast.model.folders import (
    ADAPTER_CONFIG,
    MERGE,
    MODEL_WEIGHTS,
    is_adapter,
    locate,
    model_and_adapter,
    read_json,
)
from holdfast.model.library_errors import one_line
from holdfast.model.quiet import quiet


@dataclass(frozen=True)
class Source:
    """What a model is loaded from.

    Attributes:
        where: its name in messages.
        path: folder or hub id of the weights; for an adapter, its base's.
        revision: of a hub id.
        adapter: folder or hub id of the adapter that is merged into the weights.
        adapter_revision: of a hub id.
        tokenizer: folder or hub id of the tokenizer.
    """

    where: str
    path: str
    revision: str | None
    adapter: str | None = None
    adapter_revision: str | None = None
    tokenizer: str = ""


def find_source(path: str, revision: str | None) -> Source:
    """What a path names: a model, or an adapter and its base. Local folders are checked.

    Raises:
        ModelError: there is no such model, or the adapter's base cannot be found.
    """
    found, where = locate(path)
    config_file = _adapter_config(found, revision)
    if config_file is None:
        return Source(where, found, revision, tokenizer=found)
    if not Path(found).is_dir():
        weights = next((name for name in MODEL_WEIGHTS if has_file(found, name, revision=revision)), None)
        if weights is not None:
            raise model_and_adapter(weights, where)
    config = read_json(config_file, where)
    base = _base(config, config_file.parent, where)
    has_tokenizer = has_file(found, "tokenizer_config.json", revision=revision)
    return Source(where, base, config.get("revision"), found, revision, found if has_tokenizer else base)


def _adapter_config(found: str, revision: str | None) -> Path | None:
    """The configuration of an adapter; None for a model."""
    if Path(found).is_dir():
        return Path(found) / ADAPTER_CONFIG if is_adapter(Path(found)) else None
    try:
        file = find_adapter_config_file(found, revision=revision)
    except Exception:  # no network, or no such id: loading the model's configuration will say so
        return None
    return None if file is None else Path(file)


def _base(config: dict[str, Any], folder: Path, where: str) -> str:
    """The path or id of an adapter's base."""
    named = config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        fix = f"set base_model_name_or_path in {ADAPTER_CONFIG}; or {MERGE}"
        raise ModelError(f"the folder has an adapter, and its {ADAPTER_CONFIG} names no base", where=where, fix=fix)
    beside = next((path for path in (folder / named, folder.parent / named) if path.is_dir()), None)
    try:
        base, _ = locate(str(beside) if beside is not None and not os.path.isdir(os.path.expanduser(named)) else named)
    except ModelError as error:
        fix = f"set base_model_name_or_path in {ADAPTER_CONFIG} to where it is; or {MERGE}"
        what = f"the folder has an adapter, and its base {named!r} cannot be used: {error.what}"
        raise ModelError(what, where=where, fix=fix) from error
    if Path(base).is_dir() and is_adapter(Path(base)):
        what = f"the folder has an adapter, and its base {named!r} is an adapter too"
        raise ModelError(what, where=where, fix="merge the base into its own base first")
    return base


@torch.no_grad()
def merge_into(model: PreTrainedModel, source: Source) -> PreTrainedModel:
    """A base with its adapter merged into the weights. The base itself changes.

    Raises:
        ModelError: the adapter does not fit the base, peft cannot merge its kind, or the merged model computes
            something else than the adapted one.
    """
    where, adapter = source.where, str(source.adapter)
    with one_line(where, "the adapter cannot be loaded onto its base", MERGE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is checked below
        _grow(model, load_peft_weights(adapter, device="cpu", revision=source.adapter_revision))
        wrapped = PeftModel.from_pretrained(model, adapter, revision=source.adapter_revision)
        _refuse_prompt_learning(wrapped, where)
        result = wrapped.load_adapter(adapter, "default", revision=source.adapter_revision)
    # peft may write a module that is saved as a whole a second time, under the names of its parts.
    extra = [key for key in result.unexpected_keys if ".modules_to_save." not in key and ".original_module." not in key]
    for keys, what in ((result.missing_keys, "lacks"), (extra, "has")):
        if keys:
            whose = "which its base needs" if what == "lacks" else "which its base has no place for"
            fix = "check base_model_name_or_path in " + ADAPTER_CONFIG
            raise ModelError(f"the adapter {what} {keys[0]}, {whose}", where=where, fix=fix)
    ids = torch.arange(1, 9)[None] % len(wrapped.get_base_model().get_input_embeddings().weight)
    kind, without = f"an adapter of kind {_kind(wrapped)}", "train on a model without an adapter"
    with one_line(where, f"{kind} cannot be merged", without), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ties, whose effect the logits show
        expected = wrapped.eval()(input_ids=ids).logits.float()
        merged = wrapped.merge_and_unload(safe_merge=True)
        found = merged(input_ids=ids).logits.float()
        error, size = float((found - expected).abs().max()), float(expected.abs().max())
        if not error <= (1e-3 if merged.dtype == torch.float32 else 5e-2) * size:
            what = f"{kind} is not what its merged weights compute: the logits differ by {error:.1g}"
            raise ModelError(what, where=where, fix=without)
    # What is exported later names this as its base: without the adapter it would be another model.
    merged.config._name_or_path = merged.name_or_path = adapter
    return merged.requires_grad_(True)


def _grow(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> None:
    """Give a base the rows for tokens that were added when the adapter was trained: its file has their embeddings."""
    name = next(name for name, module in model.named_modules() if module is model.get_input_embeddings())
    saved = [value for key, value in weights.items() if key.endswith(f"{name}.weight")]
    if saved and len(saved[0]) > len(model.get_input_embeddings().weight):
        model.resize_token_embeddings(len(saved[0]), mean_resizing=False)


def write_merged(adapter: Path, base: Path, folder: Path, where: str) -> None:
    """Write a base with an adapter as a model folder, in float32. The whole model is in memory meanwhile.

    Args:
        where: the adapter's name in messages.

    Raises:
        ModelError: see `merge_into`.
    """
    named = (read_json(base / "config.json", where).get("architectures") or [""])[0]
    # The class that wrote the base, because a class with a language part alone has other names.
    architecture = getattr(transformers, named, AutoModelForCausalLM)
    with quiet(), one_line(where, "its base cannot be loaded", MERGE):
        model = architecture.from_pretrained(base, dtype=torch.float32, use_safetensors=True)
    with quiet():
        merged = merge_into(model.eval(), Source(where, str(base), None, adapter=str(adapter)))
    with quiet(), one_line(where, "the merged model cannot be written", MERGE):
        merged.save_pretrained(folder)


def _kind(model: Any) -> str:
    config = next(iter(model.peft_config.values()))
    return str(getattr(config.peft_type, "value", config.peft_type))


def _refuse_prompt_learning(model: Any, where: str) -> None:
    if any(getattr(config, "is_prompt_learning", False) for config in model.peft_config.values()):
        raise ModelError(
            f"an adapter of kind {_kind(model)} adds learned tokens to prompts and cannot be merged",
            where=where,
            fix="train on its base alone",
        )


def merged_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Name and value of every weight that adapters in a model change or train, as merging the active ones gives it.

    Names are the base's. Of an adapted module all weights are given, in float32: in the base's bfloat16 most of an
    adapter would round to nothing. The model does not change, and needs memory for one more module in float32.

    Raises:
        ModelError: an adapted weight is quantized, or peft cannot merge adapters of this kind.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    where = "the model"
    if isinstance(model, PeftModel) and not model.peft_config[model.active_adapters[0]].is_prompt_learning:
        with _mergeable(model, where):
            model.base_model._check_merge_allowed()
    layers = dict(_outermost(base))
    for name, layer in layers.items():
        _refuse_quantized(layer, f"{name} of {where}")
        with _mergeable(model, where):
            merged = _merged(layer)
        for key, value in merged.items():
            yield f"{name}.{key}", value
    prefixes = [PEFT_TYPE_TO_PREFIX_MAPPING.get(config.peft_type) for config in model.peft_config.values()]
    for name, parameter in base.named_parameters():
        if not parameter.requires_grad or any(name.startswith(f"{layer}.") for layer in layers):
            continue
        if any(prefix and prefix in name for prefix in prefixes):
            raise ModelError(f"adapters of kind {_kind(model)} cannot be merged", where=where, fix="leave drift out")
        yield name, parameter


def _mergeable(model: Any, where: str) -> Any:
    return one_line(where, f"adapters of kind {_kind(model)} cannot be merged", "leave drift out")


def _outermost(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules that peft put in place of the base's, by name. Modules inside of them are left out."""
    if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
        if not _is_tied(module):
            yield name, module
        return
    for child_name, child in module.named_children():
        yield from _outermost(child, f"{name}.{child_name}" if name else child_name)


def _is_tied(module: Any) -> bool:
    """Whether a module's trained tokens are those of another module, such as an output head's of the embedding."""
    return getattr(getattr(module, "token_adapter", module), "tied_adapter", None) is not None


def _refuse_quantized(layer: nn.Module, where: str) -> None:
    base = layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer
    for weight in (*base.parameters(recurse=False), *base.buffers(recurse=False)):
        if not weight.is_floating_point() or weight.dtype.itemsize < 2:
            raise ModelError("its weights are quantized", where=where, fix="leave drift out")


@torch.no_grad()
def _merged(layer: Any) -> dict[str, Tensor]:
    """The weights of an adapted module, merged in float32. The module does not change."""
    own = copy.deepcopy(layer).float().eval()
    if hasattr(own, "unload_and_optionally_merge_module"):
        base = own.unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
    else:
        own.merge()
        base = own.get_base_layer()
    return {name: value.detach() for name, value in base.named_parameters()}
