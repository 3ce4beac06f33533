"""`holdfast.sampling.episodes`: which tokens the model wrote, what is trained on, and what is refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from commands import Commands
from holdfast.config.load import parse_config
from holdfast.config.settings import ModelSettings, RunConfig, TrainSettings
from holdfast.data.environment import EnvironmentFactory, Episodes
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.rows import Row
from holdfast.data.task import Task
from holdfast.errors import ConfigError, DataError
from holdfast.model.load import load_policy
from holdfast.model.policy import Policy
from holdfast.recipes import SFT
from holdfast.recipes.parts.objective import Objective, PolicyGradient
from holdfast.rollouts.collect import Collector
from holdfast.rollouts.training_prompts import encode_demonstration
from holdfast.sampling.draws import Request
from holdfast.sampling.episodes import Episode, run_episodes, try_reply
from holdfast.sampling.sampler import Completion, Sampler
from holdfast.store.files import read_json
from holdfast.train.step import StageTrainer

EXAMPLE = Example("e", (Message(role="user", content="What is 12 plus 30?"),))


class CountingEnvironment:
    """Answers each turn with its number and ends after `turns` turns. The reward is the share of turns with a `4`."""

    def __init__(self, example: Example, turns: int = 3) -> None:
        self.received: list[str] = []
        self._turns = turns

    def step(self, completion: str) -> list[Message] | None:
        self.received.append(completion)
        if len(self.received) == self._turns:
            return None
        return [Message(role="tool", content=f"turn {len(self.received)}")]

    def verdict(self) -> Verdict:
        return Verdict(sum("4" in text for text in self.received) / max(1, len(self.received)))


def _talk(factory: EnvironmentFactory, max_turns: int = 8) -> Task:
    return Task("talk", [], [], episodes=Episodes(factory, max_turns))


def environment(example: Example) -> CountingEnvironment:
    return CountingEnvironment(example, turns=2)


class ScriptedEngine:
    """An engine that writes given texts, one per turn, and records the requests."""

    def __init__(self, policy: Policy, texts: Sequence[str], *, unfinished: int | None = None) -> None:
        self._ids = [policy.tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        self._end, self._unfinished = policy.tokenizer.eos_token_id, unfinished
        self.requests: list[list[Request]] = []

    def generate(self, requests: Sequence[Request], *, max_new_tokens: int, batch_tokens: int) -> list[Completion]:
        turn = len(self.requests)
        self.requests.append(list(requests))
        ids = self._ids[turn] + ([] if turn == self._unfinished else [self._end])
        most = min(max_new_tokens, requests[0].max_new_tokens or max_new_tokens)
        whole = len(ids) <= most and turn != self._unfinished
        ids = ids[:most]
        return [Completion(list(ids), [-0.5 * (turn + 1)] * len(ids), not whole) for _ in requests]


@pytest.fixture
def policy(tiny_model: Path) -> Policy:
    return load_policy(ModelSettings(path=str(tiny_model)))


def _run(policy: Policy, engine: ScriptedEngine, *, limit: int = 200, turns: int = 3, max_turns: int = 8) -> Episode:
    task = _talk(lambda example: CountingEnvironment(example, turns), max_turns)
    prompt = policy.tokenizer.apply_chat_template(list(EXAMPLE.messages), add_generation_prompt=True, return_dict=False)
    request = Request(prompt, seed=5)
    (episode,) = run_episodes(
        engine, policy.chat_format, task, [request], [EXAMPLE], max_new_tokens=limit, batch_tokens=10_000
    )
    return episode


def test_the_tokens_are_those_of_the_whole_conversation_and_the_mask_marks_the_models_own(policy: Policy) -> None:
    engine = ScriptedEngine(policy, ["Paris.", "42", "Paris. 4"])
    episode = _run(policy, engine)
    conversation = [
        *EXAMPLE.messages,
        Message(role="assistant", content="Paris."),
        Message(role="tool", content="turn 1"),
        Message(role="assistant", content="42"),
        Message(role="tool", content="turn 2"),
        Message(role="assistant", content="Paris. 4"),
    ]
    whole = policy.tokenizer.apply_chat_template(conversation, tokenize=False)
    prompt = engine.requests[0][0].prompt_ids
    text = policy.tokenizer.decode([*prompt, *episode.ids])
    assert whole.startswith(text)
    assert whole[len(text) :] == "\n"  # what the template writes after the last turn was not sampled
    own = [token for token, is_own in zip(episode.ids, episode.tool_mask, strict=True) if is_own]
    assert policy.tokenizer.decode(own) == "Paris.<|im_end|>42<|im_end|>Paris. 4<|im_end|>"
    assert [p for p, is_own in zip(episode.logprobs, episode.tool_mask, strict=True) if is_own] == [
        *[-0.5] * (own.index(engine._end) + 1),
        *[-1.0] * (len(engine._ids[1]) + 1),
        *[-1.5] * (len(engine._ids[2]) + 1),
    ]
    assert (episode.turns, episode.truncated) == (3, False)
    assert episode.verdict.reward == pytest.approx(2 / 3)


def test_each_turn_continues_all_turns_before_it_and_has_its_own_seed(policy: Policy) -> None:
    engine = ScriptedEngine(policy, ["Paris.", "42", "4"])
    episode = _run(policy, engine)
    first, second, third = (requests[0] for requests in engine.requests)
    assert first.seed == 5
    assert len({first.seed, second.seed, third.seed}) == 3
    assert list(second.prompt_ids) == [
        *first.prompt_ids,
        *episode.ids[: len(second.prompt_ids) - len(first.prompt_ids)],
    ]
    assert list(third.prompt_ids)[: len(second.prompt_ids)] == list(second.prompt_ids)


def test_limits_on_turns_and_tokens_end_an_episode(policy: Policy) -> None:
    out_of_turns = _run(policy, ScriptedEngine(policy, ["4", "4", "4"]), max_turns=2)
    assert (out_of_turns.turns, out_of_turns.truncated) == (2, True)
    # The environment got the last turn. Its answer is left out, because no turn would follow it.
    assert (out_of_turns.verdict.reward, out_of_turns.tool_mask[-1]) == (1.0, 1)
    over = _run(policy, ScriptedEngine(policy, ["4", "4", "4"]), max_turns=3)
    assert (over.turns, over.truncated) == (3, False)
    cut = _run(policy, ScriptedEngine(policy, ["4", "4", "4"], unfinished=1))
    assert (cut.turns, cut.truncated) == (2, True)
    assert cut.verdict.reward == 1.0  # the environment did not get the turn that was cut off
    short = _run(policy, ScriptedEngine(policy, ["4", "4", "4"]), limit=8)
    assert (short.turns, short.truncated) == (1, True)
    assert len(short.ids) <= 8
    assert all(short.tool_mask)  # an answer that leaves no room for another turn is left out


def test_an_episode_does_not_depend_on_the_others_in_its_batch(policy: Policy) -> None:
    task = _talk(environment)
    prompts = [policy.tokenizer(text).input_ids for text in ("What is 2", "Given a question and", "Paris")]
    requests = [Request(prompt, seed=i, temperature=1.0) for i, prompt in enumerate(prompts)]
    examples = [EXAMPLE] * 3
    sampler = Sampler(policy)
    kwargs = {"max_new_tokens": 40, "batch_tokens": 10_000}
    together = run_episodes(sampler, policy.chat_format, task, requests, examples, **kwargs)
    for index, request in enumerate(requests):
        (alone,) = run_episodes(sampler, policy.chat_format, task, [request], [EXAMPLE], **kwargs)
        assert alone.ids == together[index].ids
        assert alone.tool_mask == together[index].tool_mask


class LongAnswer:
    """Answers the first turn with as many words as its example says, and ends after the second turn."""

    def __init__(self, example: Example) -> None:
        self._words, self.received = int(example.metadata["words"]), 0

    def step(self, completion: str) -> list[Message] | None:
        self.received += 1
        return [Message(role="tool", content="word " * self._words)] if self.received == 1 else None

    def verdict(self) -> Verdict:
        return Verdict(1.0)


def test_no_turn_may_be_longer_than_its_own_episode_allows(policy: Policy) -> None:
    """A model with learned positions has none beyond its context. A longer limit of another episode must not matter."""
    examples = [Example(str(n), EXAMPLE.messages, metadata={"words": n}) for n in (1, 6)]
    requests = [Request([5, 6, 7], seed=n) for n in range(2)]
    engine = ScriptedEngine(policy, ["4", "4"])
    run_episodes(
        engine, policy.chat_format, _talk(LongAnswer), requests, examples, max_new_tokens=60, batch_tokens=10_000
    )
    rooms = [(len(r.prompt_ids), r.max_new_tokens) for r in engine.requests[1]]
    assert all(length + (room or 0) == 3 + 60 for length, room in rooms)
    assert rooms[0] != rooms[1]


def test_a_request_may_have_a_lower_limit_than_the_others(policy: Policy) -> None:
    prompts = [policy.tokenizer(text).input_ids for text in ("What is 2", "Given a question and")]
    free = [Request(prompt, seed=i) for i, prompt in enumerate(prompts)]
    bound = [replace(free[0], max_new_tokens=3), free[1]]
    sampler = Sampler(policy)
    long, short = (sampler.generate(r, max_new_tokens=12, batch_tokens=10_000) for r in (free, bound))
    assert short[0].ids == long[0].ids[:3]
    assert short[0].truncated
    assert short[1].ids == long[1].ids


TURN = "{{ m['role'] }}: {{ m['content'] }}"
NEXT = "{% if add_generation_prompt %}assistant: {% endif %}"
TEMPLATES = {
    "all turns end the same way": f"{{% for m in messages %}}{TURN}<|im_end|>{{% endfor %}}{NEXT}",
    "mentions holdfast": f"holdfast speaks. {{% for m in messages %}}{TURN}<|im_end|>{{% endfor %}}{NEXT}",
    "the assistant's turns have no end": "{% for m in messages %}"
    f"{TURN}{{% if m['role'] != 'assistant' %}}<|im_end|>{{% endif %}}{{% endfor %}}{NEXT}",
    "the last turn begins with reasoning": "{% for m in messages %}"
    "{% if m['role'] == 'assistant' and loop.last %}<think></think>{% endif %}"
    f"{TURN}<|im_end|>{{% endfor %}}{NEXT}",
}
DROPS_EARLIER_TURNS = "{% for m in messages if m['role'] != 'assistant' %}{{ m['content'] }}<|im_end|>{% endfor %}"


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_reply_has_everything_after_the_turn_that_it_answers(policy: Policy, template: str) -> None:
    policy.tokenizer.chat_template = template
    ids = policy.chat_format.encode_reply([Message(role="tool", content="RESULT 42")])
    assert policy.tokenizer.decode(ids) == "tool: RESULT 42<|im_end|>assistant: "


def test_a_template_that_drops_earlier_turns_is_refused(policy: Policy) -> None:
    policy.tokenizer.chat_template = DROPS_EARLIER_TURNS
    with pytest.raises(DataError, match="changes an assistant's turn when a reply follows it"):
        policy.chat_format.encode_reply([Message(role="tool", content="RESULT 42")])


def test_the_environments_tokens_have_no_loss(policy: Policy) -> None:
    """The loss of an episode is that of the model's tokens, each given all tokens before it."""
    torch.manual_seed(0)
    ids, mask = [7, 9, 11, 13, 17, 19, 23], [1, 1, 0, 0, 1, 0, 1]
    row = Row(EXAMPLE, [5, 6], ids, tool_mask=mask, sampled_logprobs=[-1.0] * 7, advantage=1.5)
    objective = Objective(policy_gradient=PolicyGradient(), aggregation="sequence_mean")
    trainer = StageTrainer(policy, None, None, objective, TrainSettings())
    trainer.forward_backward([row], where="here")
    actual = torch.cat([p.grad.flatten() for p in trainer.parameters.values() if p.grad is not None])

    policy.model.zero_grad()
    logits = policy.causal_lm(torch.tensor([[5, 6, *ids]])).logits[0, 1:-1]
    logprobs = logits.log_softmax(-1)[torch.arange(7), torch.tensor(ids)]
    loss = -1.5 * (logprobs * torch.tensor(mask)).sum() / sum(mask)  # the ratio is 1, with the gradient of its log
    loss.backward()
    expected = torch.cat([p.grad.flatten() for p in trainer.parameters.values() if p.grad is not None])
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-4)
    assert row.own_ids() == [7, 9, 17, 23]
    assert list(row.loss_positions()) == [0, 1, 4, 6]


