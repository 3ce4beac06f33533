"""Which folder or hub id a path names, and whether a folder's files can be a model that is trained.

A folder is checked before anything is loaded: what transformers would read in silence as another model than the user
means, or would refuse with an error about something else, is refused here in one line.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from holdfast.errors import ModelError, shortened, shown
from holdfast.store.bundled import base_folder
from holdfast.store.file_kinds import FOLDER, REGULAR, kind_of

PICKLE_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt")

ADAPTER_CONFIG = "adapter_config.json"

MERGE = "merge it into its base with peft's `merge_and_unload`, save the model and name that folder"

_INDEX = "model.safetensors.index.json"

MODEL_WEIGHTS = ("model.safetensors", _INDEX)
"""Files of which a model has one."""

_COUNT = re.compile(r"^(num|n)_.*(layers?|blocks?|experts)$")
"""Settings that say how many modules a model has, with weights of their own."""

_POINTER = b"version https://git-lfs"
_AGAIN = "download the model again"


def locate(path: str) -> tuple[str, str]:
    """The path or id for transformers, and its name in messages. A local folder is checked first.

    The folder may be a model, or an adapter without a model (see `holdfast.model.adapters`).

    Raises:
        ModelError: the path is neither, its files are incomplete, or it cannot be a hub id.
    """
    where = f"model {path!r}"
    bundled = base_folder(path)
    folder = bundled or Path(os.path.expanduser(path))
    if bundled and not folder.is_dir():
        raise ModelError("this installation lacks the lab's base", where=where, fix="install holdfast again")
    if not folder.is_dir():
        if folder.suffix == ".gguf" and folder.exists():
            raise _gguf(folder.name, where)
        if folder.exists():
            raise ModelError("the path is a file, not a folder", where=where, fix="name the folder that contains it")
        if path.startswith((".", "/", "~")) or path.count("/") != 1:
            raise ModelError("there is no such folder", where=where, fix="check model.path; a hub id is owner/name")
        return path, where
    _check_entries(folder, where)
    if is_adapter(folder):
        _check_adapter_alone(folder, where)
    else:
        _check_model(folder, where)
    return str(folder), where


def _check_entries(folder: Path, where: str) -> None:
    """Refuse pipes, devices and loops of links: whoever opens a pipe without a writer waits for ever."""
    for path in sorted(folder.iterdir()):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            continue  # a link to nowhere counts as no file
        except OSError as error:
            raise ModelError(f"{path.name} cannot be read: {error.strerror}", where=where, fix=_AGAIN) from None
        if (kind := kind_of(mode)) not in (REGULAR, FOLDER):
            raise ModelError(f"{path.name} is {kind}, not {REGULAR}", where=where, fix=_AGAIN)


def is_adapter(folder: Path) -> bool:
    """Whether a folder has an adapter of peft."""
    return (folder / ADAPTER_CONFIG).is_file()


def read_json(path: Path, where: str) -> dict[str, Any]:
    """A JSON file of a model folder.

    Raises:
        ModelError: it cannot be read, or is no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = shortened(str(error).partition("\n")[0], 300)
        raise ModelError(f"{path.name} cannot be read: {reason}", where=where, fix=_AGAIN) from error
    if not isinstance(value, dict):
        raise ModelError(f"{path.name} is no JSON object", where=where, fix=_AGAIN)
    return value


def refuse_quantized(config: Mapping[str, Any], where: str) -> None:
    """Refuse a configuration of quantized weights: they cannot be trained, and small updates would be lost.

    Args:
        config: of the model, as in config.json.
    """
    for block in (config, config.get("text_config")):
        if not isinstance(block, Mapping):
            continue
        quantized = block.get("quantization_config") or block.get("compression_config")
        if isinstance(quantized, Mapping):
            method = str(quantized.get("quant_method") or _bitsandbytes(quantized) or "an unnamed method")
            raise ModelError(f"its weights are quantized ({method})", where=where, fix=_unquantized(method))


def _bitsandbytes(config: Mapping[str, Any]) -> str | None:
    """The method of a configuration from before methods were named."""
    return "bitsandbytes" if config.get("load_in_4bit") or config.get("load_in_8bit") else None


def _unquantized(method: str) -> str:
    """How to get weights that can be trained."""
    kind = AUTO_QUANTIZATION_CONFIG_MAPPING.get(method)
    if kind is not None and "dequantize" in signature(kind.__init__).parameters:
        load = f"load it with quantization_config={kind.__name__}(dequantize=True) in transformers"
        return f"use the model that it was quantized from; or {load}, save it and name that folder"
    return "use the model that it was quantized from"


def model_and_adapter(weights: str, where: str) -> ModelError:
    """The error about a model and an adapter in one place. transformers would adapt the model in silence.

    Args:
        weights: the file of the model's weights.
    """
    return ModelError(
        f"it has a model ({weights}) and an adapter ({ADAPTER_CONFIG}), and nothing says whether the model has the "
        "adapter in it already",
        where=where,
        fix="move adapter_*.* into a folder of its own; then name the model's folder, or that one for base and adapter",
    )


def _gguf(name: str, where: str) -> ModelError:
    fix = "use the model that it was converted from, with safetensors"
    return ModelError(f"{name} has its weights in GGUF, a form for inference", where=where, fix=fix)


