"""Weights of model folders, one tensor at a time: safetensors in one file or many, tied weights, LoRA adapters.

Tensors are memory-mapped from their file, and the mapping is freed with the tensor. So a comparison of two models needs
memory for one matrix of each.
"""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from torch import Tensor

from holdfast.errors import ModelError
from holdfast.store.bundled import base_folder
from holdfast.store.regular import read_text
from holdfast.store.weight_names import same_weights

T = TypeVar("T")

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Supported data types of weights, by their name in safetensors."""

PLAIN = frozenset(
    "alpha_pattern auto_mapping base_model_name_or_path bias corda_config ensure_weight_tying eva_config "
    "exclude_modules fan_in_fan_out inference_mode init_lora_weights layers_pattern layers_to_transform loftq_config "
    "lora_alpha lora_dropout lora_ga_config megatron_core modules_to_save peft_type peft_version qalora_group_size r "
    "rank_pattern revision runtime_config target_modules task_type use_rslora".split()
)
"""Settings of LoRA under which an adapter is products of two matrices, and weights that are saved in full. Any other
setting, also one of a later peft, may mean something else."""

_PLAIN_BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the base as it is. Others, such as "pissa", take a part out of it."""

_ADAPTER_PREFIX = "base_model.model."

_RIGHT = re.compile(r"\.lora_(A\.|embedding_A$)")
"""In the names of the second factors of an adapter."""

_HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "config.json", "adapter_config.json"]


_LARGEST_JSON = 2**28
"""Bytes of a configuration or an index."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file: its place, shape and data type."""

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def entries(self) -> int:
        return math.prod(self.shape)

    def read(self) -> Tensor:
        """The tensor in its stored data type, memory-mapped from the file."""
        with safe_open(self.file, "pt") as opened:
            return opened.get_tensor(self.key)


@dataclass(frozen=True, slots=True)
class Product:
    """What an adapter adds to a matrix: scale · left @ right."""

    left: Tensor
    right: Tensor


@dataclass(frozen=True, slots=True)
class _Factors:
    left: Stored
    right: Stored
    scale: float
    is_transposed: bool

    def read(self) -> Product:
        left, right = self.left.read().float(), self.right.read().float() * self.scale
        return Product(right.T, left.T) if self.is_transposed else Product(left, right)


class AdapterKindError(ModelError):
    """An adapter whose weights cannot be read one tensor at a time. peft may be able to merge it.

    Args:
        folder: of the adapter.
        base: path of its base.
        notes: remarks on the base.
    """

    def __init__(self, what: str, *, where: str, fix: str, folder: Path, base: Path, notes: tuple[str, ...]) -> None:
        super().__init__(what, where=where, fix=fix)
        self.folder, self.base, self.notes = folder, base, notes


@dataclass(frozen=True)
class Model:
    """The weights of a model by name.

    Attributes:
        where: the path or id that the model was opened with.
        tensors: stored tensors by their name in the saved state; for an adapter, the base's.
        tied: names that refer to another tensor of the same model, with that tensor's name.
        left_out: tensors that cannot be compared, with the reason.
        notes: remarks for readers of the comparison.
        added: what an adapter adds to the tensors, by name.
    """

    where: str
    tensors: Mapping[str, Stored]
    tied: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    added: Mapping[str, _Factors] = field(default_factory=dict)

    def source(self, name: str) -> Stored:
        """The stored tensor of a name, with ties resolved."""
        return self.tensors[self.tied.get(name, name)]

    def product(self, name: str) -> Product | None:
        """What an adapter adds to a tensor; None if it adds nothing."""
        factors = self.added.get(self.tied.get(name, name))
        return factors.read() if factors else None

    def dtype(self, name: str) -> torch.dtype:
        """Stored data type of a weight; float32 if an adapter adds to it."""
        return torch.float32 if self.tied.get(name, name) in self.added else self.source(name).dtype

    @property
    def names(self) -> set[str]:
        """All names with a tensor, tied names included."""
        return self.tensors.keys() | self.tied.keys()

    def named_like(self, other: "Model") -> "Model":
        """The same model with another's names where both have a weight under different ones."""
        new = same_weights(self.names, other.names)

        def renamed(named: Mapping[str, T]) -> dict[str, T]:
            return {new.get(name, name): value for name, value in named.items()}

        tied = {name: new.get(target, target) for name, target in renamed(self.tied).items()}
        tensors, added, left_out = renamed(self.tensors), renamed(self.added), renamed(self.left_out)
        return replace(self, tensors=tensors, tied=tied, left_out=left_out, added=added)


