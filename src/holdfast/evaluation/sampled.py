"""Sample a model's answers to a set of prompts, with the sampler that training uses."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from holdfast.config.settings import ModelSettings
from holdfast.data.seeds import derive_seed
from holdfast.errors import DataError
from holdfast.measure.answers import Answer, PromptSet
from holdfast.model.load import load_policy
from holdfast.model.policy import Policy
from holdfast.sampling.sampler import Request, Sampler

LONGEST_ANSWER = 512
"""Default for the longest answer, in tokens."""

CHUNK = 64
"""Prompts that are sampled between two reports of progress."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are sampled.

    Args:
        temperature: 0 takes the most probable token.
        samples: answers to each prompt.
        seed: of the random numbers. They depend on the prompt and not on the model, so that equal models give equal
            answers.
        max_new_tokens: longest answer. None: 512, or less if the longest prompt leaves less of the model's context.
        batch_tokens: a bound on memory; see `Sampler.generate`.
    """

    temperature: float = 0.0
    samples: int = 1
    seed: int = 0
    max_new_tokens: int | None = None
    batch_tokens: int = 16384


OnPrompts = Callable[[int, int], None]
"""Called with the number of prompts answered so far, and the number of all prompts."""


def load(path: str, dtype: str = "float32") -> Policy:
    """Load a model folder, a hub id or `lab`, in evaluation mode and without gradients."""
    policy = load_policy(ModelSettings.model_validate({"path": path, "dtype": dtype}))
    policy.model.requires_grad_(False)
    return policy


def encode_prompts(
    policy: Policy, prompts: PromptSet, max_new_tokens: int | None = None
) -> tuple[dict[str, list[int]], int]:
    """Token ids of every prompt, by id, and the longest answer in tokens; see `Sampling`.

    Raises:
        DataError: a prompt leaves no room in the model's context for an answer of `max_new_tokens`, or for any answer.
    """
    encoded = {
        name: policy.chat_format.encode_example(example, where=f"example {name!r}")
        for name, example in prompts.examples.items()
    }
    longest = max(encoded, key=lambda name: len(encoded[name]))
    room = math.inf if policy.context_length is None else policy.context_length - len(encoded[longest])
    if room < (max_new_tokens or 1):
        what = f"the prompt has {len(encoded[longest])} tokens, and the model's context has {policy.context_length}"
        fix = "lower --max-new-tokens, or leave the prompt out" if room > 0 else "leave the prompt out"
        raise DataError(what, where=f"example {longest!r}", fix=fix)
    return encoded, max_new_tokens or int(min(LONGEST_ANSWER, room))


def sample_answers(
    policy: Policy, prompts: PromptSet, sampling: Sampling, on_prompts: OnPrompts | None = None
) -> list[Answer]:
    """`samples` answers to every prompt, in the order of the prompts."""
    encoded, max_new_tokens = encode_prompts(policy, prompts, sampling.max_new_tokens)
    names = list(encoded)
    sampler = Sampler(policy)
    answers: list[Answer] = []
    for start in range(0, len(names), CHUNK):
        chunk = [(name, index) for name in names[start : start + CHUNK] for index in range(sampling.samples)]
        requests = [
            Request(encoded[name], derive_seed("answers", name, sampling.seed, index), sampling.temperature)
            for name, index in chunk
        ]
        completions = sampler.generate(requests, max_new_tokens=max_new_tokens, batch_tokens=sampling.batch_tokens)
        answers += [
            Answer(name, policy.chat_format.decode(c.ids), tuple(c.ids), c.truncated)
            for (name, _), c in zip(chunk, completions, strict=True)
        ]
        if on_prompts is not None:
            on_prompts(min(start + CHUNK, len(names)), len(names))
    return answers


def decoder(policy: Policy) -> Callable[[Sequence[int]], str]:
    """A function from token ids to text that keeps special tokens."""
    return lambda ids: str(policy.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))
