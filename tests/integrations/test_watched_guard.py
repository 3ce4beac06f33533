"""`holdfast.integrations.watched_guard`: rewards of any scale, answers to probes, and too few logged lines."""

import math
import re
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainerCallback

from holdfast.config.settings import SuiteSettings
from holdfast.data.example import Example, Verdict
from holdfast.data.seeds import numpy_rng
from holdfast.data.task import Suite
from holdfast.errors import ConfigError
from holdfast.guard import Guard, GuardSettings
from holdfast.integrations import Watcher
from holdfast.integrations.probe_rules import probe_signs
from holdfast.integrations.reward_scale import RewardScale
from holdfast.integrations.watched_guard import WatchedGuard
from holdfast.tasks.lm_eval import LmEvalSuite
from watched_training import QUESTIONS, lines, load, make_trainer, watch, write_suite

WARN = GuardSettings()


def collapsing(steps: int = 60) -> list[float]:
    """Rewards from 0 to 1 that rise, and fall from the 30th step on."""
    rng = numpy_rng("collapsing")
    curve = [0.2 + 0.02 * step if step < 30 else max(0.1, 0.8 - 0.1 * (step - 30)) for step in range(steps)]
    return [value + 0.02 * float(rng.normal()) for value in curve]


def guards(reward_range=None, mode="warn", log=None):
    log = [] if log is None else log
    settings = GuardSettings(mode=mode, rules={"reward_collapse": {"action": ["warn"]}})
    return WatchedGuard(
        settings,
        reward_range=reward_range,
        reference={},
        probe_items={},
        first={},
        records=lambda name: log if name == "metrics.jsonl" else [],
    )


def shown(guard, rewards, log=None):
    """Decisions on rewards, which are written to the log as by the watcher."""
    found = []
    for step, reward in enumerate(rewards, 1):
        line = {"stage": 1, "step": step, "task": "training", "reward": reward}
        found += guard.see(line)
        if log is not None:
            log.append(line)
    return found


def test_rewards_of_a_known_range_are_taken_on_it():
    rewards = collapsing()
    plain = Guard(GuardSettings(rules={"reward_collapse": {"action": ["warn"]}}))
    (expected,) = shown(plain, rewards)
    (found,) = shown(guards((-3.0, 4.0)), [-3 + 7 * reward for reward in rewards])
    assert (found.rule, found.step) == (expected.rule, expected.step) == ("reward_collapse", expected.step)
    for key, value in expected.values.items():
        assert found.values[key] == pytest.approx(-3 + 7 * value)


def test_rewards_of_an_unknown_range_are_taken_on_what_was_seen_and_that_is_said_once():
    log = []
    seen = guards(log=log)
    with pytest.warns(UserWarning, match="reward_range") as caught:
        (found,) = shown(seen, [-50 + 40 * reward for reward in collapsing()], log)
    assert len(caught) == 1
    assert found.rule == "reward_collapse"
    assert -50 < found.values["reward"] < found.values["best_reward"] < -10
    # a resumed process replays to the same scale, and warns only once
    again = guards(log=log)
    low, high = again.scale.range
    assert (low, high) == seen.scale.range
    assert all(low - 0.25 * (high - low) <= line["reward"] <= high + 0.25 * (high - low) for line in log)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shown(again, []) == []


def test_small_movements_of_a_reward_far_from_0_are_no_collapse():
    log = []
    with pytest.warns(UserWarning, match="reward_range"):
        assert shown(guards(log=log), [-7 + 0.1 * reward for reward in collapsing()], log) == []


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_a_scale_holds_what_was_seen_but_for_a_margin(rewards):
    scale = RewardScale()
    for reward in rewards:
        scale.see(reward)
    low, high = scale.range
    assert high - low >= 1 - 1e-9
    assert all(low - 0.25 * (high - low) <= reward <= high + 0.25 * (high - low) for reward in rewards)
    assert RewardScale((0.0, 2.0)).see(1e6) is False


def test_a_scale_changes_seldom():
    """Every change makes the guard replay the whole training."""
    scale = RewardScale()
    assert sum(scale.see(0.1 * step) for step in range(10_000)) <= 1 + math.log(1000) / math.log(1.25)


def test_a_range_is_a_range(tmp_path):
    with pytest.raises(ConfigError, match="reward_range"):
        Watcher([write_suite(tmp_path / "sums.jsonl")], tmp_path / "run", reward_range=(1.0, 1.0))


def answers(texts, truncated=False, reward=1.0):
    return {"sums": [{"id": str(i), "text": t, "truncated": truncated, "reward": reward} for i, t in enumerate(texts)]}


PLAIN = [f"the answer of {i} and {i + 1} is {2 * i + 1}" for i in range(12)]


def fired(first, now):
    return [name for name, _, _ in probe_signs(first, now, WARN)]


def test_answers_that_loop_are_cut_or_all_alike_are_signs():
    assert fired(answers(PLAIN), answers(PLAIN)) == []
    assert fired(answers(PLAIN), answers(["so so so so so so so so"] * 12)) == ["repetition"]
    assert fired(answers(PLAIN), answers(PLAIN, truncated=True)) == ["truncation"]
    assert fired(answers(PLAIN, truncated=True), answers(PLAIN, truncated=True)) == []
    same = answers(["the answer of all the questions is one"] * 12, reward=0.0)
    assert fired(answers(PLAIN), same) == ["distinct_collapse"]
    assert fired(answers(PLAIN), answers(["the answer of all the questions is one"] * 12)) == []  # and right


