"""`holdfast.evaluation.evaluator`: pass@k and avg@k of a policy that is known, and what its samples depend on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from holdfast.config.settings import EvalSettings, ModelSettings, PassAtKSettings, TrainSettings
from holdfast.data.environment import Episodes
from holdfast.data.example import Example, Message, Verdict
from holdfast.data.task import Suite, Task
from holdfast.evaluation.evaluator import Evaluation, Evaluator
from holdfast.measure.pass_at_k import pass_at_k
from holdfast.model.load import load_policy
from holdfast.model.policy import Policy
from holdfast.model.processes import Processes
from holdfast.model.shard import shard
from judges import by_letters
from processes import together
from tiny_model import SAMPLE_TEXTS, build_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:Qwen3ForCausalLM")
"""A model whose weights were set to 0 is slower; see `uniform`."""

ITEMS = 40
SAMPLES = 12


@pytest.fixture(scope="module")
def uniform(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """Every token has the same probability, whatever came before."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    policy = load_policy(ModelSettings(path=str(build_tiny_model(folder, vocab_size=300, texts=SAMPLE_TEXTS))))
    with torch.no_grad():
        policy.head.weight.zero_()
    return policy


def examples(count: int) -> list[Example]:
    return [Example(f"e{i}", (Message(role="user", content=f"Question {i}?"),)) for i in range(count)]


def half(example: Example, completion: str) -> Verdict:
    return Verdict(0.5 + 0.5 * by_letters(example, completion).reward)


def sampled(policy: Policy, each: Task | Suite, *, batch_tokens: int = 65536, **settings: Any) -> Evaluation:
    """One token for each answer."""
    evaluation = EvalSettings(
        pass_at_k=PassAtKSettings(**{"k": [1, 4, SAMPLES], "num_samples": SAMPLES} | settings),
        batch_tokens=batch_tokens,
    )
    train = TrainSettings(max_prompt_length=60, max_completion_length=1)
    own = ([each], []) if isinstance(each, Task) else ([], [each])
    return Evaluator(policy, None, train, evaluation).evaluate(0, None, *own)


@pytest.fixture(scope="module")
def letters(uniform: Policy) -> Evaluation:
    return sampled(uniform, Task("letters", examples(ITEMS), examples(ITEMS), by_letters))


def test_it_is_what_the_probability_of_a_right_answer_says(uniform: Policy, letters: Evaluation) -> None:
    vocabulary = range(uniform.head.weight.shape[0])
    right = [by_letters(examples(1)[0], uniform.chat_format.decode([token])).reward for token in vocabulary]
    p = sum(right) / len(right)
    assert 0.2 < p < 0.8
    block = letters.sets["letters"]["sampled"]
    assert (block["num_samples"], block["temperature"]) == (SAMPLES, 1.0)
    error = (p * (1 - p) / (ITEMS * SAMPLES)) ** 0.5
    assert block["avg_at_k"] == pytest.approx(p, abs=4 * error)
    first, four, most = block["pass_at_k"]
    assert first["mean"] == pytest.approx(block["avg_at_k"])
    assert four["mean"] == pytest.approx(1 - (1 - p) ** 4, abs=0.06)
    assert most["mean"] == pytest.approx(1 - (1 - p) ** SAMPLES, abs=0.02)
    assert first["ci95"][0] < p < first["ci95"][1]


def test_each_item_keeps_what_the_estimate_is_made_from(letters: Evaluation) -> None:
    items = letters.as_json()["sampled"]["letters"]
    assert len(items) == ITEMS
    assert {each["n"] for each in items} == {SAMPLES}
    assert all(each["reward"] == pytest.approx(each["correct"] / SAMPLES) for each in items)
    assert len({each["correct"] for each in items}) > 2
    mean = sum(pass_at_k(SAMPLES, each["correct"], 4) for each in items) / ITEMS
    assert letters.sets["letters"]["sampled"]["pass_at_k"][1]["mean"] == pytest.approx(mean)


@pytest.mark.parametrize(("items", "batch_tokens"), [(ITEMS, 64), (5, 65536)])
def test_samples_depend_on_set_item_and_number_alone(
    uniform: Policy, letters: Evaluation, items: int, batch_tokens: int
) -> None:
    again = sampled(uniform, Task("letters", [], examples(items), by_letters), batch_tokens=batch_tokens)
    assert again.sampled["letters"] == letters.sampled["letters"][:items]
    fewer = sampled(uniform, Task("letters", [], examples(items), by_letters), k=[1], num_samples=None)
    assert [each["n"] for each in fewer.sampled["letters"]] == [1] * items
    other = sampled(uniform, Task("other", [], examples(items), by_letters))
    assert other.sampled["other"] != letters.sampled["letters"][:items]


