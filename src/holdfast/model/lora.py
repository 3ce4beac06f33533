"""Low-rank adapters: the student is one adapter, a teacher another, and the base is the model without adapters.

All adapters share the model's weights, so a teacher needs no copy of the model. `holdfast.train.adapter_average` is how
a teacher averages the student's adapter.
"""

import copy
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel

from holdfast.config.settings import LoraSettings
from holdfast.errors import ModelError
from holdfast.model import shard

STUDENT = "default"
"""The trained adapter. peft saves the adapter of this name at the top of a folder, where other tools look for it."""

TEACHER = "teacher"


def attach(model: PreTrainedModel, settings: LoraSettings, *, seed: int, where: str, revision: str | None) -> PeftModel:
    """Freeze a model and add the student's adapter.

    The adapter is float32 whatever the base's dtype (peft's default): small updates would vanish in bfloat16.

    Args:
        seed: of the adapter's random initialization. The global random generators do not change.
        where: the model's path, for messages.

    Raises:
        ModelError: the rank is larger than that of any matrix; or `target_modules` matches nothing in this model, or an
            embedding, or the output head, or experts' weights that are not linear layers.
    """
    _check_rank(model, settings.r, where)
    config = LoraConfig(task_type=TaskType.CAUSAL_LM, revision=revision, **settings.model_dump())
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside peft, and modules that are refused below
            torch.manual_seed(seed)
            wrapped = get_peft_model(model, config, adapter_name=STUDENT)
    except ValueError as error:
        raise ModelError(
            f"peft cannot attach the adapter: {str(error).splitlines()[0]}",
            where=where,
            fix='name modules of this model in model.lora.target_modules, or set it to "all-linear"',
        ) from error
    if any(isinstance(module, ParamWrapper) for module in wrapped.modules()):
        linear = ", ".join(sorted(wrapped.peft_config[STUDENT].target_modules or ()))
        raise ModelError(
            "model.lora.target_modules matches weights of experts, whose adapters cannot be averaged or merged here",
            where=where,
            fix=f"set model.lora.target_modules: [{linear}]",
        )
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        if isinstance(module, LoraLayer):
            raise ModelError(
                "model.lora.target_modules matches an embedding or the output head, but the loss needs these without "
                "adapters",
                where=where,
                fix='leave them out, or set it to "all-linear"',
            )
    return wrapped


def _check_rank(model: PreTrainedModel, rank: int, where: str) -> None:
    """Refuse a rank that no matrix of the model has, before memory is taken for it."""
    largest = max((min(weight.shape[-2:]) for weight in model.parameters() if weight.ndim >= 2), default=0)
    if rank > largest:
        what = f"model.lora.r is {rank}, and no matrix of this model has a rank above {largest}"
        raise ModelError(what, where=where, fix="lower it, e.g. to 16")


def add_teacher(model: PeftModel, width: int = 1) -> None:
    """Add the teacher's adapter, without gradients. `AdapterAverage` sets its values.

    Args:
        width: its rank in multiples of the student's. `lora_alpha` grows with it, so the scale of the product is equal.
    """
    config = copy.deepcopy(model.peft_config[STUDENT])
    config.r, config.lora_alpha = width * config.r, width * config.lora_alpha
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        model.add_adapter(TEACHER, config)
    model.set_adapter(STUDENT)


@contextmanager
def active(model: PeftModel, name: str) -> Iterator[None]:
    """Within it, another adapter is active, without gradients. After it, the student's is active and trainable."""
    model.set_adapter(name, inference_mode=True)
    try:
        yield
    finally:
        model.set_adapter(STUDENT)


def adapter_parameters(model: PeftModel, name: str) -> dict[str, nn.Parameter]:
    """The parameters of one adapter. Its name is removed from the keys, so that two adapters have equal keys."""
    own = re.compile(rf"(\.lora_\w+)\.{name}\.")
    return {
        own.sub(r"\1.", key): parameter
        for key, parameter in model.get_base_model().named_parameters()
        if own.search(key)
    }


@torch.no_grad()
def merged_state(model: PeftModel) -> dict[str, Tensor]:
    """The state of base and student's adapter together, under the base's names, on the main process's CPU.

    The sums are new tensors. Merging in place and unmerging again would leave rounding errors in the base.
    """
    base = model.get_base_model()
    state: dict[str, Tensor] = {}
    for key, value in shard.full_state(base).items():
        if ".lora_" in key:
            continue
        owner, is_wrapped, rest = key.partition(".base_layer.")
        if is_wrapped and rest == "weight":
            value = value + base.get_submodule(owner).get_delta_weight(STUDENT).to("cpu", value.dtype)
        state[f"{owner}.{rest}" if is_wrapped else key] = value
    return state
