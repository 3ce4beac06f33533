"""Evaluate a model in the middle of someone else's training, and leave no trace."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from holdfast.errors import ModelError


@contextmanager
def evaluation_mode(model: nn.Module, autocast: torch.dtype | None = None) -> Iterator[None]:
    """Context in which a model is in evaluation mode and no autograd graph is built.

    At exit every module has its own mode back, and so have the global random generators: Python's, NumPy's, and torch's
    on the CPU and on every device that holds a parameter. The training continues exactly as without the evaluation.

    Args:
        autocast: dtype of the training's forward passes, if it differs from the weights' dtype.
    """
    modes = {module: module.training for module in model.modules()}
    python, numpy = random.getstate(), np.random.get_state()
    devices = dict.fromkeys(parameter.device for parameter in model.parameters())
    first = next(iter(devices))
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))  # the CPU's
        for device in devices:
            if device.type not in ("cpu", "meta", "mps"):  # fork_rng does not support MPS
                stack.enter_context(torch.random.fork_rng(devices=[device], device_type=device.type))
        stack.enter_context(torch.no_grad())
        if autocast is not None:
            stack.enter_context(torch.autocast(first.type, dtype=autocast))
        try:
            model.eval()
            yield
        finally:
            # Module by module: model.train() would also change modules that the user keeps in evaluation mode.
            for module, mode in modes.items():
                module.training = mode
            random.setstate(python)
            np.random.set_state(numpy)


def refuse_unsupported(model: nn.Module) -> None:
    """Refuse a model that this process cannot sample from.

    Raises:
        ModelError: it is sharded by FSDP, tensor parallelism or DeepSpeed, or has a prompt-learning adapter.
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
            "its adapter adds learned tokens to prompts, which the sampler does not support",
            where="the watched model",
            fix="watch a model with a LoRA adapter, or one without an adapter",
        )


def _sharded(how: str) -> ModelError:
    return ModelError(
        f"its weights are sharded by {how}, but each process needs all of them to generate answers",
        where="the watched model",
        fix="train with one process or with DDP, or use `holdfast gate` on the checkpoints",
    )
