"""How far a model's answers have moved from another's, with both models in memory."""

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
from holdfast.model.hidden_states import loss_token_states
from holdfast.model.policy import Policy

LOGIT_BUDGET = 2**25
"""Entries of one [tokens × vocabulary] tensor: 128 MB in float32, of which a handful are alive at once."""

ESTIMATOR = "exact over the vocabulary at every token of sampled answers, temperature 1; standard error over prompts"

MOVED = 10
"""Prompts that are shown with both answers."""


@dataclass(frozen=True, slots=True)
class Divergences:
    """Sums over one answer's tokens, in nats: KL(A‖B), KL(B‖A) and both entropies, each exact over the vocabulary."""

    tokens: int
    kl_ab: float
    kl_ba: float
    entropy_a: float
    entropy_b: float


@torch.no_grad()
def divergences(
    a: Policy,
    b: Policy,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    *,
    batch_tokens: int = 16384,
) -> list[Divergences]:
    """Compare two models' next-token distributions at every token of some answers.

    Averaged over answers that A samples at temperature 1, the sum of KL(A‖B) is the KL of A's distribution of whole
    answers from B's, by the chain rule; on other samples it is the divergence of the distributions met there.

    Args:
        prompts, completions: token ids [R][·].
        batch_tokens: rows × longest row of one forward pass stays within it, but for a single row.
    """
    found: list[Divergences] = []
    start = 0
    while start < len(prompts):
        end, longest = start, 0
        while end < len(prompts):
            longest = max(longest, len(prompts[end]) + len(completions[end]))
            if end > start and longest * (end + 1 - start) > batch_tokens:
                break
            end += 1
        rows = (prompts[start:end], completions[start:end], [range(len(c)) for c in completions[start:end]])
        states_a, states_b = loss_token_states(a, *rows), loss_token_states(b, *rows)
        per_chunk = max(1, LOGIT_BUDGET // a.head.weight.shape[0])
        sums = []
        for part_a, part_b in zip(states_a.split(per_chunk), states_b.split(per_chunk), strict=True):
            p, q = a.logits(part_a).float().log_softmax(-1), b.logits(part_b).float().log_softmax(-1)
            # Two numbers that should cancel do so only up to rounding, hence the bound.
            kl_ab, kl_ba = ((x.exp() * (x - y)).sum(-1).clamp_min(0) for x, y in ((p, q), (q, p)))
            entropies = (-(x.exp() * x).sum(-1) for x in (p, q))
            sums.append(torch.stack([kl_ab, kl_ba, *entropies]).double().cpu())
        lengths = [len(c) for c in completions[start:end]]
        for length, part in zip(lengths, torch.cat(sums, dim=1).split(lengths, dim=1), strict=True):
            found.append(Divergences(length, *part.sum(1).tolist()))
        start = end
    return found


def require_same_tokens(a: Policy, b: Policy) -> None:
    """Refuse two models whose token ids do not mean the same.

    Raises:
        ModelError: tokenizers or vocabularies differ.
    """
    if a.tokenizer.get_vocab() != b.tokenizer.get_vocab() or a.head.weight.shape[0] != b.head.weight.shape[0]:
        raise ModelError(
            f"its tokens are not those of {a.source}", where=b.source, fix="compare models of one vocabulary"
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
    told: Callable[[str], OnPrompts] | None = None,
) -> dict[str, Any]:
    """All measures of how B's answers to fixed prompts differ from A's.

    Args:
        samples: answers to each prompt that KL and entropy are measured on, by each model, at temperature 1.
        told: from who answers, such as "a, greedy", to what is told how many prompts were answered.

    Returns:
        `greedy`, see `compare_greedy`; `kl`, four entries: either direction on either model's samples; `entropy` of
        each model on its own; `embedding` where there is an embedder; `moved`, the prompts whose greedy answers
        moved most, by edit distance and then by KL. Nats throughout.

    Raises:
        ModelError: the two have different tokens.
        DataError: a prompt does not fit.
    """
    require_same_tokens(a, b)

    def answers(name: str, policy: Policy, temperature: float, count: int) -> list[Answer]:
        sampling = Sampling(temperature, count, seed, max_new_tokens)
        return sample_answers(policy, prompts, sampling, told(name) if told else None)

    greedy = [answers(f"{name}, greedy", policy, 0.0, 1) for name, policy in (("a", a), ("b", b))]
    drawn = [answers(f"{name}, sampled", policy, 1.0, samples) for name, policy in (("a", a), ("b", b))]
    encoded, _ = encode_prompts(a, prompts, max_new_tokens)
    on_a, on_b = (_ByPrompt(a, b, encoded, own) for own in drawn)
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
        found = divergences(a, b, [encoded[x.prompt] for x in answers], [x.ids or () for x in answers])
        self.groups: dict[str, list[Divergences]] = {}
        for answer, each in zip(answers, found, strict=True):
            self.groups.setdefault(answer.prompt, []).append(each)

    def mean(self, field: str) -> PerToken:
        """A field per token."""
        sums = {prompt: [getattr(each, field) for each in group] for prompt, group in self.groups.items()}
        return per_token(sums, {prompt: [each.tokens for each in group] for prompt, group in self.groups.items()})

    def of(self, prompt: str, field: str) -> float:
        """A field per token of one prompt's answers."""
        group = self.groups[prompt]
        return float(sum(getattr(each, field) for each in group)) / max(1, sum(each.tokens for each in group))
