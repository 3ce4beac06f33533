"""A policy's weights spread over the processes of a world, with FSDP2; alone, a policy is never touched.

Every decoder layer is gathered when it is needed and let go after it. Embedding, final norm and output head are one
more unit, gathered once for all micro-batches of an optimizer step: the loss reads the head's weight itself, inside
`Policy.run`. Adapters are small: they stay whole on every process, and their gradients are summed once per step.

Gradients add up over processes and are never averaged, because each process's loss is a part of the step's loss.
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
    """What sharding needs to know of a `holdfast.model.policy.Policy`."""

    model: Any

    @property
    def causal_lm(self) -> Any: ...

    @property
    def is_lora(self) -> bool: ...

    def named_trainable(self) -> dict[str, nn.Parameter]: ...

    def run(self, work: Callable[[], T]) -> T: ...


def shard(policy: Shardable, world: Processes, *, offload: bool = False) -> None:
    """Spread a policy's weights over the processes, which must hold the same ones; before any optimizer is made.

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
        policy.model.to(world.device)  # what is sharded is there already

    root.run = types.MethodType(lambda _, work: work(), root)
    register_fsdp_forward_method(root, "run")


def _layers(module: nn.Module, kinds: Collection[str]) -> Iterator[nn.Module]:
    """The outermost modules of some kinds: an architecture may name a layer and a part of it."""
    for child in module.children():
        if type(child).__name__ in kinds:
            yield child
        else:
            yield from _layers(child, kinds)


def is_sharded(policy: Shardable) -> bool:
    return isinstance(policy.causal_lm, FSDPModule)


def _units(policy: Shardable) -> list[FSDPModule]:
    """What is gathered together, the root first; none where the policy is not sharded."""
    return [module for module in policy.causal_lm.modules() if isinstance(module, FSDPModule)]


@contextmanager
def whole(policy: Shardable) -> Iterator[None]:
    """Within it, all weights are on every process, which may then run forward passes of their own; no gradients."""
    units = _units(policy)
    if not units:
        yield
        return
    policy.run(lambda: None)  # FSDP wants to see its root before any layer
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
    """Within it, embedding and output head are whole on every process."""
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
    """Do work that reads weights past the model's own forward, with the backward that FSDP then needs prepared."""
    if not is_sharded(policy):
        return work()
    root: Any = policy.causal_lm
    return root.run(work)


def backward(policy: Shardable, loss: Tensor, *, last: bool) -> None:
    """Add a micro-batch's gradients; after the step's last one they are the sums over all processes.

    The layers' gradients are summed after every micro-batch: kept whole, they would need the memory that sharding
    saves. Those of embedding, head and adapters are summed once.
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
            if parameter.grad is None:  # of a module that only other processes have used
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))


def abandon(policy: Shardable) -> None:
    """Give up a step in its middle: no gradients are left, and the weights are spread as before."""
    for unit in _units(policy)[:1]:
        unit.reset_iter_state()
    for parameter in policy.model.parameters():
        parameter.grad = None


def assembled(value: Tensor) -> Tensor:
    """A sharded tensor as a whole one on every process; all of them must ask for it. Others as they are."""
    return value.full_tensor() if isinstance(value, DTensor) else value


@torch.no_grad()
def full_state(module: nn.Module) -> dict[str, Tensor]:
    """A module's state on the CPU of the main process, and nothing on the others; tied weights stay one tensor."""
    is_main = Processes.current().is_main
    known: dict[int, Tensor] = {}
    state: dict[str, Tensor] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if id(value) not in known:
            whole_value = assembled(value.detach())
            known[id(value)] = whole_value.cpu() if is_main else torch.empty(0)
        state[name] = known[id(value)]
    return state if is_main else {}
