"""Sampling a model's answers to a set of prompts, through the same sampler that training uses."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from holdfast.config.settings import ModelSettings
from holdfast.data.chat import decode, encode_prompt
from holdfast.data.seeds import derive_seed
from holdfast.errors import DataError
from holdfast.measure.answers import Answer, PromptSet
from holdfast.model.load import load_policy
from holdfast.model.policy import Policy
from holdfast.sampling.sampler import Request, Sampler

LONGEST_ANSWER = 512
"""Tokens of the longest answer where none are named."""

CHUNK = 64
"""Prompts that are sampled before progress is told."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are sampled.

    Args:
        temperature: 0 takes the most probable token.
        samples: answers to each prompt.
        seed: names the random numbers; a prompt's are the same for every model, so that equal models answer alike.
        max_new_tokens: longest answer; None: 512, or what the longest prompt leaves of the model's context.
        batch_tokens: memory's measure; see `Sampler.generate`.
    """

    temperature: float = 0.0
    samples: int = 1
    seed: int = 0
    max_new_tokens: int | None = None
    batch_tokens: int = 16384


OnPrompts = Callable[[int, int], None]
"""Told how many prompts have been answered, and of how many."""


def load(path: str, dtype: str = "float32") -> Policy:
    """A model folder, a hub id or `lab`, in evaluation mode without gradients."""
    policy = load_policy(ModelSettings.model_validate({"path": path, "dtype": dtype}))
    policy.model.requires_grad_(False)
    return policy


def encode_prompts(
    policy: Policy, prompts: PromptSet, max_new_tokens: int | None = None
) -> tuple[dict[str, list[int]], int]:
    """Every prompt in tokens, by id, and the longest answer's tokens; see `Sampling`.

    Raises:
        DataError: a prompt leaves no room in the model's context for an answer of so many tokens, or for any.
    """
    kwargs = policy.chat_template_kwargs
    encoded = {
        name: encode_prompt(policy.tokenizer, example.messages, kwargs, where=f"example {name!r}")
        for name, example in prompts.examples.items()
    }
    longest = max(encoded, key=lambda name: len(encoded[name]))
    room = math.inf if policy.context_length is None else policy.context_length - len(encoded[longest])
    if room < (max_new_tokens or 1):
        what = f"the prompt has {len(encoded[longest])} tokens, and the model's context {policy.context_length}"
        fix = "lower --max-new-tokens, or leave the prompt out" if room > 0 else "leave the prompt out"
        raise DataError(what, where=f"example {longest!r}", fix=fix)
    return encoded, max_new_tokens or int(min(LONGEST_ANSWER, room))


def sample_answers(
    policy: Policy, prompts: PromptSet, sampling: Sampling, on_prompts: OnPrompts | None = None
) -> list[Answer]:
    """Answers to every prompt, in the order of the prompts; `samples` of each."""
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
            Answer(name, decode(policy.tokenizer, c.ids, policy.eos_ids), tuple(c.ids), c.truncated)
            for (name, _), c in zip(chunk, completions, strict=True)
        ]
        if on_prompts is not None:
            on_prompts(min(start + CHUNK, len(names)), len(names))
    return answers


def decoder(policy: Policy) -> Callable[[Sequence[int]], str]:
    """From token ids to text, special tokens included."""
    return lambda ids: str(policy.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))
