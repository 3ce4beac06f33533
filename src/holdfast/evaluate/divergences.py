"""How a model's answers differ from another's: KL, entropy, edits, similarity. Both models are in memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from holdfast.data.teacher_prompts import last_user_message
from holdfast.errors import ModelError
from holdfast.evaluate.embedding import Embedder, compare_embeddings
from holdfast.evaluate.sampled import OnPrompts, Sampling, encode_prompts, sample_answers
from holdfast.measure.answers import Answer, PromptSet
from holdfast.measure.response import PerToken, compare_greedy, per_token
from holdfast.model.logprobs import Scorer, vocabulary_logprobs
from holdfast.model.policy import Policy
from holdfast.objective.divergence import entropy, kl

ESTIMATOR = "exact over the vocabulary at every token of sampled answers, temperature 1; standard error over prompts"

MOVED = 10
"""Number of prompts that are shown with both answers."""


@dataclass(frozen=True, slots=True)
class Divergences:
    """Sums over one answer's tokens, in nats: KL(A‖B), KL(B‖A) and both entropies, each exact over the vocabulary."""

    tokens: int
    kl_ab: float
    kl_ba: float
    entropy_a: float
    entropy_b: float


def divergences(
    a: Scorer,
    b: Scorer,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    *,
    batch_tokens: int = 16384,
) -> list[Divergences]:
    """Compare two models' next-token distributions at every token of given answers; one result for each answer.

    Averaged over answers that A samples at temperature 1, the sum of KL(A‖B) is the KL divergence between the models'
    distributions of whole answers, by the chain rule. On other answers it is the divergence at the tokens that occur
    there.

    Args:
        prompts, completions: token ids [R][·].
        batch_tokens: tokens of one forward pass; see `vocabulary_logprobs`.
    """
    lengths = [len(completion) for completion in completions]
    sums = torch.zeros(4, sum(lengths), dtype=torch.float64)
    for index, (p, q) in vocabulary_logprobs([a, b], prompts, completions, batch_tokens=batch_tokens):
        # A KL divergence of 0 is a sum that cancels only up to rounding, and may come out below 0.
        values = kl(p, q).clamp_min(0), kl(q, p).clamp_min(0), entropy(p), entropy(q)
        sums[:, index] = torch.stack(values).double().cpu()
    per_answer = [part.sum(1).tolist() for part in sums.split(lengths, dim=1)]
    return [Divergences(length, *own) for length, own in zip(lengths, per_answer, strict=True)]


def require_same_tokens(a: Policy, b: Policy) -> None:
    """Refuse two models whose token ids have different meanings.

    Raises:
        ModelError: tokenizers or vocabularies differ.
    """
    if a.tokenizer.get_vocab() != b.tokenizer.get_vocab() or a.head.weight.shape[0] != b.head.weight.shape[0]:
        raise ModelError(
            f"its vocabulary differs from that of {a.source}",
            where=b.source,
            fix="compare models with the same vocabulary",
        )


def response_drift(
    a: Policy,
    b: Policy,
    prompts: PromptSet,
    *,
    samples: int = 1,
    seed: int = 0,
    max_new_tokens: int | None = None,
    embedder: Embedder | None = None,
    progress: Callable[[str], OnPrompts] | None = None,
) -> dict[str, Any]:
    """All metrics of how B's answers to fixed prompts differ from A's.

    Args:
        samples: answers to each prompt, by each model at temperature 1, on which KL and entropy are measured.
        progress: from a label of the answers, such as "a, greedy", to a function that is called with the progress.

    Returns:
        `greedy`, see `compare_greedy`; `kl`, four entries, for both directions on both models' samples; `entropy` of
        each model on its own samples; `embedding`, if there is an embedder; `moved`, the prompts whose greedy answers
        differ most, by edit distance and then by KL. All in nats.

    Raises:
        ModelError: the two have different vocabularies.
        DataError: a prompt does not fit.
    """
    require_same_tokens(a, b)

    def answers(name: str, policy: Policy, temperature: float, count: int) -> list[Answer]:
        sampling = Sampling(temperature, count, seed, max_new_tokens)
        return sample_answers(policy, prompts, sampling, progress(name) if progress else None)

    greedy = [answers(f"{name}, greedy", policy, 0.0, 1) for name, policy in (("a", a), ("b", b))]
    sampled = [answers(f"{name}, sampled", policy, 1.0, samples) for name, policy in (("a", a), ("b", b))]
    encoded, _ = encode_prompts(a, prompts, max_new_tokens)
    on_a, on_b = (_ByPrompt(a, b, encoded, own) for own in sampled)
    compared = compare_greedy(*greedy)
    edits = compared.pop("per_prompt")
    result: dict[str, Any] = {
        "prompts": len(encoded),
        "samples": samples,
        "greedy": compared,
        "kl": [
            {"direction": direction, "samples": side, "estimator": ESTIMATOR, **on.mean(field).as_json()}
            for side, on in (("A", on_a), ("B", on_b))
            for field, direction in (("kl_ab", "KL(A‖B)"), ("kl_ba", "KL(B‖A)"))
        ],
        "entropy": {"a": on_a.mean("entropy_a").as_json(), "b": on_b.mean("entropy_b").as_json()},
    }
    if embedder is not None:
        result["embedding"] = compare_embeddings(embedder, *([x.text for x in side] for side in greedy))
    moved = [
        {
            "id": left.prompt,
            "task": prompts.task_of[left.prompt],
            "prompt": last_user_message(prompts.examples[left.prompt].messages),
            "a": left.text,
            "b": right.text,
            "edit": edit,
            "kl_per_token": on_a.of(left.prompt, "kl_ab"),
        }
        for left, right, edit in zip(*greedy, edits, strict=True)
    ]
    result["moved"] = sorted(moved, key=lambda each: (-each["edit"], -each["kl_per_token"]))[:MOVED]
    return result


class _ByPrompt:
    """Divergences on one model's sampled answers, grouped by prompt."""

    def __init__(self, a: Policy, b: Policy, encoded: Mapping[str, Sequence[int]], answers: Sequence[Answer]) -> None:
        results = divergences(a, b, [encoded[x.prompt] for x in answers], [x.ids or () for x in answers])
        self.groups: dict[str, list[Divergences]] = {}
        for answer, each in zip(answers, results, strict=True):
            self.groups.setdefault(answer.prompt, []).append(each)

    def mean(self, field: str) -> PerToken:
        """Mean of a field per token, with its standard error over prompts."""
        sums = {prompt: [getattr(each, field) for each in group] for prompt, group in self.groups.items()}
        return per_token(sums, {prompt: [each.tokens for each in group] for prompt, group in self.groups.items()})

    def of(self, prompt: str, field: str) -> float:
        """Mean of a field per token of one prompt's answers."""
        group = self.groups[prompt]
        return float(sum(getattr(each, field) for each in group)) / max(1, sum(each.tokens for each in group))