def open_model(path: str | Path, other: str | Path | None = None) -> Model:
    """Open a model folder, a PEFT adapter's folder, a hub id, or the lab's base.

    Args:
        other: a model to use as an adapter's base if the base that the adapter names is missing.

    Raises:
        ModelError: the model is missing, has no safetensors, is quantized, or is an adapter other than plain LoRA.
    """
    folder = locate(path)
    if (folder / "adapter_config.json").is_file():
        return _open_adapter(str(path), folder, other)
    config = _json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if config.get("quantization_config"):
        raise ModelError("its weights are quantized", where=str(path), fix="use the model that it was quantized from")
    tensors, left_out = _stored(folder, str(path))
    return Model(str(path), tensors, _ties(config, tensors), left_out)


def locate(path: str | Path) -> Path:
    """The folder of a path, a hub id or a bundled base model."""
    bundled = base_folder(str(path))
    if bundled is not None:
        return bundled
    folder = Path(os.path.expanduser(path))
    if folder.is_dir():
        if (folder / "models").is_dir() and not any(folder.glob("*.safetensors")):
            raise ModelError("is a run, not a model", where=str(path), fix="use one of its stages, e.g. models/stage-1")
        return folder.resolve()
    if folder.exists():
        raise ModelError("is a file, not a folder", where=str(path), fix="use the folder that contains it")
    if str(path).startswith((".", "/", "~")) or str(path).count("/") != 1:
        raise ModelError("no such folder", where=str(path), fix="use a model folder, or a hub id as owner/name")
    return hub_folder(str(path))


def hub_folder(path: str, revision: str | None = None) -> Path:
    """The local folder of a model on the hub. It is downloaded if necessary.

    Raises:
        ModelError: the model cannot be downloaded.
    """
    try:
        return Path(snapshot_download(path, revision=revision, allow_patterns=_HUB_FILES))
    except Exception as error:
        reason = f"is not a folder, and cannot be loaded from the hub: {type(error).__name__}"
        raise ModelError(reason, where=path, fix="check the path, or the id and the network") from error


def _stored(folder: Path, where: str) -> tuple[dict[str, Stored], dict[str, str]]:
    """The stored tensors of a folder by name, and those that cannot be compared, with the reason."""
    index = folder / "model.safetensors.index.json"
    one = folder / "model.safetensors"
    if index.is_file():
        shards = _json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise ModelError("names no weights", where=str(index), fix="copy the model again")
        paths = sorted({folder / str(name) for name in shards.values()})
    else:
        paths = [one] if one.is_file() else sorted(folder.glob("*.safetensors"))
    if not paths:
        raise ModelError("the folder has no *.safetensors", where=where, fix="save the model with `save_pretrained`")
    tensors, left_out = {}, {}
    for path in paths:
        try:
            with safe_open(path, "pt") as opened:
                for key in opened.keys():  # noqa: SIM118 - not a mapping
                    part = opened.get_slice(key)
                    if part.get_dtype() in DTYPES:
                        tensors[key] = Stored(path, key, tuple(part.get_shape()), DTYPES[part.get_dtype()])
                    else:
                        left_out[key] = f"stored as {part.get_dtype()}"
        except (OSError, SafetensorError) as error:
            raise ModelError(f"cannot be read: {error}", where=str(path), fix="copy the model again") from error
    return tensors, left_out


def _ties(config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> dict[str, str]:
    """The output head, if the configuration ties it to the input embedding. It may be saved as well."""
    text = config.get("text_config") or {}
    if not config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)):
        return {}
    embeddings = [name for name in tensors if re.search(r"(^|\.)(embed_tokens|wte|word_embeddings)\.weight$", name)]
    return {"lm_head.weight": embeddings[0]} if len(embeddings) == 1 else {}


