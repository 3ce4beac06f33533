"""Write the trained weights of a live model to a folder that `holdfast.evaluation.drift` reads."""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

FILE_BYTES = 2**31
"""Bytes of one file. Weights on a device reach host memory one file at a time."""


def write_weights(model: nn.Module, folder: Path) -> None:
    """Write what training changes: every weight of a plain model; with adapters, the adapted matrices, merged.

    A merged matrix is written in float32. In the base's bfloat16 most of an adapter would round to nothing.

    Raises:
        TypeError: an adapted matrix is quantized.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    size = number = 0
    for name, value in trained_weights(model):
        on_host = value.detach().cpu().contiguous()
        if tensors and size + on_host.nbytes > FILE_BYTES:
            save_file(tensors, folder / f"part-{number:05d}.safetensors")
            tensors, size, number = {}, 0, number + 1
        tensors[name] = on_host
        size += on_host.nbytes
    save_file(tensors, folder / f"part-{number:05d}.safetensors")


def trained_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name and value of each trained weight; tied weights once."""
    if not hasattr(model, "peft_config"):
        yield from model.named_parameters()
        return
    for name, module in model.named_modules():
        adapters = getattr(module, "active_adapters", None)
        if adapters is None or not hasattr(module, "get_delta_weight") or not hasattr(module, "base_layer"):
            continue
        weight = module.base_layer.weight
        if not weight.is_floating_point():
            raise TypeError(f"{name} is quantized")
        merged = weight.detach().to(torch.float32, copy=True)
        for adapter in adapters:
            if adapter in module.lora_A or adapter in getattr(module, "lora_embedding_A", ()):
                merged += module.get_delta_weight(adapter).detach().to(merged)
        yield f"{name.removeprefix('base_model.model.')}.weight", merged
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and ".lora_" not in name:
            yield name.removeprefix("base_model.model."), parameter