def _check_adapter_alone(folder: Path, where: str) -> None:
    """Refuse an adapter that has a model beside it, or no weights."""
    if weights := [name for name in MODEL_WEIGHTS if (folder / name).is_file()]:
        raise model_and_adapter(weights[0], where)
    if not (folder / "adapter_model.safetensors").is_file():
        is_pickled = (folder / "adapter_model.bin").is_file()
        raise ModelError(
            "the adapter has only pickle weights (adapter_model.bin), which can run code when they are loaded"
            if is_pickled
            else "the folder has an adapter's configuration, but no adapter_model.safetensors",
            where=where,
            fix="save the adapter again with `save_pretrained` of peft, which writes safetensors",
        )
    _check_file(folder / "adapter_model.safetensors", where)


def _check_model(folder: Path, where: str) -> None:
    gguf = sorted(folder.glob("*.gguf"))
    has_safetensors = any(folder.glob("*.safetensors")) or (folder / _INDEX).is_file()
    if gguf and not has_safetensors:
        raise _gguf(gguf[0].name, where)
    if not (folder / "config.json").is_file():
        fix = "name a folder that `save_pretrained` wrote"
        raise ModelError("the folder has no config.json", where=where, fix=fix)
    if not has_safetensors:
        pickled = sorted(p.name for pattern in PICKLE_WEIGHTS for p in folder.glob(pattern))
        raise ModelError(
            f"the folder has only pickle weights ({pickled[0]}), which can run code when they are loaded"
            if pickled
            else "the folder has no *.safetensors",
            where=where,
            fix="save the model again with `save_pretrained` of transformers, which writes safetensors",
        )
    shapes: dict[str, tuple[int, ...]] = {}
    for path in _weight_files(folder, where):
        shapes |= _check_file(path, where)
    _check_counts(read_json(folder / "config.json", where), shapes, where)


def _check_counts(config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], where: str) -> None:
    """Refuse more layers or experts than the weights can have: to make a million of them takes hours."""
    most = max([len(shapes), *(size for shape in shapes.values() for size in shape)], default=0)
    for block in (config, config.get("text_config")):
        for key, value in block.items() if isinstance(block, Mapping) else ():
            if not isinstance(value, int) or not _COUNT.search(key):
                continue
            limit = most if "expert" in key else len(shapes)
            if value > limit:
                what = f"config.json says {key}: {shown(value)}, and its weights are only {len(shapes)} tensors"
                raise ModelError(what, where=where, fix=f"correct {key}, or download the model again")


def _weight_files(folder: Path, where: str) -> list[Path]:
    """The files that transformers reads the weights from."""
    one = folder / "model.safetensors"
    if one.is_file():
        return [one]
    if not (folder / _INDEX).is_file():
        found = sorted(folder.glob("*.safetensors"))[0].name
        fix = "rename it to model.safetensors, or add the index of its shards"
        raise ModelError(f"the folder has {found}, but neither model.safetensors nor {_INDEX}", where=where, fix=fix)
    shards = read_json(folder / _INDEX, where).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelError(f"{_INDEX} names no weights", where=where, fix=_AGAIN)
    paths = sorted({folder / str(name) for name in shards.values()})
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise ModelError(
            f"{len(missing)} of {len(paths)} shards of the weights are missing; the first is {missing[0]}",
            where=where,
            fix=_AGAIN,
        )
    return paths


def _check_file(path: Path, where: str) -> dict[str, tuple[int, ...]]:
    """The shapes in a file of safetensors. One that is a pointer, is damaged, or has weights in a dtype for inference
    or in integers is refused."""
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise ModelError(
                f"{path.name} is a pointer of Git LFS, not the file",
                where=where,
                fix="run `git lfs pull` in the folder",
            )
    try:
        with safe_open(path, "pt") as opened:
            slices = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118 - not a mapping
            dtypes = {key: part.get_dtype() for key, part in slices.items()}
            shapes = {key: tuple(part.get_shape()) for key, part in slices.items()}
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"the weights cannot be loaded: {path.name}: {shortened(str(error), 300)}", where=where, fix=_AGAIN
        ) from error
    whole = next((key for key, dtype in dtypes.items() if _is_of_integers(key, dtype, shapes[key])), None)
    if whole is not None:
        what = f"{whole} is stored as {dtypes[whole]}: weights are no integers"
        raise ModelError(
            what, where=where, fix="save the model again in its own dtype, or use the one it was made from"
        )
    narrow = next((key for key, dtype in dtypes.items() if _is_quantized(key, dtype)), None)
    if narrow is not None:
        raise ModelError(
            f"{narrow} is stored as {dtypes[narrow]}: its weights are quantized",
            where=where,
            fix="use the model that it was quantized from",
        )
    return shapes


def _is_of_integers(key: str, dtype: str, shape: Sequence[int]) -> bool:
    """Whether a bias, or a weight without the usual name, is stored in wide integers.

    Buffers may be integers too: positions are one row, masks have few bits.
    """
    if not re.match("[IU](16|32|64)$", dtype) or key.endswith(("position_ids", "token_type_ids", "mask", "weight")):
        return False
    return key.endswith(("bias", "proj")) or (len(shape) >= 2 and min(shape[-2:]) > 1)


def _is_quantized(key: str, dtype: str) -> bool:
    """Whether a tensor is in a dtype for inference. transformers would take integers for the weights themselves.

    Buffers, such as positions and masks, are integers in some models.
    """
    return bool(re.match("F[468](_|$)", dtype) or (key.endswith("weight") and re.match("[IU]|BOOL", dtype)))
