"""The generation of a step: this project's `Sampler`, and `model.generate` as TRL's trainers call it.

Both sample the same number of tokens for the same prompts at temperature 1. No completion ends early. This project's
side also returns every token's log-probability, for which TRL needs another forward pass. The two draw random numbers
differently, so samples differ, and only their distribution must agree: `check` scores each side's samples by a plain
forward pass, one row at a time.
"""

from pathlib import Path
from typing import Any

import torch

from benchmarks.engine.measure import Side
from benchmarks.engine.models import Workload, draw_tokens, load, score
from holdfast.config.settings import TrainSettings
from holdfast.data.seeds import derive_seed
from holdfast.model.policy import Policy
from holdfast.sampling.sampler import Request, Sampler


class OurGeneration:
    """`Sampler.generate` as the collector calls it."""

    def __init__(self, policy: Policy, prompts: list[list[int]], new_tokens: int, bf16: bool) -> None:
        self.policy, self.new_tokens, self.bf16 = policy, new_tokens, bf16
        self.sampler = Sampler(policy)
        self.requests = [Request(ids, seed=derive_seed("benchmark", row)) for row, ids in enumerate(prompts)]

    def run(self) -> dict[str, float]:
        tokens = 4 * TrainSettings().micro_batch_tokens
        self.done = self.sampler.generate(self.requests, max_new_tokens=self.new_tokens, batch_tokens=tokens)
        return {"new_tokens": float(sum(len(completion.ids) for completion in self.done))}

    def check(self) -> dict[str, float]:
        prompts = [request.prompt_ids for request in self.requests]
        scored = score(self.policy.causal_lm, prompts, [completion.ids for completion in self.done])
        given = torch.tensor([value for completion in self.done for value in completion.logprobs])
        return {"loss": -float(given.mean()), "logprob_error": float((given - scored).abs().max())}


def ours(job: dict[str, Any]) -> Side:
    """This project's side of a job made by `step.job_of`."""
    workload = Workload(**job["workload"])
    prompts = draw_tokens(workload, job["vocabulary"]).prompts
    policy = load(job["folder"], job["device"])
    return OurGeneration(policy, prompts, workload.new_tokens, job["dtype"] == "bfloat16")


def trl(job: dict[str, Any]) -> Side:
    """TRL's side of a job made by `step.job_of`. Its three trainers generate in the same way."""
    from benchmarks.engine.peers_trl import TrlGeneration, build_trainer

    workload = Workload(**job["workload"])
    trainer = build_trainer(
        "sdft_topk",
        Path(job["folder"]),
        workload,
        bf16=job["dtype"] == "bfloat16",
        device=job["device"],
        teacher="live",
    )
    return TrlGeneration(trainer, draw_tokens(workload, job["vocabulary"]).prompts)