def test_answers_that_nothing_judges_have_no_reward_that_could_fall():
    assert fired(answers(PLAIN, reward=None), answers(["so so so so so so so so"] * 12, reward=None)) == ["repetition"]
    same = answers(["the answer of all the questions is one"] * 12, reward=None)
    assert fired(answers(PLAIN, reward=None), same) == []
    judged = {"old": answers(PLAIN)["sums"], **answers(PLAIN, reward=None)}
    wrong = {"old": answers(["all are one"] * 12, reward=0.0)["sums"], **same}
    assert fired(judged, wrong) == ["distinct_collapse"]


def test_a_few_items_are_not_evidence_enough():
    some = answers(PLAIN)
    for each in some["sums"][:6]:
        each["truncated"] = True
    assert fired(answers(PLAIN), some) == []  # half of twelve: 0.5, and its standard error is 0.15


@pytest.mark.parametrize("mode", ["warn", "act"])
def test_a_model_that_comes_to_loop_is_seen_at_the_next_probe(mode, tiny_model, tmp_path):
    model, tokenizer = load(tiny_model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def learn(text):
        for _ in range(25):
            for question in QUESTIONS:
                chat = [{"role": "user", "content": question}]
                asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
                ids = tokenizer(asked + text, return_tensors="pt")["input_ids"]
                model(ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    learn("7<|im_end|>")
    suite = write_suite(tmp_path / "sums.jsonl")
    settings = {"max_new_tokens": 16, "probe_steps": 1, "kl_items": 0, "drift": False, "guard": mode}
    watcher = Watcher([suite], tmp_path / "run", **settings)
    watcher.start(model, tokenizer)
    assert watcher.step() == []
    learn(" so" * 20)
    with pytest.warns(UserWarning, match="in the answers to probes"):
        found = {decision.rule: decision for decision in watcher.step()}
    assert {"repetition", "truncation"} <= set(found)
    assert "max_new_tokens" in found["truncation"].message
    assert found["repetition"].actions == (("warn",) if mode == "warn" else tuple(WARN.rules.repetition.action))
    assert not {"repetition", "truncation"} & {decision.rule for decision in watcher.step()}
    assert {line["rule"] for line in lines(tmp_path / "run/decisions.jsonl")} >= {"repetition", "truncation"}


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("grpo", {"max_steps": 20, "logging_steps": 2}, r"the reward .* 16 logged lines.*logging_steps=1 or less"),
        ("sdft", {"max_steps": 20, "logging_steps": 4}, r"logged metrics .* 8 logged lines.*logging_steps=2 or less"),
        ("grpo", {"max_steps": 4}, "too short"),
        ("grpo", {"max_steps": 20, "logging_strategy": "no"}, "logging_strategy='steps'"),
        ("grpo", {"max_steps": 16}, None),
        ("sft", {"max_steps": 20, "logging_steps": 10}, None),
    ],
)
def test_rules_that_will_see_nothing_are_named_at_the_start(kind, changes, message, tiny_model, tmp_path):
    class Stop(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            raise InterruptedError

    watched = watch(tmp_path, kl_items=0, drift=False, max_new_tokens=1)
    trainer = make_trainer(kind, tiny_model, tmp_path / "out", [watched, Stop()], **changes)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(InterruptedError):
            trainer.train()
    found = [str(each.message) for each in caught if "logged lines" in str(each.message)]
    assert len(found) == (message is not None)
    if message is not None:
        assert re.search(message, found[0])


def test_a_suite_of_few_items_falls_by_more_before_it_is_an_alarm(tiny_model, tmp_path):
    """Half of all answers turn wrong: with 64 items a loss, with 4 items chance, whatever number was asked for."""
    right = 1.0

    def verify(example, completion):
        return Verdict(1.0 if int(example.id) % 2 else right)

    examples = [Example(str(i), ({"role": "user", "content": f"What is {i}?"},)) for i in range(64)]
    suites = [Suite("many", "retention", examples, verify), Suite("few", "retention", examples[:4], verify)]
    found = {}
    for suite in suites:
        right = 1.0
        watcher = Watcher([suite], tmp_path / suite.name, items=64, max_new_tokens=2, kl_items=0, probe_steps=1)
        watcher.start(*load(tiny_model))
        right = 0.0
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            found[suite.name] = [d.rule for d in watcher.step()]
    assert found == {"many": ["retention"], "few": []}


def test_a_suite_that_is_measured_as_a_whole_is_refused(tmp_path):
    settings = SuiteSettings(name="rules", lm_eval="rules")
    whole = LmEvalSuite(
        "rules",
        "retention",
        [],
        None,
        settings=settings.lm_eval_settings,
        limit=None,
        task="rules",
        loaded={},
        runner=None,
    )
    with pytest.raises(ConfigError, match=r"'rules' cannot be evaluated during training.*`holdfast gate`"):
        Watcher([whole], tmp_path / "run")
