"""Low-rank adapters: the student as one adapter, a teacher as a second, the base as neither.

All adapters of one model share its base weights, so a teacher costs no copy of the model. How a teacher averages the
student's adapter is in `holdfast.train.adapter_average`.
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
"""The trained adapter; peft saves the one of this name at the top of a folder, where others look for it."""

TEACHER = "teacher"


def attach(model: PreTrainedModel, settings: LoraSettings, *, seed: int, where: str, revision: str | None) -> PeftModel:
    """Freeze a model and give it the student's adapter.

    The adapter's values are float32 whatever the base's dtype (peft's default): small updates vanish in bfloat16.

    Args:
        seed: of the adapter's random initialization; the global generators are left as they were.
        where: the model's path, for messages.

    Raises:
        ModelError: `target_modules` names nothing in this model, or an embedding, the output head, or weights of
            experts that are no linear layers.
    """
    config = LoraConfig(task_type=TaskType.CAUSAL_LM, revision=revision, **settings.model_dump())
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecations inside peft, and of what is refused below
            torch.manual_seed(seed)
            wrapped = get_peft_model(model, config, adapter_name=STUDENT)
    except ValueError as error:
        raise ModelError(
            f"peft cannot attach the adapter: {str(error).splitlines()[0]}",
            where=where,
            fix='name modules of this model in model.lora.target_modules, or say "all-linear"',
        ) from error
    if any(isinstance(module, ParamWrapper) for module in wrapped.modules()):
        linear = ", ".join(sorted(wrapped.peft_config[STUDENT].target_modules or ()))
        raise ModelError(
            "peft would put adapters on the weights of experts, which can be neither averaged nor merged here",
            where=where,
            fix=f"set model.lora.target_modules: [{linear}]",
        )
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        if isinstance(module, LoraLayer):
            raise ModelError(
                "model.lora.target_modules names an embedding or the output head, which the loss reads as they are",
                where=where,
                fix='leave them out, or say "all-linear"',
            )
    return wrapped


def add_teacher(model: PeftModel, width: int = 1) -> None:
    """Add the teacher's adapter, without gradients; `AdapterAverage` gives it its values.

    Args:
        width: its rank is so many times the student's; the scale of its product is the student's all the same.
    """
    config = copy.deepcopy(model.peft_config[STUDENT])
    config.r, config.lora_alpha = width * config.r, width * config.lora_alpha
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        model.add_adapter(TEACHER, config)
    model.set_adapter(STUDENT)


@contextmanager
def active(model: PeftModel, name: str) -> Iterator[None]:
    """The model with another adapter, without gradients; afterwards the student's is active and trainable again."""
    model.set_adapter(name, inference_mode=True)
    try:
        yield
    finally:
        model.set_adapter(STUDENT)


def adapter_parameters(model: PeftModel, name: str) -> dict[str, nn.Parameter]:
    """The parameters of one adapter under names without the adapter's, so that two adapters have equal keys."""
    own = re.compile(rf"(\.lora_\w+)\.{name}\.")
    return {
        own.sub(r"\1.", key): parameter
        for key, parameter in model.get_base_model().named_parameters()
        if own.search(key)
    }


@torch.no_grad()
def merged_state(model: PeftModel) -> dict[str, Tensor]:
    """The model's state with the student's adapter added in, under the base's own names, on the main process's CPU.

    Nothing is merged in place: merging and unmerging would leave rounding errors in the base.
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
