"""The model that is trained, with everything to prompt it, run it, copy or adapt it, and save it."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from holdfast.data.chat import ChatFormat
from holdfast.model import lora, shard
from holdfast.model.processes import Processes
from holdfast.model.quiet import quiet
from holdfast.objective.head import OutputHead
from holdfast.store.disk import writing
from holdfast.store.files import whole_folder

T = TypeVar("T")


class ParameterCounts(NamedTuple):
    """Numbers of weights. Tied weights count once, and a teacher's adapter does not count."""

    total: int
    trainable: int


class Policy:
    """A causal language model, and everything to prompt, sample, score and save it.

    The model is always in eval mode: with dropout, the same weights would give different answers.

    Attributes:
        model: the transformers model, inside a peft model under LoRA.
        tokenizer: with a chat template.
        eos_ids: every token that ends a completion: the generation configuration's, the tokenizer's, and the one with
            which the chat template ends the assistant's turn.
        pad_id: fills batches; always masked.
        head: the output head, checked against the model's own logits.
        source: the path or id that the model was loaded from.
        chat_template_kwargs: passed to the chat template, for student and teacher.
        today: the date that the chat template writes, if it writes one; None for the day of the call. A run sets it to
            the day on which it began.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        eos_ids: frozenset[int],
        pad_id: int,
        head: OutputHead,
        source: str,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.eos_ids = eos_ids
        self.pad_id = pad_id
        self.head = head
        self.source = source
        self.chat_template_kwargs = dict(chat_template_kwargs or {})
        self.today: date | None = None
        self._chat_format: tuple[Any, ChatFormat] | None = None

    @property
    def chat_format(self) -> ChatFormat:
        """How messages become tokens, and tokens become text."""
        made_from = (self.tokenizer.chat_template, self.chat_template_kwargs, self.today)
        if self._chat_format is None or self._chat_format[0] != made_from:
            chat_format = ChatFormat(self.tokenizer, self.eos_ids, self.chat_template_kwargs, self.today)
            self._chat_format = made_from, chat_format
        return self._chat_format[1]

    @property
    def causal_lm(self) -> PreTrainedModel:
        """The transformers model; under LoRA, the one inside the peft model."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def device(self) -> torch.device:
        """The device for inputs."""
        return Processes.current().device if shard.is_sharded(self) else next(self.model.parameters()).device

    @property
    def is_lora(self) -> bool:
        return isinstance(self.model, PeftModel)

    @property
    def context_length(self) -> int | None:
        """The model's longest sequence, in tokens; None if its configuration does not say."""
        return getattr(self.causal_lm.config.get_text_config(decoder=True), "max_position_embeddings", None)

    def hidden_states(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        **for_attention: Any,
    ) -> Tensor:
        """Final hidden states [B, L, H] of tokens [B, L], which are the output head's inputs.

        Args:
            attention_mask: [B, cached + L], 0 on padding.
            position_ids: [B, L]; required with padding on the left.
            cache: keys and values of earlier tokens, extended in place.
            for_attention: passed on to the attention of every layer.
        """
        return decoder_states(self.causal_lm, input_ids, attention_mask, position_ids, cache, **for_attention)

    def run(self, work: Callable[[], T]) -> T:
        """Do work that reads the model's weights outside of its own forward, such as the output head's."""
        return shard.run(self, work)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add a micro-batch's gradients.

        Args:
            last: the optimizer steps next.
        """
        shard.backward(self, loss, last=last)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., H], in the model's dtype."""
        return self.head(hidden)

    def named_trainable(self) -> dict[str, nn.Parameter]:
        """The optimizer's parameters by name: every weight, tied ones once; under LoRA, the student's adapter."""
        if isinstance(self.model, PeftModel):
            return lora.adapter_parameters(self.model, lora.STUDENT)
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def named_teacher(self) -> dict[str, nn.Parameter]:
        """Under LoRA, the teacher's adapter, with the names of `named_trainable`. Its rank may differ."""
        return lora.adapter_parameters(self._peft(), lora.TEACHER)

    def parameter_counts(self) -> ParameterCounts:
        trainable = sum(p.numel() for p in self.named_trainable().values())
        base = sum(p.numel() for name, p in self.causal_lm.named_parameters() if ".lora_" not in name)
        return ParameterCounts(base + (trainable if self.is_lora else 0), trainable)

    def base(self) -> AbstractContextManager[None]:
        """Under LoRA: within it, the model without its adapter."""
        return self._peft().disable_adapter()

    def add_teacher(self, width: int = 1) -> None:
        """Under LoRA: add the adapter "teacher", `width` times the student's rank."""
        lora.add_teacher(self._peft(), width)

    def adapter(self, name: str) -> AbstractContextManager[None]:
        """Under LoRA: within it, the model with the adapter `name`, without gradients."""
        return lora.active(self._peft(), name)

    def frozen_copy(self) -> Self:
        """A copy of the whole model as it is now, without gradients, for a teacher or a base. Not under LoRA."""
        if self.is_lora:
            raise RuntimeError("under LoRA, base and teacher share the model; use base() and adapter()")
        twin = copy.copy(self)
        twin.model = copy.deepcopy(self.model).requires_grad_(False)
        for parameter in twin.model.parameters():
            parameter.grad = None
        twin.head = OutputHead(twin.causal_lm.get_output_embeddings(), self.head.scale, self.head.softcap)
        return twin

    @contextmanager
    def on(self, device: torch.device) -> Iterator[None]:
        """Within it, the weights are on another device. After it, the original tensors are back, unchanged.

        They are not copied back: a copy in the other direction would cost time and change nothing.
        """
        if shard.is_sharded(self):
            yield  # FSDP moves the layers it needs
            return
        original = {name: parameter.data for name, parameter in self.model.named_parameters()}
        self.model.to(device)
        try:
            yield
        finally:
            for name, parameter in self.model.named_parameters():
                parameter.data = original[name]

    def save_folder(self, path: str | Path, *, merged: bool = False) -> None:
        """Write a Hugging Face folder with safetensors, configuration and tokenizer.

        The folder appears complete or not at all, and replaces an earlier one. Under LoRA it has the student's adapter
        in `adapter/`, whose configuration names the base.

        Args:
            merged: under LoRA, also write the merged weights, so that `AutoModelForCausalLM` loads the folder.

        Raises:
            RunError: it cannot be written, for instance because the disk is full.
        """
        weights: dict[str, Tensor] = {}
        if not isinstance(self.model, PeftModel):
            weights = shard.full_state(self.model)
        elif merged:
            weights = lora.merged_state(self.model)
        Processes.current().main(lambda: self._write_folder(Path(path), weights))

    def _write_folder(self, path: Path, weights: dict[str, Tensor]) -> None:
        size = sum(weight.numel() * weight.element_size() for weight in weights.values())
        with writing("the model", path, size), whole_folder(path) as folder, quiet():
            self.tokenizer.save_pretrained(folder)
            if self.is_lora:
                self.model.save_pretrained(
                    folder / "adapter", selected_adapters=[lora.STUDENT], save_embedding_layers=False
                )
            if weights:
                self.causal_lm.save_pretrained(folder, state_dict=weights)

    def _peft(self) -> PeftModel:
        if not isinstance(self.model, PeftModel):
            raise RuntimeError("the policy is fully fine-tuned and has no adapters; use frozen_copy()")
        return self.model


def attends_everywhere(model: PreTrainedModel) -> bool:
    """Whether every layer is full or sliding-window attention, so that a cache holds keys and values only."""
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def decoder_states(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    cache: Cache | None = None,
    **for_attention: Any,
) -> Tensor:
    """Final hidden states of a causal language model; see `Policy.hidden_states`."""
    output = model.get_decoder()(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=position_ids,
        past_key_values=cache,
        use_cache=cache is not None,
        **for_attention,
    )
    return output.last_hidden_state
