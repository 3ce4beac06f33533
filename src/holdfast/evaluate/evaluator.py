"""Evaluation of every set: greedy answers judged by their verifiers, and KL to the base on the tasks' prompts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast import stop
from holdfast.config.settings import EvalSettings, TrainSettings
from holdfast.data.chat import PromptTooLong, check_fits, encode_prompt
from holdfast.data.example import Example, Verdict
from holdfast.data.task import Suite, Task, all_sets
from holdfast.data.teacher_prompts import last_user_message
from holdfast.errors import DataError
from holdfast.evaluate.against_base import AgainstBase, mean_per_token
from holdfast.measure.response import PerToken
from holdfast.measure.statistics import score_interval
from holdfast.model.base import Base
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes
from holdfast.model.shard import whole
from holdfast.sampling.episodes import Episode, run_episodes
from holdfast.sampling.sampler import Completion, Request, Sampler
from holdfast.tasks.lm_eval import LmEvalSuite

Evaluated = Task | Suite

OnSet = Callable[[str], None]


@dataclass
class Evaluation:
    """All sets at one point of a stream: scores, one score per item, and some completions to look at.

    `answers` and `kl` are for the comparison with the base: greedy answers to the first prompts of each compared set,
    and divergences on sampled ones, as the summary's `responses` names them.
    """

    stage: int
    task: str | None
    sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    items: dict[str, list[float]] = field(default_factory=dict)
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    kl: dict[str, dict[str, Any]] = field(default_factory=dict)

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
        self.world = Processes.current()
        self._on_set = on_set or (lambda name: None)
        self.dropped: dict[str, int] = {}
        """Items left out of each set because they do not fit, where such are dropped; no set without any is named."""
        self._drops = train.long_prompts == "drop"
        self._items: dict[str, list[Example]] = {}
        self._prompts: dict[str, list[list[int]]] = {}
        self.against = None if base is None else AgainstBase(policy, base, settings, self._generate)

    def evaluate(self, stage: int, task: str | None, tasks: Sequence[Task], suites: Sequence[Suite]) -> Evaluation:
        """Every task and every suite."""
        result = Evaluation(stage, task)
        for each in all_sets(tasks, suites):
            self._on_set(each.name)
            if isinstance(each, LmEvalSuite):
                self._measure(result, each)
                continue
            self._score(result, each)
        self._compare(result, all_sets(tasks, suites))
        return result

    def _measure(self, result: Evaluation, suite: LmEvalSuite) -> None:
        """A suite that the harness measures as a whole."""
        with whole(self.policy):
            measured = suite.evaluate(self.policy, self.settings.max_items)
        result.sets[suite.name], result.items[suite.name] = measured.numbers(), measured.items
        result.samples[suite.name] = measured.samples(self.settings.samples)

    def probe(self, tasks: Sequence[Task], suites: Sequence[Suite]) -> tuple[dict[str, float], dict[str, list[str]]]:
        """Mean score of the first `probe_items` of each set, and the answers to the first `response_items` of these.

        Suites of lm-evaluation-harness are left out, and answers of sets that are not compared with the base's.
        """
        scores: dict[str, float] = {}
        answers: dict[str, list[str]] = {}
        for each in all_sets(tasks, [suite for suite in suites if not isinstance(suite, LmEvalSuite)]):
            verdicts, completions = self.answer(each, self.items(each)[: self.settings.probe_items])
            scores[each.name] = sum(self._value(v) for v in verdicts) / len(verdicts)
            if self.settings.response_items and is_compared(each):
                kept = completions[: self.settings.response_items]
                answers[each.name] = [self.policy.chat_format.decode(c.ids) for c in kept]
        return scores, answers

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
                episodes = run_episodes(
                    self.sampler,
                    self.policy.chat_format,
                    each.episodes,
                    [requests[i] for i in mine],
                    [examples[i] for i in mine],
                    max_new_tokens=self.max_completion_length,
                    batch_tokens=self.settings.batch_tokens,
                    poll=stop.poll,
                )
                return [(episode.verdict, episode) for episode in episodes]
            completions = self._generate(self.sampler, [requests[i] for i in mine])
            texts = [self.policy.chat_format.decode(c.ids) for c in completions]
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
        """Encode a set's items, but for a suite that lm-evaluation-harness asks in its own way.

        Raises:
            DataError: one does not fit and is not to be dropped, or none is left.
        """
        if not isinstance(each, LmEvalSuite):
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
                fix = "raise train.max_prompt_length"
                raise DataError(f"none of the {len(examples)} test items fits", where=repr(each.name), fix=fix)
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
        if is_compared(each):
            result.answers[each.name] = [
                {
                    "id": examples[i].id,
                    "prompt": last_user_message(examples[i].messages),
                    "text": self.policy.chat_format.decode(completions[i].ids),
                    "truncated": completions[i].truncated,
                    "reward": verdicts[i].reward,
                }
                for i in range(min(n, self.settings.response_items))
            ]
        shown = (
            range(0, n, max(1, n // self.settings.samples))[: self.settings.samples] if self.settings.samples else ()
        )
        result.samples[each.name] = [
            {
                "id": examples[i].id,
                "prompt": last_user_message(examples[i].messages),
                "system": next((m["content"] for m in examples[i].messages if m["role"] == "system"), None),
                "text": self.policy.chat_format.decode(completions[i].ids),
                "reward": verdicts[i].reward,
            }
            for i in shown
        ]

    def kl_to_base(self, task: Task) -> PerToken:
        """KL(base‖student) in nats per token on the base's own samples for a task's test prompts.

        Exact over the vocabulary at every token; sampled over answers: one of the base's per prompt, at temperature 1,
        always the same ones. This is the direction that predicts forgetting in arXiv 2509.04259. The standard error is
        over prompts, of the ratio of the summed KL to the summed tokens.
        """
        assert self.against is not None
        prompts = {task.name: self._encoded(task)[: self.settings.kl_items]}
        return mean_per_token(self.against.on_base_answers(prompts)[task.name], "kl_ab")

    def _compare(self, result: Evaluation, sets: Sequence[Evaluated]) -> None:
        """Divergences from the base: KL on the tasks' prompts, and both directions where answers are compared."""
        if self.against is None or not self.settings.kl_items:
            return
        items, compared = self.settings.kl_items, min(self.settings.kl_items, self.settings.response_items)
        on_base = self.against.on_base_answers(
            {
                each.name: self._encoded(each)[: items if isinstance(each, Task) else compared]
                for each in sets
                if is_compared(each) and (compared or isinstance(each, Task))
            }
        )
        for each in sets:
            if isinstance(each, Task):
                kl = mean_per_token(on_base[each.name], "kl_ab")
                result.sets[each.name] |= {"kl_to_base": kl.mean, "kl_to_base_se": kl.se}
        if not compared:
            return
        on_base = {name: found[:compared] for name, found in on_base.items()}
        own = on_base  # before the first stage the policy is the base, and so are its answers
        if result.stage:
            own = self.against.on_own_answers(
                {each.name: self._encoded(each)[:compared] for each in sets if is_compared(each)}
            )
        for name in on_base:
            numbers = {
                "kl_base_to_model": mean_per_token(on_base[name], "kl_ab"),
                "kl_model_to_base": mean_per_token(own[name], "kl_ba"),
            }
            result.kl[name] = {
                "n_kl": len(on_base[name]),
                **{field: value.mean for field, value in numbers.items()},
                **{f"{field}_se": value.se for field, value in numbers.items()},
                "entropy": mean_per_token(own[name], "entropy_b").mean,
                "entropy_base": mean_per_token(on_base[name], "entropy_a").mean,
            }


def is_compared(each: Evaluated) -> bool:
    """Whether answers to a set's first prompts are compared with the base's: tasks and retention suites.

    Out-of-distribution suites are left out: each is a task in new words, whose form is no artifact in them.
    """
    return isinstance(each, Task) or (each.kind == "retention" and not isinstance(each, LmEvalSuite))


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
            fix="name a `verifier`, or give it an `answer` or a `completion`",
        )
    return Verdict(float(" ".join(completion.split()) == " ".join(example.demonstration.split())))


def set_descriptions(tasks: Sequence[Task], suites: Sequence[Suite], counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """The "sets" of a summary."""
    kinds = [(t, "task") for t in tasks] + [(s, s.kind) for s in suites]
    return [
        {"name": each.name, "kind": kind, "n": counts[each.name], "description": each.description}
        for each, kind in kinds
    ]
