"""`holdfast.rollouts.sources.hints`: the fewest actions that help, and rows that are trained on without the hint."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import holdfast
from few_items import few_items
from holdfast.config.load import load_config
from holdfast.config.settings import ModelSettings, RunConfig, TrainSettings
from holdfast.data.environment import Episodes
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.rows import Group, Row
from holdfast.data.task import Task
from holdfast.data.teacher_prompts import ACTIONS_TEMPLATE, DEMONSTRATION_TEMPLATE, actions_prompt
from holdfast.errors import DataError
from holdfast.model.load import load_policy
from holdfast.model.policy import Policy
from holdfast.recipes import ActGuide
from holdfast.recipes.parts.rollouts import HintSpec
from holdfast.rollouts.collect import Collector
from holdfast.rollouts.sources.hints import HintedRequest, add_hinted_rows
from holdfast.sampling.draws import Request
from holdfast.sampling.sampler import Completion
from small_runs import write_config


def example(name: str, actions: int, needed: int = 1) -> Example:
    """A question with `actions` actions that is answered if the prompt shows at least `needed` of them."""
    texts = tuple(f"press {number}" for number in range(1, actions + 1))
    return Example(name, (Message(role="user", content=f"What is {name}?"),), actions=texts, answer=needed)


class FakeSampling:
    """Samples that are right if enough actions are shown. It records the requests."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups, self.calls = groups, list[list[HintedRequest]]()

    def __call__(self, requests: Sequence[HintedRequest]) -> list[list[Row]]:
        self.calls.append(list(requests))
        sampled = []
        for each in requests:
            example = self.groups[each.place].example
            rewards = [float(i == 0 and each.actions >= example.answer) for i in range(each.count)]
            sampled.append([Row(example, [1], [2, 3], sampled_logprobs=[-1, -2], verdict=Verdict(r)) for r in rewards])
        return sampled


def failed(example: Example, *rewards: float) -> Group:
    verdicts = [Verdict(reward) for reward in rewards or (0.0,) * 4]
    return Group(example, [Row(example, [1], [2], sampled_logprobs=[-1.0], verdict=verdict) for verdict in verdicts])


SPEC = HintSpec(template=ACTIONS_TEMPLATE)


@pytest.mark.parametrize("actions", [1, 2, 3, 7, 12])
def test_the_fewest_actions_that_help_are_found(actions: int) -> None:
    groups = [failed(example(f"e{needed}", actions, needed)) for needed in range(1, actions + 2)]
    sample = FakeSampling(groups)
    add_hinted_rows(groups, SPEC, sample)
    # The last group needs more actions than it has, so it is shown all.
    assert [group.shown_actions for group in groups] == [*range(1, actions + 1), actions]
    assert len(sample.calls) <= 1 + (actions - 1).bit_length()
    for group in groups:
        own, guided = group.rows[:4], group.rows[4:]
        assert [row.sampled_logprobs for row in own] == [[-1.0]] * 4
        assert [(row.sampled_logprobs, row.source_logprobs) for row in guided] == [(None, [-1, -2])] * 4
        assert group.extra_tokens == 2 * group.extra_completions


def test_a_search_ends_after_its_steps_with_the_best_length_so_far() -> None:
    groups = [failed(example("a", 16, 3)), failed(example("b", 16, 12))]
    add_hinted_rows(groups, HintSpec(template=ACTIONS_TEMPLATE, most_probe_steps=2), FakeSampling(groups))
    assert [group.shown_actions for group in groups] == [4, 12]
    assert groups[0].extra_completions == 2 * 2 + 4
    no_search = [failed(example("a", 16, 3))]
    add_hinted_rows(no_search, HintSpec(template=ACTIONS_TEMPLATE, most_probe_steps=0), FakeSampling(no_search))
    assert no_search[0].shown_actions == 16


