"""`holdfast.tasks.reasoning_gym`: generators as tasks and as suites. Needs the extra `gym`."""

from pathlib import Path
from typing import Any

import pytest

from holdfast.config.load import parse_config
from holdfast.config.settings import RunConfig, SuiteSettings, TaskSettings
from holdfast.data.task import Suite, Task
from holdfast.errors import ConfigError, DataError
from holdfast.recipes.base.needs import require
from holdfast.tasks.gym_judge import gym_judge
from holdfast.tasks.load import data_hash, load_stream, load_suite, load_task
from holdfast.tasks.reasoning_gym import _generator, _own_score
from sandboxes import require_sandbox

pytest.importorskip("reasoning_gym", reason="needs the extra gym")


@pytest.fixture(autouse=True)
def _sandboxed() -> None:
    require_sandbox()


def task(**settings: Any) -> Task:
    defaults = {"name": "sums", "gym": "chain_sum", "train_size": 20, "test_size": 8}
    return load_task(TaskSettings(**{**defaults, **settings}))


def suite(**settings: Any) -> Suite:
    defaults = {"name": "harder", "gym": "chain_sum", "kind": "ood", "test_size": 8}
    return load_suite(SuiteSettings(**{**defaults, **settings}))


def questions(examples: Any) -> list[str]:
    return [example.messages[-1]["content"] for example in examples]


def test_a_generator_is_a_task_that_every_recipe_can_learn() -> None:
    sums = task()
    assert (len(sums.train), len(sums.test)) == (20, 8)
    assert sums.provides() == {"demonstration", "privileged_context", "reward"}
    assert len(set(questions([*sums.train, *sums.test]))) == 28
    for example in sums.train:
        assert example.demonstration is not None
        assert sums.verify(example, example.demonstration).reward == 1.0
        assert example.demonstration not in questions([example])[0].split()


def test_the_same_settings_give_the_same_items_and_another_seed_others() -> None:
    assert data_hash(task()) == data_hash(task())
    first, other = (set(questions(task(seed=seed).train)) for seed in (0, 1))
    assert len(first & other) <= 2
    assert len(first & set(questions(task(name="more").train))) <= 2
    assert questions(task(limit=3).train) == questions(task().train)[:3]


def test_which_part_of_a_completion_is_the_answer() -> None:
    sums = task()
    example = sums.train[0]
    answer = example.demonstration or ""
    for completion in (
        answer,
        f" {answer}\n",
        f"<think>3 or 4?</think>{answer}",
        f"It is <answer>17</answer>, no, <answer> {answer} </answer>",
        f"<answer>{answer}",
    ):
        verdict = sums.verify(example, completion)
        assert (verdict.reward, verdict.answer) == (1.0, answer), completion
    wrong, empty = sums.verify(example, "0.5"), sums.verify(example, "<think>hm</think> ")
    assert (wrong.reward, wrong.format_ok, wrong.feedback) == (0.0, True, "This answer is wrong.")
    assert (empty.reward, empty.format_ok, empty.answer) == (0.0, False, None)
    assert answer not in wrong.feedback


def test_partial_credit_is_the_generators_own() -> None:
    letters = task(gym="word_sorting", train_size=4, test_size=2)
    example = letters.train[0]
    words = (example.demonstration or "").split(", ")
    swapped = ", ".join([words[1], words[0], *words[2:]])
    assert 0 < letters.verify(example, swapped).reward < 1
    assert "partly" in letters.verify(example, swapped).feedback


def test_a_text_that_breaks_a_generators_judge_is_wrong() -> None:
    factors = task(gym="prime_factorization", train_size=2, test_size=2)
    assert factors.verify(factors.train[0], "banana").reward == 0.0


def test_a_generator_that_only_checks_answers_has_no_demonstrations() -> None:
    logic = task(gym="propositional_logic", train_size=3, test_size=2)
    assert logic.provides() == {"reward"}
    config = parse_config({"tasks": ["lab:facts"], "recipe": "sft"}, RunConfig)
    with pytest.raises(ConfigError, match="needs a demonstration"):
        require(config.recipe, [logic])


def test_a_harder_sibling_is_an_out_of_distribution_suite() -> None:
    easy, hard = suite(gym_level=0), suite(gym_level=5)
    assert (hard.kind, len(hard.test), hard.description) == ("ood", 8, "reasoning-gym chain_sum, level 5")
    longest = [max(len(question.split()) for question in questions(each.test)) for each in (easy, hard)]
    assert longest[0] < longest[1]
    named = suite(gym_settings={"min_terms": 9, "max_terms": 9}, gym_level=0)
    assert all(question.count(" + ") + question.count(" - ") == 8 for question in questions(named.test))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gym": "chain_summ"}, r"no such generator \(did you mean 'chain_sum'\?\)"),
        ({"gym_settings": {"min_term": 1}}, r"no setting 'min_term' \(did you mean 'min_terms'\?\)"),
        ({"gym_settings": {"min_terms": 9}}, "the generator refuses its settings: max_terms must be >= min_terms"),
        ({"gym_level": 99}, r"no level 99 \(use a level from 0 to 10\)"),
        ({"gym": "gsm_symbolic", "gym_level": 0}, "it has no levels"),
        ({"lab": "facts"}, "has both `lab` and `gym`"),
        ({"train": "a.jsonl"}, "has both `gym` and `train`"),
    ],
)
def test_mistakes_name_what_is_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        task(**settings)


