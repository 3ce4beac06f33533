"""Evaluate a policy in memory: greedy answers that verifiers judge, likelihood of right answers, KL to the base.

This is the only code that evaluates a model on the sets of a stream. A run, `holdfast eval`, the gate and the callback
use it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from holdfast import stop
from holdfast.config.settings import EvalSettings, PassAtKSettings, TrainSettings
from holdfast.data.chat import PromptTooLong, check_fits
from holdfast.data.example import Example, Verdict
from holdfast.data.failures import add_failures, count_failures
from holdfast.data.seeds import derive_seed
from holdfast.data.task import Suite, Task, all_sets
from holdfast.errors import DataError
from holdfast.evaluation.against_base import AgainstBase, mean_per_token
from holdfast.evaluation.likelihood import DemonstrationTooLong, RightAnswer, likelihoods, right_answer
from holdfast.evaluation.set_answers import SetAnswers
from holdfast.judging.answers import AnswerToJudge, judge_answers
from holdfast.measure.likelihood import ItemNll
from holdfast.measure.pass_at_k import ItemSamples, sampled_numbers
from holdfast.measure.response import PerToken
from holdfast.model.base import Base
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes
from holdfast.model.shard import whole
from holdfast.sampling.episodes import Episode, run_episodes
from holdfast.sampling.sampler import Completion, Request, Sampler
from holdfast.tasks.lm_eval import LmEvalSuite

TaskOrSuite = Task | Suite

OnSet = Callable[[str], None]
"""Called with the name of each set before it is evaluated."""


@dataclass
class Evaluation:
    """All sets at one point of a stream.

    Attributes:
        stage: 0 before the first stage.
        task: the task of the stage; None before the first.
        sets: metrics by set.
        items: by set, one score for each item. Sets that nothing judges are not there.
        nll: by set, the NLL of each item's demonstration; None for an item without one. Sets without demonstrations are
            not there.
        forced: by set, the NLL of each item's target after the forced beginning; None for an item without one. Sets
            without targets are not there.
        confidence: by judged set, the probability that the model gave each of its greedy answers, at temperature 1.
        sampled: by set, what the samples for pass@k gave for each item, if they were measured.
        samples: by set, some answers for the report.
        answers: greedy answers to the first prompts of each set that is compared with the base.
        kl: divergences from the base on sampled answers of these sets, as the summary's `responses` names them.
    """

    stage: int
    task: str | None
    sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    items: dict[str, list[float]] = field(default_factory=dict)
    nll: dict[str, list[ItemNll | None]] = field(default_factory=dict)
    forced: dict[str, list[ItemNll | None]] = field(default_factory=dict)
    confidence: dict[str, list[float]] = field(default_factory=dict)
    sampled: dict[str, list[ItemSamples]] = field(default_factory=dict)
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    kl: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, answers: SetAnswers, settings: EvalSettings, chance: float) -> None:
        """Enter the metrics, item scores and samples of a set, and its chance level."""
        self.sets[name] = answers.metrics(settings.score) | {"chance": chance}
        if answers.judged:
            self.items[name] = answers.scores(settings.score)
            self.confidence[name] = answers.confidences()
        if self.sets[name]["nll"] is not None:
            self.nll[name] = list(answers.nll)
        if self.sets[name]["forced"] is not None:
            self.forced[name] = list(answers.forced)
        self.samples[name] = answers.samples(settings.samples)

    def as_json(self) -> dict[str, Any]:
        """What `holdfast eval --json` and a run's `evals/stage-N.json` hold."""
        fields = {"sets": self.sets, "items": self.items, "nll": self.nll, "samples": self.samples}
        fields |= {"forced": self.forced, "confidence": self.confidence}
        if self.sampled:
            fields["sampled"] = self.sampled
        return {"stage": self.stage, "task": self.task, **fields}


class ProbedSets(NamedTuple):
    """What a probe measured, by set."""

    scores: dict[str, float]
    """Mean scores. Sets that nothing judges are not there."""
    nll: dict[str, float]
    """NLL of demonstrations in nats per token, of sets that have some."""
    probability: dict[str, float]
    """Mean probability of the right answer with its beginning forced, of sets that name targets."""
    texts: dict[str, list[str]]
    """Texts of the first answers."""
    failures: dict[str, Any]
    """How many answers were not judged, over all sets, as `count_failures` says it."""


