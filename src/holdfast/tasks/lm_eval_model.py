"""A policy as a model of lm-evaluation-harness."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from holdfast import stop
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes


class InMemory(HFLM):
    """A policy's model in memory. The processes of a run answer a share of the harness's requests each.

    Attributes:
        requests: how many requests this process got.
        cut: how many of them were too long for the model's context, so that the harness cut them on the left.
    """

    def __init__(self, policy: Policy, batch_size: int, world: Processes) -> None:
        tokenizer = copy.deepcopy(policy.tokenizer)  # the harness changes its padding
        tokenizer.chat_template = policy.chat_format.template.dated() or tokenizer.chat_template
        super().__init__(
            pretrained=policy.causal_lm,
            tokenizer=tokenizer,
            batch_size=batch_size,
            max_length=policy.context_length,
            chat_template_args=policy.chat_template_kwargs,
        )
        # The harness expects accelerate's processes. With these attributes and the methods below it uses the run's own.
        self._world = world
        self._rank, self._world_size = world.rank, world.size
        self.requests = self.cut = 0

    def _loglikelihood_tokens(self, requests: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        self.requests += len(requests)
        self.cut += sum(len(prompt) + len(answer) > self.max_length + 1 for _, prompt, answer in requests)
        return super()._loglikelihood_tokens(requests, *args, **kwargs)

    def generate_until(self, requests: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        self.requests += len(requests)
        for request in requests:
            prompt, settings = request.args
            room = self.max_length - int(settings.get("max_gen_toks", self.max_gen_toks))
            self.cut += len(self.tok_encode(prompt)) > room
        return super().generate_until(requests, *args, **kwargs)

    def _poll(self) -> None:
        # One of several processes must not leave the harness alone: the others would wait for its answers.
        if self._world.size == 1:
            stop.poll()

    def _model_call(self, *args: Any, **kwargs: Any) -> Any:
        self._poll()
        return super()._model_call(*args, **kwargs)

    def _model_generate(self, *args: Any, **kwargs: Any) -> Any:
        self._poll()
        return super()._model_generate(*args, **kwargs)

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.tensor(self._world.gather(tensor.tolist()))

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        gathered = self._world.gather(obj)
        return gathered if self.rank == dst else None

    def barrier(self) -> None:
        self._world.barrier()
