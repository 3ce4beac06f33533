"""Evaluation of every set: greedy answers judged by their verifiers, and KL to the base on the tasks' prompts."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from holdfast import stop
from holdfast.config import EvalSettings, TrainSettings
from holdfast.contexts import last_user_message
from holdfast.errors import DataError
from holdfast.measure.statistics import score_interval
from holdfast.rollouts.episodes import Episode, play
from holdfast.rollouts.prompts import PromptTooLong, check_fits, encode_prompt
from holdfast.rollouts.sampler import Completion, Request, Sampler
from holdfast.seeds import derive_seed
from holdfast.tasks.base import Example, Suite, Task, Verdict, all_sets
from holdfast.teachers import Base
from holdfast.train.policy import Policy
from holdfast.train.shard import whole
from holdfast.train.trunk import loss_token_logits
from holdfast.train.world import World

Evaluated = Task | Suite
LOGIT_BUDGET = 2**27
"""Entries of one [tokens × vocabulary] tensor of KL to base: half a gigabyte in float32; a single row always runs."""
OnSet = Callable[[str], None]


@dataclass
class Evaluation:
    """All sets at one point of a stream: scores, one score per item, and some completions to look at."""

    stage: int
    task: str | None
    sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    items: dict[str, list[float]] = field(default_factory=dict)
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        fields = {"sets": self.sets, "items": self.items, "samples": self.samples}
        return {"stage": self.stage, "task": self.task, **fields}


class Evaluator:
    """Scores sets with the policy in memory; the same policy scored twice gives the same numbers.

    Several processes answer a share of each set, and all have the whole result.

    Args:
        base: the model before the stream, for KL to base; None leaves that out.
    """

    def __init__(
        self,
        policy: Policy,
        base: Base | None,
        train: TrainSettings,
        settings: EvalSettings,
        on_set: OnSet | None = None,
    ) -> None:
        self.policy, self.base, self.settings = policy, base, settings
        self.max_prompt_length = train.max_prompt_length
        self.max_completion_length = settings.max_completion_length or train.max_completion_length
        self.sampler = Sampler(policy, stop.poll)
        self.world = World.current()
        self._on_set = on_set or (lambda name: None)
        self.dropped: dict[str, int] = {}
        """Items left out of each set because they do not fit, where such are dropped; no set without any is named."""
        self._drops = train.long_prompts == "drop"
        self._items: dict[str, list[Example]] = {}
        self._prompts: dict[str, list[list[int]]] = {}
        self._base_completions: dict[str, list[list[int]]] = {}

    def evaluate(self, stage: int, task: str | None, tasks: Sequence[Task], suites: Sequence[Suite]) -> Evaluation:
        """Every task and every suite."""
        result = Evaluation(stage, task)
        for each in all_sets(tasks, suites):
            self._on_set(each.name)
            self._score(result, each)
            if isinstance(each, Task) and self.base is not None and self.settings.kl_items:
                mean, error = self.kl_to_base(each)
                result.sets[each.name] |= {"kl_to_base": mean, "kl_to_base_se": error}
        return result

    def probe(self, tasks: Sequence[Task], suites: Sequence[Suite]) -> dict[str, float]:
        """Mean score of the first `probe_items` of each set."""
        scores = {}
        for each in all_sets(tasks, suites):
            verdicts, _ = self.answer(each, self.items(each)[: self.settings.probe_items])
            scores[each.name] = sum(self._value(v) for v in verdicts) / len(verdicts)
        return scores

    def items(self, each: Evaluated) -> Sequence[Example]:
        """The items of a set that are evaluated: the first `max_items`, less those that are dropped."""
        self._encoded(each)
        return self._items[each.name]

    def answer(
        self, each: Evaluated, examples: Sequence[Example]
    ) -> tuple[list[Verdict], list[Completion] | list[Episode]]:
        """Greedy answers to examples of a set (the first ones of its `items`), and what they were judged as."""
        requests = [Request(ids, seed=0, temperature=0.0) for ids in self._encoded(each)[: len(examples)]]
        mine = self.world.share(range(len(requests)))

        def answered() -> list[tuple[Verdict, Any]]:
            if each.episodes is not None:
                episodes = play(
                    self.sampler,
                    self.policy.speech,
                    each.episodes,
                    [requests[i] for i in mine],
                    [examples[i] for i in mine],
                    max_new_tokens=self.max_completion_length,
                    batch_tokens=self.settings.batch_tokens,
                    poll=stop.poll,
                )
                return [(episode.verdict, episode) for episode in episodes]
            completions = self._generate(self.sampler, [requests[i] for i in mine])
            texts = [self.policy.speech.text(c.ids) for c in completions]
            verdicts = []
            for i, text in zip(mine, texts, strict=True):
                stop.poll()
                verdicts.append(judge(each, examples[i], text))
            return list(zip(verdicts, completions, strict=True))

        with whole(self.policy):
            found = [pair for part in self.world.each(answered) for pair in part]
        return [verdict for verdict, _ in found], [completion for _, completion in found]

    def _generate(self, sampler: Sampler, requests: Sequence[Request]) -> list[Completion]:
        return sampler.generate(
            requests, max_new_tokens=self.max_completion_length, batch_tokens=self.settings.batch_tokens
        )

    def check(self, each: Evaluated) -> None:
        """Encode a set's items.

        Raises:
            DataError: one does not fit and is not to be dropped, or none is left.
        """
        self._encoded(each)

    def _encoded(self, each: Evaluated) -> list[list[int]]:
        """The prompts of a set's items in tokens."""
        if each.name not in self._prompts:
            kwargs = self.policy.chat_template_kwargs
            examples = each.test[: self.settings.max_items]
            kept: list[Example] = []
            encoded: list[list[int]] = []
            for example in examples:
                ids = encode_prompt(self.policy.tokenizer, example.messages, kwargs, where=f"{each.name}: {example.id}")
                try:
                    check_fits(example.id, ids, self.max_prompt_length, f"prompt of a test item of {each.name!r}")
                except PromptTooLong:
                    if not self._drops:
                        raise
                    continue
                if isinstance(each, Task) and each.verifier is None and each.episodes is None:
                    judge(each, example, "")  # refuses an example that nothing can judge
                kept.append(example)
                encoded.append(ids)
            if not kept:
                mend = "raise train.max_prompt_length"
                raise DataError(f"none of the {len(examples)} test items fits", where=repr(each.name), mend=mend)
            if len(kept) < len(examples):
                self.dropped[each.name] = len(examples) - len(kept)
            self._items[each.name], self._prompts[each.name] = kept, encoded
        return self._prompts[each.name]

    def _value(self, verdict: Verdict) -> float:
        return verdict.reward if self.settings.score == "reward" else float(verdict.reward >= 1.0)

    def _score(self, result: Evaluation, each: Evaluated) -> None:
        examples = self.items(each)
        verdicts, completions = self.answer(each, examples)
        values = [self._value(v) for v in verdicts]
        n = len(values)
        result.items[each.name] = values
        result.sets[each.name] = {
            "mean": sum(values) / n,
            "n": n,
            "ci95": list(score_interval(values)),
            "reward": sum(v.reward for v in verdicts) / n,
            "format_ok": sum(v.format_ok for v in verdicts) / n,
            "length": sum(sum(c.tool_mask) if isinstance(c, Episode) else len(c.ids) for c in completions) / n,
            "truncated": sum(c.truncated for c in completions) / n,
            "kl_to_base": None,
            "kl_to_base_se": None,
        }
        shown = (
            range(0, n, max(1, n // self.settings.samples))[: self.settings.samples] if self.settings.samples else ()
        )
        result.samples[each.name] = [
            {
                "id": examples[i].id,
                "prompt": last_user_message(examples[i].messages),
                "system": next((m["content"] for m in examples[i].messages if m["role"] == "system"), None),
                "text": self.policy.speech.text(completions[i].ids),
                "reward": verdicts[i].reward,
            }
            for i in shown
        ]

    def kl_to_base(self, task: Task) -> tuple[float, float | None]:
        """KL(base‖student) in nats per token on the base's own samples for a task's test prompts; its standard error.

        Exact over the vocabulary at every token; sampled over answers: one of the base's per prompt, at temperature 1,
        always the same ones. This is the direction that predicts forgetting in arXiv 2509.04259. The standard error is
        over prompts, of the ratio of the summed KL to the summed tokens.
        """
        assert self.base is not None
        with whole(self.base.copy or self.policy), whole(self.policy):
            parts = self.world.each(lambda: self._kl_sums(task))
        sums = [kl for part in parts for kl, _ in part]
        counts = [count for part in parts for _, count in part]
        mean = sum(sums) / sum(counts)
        if len(sums) < 2:
            return mean, None
        residuals = sum((s - mean * c) ** 2 for s, c in zip(sums, counts, strict=True))
        return mean, math.sqrt(residuals * len(sums) / (len(sums) - 1)) / sum(counts)

    def _kl_sums(self, task: Task) -> list[tuple[float, int]]:
        """Summed KL and number of tokens of each of this process's prompts."""
        assert self.base is not None
        mine = self.world.share(range(len(self._encoded(task)[: self.settings.kl_items])))
        if not mine:
            return []
        prompts = [self._encoded(task)[i] for i in mine]
        completions = self._base_answers(task, prompts, mine)
        sums: list[float] = []
        budget = max(1, self.settings.batch_tokens // 4)
        widest = max(len(p) + len(c) for p, c in zip(prompts, completions))
        vocabulary = self.policy.head.weight.shape[0]
        per_batch = max(1, min(budget // widest, LOGIT_BUDGET // (max(map(len, completions)) * vocabulary)))
        for start in range(0, len(prompts), per_batch):
            stop.poll()
            part = slice(start, start + per_batch)
            positions = [range(len(c)) for c in completions[part]]
            with self.base.scoring() as base:
                p = loss_token_logits(base, prompts[part], completions[part], positions).float().log_softmax(-1)
            with torch.no_grad():
                q = loss_token_logits(self.policy, prompts[part], completions[part], positions).float().log_softmax(-1)
            tokens = (p.exp() * (p - q)).sum(-1)
            sums += [float(kl.sum()) for kl in tokens.split([len(r) for r in positions])]
        return list(zip(sums, map(len, completions), strict=True))

    def _base_answers(self, task: Task, prompts: Sequence[list[int]], places: Sequence[int]) -> list[list[int]]:
        """What the base says to this process's prompts of a task, which have these places among all."""
        if task.name not in self._base_completions:
            assert self.base is not None
            requests = [
                Request(ids, seed=derive_seed("kl_to_base", task.name, i), temperature=1.0)
                for i, ids in zip(places, prompts, strict=True)
            ]
            with self.base.scoring() as base:
                self._base_completions[task.name] = [c.ids for c in self._generate(Sampler(base, stop.poll), requests)]
        return self._base_completions[task.name]


def judge(each: Evaluated, example: Example, completion: str) -> Verdict:
    """The verifier's verdict; for a task without one, whether the completion is the demonstration itself.

    Raises:
        DataError: there is neither verifier nor demonstration, or the verifier fails.
    """
    if isinstance(each, Suite) or each.verifier is not None:
        return each.verify(example, completion)
    if example.demonstration is None:
        raise DataError(
            "nothing can judge its answer",
            where=f"task {each.name!r}, test example {example.id!r}",
            mend="name a `verifier`, or give it an `answer` or a `completion`",
        )
    return Verdict(float(" ".join(completion.split()) == " ".join(example.demonstration.split())))


def set_descriptions(tasks: Sequence[Task], suites: Sequence[Suite], counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """The "sets" of a summary."""
    kinds = [(t, "task") for t in tasks] + [(s, s.kind) for s in suites]
    return [
        {"name": each.name, "kind": kind, "n": counts[each.name], "description": each.description}
        for each, kind in kinds
    ]
