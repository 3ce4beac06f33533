"""Blends of models, θ0 + a · Σ_k s_k (θ_k − θ0), written as folders that transformers loads.

With one model and a from 0 to 1 this is WiSE-FT (arXiv 2109.01903). With several models it is task arithmetic
(arXiv 2212.04089). Sums are computed in float32, one tensor at a time, and stored in the base's dtype. With one model,
a = 0 gives exactly the base, and a = 1 exactly the model.
"""

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from holdfast.errors import ConfigError, ModelError
from holdfast.store.disk import writing
from holdfast.store.files import whole_folder
from holdfast.store.model_folder import Model, locate, open_model

FILE_BYTES = 2 * 2**30
"""Tensors share files of at most about this size. Writing a blend needs as much memory."""

COMPANIONS = (".json", ".jinja", ".txt", ".model", ".py")
"""Suffixes of a model folder's other files: configurations, tokenizer, chat template, the model's code."""


class Blend:
    """A base and models that were trained from it, opened and checked for equal tensors.

    Args:
        base: a model folder, a hub id, or `lab`.
        models: the same, or the folders of adapters, which are merged while they are read.
        scales: s_k, one for each model; 1 by default.

    Raises:
        ModelError: a model cannot be read, or its tensors are not those of the base.
        ConfigError: the numbers of scales and models differ, or a scale is not finite.
    """

    def __init__(self, base: str, models: Sequence[str], scales: Sequence[float] = ()) -> None:
        self.scales = list(scales) or [1.0] * len(models)
        if len(self.scales) != len(models):
            raise ConfigError(
                f"there are {len(models)} models but {len(self.scales)} scales",
                fix="give one --scale for each model, or none",
            )
        for scale in self.scales:
            if not math.isfinite(scale):
                raise ConfigError(f"the scale {scale:g} is not finite", fix="give finite numbers to --scale")
        self.base = open_model(base)
        self.models = [open_model(path, base) for path in models]
        if self.base.added:
            raise ModelError(
                "the base is an adapter", where=base, fix="name the model that the adapter was trained on as the base"
            )
        for name, reason in self.base.left_out.items():
            raise ModelError(
                f"{name} is {reason}, which cannot be blended", where=base, fix="save the model without quantization"
            )
        for model in self.models:
            self._check(model)
        self._companions = self._folder_with_tokenizer([base, *models])

    def _check(self, model: Model) -> None:
        fix = "blend models that were trained from this base"
        for name, stored in self.base.tensors.items():
            if name not in model.names:
                raise ModelError(f"the model lacks {name} of {self.base.where}", where=model.where, fix=fix)
            if model.source(name).shape != stored.shape:
                raise ModelError(
                    f"{name} has the shape {tuple(model.source(name).shape)}, but {tuple(stored.shape)} in "
                    f"{self.base.where}",
                    where=model.where,
                    fix=fix,
                )
        for name in model.tensors.keys() - self.base.tensors.keys():
            is_tied = name in model.tied or (name in self.base.tied and model.tied.get(name) == self.base.tied[name])
            if not is_tied:
                raise ModelError(f"the model has {name}, but {self.base.where} does not", where=model.where, fix=fix)

    @staticmethod
    def _folder_with_tokenizer(paths: Sequence[str]) -> Path:
        for path in paths:
            folder = locate(path)
            if (folder / "config.json").is_file() and (folder / "tokenizer_config.json").is_file():
                return folder
        raise ModelError("the folder has no tokenizer", where=paths[0], fix="add the tokenizer's files to it")

    def tensors(self, a: float) -> Iterator[tuple[str, Tensor]]:
        """The blend's tensors by name, computed one by one."""
        for name, stored in self.base.tensors.items():
            start = stored.read().float()
            ends = [_whole(model, name) for model in self.models]
            if len(ends) == 1:
                # `lerp` is exact at both ends; adding a difference would round.
                mixed = torch.lerp(start, ends[0], a * self.scales[0])
            else:
                mixed = start.clone()
                for scale, end in zip(self.scales, ends, strict=True):
                    mixed.add_(end.sub_(start), alpha=a * scale)
            yield name, mixed.to(stored.dtype).contiguous()

    def write(self, a: float, folder: Path) -> None:
        """Write the blend at `a` as a model folder. The folder appears complete or not at all.

        Raises:
            ConfigError: the folder exists.
        """
        if folder.exists():
            raise ConfigError("the folder exists already", where=str(folder), fix="name another folder with --out")
        files = self._files()
        size = sum(stored.entries * stored.dtype.itemsize for stored in self.base.tensors.values())
        with writing("the blend", folder, size), whole_folder(folder) as fresh:
            for path in self._companions.iterdir():
                if path.suffix in COMPANIONS and not path.name.endswith(".index.json"):
                    shutil.copyfile(path, fresh / path.name)
            unwritten: dict[str, Tensor] = {}  # of one file: tensors come in the order of `_files`
            for name, tensor in self.tensors(a):
                unwritten[name] = tensor
                if len(unwritten) == len(files[name][1]):
                    save_file(unwritten, fresh / files[name][0], metadata={"format": "pt"})
                    unwritten = {}
            if len({file for file, _ in files.values()}) > 1:
                index = {
                    "metadata": {"total_size": size},
                    "weight_map": {name: file for name, (file, _) in files.items()},
                }
                (fresh / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))

    def _files(self) -> dict[str, tuple[str, list[str]]]:
        """Each tensor's file and all names in that file. Neighboring tensors share a file of up to `FILE_BYTES`."""
        parts: list[list[str]] = [[]]
        size = 0
        for name, stored in self.base.tensors.items():
            own = stored.entries * stored.dtype.itemsize
            if parts[-1] and size + own > FILE_BYTES:
                parts.append([])
                size = 0
            parts[-1].append(name)
            size += own
        count = len(parts)
        named = [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
        named = named if count > 1 else ["model.safetensors"]
        return {name: (file, part) for file, part in zip(named, parts, strict=True) for name in part}


def _whole(model: Model, name: str) -> Tensor:
    """A tensor in float32, with the product that an adapter adds to it."""
    tensor = model.source(name).read().float()
    product = model.product(name)
    return tensor if product is None else tensor + product.left @ product.right