def test_only_prompts_that_fail_get_hints() -> None:
    groups = [failed(example("a", 3), 0.0, 0.2), failed(example("b", 3), 0.0, 0.0)]
    add_hinted_rows(groups, SPEC, FakeSampling(groups))
    assert [len(group.rows) for group in groups] == [2, 4]
    assert groups[0].extra_completions == 0
    groups = [failed(example("a", 3), 0.0, 0.2)]
    add_hinted_rows(groups, HintSpec(template=ACTIONS_TEMPLATE, hard_threshold=0.2), FakeSampling(groups))
    assert len(groups[0].rows) == 4


def test_hinted_rows_replace_the_rows_that_failed() -> None:
    groups = [failed(example("a", 4, 2)), failed(example("b", 4), 0.0, 1.0, 0.0, 0.0)]
    add_hinted_rows(groups, SPEC, FakeSampling(groups))
    metrics = ActGuide().annotate(groups)
    assert [row.excluded for row in groups[0].rows] == [True] * 4 + [False] * 4
    assert [row.excluded for row in groups[1].rows] == [False] * 4
    expected = [0.75 / (0.5 + 1e-4), *[-0.25 / (0.5 + 1e-4)] * 3]
    assert [row.advantage for row in groups[0].rows[4:]] == pytest.approx(expected)
    assert (metrics["guided_fraction"], metrics["shown_fraction"], metrics["guided_reward"]) == (0.5, 0.5, 0.25)
    assert metrics["zero_variance_fraction"] == 0.0


# --- With an engine -----------------------------------------------------------------------------------------------


class HintReadingEngine:
    """An engine that answers 42 if the prompt shows enough actions, else Paris."""

    def __init__(self, policy: Policy, needed: int) -> None:
        self._policy, self._needed = policy, needed
        self.requests: list[Request] = []

    def generate(self, requests: Sequence[Request], *, max_new_tokens: int, batch_tokens: int) -> list[Completion]:
        self.requests += requests
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Completion:
        is_shown = f"{self._needed}. press" in self._policy.tokenizer.decode(list(request.prompt_ids))
        text = "42" if is_shown else "Paris"
        ids = [*self._policy.tokenizer(text, add_special_tokens=False).input_ids, self._policy.tokenizer.eos_token_id]
        return Completion(ids, [-0.5] * len(ids), False)


class TwoTurns:
    """An environment of two turns that judges the second."""

    def __init__(self, example: Example) -> None:
        self._turns: list[str] = []

    def step(self, completion: str) -> list[Message] | None:
        self._turns.append(completion)
        return [Message(role="tool", content="go on")] if len(self._turns) == 1 else None

    def verdict(self) -> Verdict:
        return Verdict(float(self._turns[-1] == "42"))


TRAIN = TrainSettings(prompts_per_step=2, max_prompt_length=60, max_completion_length=40, max_reprompt_length=200)


def judged(example: Example, completion: str) -> Verdict:
    return Verdict(float(completion == "42"))


@pytest.mark.parametrize("turns", [1, 2])
def test_a_hint_is_only_in_the_prompt_that_is_sampled_from(tiny_model: Path, turns: int) -> None:
    policy = load_policy(ModelSettings(path=str(tiny_model)))
    engine = HintReadingEngine(policy, 3)
    examples = [example(f"{i} plus 1", 5) for i in range(2)]
    task = Task("t", examples, examples, judged)
    if turns == 2:
        task = Task("t", examples, examples, episodes=Episodes(TwoTurns))
    collector = Collector(policy, engine, ActGuide(num_generations=3), TRAIN, 0)
    collector.prepare(task)
    groups, metrics = collector.collect(task, 1, 0)
    assert metrics["guided_fraction"] == 1.0
    assert metrics["shown_fraction"] == pytest.approx(3 / 5)
    for group in groups:
        assert [row.reward for row in group.rows] == [0, 0, 0, 1, 1, 1]
        plain = policy.tokenizer.apply_chat_template(
            list(group.example.messages), add_generation_prompt=True, return_dict=False
        )
        assert all(row.prompt_ids == plain for row in group.rows)
        row = group.rows[-1]
        assert (row.tool_mask is not None) == (turns == 2)
        assert all(row.source_logprobs[t] == -0.5 for t in row.loss_positions())  # type: ignore[index]
        # Lengths 3 and 2 get two probes each. Then three rows are sampled.
        assert group.extra_completions == 2 * 2 + 3
    hinted = [policy.tokenizer.decode(list(request.prompt_ids)) for request in engine.requests]
    shown = actions_prompt(examples[0].messages, examples[0].actions[:2], ACTIONS_TEMPLATE)  # type: ignore[index]
    assert any(shown[0]["content"] in text for text in hinted)
    assert len({request.seed for request in engine.requests}) == len(engine.requests)