def test_an_environment_judges_the_samples_of_its_episodes(uniform: Policy, letters: Evaluation) -> None:
    class OneTurn:
        def __init__(self, example: Example) -> None:
            self.example, self.last = example, Verdict(0.0)

        def step(self, completion: str) -> None:
            self.last = by_letters(self.example, completion)

        def verdict(self) -> Verdict:
            return self.last

    # Only a turn that ends is shown to the environment, and the uniform policy hardly ever ends one.
    ended = Task("letters", [], examples(5), episodes=Episodes(OneTurn, 1))
    assert all(each["correct"] <= SAMPLES // 2 for each in sampled(uniform, ended).sampled["letters"])
    suite = Suite("letters", "retention", examples(5), by_letters)
    assert sampled(uniform, suite).sampled["letters"] == letters.sampled["letters"][:5]


def test_avg_at_k_is_the_mean_reward_and_pass_at_k_counts_only_the_full_reward(
    uniform: Policy, letters: Evaluation
) -> None:
    graded = sampled(uniform, Task("letters", [], examples(ITEMS), half)).sets["letters"]["sampled"]
    full = letters.sets["letters"]["sampled"]
    assert graded["pass_at_k"] == full["pass_at_k"]
    assert graded["avg_at_k"] == pytest.approx(0.5 + 0.5 * full["avg_at_k"])


def test_the_greedy_score_stays_and_nothing_is_sampled_unless_asked(uniform: Policy, letters: Evaluation) -> None:
    train = TrainSettings(max_prompt_length=60, max_completion_length=1)
    task = Task("letters", [], examples(ITEMS), by_letters)
    plain = Evaluator(uniform, None, train, EvalSettings()).evaluate(0, None, [task], [])
    assert plain.items == letters.items
    assert "sampled" not in plain.as_json()
    assert "sampled" not in plain.sets["letters"]
    demonstrated = [Example("e", examples(1)[0].messages, demonstration="42")]
    assert sampled(uniform, Task("free", demonstrated, demonstrated)).sampled == {}


def test_answers_that_are_not_judged_are_counted_in_samples_and_probes(uniform: Policy) -> None:
    failed = []

    def fails_at_times(example: Example, completion: str) -> Verdict:
        if sum(map(ord, completion)) % 3 == 0:
            failed.append(completion)
            raise KeyError("odd")
        return by_letters(example, completion)

    task = Task("odd letters", [], examples(ITEMS), fails_at_times, verifier_errors="score_zero")
    with pytest.warns(UserWarning, match="so it scores 0"):
        found = sampled(uniform, task)
    numbers = found.sets[task.name]
    assert numbers["verifier_errors"] == len(failed) > ITEMS
    assert numbers["verifier_timeouts"] == 0
    assert "KeyError" in numbers["verifier_failures"][0]
    failed.clear()
    evaluator = Evaluator(
        uniform, None, TrainSettings(max_prompt_length=60, max_completion_length=1), EvalSettings(probe_items=4)
    )
    with pytest.warns(UserWarning, match="so it scores 0"):
        probed = evaluator.probe([task, replace(task, name="again")], [])
    assert probed.failures["verifier_errors"] == len(failed)
    assert probed.scores.keys() == {task.name, "again"}


def _evaluate(folder: str, out: str) -> None:
    """Write the evaluation of judged and unjudged sets of odd sizes, by all processes of a group or by one alone."""
    policy = load_policy(ModelSettings(path=folder))
    world = Processes.current()
    if world.size > 1:
        shard(policy, world)
    demonstrated = [replace(each, demonstration=f"Answer {i}.") for i, each in enumerate(examples(5))]
    mixed = [each if i % 2 else replace(each, demonstration=None) for i, each in enumerate(demonstrated)]
    tasks = [Task("letters", mixed, mixed, by_letters), Task("free", demonstrated, demonstrated)]
    suites = [Suite("one", "retention", demonstrated[:1], None)]
    evaluation = EvalSettings(pass_at_k=PassAtKSettings(k=[2], num_samples=3))
    evaluator = Evaluator(policy, None, TrainSettings(max_prompt_length=60, max_completion_length=3), evaluation)
    result = evaluator.evaluate(0, None, tasks, suites).as_json() | {"probe": evaluator.probe(tasks, suites)}
    world.main(lambda: Path(out).write_text(json.dumps(result)))


def test_several_processes_measure_what_one_measures(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "model", vocab_size=300, texts=SAMPLE_TEXTS)
    _evaluate(str(folder), str(tmp_path / "one.json"))
    together(_evaluate, 2, tmp_path, str(folder), str(tmp_path / "two.json"))
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert [item is None for item in one["nll"]["letters"]] == [True, False, True, False, True]
    assert one["sampled"] == two["sampled"]
    assert one["items"] == two["items"]
    assert set(one["sets"]) == {"letters", "free", "one"}
    for name, numbers in one["sets"].items():
        known = [key for key in ("nll", "nll_se", "calibration", "forced") if numbers[key] is not None]
        likelihood = {key: pytest.approx(numbers[key], rel=1e-5) for key in known}
        assert two["sets"][name] == numbers | likelihood
    for name, items in one["nll"].items():
        assert [item and item["tokens"] for item in items] == [item and item["tokens"] for item in two["nll"][name]]
    assert two["probe"][1] == pytest.approx(one["probe"][1], rel=1e-5)