def test_a_first_steps_logprobs_are_kept_at_the_models_own_tokens(policy: Policy) -> None:
    row = Row(EXAMPLE, [5, 6], [7, 9, 11], tool_mask=[1, 0, 1], sampled_logprobs=[-1.0] * 3, advantage=1.0)
    objective = Objective(policy_gradient=PolicyGradient())
    StageTrainer(policy, None, None, objective, TrainSettings()).forward_backward([row], where="here", more=True)
    assert row.old_logprobs is not None
    kept = [value == value for value in row.old_logprobs]
    assert kept == [True, False, True]


class MisbehavingEnvironment:
    def __init__(self, result: Any) -> None:
        self.result = result

    def step(self, completion: str) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def verdict(self) -> Any:
        return self.result


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (ZeroDivisionError("nothing there"), "it raised ZeroDivisionError: nothing there"),
        ("text", "`step` returned str instead of a message"),
        ([{"role": "assistant", "content": "mine"}], "`step` returned a message with the role 'assistant'"),
    ],
)
def test_an_environment_that_misbehaves_gives_one_line_that_names_the_example(result: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        Episodes(lambda example: MisbehavingEnvironment(result)).begin(EXAMPLE).step("4")
    assert "environment of example 'e'" in str(error.value)


def test_a_result_that_is_no_verdict_is_refused() -> None:
    with pytest.raises(DataError, match="it returned str"):
        Episodes(lambda example: MisbehavingEnvironment("good")).begin(EXAMPLE).verdict()
    assert Episodes(lambda example: MisbehavingEnvironment(0.5)).begin(EXAMPLE).verdict().reward == 0.5


def test_an_environment_provides_a_reward() -> None:
    assert Task("t", [EXAMPLE], [EXAMPLE], episodes=Episodes(environment)).provides() == {"reward"}


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"verifier": "a:b"}, "leave `verifier` out"),
        ({"environment_factory": None, "max_turns": 3}, "`max_turns` is for `environment_factory: NAME`"),
    ],
)
def test_settings_that_do_not_fit_are_refused(task: dict[str, Any], message: str) -> None:
    entry = {"name": "t", "train": "t.jsonl", "environment_factory": f"{__name__}:environment", **task}
    with pytest.raises(ConfigError, match=message):
        parse_config({"tasks": [entry], "recipe": "grpo"}, RunConfig)