def test_the_same_seed_gives_the_same_draws(tiny_model: Path) -> None:
    policy = load_policy(ModelSettings(path=str(tiny_model)))
    examples = [example(f"{i} plus 1", 5) for i in range(2)]
    task = Task("t", examples, examples, judged)
    seeds = []
    for _ in range(2):
        engine = HintReadingEngine(policy, 2)
        collector = Collector(policy, engine, ActGuide(num_generations=2), TRAIN, 0)
        collector.prepare(task)
        collector.collect(task, 1, 0)
        seeds.append([request.seed for request in engine.requests])
    assert seeds[0] == seeds[1]


def test_a_hint_that_does_not_fit_is_refused_before_training(tiny_model: Path) -> None:
    policy = load_policy(ModelSettings(path=str(tiny_model)))
    examples = [example("1 plus 1", 40)]
    collector = Collector(policy, HintReadingEngine(policy, 1), ActGuide(), TRAIN, 0)
    with pytest.raises(DataError, match="the prompt with a hint has"):
        collector.prepare(Task("t", examples, examples, judged))


def test_actions_come_from_a_file_and_are_required(tmp_path: Path) -> None:
    recipe = {"name": "actguide", "num_generations": 2, "beta": 0.0}
    config = write_config(tmp_path, "grpo", recipe=recipe)
    with pytest.raises(holdfast.errors.ConfigError, match="actions"):
        holdfast.run(load_config(config, RunConfig), tmp_path / "run")
    for task in range(2):
        path = tmp_path / f"{task}.jsonl"
        records = [json.loads(line) | {"actions": ["count", "say it"]} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    summary: dict[str, Any] = holdfast.run(load_config(config, RunConfig), tmp_path / "run")
    assert summary["status"] == "complete"
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    helped = [line for line in lines if line["guided_fraction"]]
    assert helped
    assert all(line["completions"] > 4 for line in helped)
    assert all(line["source_log_ratio"] is None or line["source_log_ratio"] > 0 for line in lines)


@pytest.mark.learning
def test_actguide_learns_a_task_at_which_most_groups_fail(tmp_path: Path) -> None:
    """The answer is the only action, in a prompt template that the lab's base knows."""
    template = DEMONSTRATION_TEMPLATE.replace("{demonstration}", "{actions}")
    before, after = [], []
    for seed in range(3):
        task = few_items("facts", seed)
        shown = replace(task, train=[replace(each, actions=(str(each.demonstration),)) for each in task.train])
        config = {
            "suites": [],
            "recipe": {"name": "actguide", "template": template},
            "seed": seed,
            "train": {"steps": 12, "prompts_per_step": 8, "learning_rate": 4e-4, "warmup_steps": 2}
            | {"max_prompt_length": 200, "max_completion_length": 56},
            "eval": {"max_items": 64, "kl_items": 0, "samples": 0, "response_items": 0, "drift_weights": 0}
            | {"demonstration_items": 0},
        }
        evaluations = holdfast.run(config, tmp_path / str(seed), tasks=[shown])["evaluations"]
        for found, evaluation in zip((before, after), evaluations, strict=True):
            found.append(evaluation["scores"]["facts"]["mean"])
    print("actguide", before, after)
    assert sum(before) / 3 < 0.4, before
    assert sum(after) / 3 >= sum(before) / 3 + 0.25, (before, after)
