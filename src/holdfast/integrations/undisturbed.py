"""Looking at a model that someone else trains, and leaving everything as it was found."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from holdfast.errors import ModelError


@contextmanager
def undisturbed(model: nn.Module, autocast: torch.dtype | None = None) -> Iterator[None]:
    """Within it, a model is in evaluation mode and nothing builds a graph.

    Afterwards every module's own mode and the global generators of random numbers (Python's, NumPy's, torch's on the
    CPU and on every device that holds a parameter) are as before, so that training goes on as if nobody had looked.

    Args:
        autocast: the dtype that the training's forward passes are computed in, where it is another than the weights'.
    """
    modes = {module: module.training for module in model.modules()}
    python, numpy = random.getstate(), np.random.get_state()
    devices = dict.fromkeys(parameter.device for parameter in model.parameters())
    first = next(iter(devices))
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))  # the CPU's
        for device in devices:
            if device.type not in ("cpu", "meta", "mps"):  # fork_rng does not know MPS
                stack.enter_context(torch.random.fork_rng(devices=[device], device_type=device.type))
        stack.enter_context(torch.no_grad())
        if autocast is not None:
            stack.enter_context(torch.autocast(first.type, dtype=autocast))
        try:
            model.eval()
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            random.setstate(python)
            np.random.set_state(numpy)


def refuse_unusable(model: nn.Module) -> None:
    """Refuse a model of which a process holds only a part, or that is more than its modules.

    Raises:
        ModelError: it is sharded by FSDP or DeepSpeed, quantized, or has a prompt-learning adapter.
    """
    for module in model.modules():
        if type(module).__name__ == "FullyShardedDataParallel":
            raise _sharded("FSDP")
    for parameter in model.parameters():
        if isinstance(parameter, DTensor):
            raise _sharded("FSDP or tensor parallelism")
        if hasattr(parameter, "ds_id"):
            raise _sharded("DeepSpeed ZeRO-3")
    configs = getattr(model, "peft_config", None)
    if isinstance(configs, dict) and any(getattr(c, "is_prompt_learning", False) for c in configs.values()):
        raise ModelError(
            "its adapter adds learned tokens to prompts, which the sampler does not know",
            where="the watched model",
            fix="watch a model with a LoRA adapter, or a whole one",
        )


def _sharded(how: str) -> ModelError:
    return ModelError(
        f"its weights are sharded by {how}, and answering would need them whole",
        where="the watched model",
        fix="watch a run whose processes each hold the model (one process, or DDP), or use `holdfast gate` on its "
        "checkpoints",
    )
