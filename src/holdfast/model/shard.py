"""A policy's weights sharded over the processes of a run, with FSDP2. With one process nothing changes.

Every decoder layer is gathered when it is used, and resharded after that. Embedding, final norm and output head are one
more unit. It is gathered once for all micro-batches of an optimizer step, because the loss reads the head's weight
itself, inside `Policy.run`. Adapters are small: every process has all of them, and their gradients are summed once per
step.

Gradients are summed over processes and not averaged, because each process's loss is a part of the step's loss.
"""

import types
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from holdfast.model.processes import Processes

T = TypeVar("T")


class Shardable(Protocol):
    """The part of `holdfast.model.policy.Policy` that sharding uses."""

    model: Any

    @property
    def causal_lm(self) -> Any: ...

    @property
    def is_lora(self) -> bool: ...

    def named_trainable(self) -> dict[str, nn.Parameter]: ...

    def run(self, work: Callable[[], T]) -> T: ...


def shard(policy: Shardable, world: Processes, *, offload: bool = False) -> None:
    """Shard a policy's weights over the processes. All must have the same weights, and no optimizer may exist yet.

    Args:
        offload: keep the shards in host memory.
    """
    root = policy.causal_lm
    adapters = {parameter for name, parameter in root.named_parameters() if ".lora_" in name}
    settings: dict[str, Any] = {
        "mesh": init_device_mesh(world.device.type, (world.size,)),
        "ignored_params": adapters,
        "offload_policy": CPUOffloadPolicy(world.device.type == "cuda") if offload else OffloadPolicy(),
    }
    for module in _layers(root, set(root._no_split_modules or ())):
        fully_shard(module, **settings)
    fully_shard(root, **settings)
    for unit in _units(policy):
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)
    if adapters:
        policy.model.to(world.device)  # moves the adapters; sharded weights are there already

    root.run = types.MethodType(lambda _, work: work(), root)
    register_fsdp_forward_method(root, "run")


def _layers(module: nn.Module, kinds: Collection[str]) -> Iterator[nn.Module]:
    """The outermost modules of some classes. An architecture may name a layer and a part of it; the layer counts."""
    for child in module.children():
        if type(child).__name__ in kinds:
            yield child
        else:
            yield from _layers(child, kinds)


def is_sharded(policy: Shardable) -> bool:
    return isinstance(policy.causal_lm, FSDPModule)


def _units(policy: Shardable) -> list[FSDPModule]:
    """The units of weights that are gathered together, the root first; empty if the policy is not sharded."""
    return [module for module in policy.causal_lm.modules() if isinstance(module, FSDPModule)]


@contextmanager
def whole(policy: Shardable) -> Iterator[None]:
    """Context manager: every process has all weights and may run forward passes independently, without gradients."""
    units = _units(policy)
    if not units:
        yield
        return
    policy.run(lambda: None)  # FSDP initializes itself when its root runs, and that must come before any layer
    root = units[0]
    root.set_reshard_after_forward(False)
    for unit in units:
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.reshard()
        root.set_reshard_after_forward(True)
        root.set_reshard_after_forward(False, recurse=False)


@contextmanager
def head(policy: Shardable) -> Iterator[None]:
    """Context manager: every process has the whole embedding and output head."""
    root = next(iter(_units(policy)), None)
    if root is None:
        yield
        return
    root.unshard()
    try:
        yield
    finally:
        root.reshard()


def run(policy: Shardable, work: Callable[[], T]) -> T:
    """Do work that reads weights outside of the model's own forward, with FSDP's hooks for its backward."""
    if not is_sharded(policy):
        return work()
    root: Any = policy.causal_lm
    return root.run(work)


def backward(policy: Shardable, loss: Tensor, *, last: bool) -> None:
    """Add a micro-batch's gradients. After the step's last one they are the sums over all processes.

    The layers' gradients are summed over processes after every micro-batch: unsharded, they would need the memory that
    sharding saves. Gradients of embedding, head and adapters are summed once, after the last micro-batch.
    """
    if not (units := _units(policy)):
        loss.backward()
        return
    units[0].set_requires_gradient_sync(last, recurse=False)
    units[0].set_reshard_after_backward(last, recurse=False)
    loss.backward()
    if last and policy.is_lora:
        gradients = []
        for parameter in policy.named_trainable().values():
            if parameter.grad is None:  # only other processes used this module; the sum needs equal shapes
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        # One exchange for all adapters: many small ones would each wait for the slowest process.
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))


def abandon(policy: Shardable) -> None:
    """Discard a half-done step: clear gradients and reshard the weights."""
    for unit in _units(policy)[:1]:
        unit.reset_iter_state()
    for parameter in policy.model.parameters():
        parameter.grad = None


def assembled(value: Tensor) -> Tensor:
    """The full tensor of a sharded one, on every process; all must call this. Other tensors are returned unchanged."""
    return value.full_tensor() if isinstance(value, DTensor) else value


@torch.no_grad()
def full_state(module: nn.Module) -> dict[str, Tensor]:
    """A module's state on the CPU of the main process; empty on the others. Tied weights stay one tensor."""
    is_main = Processes.current().is_main
    by_id: dict[int, Tensor] = {}
    state: dict[str, Tensor] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if id(value) not in by_id:
            whole_value = assembled(value.detach())
            by_id[id(value)] = whole_value.cpu() if is_main else torch.empty(0)
        state[name] = by_id[id(value)]
    return state if is_main else {}