class Evaluator:
    """Scores sets with the policy in memory. The same policy scored twice gives the same numbers.

    Several processes answer a share of each set, and all return the whole result.

    Args:
        base: the model before the stream, for KL to the base; None leaves that out.
        world: the processes that share the work; None: those of this run.
        may_pack: whether forward passes may pack rows. False for a model that other code is training, because packing
            replaces its attention implementation.

    Attributes:
        dropped: items left out of each set because their prompts do not fit; sets without any are not listed.
    """

    def __init__(
        self,
        policy: Policy,
        base: Base | None,
        train: TrainSettings,
        settings: EvalSettings,
        on_set: OnSet | None = None,
        world: Processes | None = None,
        may_pack: bool = True,
    ) -> None:
        self.policy, self.base, self.settings = policy, base, settings
        self.max_prompt_length = train.max_prompt_length
        self.max_completion_length = settings.max_completion_length or train.max_completion_length
        self.sampler = Sampler(policy, stop.poll)
        self._workers = train.verifier_workers
        self.world = world or Processes.current()
        self._on_set = on_set or (lambda name: None)
        self.dropped: dict[str, int] = {}
        self._drops = train.long_prompts == "drop"
        self._items: dict[str, list[Example]] = {}
        self._prompt_ids: dict[str, list[list[int]]] = {}
        self._right_answers: dict[str, list[RightAnswer]] = {}
        self.may_pack = may_pack
        self.against = None if base is None else AgainstBase(policy, base, settings, self.generate)

    def evaluate(self, stage: int, task: str | None, tasks: Sequence[Task], suites: Sequence[Suite]) -> Evaluation:
        """Evaluate every task and every suite."""
        result = Evaluation(stage, task)
        for each in all_sets(tasks, suites):
            self._on_set(each.name)
            if isinstance(each, LmEvalSuite):
                self._evaluate_by_harness(result, each)
                continue
            (answers,) = self.answer([(each, self.items(each))])
            result.add(each.name, answers, self.settings, each.chance)
            if each.is_judged and self.settings.pass_at_k is not None:
                self._sample(result, each, self.settings.pass_at_k)
            if is_compared(each):
                result.answers[each.name] = answers.records(self.settings.response_items)
        self._compare(result, all_sets(tasks, suites))
        return result

    def _evaluate_by_harness(self, result: Evaluation, suite: LmEvalSuite) -> None:
        with whole(self.policy):
            measured = suite.evaluate(self.policy, self.settings.max_items)
        result.sets[suite.name] = measured.numbers() | {"chance": suite.chance}
        result.items[suite.name] = measured.items
        result.samples[suite.name] = measured.samples(self.settings.samples)

    def _sample(self, result: Evaluation, each: TaskOrSuite, settings: PassAtKSettings) -> None:
        """Sample several answers to each item of a judged set.

        A sample's seed names its set, item and number, and not the run. So two models draw with the same random
        numbers, and a sample does not depend on the others.
        """
        items = self.items(each)
        every = [
            (each, example, Request(ids, derive_seed("pass_at_k", each.name, example.id, i), settings.temperature))
            for example, ids in zip(items, self.prompt_ids(each), strict=True)
            for i in range(settings.samples)
        ]
        share = self.world.share(every)
        with whole(self.policy):
            parts = self.world.each(lambda: [v for *_, v in self._answered(share) if v is not None])
        verdicts = [verdict for part in parts for verdict in part]
        rewards = iter([verdict.reward for verdict in verdicts])
        by_item = [list(islice(rewards, settings.samples)) for _ in items]
        result.sampled[each.name] = [
            {"n": len(own), "correct": sum(r >= 1.0 for r in own), "reward": sum(own) / len(own)} for own in by_item
        ]
        numbers = result.sets[each.name]
        numbers |= add_failures([numbers, count_failures(verdicts)])
        numbers["sampled"] = sampled_numbers(result.sampled[each.name], settings.k, settings.temperature)

    def probe(self, tasks: Sequence[Task], suites: Sequence[Suite]) -> ProbedSets:
        """Measure the first `probe_items` of each set, and keep the texts of the first `response_items` answers.

        Suites of lm-evaluation-harness are left out. Texts are kept only of sets that are compared with the base.
        """
        scores: dict[str, float] = {}
        nll: dict[str, float] = {}
        probability: dict[str, float] = {}
        texts: dict[str, list[str]] = {}
        failures: list[dict[str, Any]] = []
        for each in all_sets(tasks, [suite for suite in suites if not isinstance(suite, LmEvalSuite)]):
            (answers,) = self.answer([(each, self.items(each)[: self.settings.probe_items])])
            failures.append(count_failures(answers.judged))
            if (score := answers.mean_score(self.settings.score)) is not None:
                scores[each.name] = score
            if (own_nll := answers.mean_nll()) is not None:
                nll[each.name] = own_nll
            if (own_probability := answers.probability()) is not None:
                probability[each.name] = own_probability
            if self.settings.response_items and is_compared(each):
                texts[each.name] = list(answers.texts[: self.settings.response_items])
        return ProbedSets(scores, nll, probability, texts, add_failures(failures))

    def items(self, each: TaskOrSuite) -> Sequence[Example]:
        """The items of a set that are evaluated: the first `max_items`, minus those that are dropped."""
        self.prompt_ids(each)
        return self._items[each.name]

    def answer(self, asked: Sequence[tuple[TaskOrSuite, Sequence[Example]]]) -> list[SetAnswers]:
        """Answer examples of some sets greedily and have the answers judged. Sets asked together share batches.

        The NLL of the examples' demonstrations and of their targets is measured too.

        Args:
            asked: sets with the first ones of their `items`.
        """
        every = [
            (each, example, Request(ids, seed=0, temperature=0.0))
            for each, examples in asked
            for example, ids in zip(examples, self.prompt_ids(each))
        ]
        right = [answer for each, examples in asked for answer in self._right_answers[each.name][: len(examples)]]
        share, own_right = self.world.share(every), self.world.share(right)
        with whole(self.policy):
            parts = self.world.each(lambda: list(zip(self._answered(share), self._likelihoods(share, own_right))))
        results = iter([(*answer, *nll) for part in parts for answer, nll in part])
        judged = [(examples, list(islice(results, len(examples)))) for _, examples in asked]
        return [SetAnswers(examples, *map(list, zip(*own, strict=True))) for examples, own in judged]

    def _likelihoods(
        self, asked: Sequence[tuple[TaskOrSuite, Example, Request]], answers: Sequence[RightAnswer]
    ) -> list[tuple[ItemNll | None, ItemNll | None]]:
        # The setting is a budget for sampling. A forward pass holds the activations of every token.
        budget = max(1, self.settings.batch_tokens // 4)
        prompts = [request.prompt_ids for _, _, request in asked]
        return likelihoods(self.policy, prompts, answers, batch_tokens=budget, may_pack=self.may_pack)

    def _answered(
        self, asked: Sequence[tuple[TaskOrSuite, Example, Request]]
    ) -> list[tuple[Completion | Episode, str, Verdict | None]]:
        completions: dict[int, Completion | Episode] = {}
        single_turn = [i for i, (each, _, _) in enumerate(asked) if each.episodes is None]
        generated = self.generate(self.sampler, [asked[i][2] for i in single_turn])
        completions.update(zip(single_turn, generated, strict=True))
        multi_turn: dict[str, list[int]] = {}
        for i, (each, _, _) in enumerate(asked):
            if each.episodes is not None:
                multi_turn.setdefault(each.name, []).append(i)
        for own in multi_turn.values():
            episodes = run_episodes(
                self.sampler,
                self.policy.chat_format,
                asked[own[0]][0],
                [asked[i][2] for i in own],
                [asked[i][1] for i in own],
                max_new_tokens=self.max_completion_length,
                batch_tokens=self.settings.batch_tokens,
                workers=self._workers,
                poll=stop.poll,
            )
            completions.update(zip(own, episodes, strict=True))
        chat_format = self.policy.chat_format
        answers = {i: chat_format.read(completions[i].ids) for i in single_turn}
        to_judge = [AnswerToJudge(*asked[i][:2], answer.content, answer.thoughts) for i, answer in answers.items()]
        verdicts = dict(zip(answers, judge_answers(to_judge, workers=self._workers), strict=True))
        answered: list[tuple[Completion | Episode, str, Verdict | None]] = []
        for i in range(len(asked)):
            completion = completions[i]
            if isinstance(completion, Episode):
                answered.append((completion, chat_format.decode_episode(completion.ids), completion.verdict))
            else:
                answered.append((completion, answers[i].text, verdicts[i]))
        return answered

    def generate(self, sampler: Sampler, requests: Sequence[Request]) -> list[Completion]:
        """Sample completions with this evaluation's lengths and batches."""
        if not requests:
            return []
        return sampler.generate(
            requests, max_new_tokens=self.max_completion_length, batch_tokens=self.settings.batch_tokens
        )

    def check(self, each: TaskOrSuite) -> None:
        """Encode a set's items now, so that mistakes appear before training. lm-evaluation-harness encodes its own.

        Raises:
            DataError: a prompt does not fit and is not to be dropped, or no item is left.
        """
        if not isinstance(each, LmEvalSuite):
            self.prompt_ids(each)

    def prompt_ids(self, each: TaskOrSuite) -> list[list[int]]:
        """Token ids of the prompts of a set's `items`. Raises as `check`."""
        if each.name not in self._prompt_ids:
            examples = each.test[: self.settings.max_items]
            kept: list[Example] = []
            encoded: list[list[int]] = []
            right: list[RightAnswer] = []
            for example in examples:
                ids = self.policy.chat_format.encode_example(example, where=f"{each.name}: {example.id}")
                try:
                    check_fits(example.id, ids, self.max_prompt_length, f"prompt of a test item of {each.name!r}")
                    answer = right_answer(self.policy, each, example, ids)
                except (PromptTooLong, DemonstrationTooLong):
                    if not self._drops:
                        raise
                    continue
                kept.append(example)
                encoded.append(ids)
                right.append(answer)
            if not kept:
                fix = "raise train.max_prompt_length"
                raise DataError(f"none of the {len(examples)} test items fits", where=repr(each.name), fix=fix)
            if len(kept) < len(examples):
                self.dropped[each.name] = len(examples) - len(kept)
            self._items[each.name], self._prompt_ids[each.name], self._right_answers[each.name] = kept, encoded, right
        return self._prompt_ids[each.name]

    def kl_to_base(self, task: Task) -> PerToken:
        """KL(base‖policy) in nats per token, on the base's own answers to a task's test prompts.

        Exact over the vocabulary at every token. Estimated over answers: the base samples one for each prompt at
        temperature 1, always the same one. This direction predicts forgetting in arXiv 2509.04259. The standard error
        is over prompts, of the ratio of the summed KL to the summed tokens.
        """
        assert self.against is not None
        prompts = {task.name: self.prompt_ids(task)[: self.settings.kl_items]}
        return mean_per_token(self.against.on_base_answers(prompts)[task.name], "kl_ab")

    def _compare(self, result: Evaluation, sets: Sequence[TaskOrSuite]) -> None:
        """Add divergences from the base: KL on the tasks' prompts and on demonstrations, and both directions for sets
        that are compared."""
        if self.against is None or not self.settings.kl_items:
            return
        self._compare_on_demonstrations(result, self.against, [each for each in sets if is_compared(each)])
        items, compared = self.settings.kl_items, min(self.settings.kl_items, self.settings.response_items)
        on_base = self.against.on_base_answers(
            {
                each.name: self.prompt_ids(each)[: items if isinstance(each, Task) else compared]
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
        on_base = {name: results[:compared] for name, results in on_base.items()}
        own = on_base  # before the first stage the policy is the base and gives the same answers
        if result.stage:
            own = self.against.on_own_answers(
                {each.name: self.prompt_ids(each)[:compared] for each in sets if is_compared(each)}
            )
        for name in on_base:
            divergence = {
                "kl_base_to_model": mean_per_token(on_base[name], "kl_ab"),
                "kl_model_to_base": mean_per_token(own[name], "kl_ba"),
            }
            result.kl[name] = {
                "n_kl": len(on_base[name]),
                **{field: value.mean for field, value in divergence.items()},
                **{f"{field}_se": value.se for field, value in divergence.items()},
                "entropy": mean_per_token(own[name], "entropy_b").mean,
                "entropy_base": mean_per_token(on_base[name], "entropy_a").mean,
            }

    def _compare_on_demonstrations(self, result: Evaluation, against: AgainstBase, sets: Sequence[TaskOrSuite]) -> None:
        """Add KL(base‖policy) on the demonstrations of the first `kl_items` items, which nothing samples."""
        given: dict[str, list[tuple[list[int], list[int]]]] = {}
        for each in sets:
            pairs = list(zip(self.prompt_ids(each), self._right_answers[each.name], strict=True))
            pairs = pairs[: self.settings.kl_items]
            own = [(prompt, answer.demonstration) for prompt, answer in pairs if answer.demonstration is not None]
            if own:
                given[each.name] = own
        for name, results in against.on_given_answers(given).items():
            kl = mean_per_token(results, "kl_ab")
            result.sets[name] |= {"kl_on_demonstrations": kl.mean, "kl_on_demonstrations_se": kl.se}


def is_compared(each: TaskOrSuite) -> bool:
    """Whether a set's first answers are compared with the base's: tasks and retention suites are.

    Out-of-distribution suites are not. Each is a task in new words, so the task's form is expected in its answers and
    is no artifact there.
    """
    return isinstance(each, Task) or (each.kind == "retention" and not isinstance(each, LmEvalSuite))


def set_descriptions(tasks: Sequence[Task], suites: Sequence[Suite], counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """The list "sets" of a summary."""
    kinds = [(t, "task") for t in tasks] + [(s, s.kind) for s in suites]
    return [
        {
            "name": each.name,
            "kind": kind,
            "n": counts[each.name],
            "description": each.description,
            "chance": each.chance,
        }
        for each, kind in kinds
    ]