def test_a_run_of_several_turns(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From configuration to summary: sampled, trained on, evaluated and saved, with a suite of several turns too."""
    lines = [f'{{"prompt": "What is {i} plus 2?"}}' for i in range(8)]
    (tmp_path / "turns.jsonl").write_text("\n".join(lines), encoding="utf-8")
    holdfast = Commands(tmp_path, capsys)
    several = {"environment_factory": f"{__name__}:environment", "max_turns": 2}
    config = holdfast.config(
        {
            "model": {"path": str(tiny_model)},
            "tasks": [{"name": "turns", "train": "turns.jsonl", "test_fraction": 0.25, **several}],
            "suites": [{"name": "same", "test": "turns.jsonl", **several}],
            "recipe": {"name": "grpo", "num_generations": 4},
            "train": {"steps": 2, "prompts_per_step": 2, "max_completion_length": 64, "learning_rate": 1e-3},
            "eval": {"kl_items": 2},
        }
    )
    done = holdfast("run", config, "--output-dir", tmp_path / "run", "--quiet")
    assert done.code == 0, done.err
    summary = read_json(tmp_path / "run" / "summary.json")
    assert summary["status"] == "complete"
    assert {entry["name"] for entry in summary["sets"]} == {"turns", "same"}
    assert summary["budget"]["completions"] == 16


def test_a_demonstration_of_several_turns_has_the_environments_answers(policy: Policy) -> None:
    example = replace(EXAMPLE, actions=("Paris.", "42"), demonstration="4")
    task = Task("t", [example], [example], episodes=Episodes(lambda each: CountingEnvironment(each, 3)))
    assert "demonstration" in task.provides()
    found = encode_demonstration(policy.chat_format, task, example)
    ids, mask, text = found.ids, found.tool_mask, found.text
    sampled = _run(policy, ScriptedEngine(policy, ["Paris.", "42", "4"]))
    assert (ids, mask) == (sampled.ids, sampled.tool_mask)
    assert text == policy.chat_format.decode_episode(sampled.ids)
    collector = Collector(policy, Sampler(policy), SFT(), TrainSettings(prompts_per_step=1), 0)
    collector.prepare(task)
    ((row,),) = (group.rows for group in collector.collect(task, 1, 0)[0])
    assert row.completion_ids == ids
    assert [row.completion_ids[t] for t in row.loss_positions()] == row.own_ids()
    with pytest.raises(DataError, match="over after 3 of the 4 turns"):
        encode_demonstration(policy.chat_format, task, replace(example, actions=("a", "b", "c")))


def test_an_environment_sees_answers_without_thoughts(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a demonstration as in a sampled episode."""
    opened = f"{policy.tokenizer.chat_template}{{% if add_generation_prompt %}}{{{{ '<think>\\n' }}}}{{% endif %}}"
    monkeypatch.setattr(policy.tokenizer, "chat_template", opened)
    assert policy.chat_format.template.facts.thoughts_in == "prompt"
    example = replace(EXAMPLE, actions=("Paris.",), demonstration="<think>\nhm\n</think>\n\n42")
    made: list[CountingEnvironment] = []

    def begin(example: Example) -> CountingEnvironment:
        made.append(CountingEnvironment(example))
        return made[-1]

    encode_demonstration(policy.chat_format, _talk(begin), example)
    engine = ScriptedEngine(policy, ["so\n</think>\n\nParis.", "hm\n</think>\n\n42"])
    run_episodes(
        engine,
        policy.chat_format,
        _talk(begin, max_turns=2),
        [Request([1], seed=0)],
        [example],
        max_new_tokens=200,
        batch_tokens=10,
    )
    assert [environment.received for environment in made] == [["Paris.", "42"]] * 2


def test_a_reply_is_tried_also_if_the_demonstration_ends_the_episode(policy: Policy) -> None:
    class Picky(CountingEnvironment):
        def step(self, completion: str) -> list[Message] | None:
            self.received.append(completion)
            return None if completion == "42" else [Message(role="tool", content="Try again.")]

    made: list[Picky] = []

    def begin(example: Example) -> Picky:
        made.append(Picky(example))
        return made[-1]

    try_reply(policy.chat_format, _talk(begin), replace(EXAMPLE, demonstration="<think>\nhm\n</think>\n\n42"))
    assert [environment.received for environment in made] == [["42"], ["no answer"]]
    without_tools = "{% for m in messages if m.role != 'tool' %}{{ m.role + m.content }}<|im_end|>{% endfor %}"
    chat_format = replace(policy.chat_format)
    template = chat_format.tokenizer.chat_template
    try:
        chat_format.tokenizer.chat_template = without_tools
        with pytest.raises(DataError, match="does not write a reply of role 'tool'"):
            try_reply(chat_format, _talk(begin), replace(EXAMPLE, demonstration="42"))
    finally:
        chat_format.tokenizer.chat_template = template