def test_too_few_different_questions_are_refused() -> None:
    few = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    with pytest.raises(DataError, match=r"only \d+ different questions .*lower train_size"):
        task(gym_settings=few, train_size=500)


def test_from_a_configuration() -> None:
    config = parse_config(
        {
            "tasks": [{"name": "sums", "gym": "chain_sum", "gym_level": 1, "train_size": 4, "test_size": 3}],
            "suites": [{"name": "harder", "gym": "chain_sum", "gym_level": 3, "kind": "ood", "test_size": 3}],
            "recipe": "grpo",
        },
        RunConfig,
    )
    tasks, suites = load_stream(config)
    assert [each.name for each in (*tasks, *suites)] == ["sums", "harder"]
    require(config.recipe, tasks)
    for key in ("gym_level", "test_size", "train_size", "seed"):
        with pytest.raises(ConfigError, match=f"`{key}` is for `gym: NAME`, which is not given"):
            parse_config({"tasks": [{"name": "facts", "lab": "facts", key: 3}], "recipe": "sft"}, RunConfig)
    assert parse_config({"tasks": ["gym:chain_sum"], "recipe": "sft"}, RunConfig).tasks[0].gym == "chain_sum"


EVALUATING = (
    "binary_matrix",
    "countdown",
    "n_queens",
    "puzzle24",
    "simple_integration",
    "spiral_matrix",
    "string_insertion",
)
"""Generators whose scorers evaluate the answer as Python code."""


@pytest.mark.slow
@pytest.mark.parametrize("name", EVALUATING)
def test_an_answer_that_is_code_runs_nowhere_and_gets_nothing(name: str, tmp_path: Path) -> None:
    here = task(gym=name, train_size=2, test_size=1)
    example, reached = here.train[0], tmp_path / "reached"
    right = here.verify(example, example.demonstration or "").reward
    assert right == 1.0 or example.demonstration is None
    answers = (
        f"[__import__('os').system('touch {reached}')]",
        f"[open({str(reached)!r}, 'w')]",
        "9**9**9**9",
        "exit()",
        "__import__('os')._exit(0)",
        "[c for c in ().__class__.__base__.__subclasses__()]",
        "(lambda: 1)()",
        "lambdify(x, '1')",
        'sympify(\'__import__("os").system("true")\')',
        "(" * 5000,
        "exec('x = 1')",
        "eval('1')",
    )
    for answer in answers:
        assert here.verify(example, f"<answer>{answer}</answer>").reward <= 0.05, answer
    assert not reached.exists()
    assert here.verify(example, example.demonstration or "").reward == right


@pytest.mark.slow
def test_scores_in_the_sandbox_are_the_generators_own() -> None:
    """On its own answers and on those of its neighbors, for generators of every kind of scorer."""
    for name in (
        *EVALUATING,
        "chain_sum",
        "word_sorting",
        "sudoku",
        "polynomial_equations",
        "graph_color",
        "rotate_matrix",
    ):
        here = task(gym=name, train_size=4, test_size=2)
        settings = TaskSettings(name="sums", gym=name, train_size=4, test_size=2)
        own = _generator(settings, 6).score_answer
        texts = [each.demonstration or str(each.answer["answer"]) for each in here.train]
        for example in here.train:
            for text in [*texts, "7", "1 + 2", "[[1, 0], [0, 1]]"]:
                want = _own_score(own, text, example.answer)
                assert here.verify(example, f"<answer>{text}</answer>").reward == pytest.approx(want), (name, text)


def test_without_a_sandbox_it_is_refused_and_the_user_s_word_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ConfigError("code that a model wrote needs a sandbox, and there is none", fix="install it")
    monkeypatch.setattr("holdfast.sandbox.bubblewrap.refusal", lambda: refused)
    gym_judge.cache_clear()
    with pytest.raises(ConfigError, match=r"'sums': code that a model wrote needs a sandbox.*\(install it\)"):
        task()
    allowed = task(run_code="unprotected")
    assert allowed.verify(allowed.train[0], allowed.train[0].demonstration or "").reward == 1.0
    gym_judge.cache_clear()
