"""Write the trained weights of a live model to a folder that `holdfast.evaluation.drift` reads."""

from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from holdfast.model.adapters import merged_weights

FILE_BYTES = 2**31
"""Bytes of one file. Weights on a device reach host memory one file at a time."""


def write_weights(model: nn.Module, folder: Path) -> None:
    """Write what training changes: every weight of a plain model; with adapters, the adapted matrices, merged.

    A merged matrix is written in float32. In the base's bfloat16 most of an adapter would round to nothing.

    Raises:
        ModelError: see `trained_weights`.
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
    """Name and value of each trained weight; tied weights once. With adapters, see `merged_weights`.

    Raises:
        ModelError: an adapted weight is quantized, or adapters of this kind cannot be merged.
    """
    yield from merged_weights(model) if hasattr(model, "peft_config") else model.named_parameters()