def _open_adapter(where: str, folder: Path, other: str | Path | None) -> Model:
    config = _json(folder / "adapter_config.json")
    merge = "merge it with peft's `merge_and_unload`, save the model and use that folder"
    base_path, note = _base_of(config, where, other)

    def odd(what: str) -> AdapterKindError:
        return AdapterKindError(what, where=where, fix=merge, folder=folder, base=base_path, notes=note)

    if (kind := _unusual(config)) is not None:
        raise odd(f"adapters with {kind} are not supported")
    base = open_model(base_path)
    saved, _ = _stored(folder, where)
    tensors, ties, added = dict(base.tensors), dict(base.tied), {}
    known = _base_names(saved, base)
    for key, left in saved.items():
        name = _base_name(key)
        if _RIGHT.search(name):
            continue
        name = known.get(name, name)
        if ".lora_B" in key or ".lora_embedding_B" in key:
            right = saved[key.replace("lora_B", "lora_A").replace("lora_embedding_B", "lora_embedding_A")]
            is_transposed = ".lora_embedding_B" in key or bool(config.get("fan_in_fan_out"))
            scale = _scale(config, _base_name(key).removesuffix(".weight"), right.shape[0])
            shape = (left.shape[0], right.shape[1])
            if name not in tensors or tensors[name].shape != (shape[::-1] if is_transposed else shape):
                raise odd(f"it adds to {name}, which the base does not have in this shape")
            added[name] = _Factors(left, right, scale, is_transposed)
        elif name in base.names and base.source(name).shape == left.shape:
            tensors[name] = left  # trained and saved in full, in addition to the adapter, so it is no longer tied
            ties.pop(name, None)
        else:
            raise odd(f"it has {key}, which the base does not have")
    return Model(where, tensors, ties, base.left_out, (*base.notes, *note), added)


def _unusual(config: Mapping[str, Any]) -> str | None:
    """The setting that makes an adapter more than plain LoRA; None if it is plain."""
    if config.get("peft_type") != "LORA":
        return f"peft_type {config.get('peft_type')}"
    unusual = sorted(key for key, value in config.items() if value and key not in PLAIN)
    if unusual:
        return unusual[0]
    beginning = config.get("init_lora_weights")
    return None if beginning in _PLAIN_BEGINNINGS else f"init_lora_weights {beginning}"


def _base_name(key: str) -> str:
    """The base's name of the weight that a tensor of an adapter changes."""
    name = key.removeprefix(_ADAPTER_PREFIX).replace(".base_layer.", ".")
    return re.sub(r"\.(lora_B\.weight|lora_embedding_B)$", ".weight", name)


def _base_names(saved: Mapping[str, Stored], base: Model) -> Mapping[str, str]:
    """By an adapter's names, the base's own where it was saved under others."""
    return same_weights({_base_name(key) for key in saved if not _RIGHT.search(key)}, base.names)


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """The factor with which peft multiplies the product of an adapter's matrices."""
    alpha = config["lora_alpha"]
    for pattern, own in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = own
            break
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _base_of(config: Mapping[str, Any], where: str, other: str | Path | None) -> tuple[Path, tuple[str, ...]]:
    """The base that an adapter names. If it is missing, the model that the adapter is compared with, and a note."""
    named = config.get("base_model_name_or_path")
    note: tuple[str, ...] = ()
    try:
        if not named:
            raise ModelError("its adapter_config.json names no base", where=where, fix="compare it with its base")
        path = locate(named)
    except ModelError:
        if other is None or (locate(other) / "adapter_config.json").is_file():
            raise
        path, note = locate(other), (f"{where}: its base {named!r} is missing; {other} is used instead",)
    if (path / "adapter_config.json").is_file():
        raise ModelError("its base is an adapter too", where=where, fix="merge the base and use the merged folder")
    return path, note


def _json(path: Path) -> dict[str, Any]:
    text = read_text(path, ModelError, largest=_LARGEST_JSON, damaged="copy the model again")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"cannot be read: {error}", where=str(path), fix="copy the model again") from error
    return value if isinstance(value, dict) else {}
