"""Asking a live model: greedy answers to suites, what their verifiers say, and how the answers read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.data.chat import decode, encode_prompt
from holdfast.data.example import Verdict
from holdfast.data.seeds import derive_seed
from holdfast.data.task import Suite
from holdfast.data.teacher_prompts import last_user_message
from holdfast.errors import DataError
from holdfast.measure.answers import Answer
from holdfast.measure.artifacts import compression_ratio, repeated_share, units_of_text
from holdfast.measure.artifacts.repetition import LOOPING
from holdfast.measure.response import distinct
from holdfast.measure.statistics import score_interval
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes
from holdfast.sampling.sampler import Completion, Request, Sampler

SHOWN = 4
"""Answers of each suite that are kept for the report."""

Name = tuple[str, str]
"""A suite and one of its items."""


@dataclass(frozen=True)
class Reply:
    """One greedy answer and its verdict."""

    answer: Answer
    verdict: Verdict
    tokens: int


class Questions:
    """Suites in the model's tokens.

    Raises:
        DataError: a prompt leaves no room for an answer of `max_new_tokens`.
    """

    def __init__(
        self, policy: Policy, suites: Sequence[Suite], world: Processes, max_new_tokens: int, batch_tokens: int
    ) -> None:
        self.policy, self.suites, self.world = policy, suites, world
        self.max_new_tokens, self.batch_tokens = max_new_tokens, batch_tokens
        self.prompts: dict[Name, list[int]] = {}
        for suite in suites:
            for example in suite.test:
                where = f"{suite.name}: {example.id}"
                ids = encode_prompt(policy.tokenizer, example.messages, policy.chat_template_kwargs, where=where)
                limit = policy.context_length
                if limit is not None and len(ids) + max_new_tokens > limit:
                    raise DataError(
                        f"its prompt has {len(ids)} tokens, and with {max_new_tokens} to answer it exceeds the model's "
                        f"context of {limit}",
                        where=where,
                        fix="lower max_new_tokens, or leave the item out",
                    )
                self.prompts[suite.name, example.id] = ids

    def answer(self) -> dict[Name, Reply]:
        """Greedy answers to everything; several processes each give a share, and all have the whole."""
        examples = {(suite.name, e.id): (suite, e) for suite in self.suites for e in suite.test}
        mine = self.world.share(list(self.prompts))

        def answered() -> list[tuple[Name, Reply]]:
            completions = self._generate([Request(self.prompts[name], temperature=0.0) for name in mine])
            replies = []
            for name, completion in zip(mine, completions, strict=True):
                text = decode(self.policy.tokenizer, completion.ids, self.policy.eos_ids)
                suite, example = examples[name]
                answer = Answer("/".join(name), text, tuple(completion.ids), completion.truncated)
                replies.append((name, Reply(answer, suite.verify(example, text), len(completion.ids))))
            return replies

        return dict(pair for part in self.world.each(answered) for pair in part)

    def sample(self, per_suite: int) -> tuple[list[Name], list[list[int]]]:
        """The model's own answers at temperature 1 to the first prompts of each suite: of which, and their tokens."""
        names = [(suite.name, e.id) for suite in self.suites for e in suite.test[:per_suite]]
        mine = self.world.share(names)

        def sampled() -> list[list[int]]:
            seeds = [derive_seed("kl_to_base", *name) for name in mine]
            return [c.ids for c in self._generate([Request(self.prompts[n], seed=s) for n, s in zip(mine, seeds)])]

        return names, [ids for part in self.world.each(sampled) for ids in part]

    def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        if not requests:
            return []
        return Sampler(self.policy).generate(
            requests, max_new_tokens=self.max_new_tokens, batch_tokens=self.batch_tokens
        )

    def scores(self, replies: Mapping[Name, Reply], score: str) -> dict[str, list[float]]:
        """By suite, every item's score: its reward, or whether that is 1."""
        found: dict[str, list[float]] = {}
        for (suite, _), reply in replies.items():
            reward = reply.verdict.reward
            found.setdefault(suite, []).append(reward if score == "reward" else float(reward >= 1.0))
        return found

    def evaluation(self, replies: Mapping[Name, Reply], score: str) -> dict[str, Any]:
        """What `evals/stage-<s>.json` says of a stage: `sets`, `items`, `samples`."""
        items = self.scores(replies, score)
        sets: dict[str, Any] = {}
        samples: dict[str, Any] = {}
        for suite in self.suites:
            own = [replies[suite.name, e.id] for e in suite.test]
            n = len(own)
            sets[suite.name] = {
                "mean": sum(items[suite.name]) / n,
                "n": n,
                "ci95": list(score_interval(items[suite.name])),
                "reward": sum(r.verdict.reward for r in own) / n,
                "format_ok": sum(r.verdict.format_ok for r in own) / n,
                "length": sum(r.tokens for r in own) / n,
                "truncated": sum(bool(r.answer.truncated) for r in own) / n,
                "kl_to_base": None,
                "kl_to_base_se": None,
            }
            samples[suite.name] = [
                {
                    "id": e.id,
                    "prompt": last_user_message(e.messages),
                    "system": next((m["content"] for m in e.messages if m["role"] == "system"), None),
                    "text": replies[suite.name, e.id].answer.text,
                    "reward": replies[suite.name, e.id].verdict.reward,
                }
                for e in suite.test[:: max(1, n // SHOWN)][:SHOWN]
            ]
        return {"sets": sets, "items": items, "samples": samples}


def answers_by_set(suites: Sequence[Suite], replies: Mapping[Name, Reply]) -> dict[str, list[dict[str, Any]]]:
    """Answers as `holdfast.summary.responses` takes them."""
    return {
        suite.name: [
            {
                "id": e.id,
                "prompt": last_user_message(e.messages),
                "text": replies[suite.name, e.id].answer.text,
                "truncated": bool(replies[suite.name, e.id].answer.truncated),
                "reward": replies[suite.name, e.id].verdict.reward,
            }
            for e in suite.test
        ]
        for suite in suites
    }


def reading(replies: Mapping[Name, Reply]) -> dict[str, float]:
    """How all answers read together: repetition, truncation, distinct bigrams."""
    texts = [reply.answer.text for reply in replies.values()]
    units = [units_of_text(text) for text in texts]
    n = len(texts)
    return {
        "compression": sum(map(compression_ratio, texts)) / n,
        "repeated_4grams": sum(map(repeated_share, units)) / n,
        "looping": sum(compression_ratio(text) > LOOPING for text in texts) / n,
        "truncated": sum(bool(reply.answer.truncated) for reply in replies.values()) / n,
        "distinct_2": distinct(units, 2),
    }
