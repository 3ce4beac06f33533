"""`holdfast.measure.leaks`: what counts as a leak, what does not, and that it is quick."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.data.example import Example, Message
from holdfast.data.seeds import numpy_rng
from holdfast.measure.leaks import RUN, find_leaks

LONG = "a farmer has nine red hens and sells four of them to his neighbor on a cold friday morning how many are left"


def _example(name: str, prompt: str, demonstration: str | None = None, system: str = "") -> Example:
    before = (Message(role="system", content=system),) if system else ()
    return Example(name, (*before, Message(role="user", content=prompt)), demonstration=demonstration)


def _train(*prompts: str, others: int = 20) -> list[Example]:
    return [_example(f"t{i}", p) for i, p in enumerate(prompts)] + [_example(f"o{i}", f"q {i}") for i in range(others)]


@pytest.mark.parametrize("changed", [LONG, LONG.upper(), LONG.replace(" ", "  "), f"{LONG.capitalize()}?"])
def test_a_prompt_that_is_a_training_prompt_but_for_case_spaces_and_punctuation_is_exact(changed: str) -> None:
    leak = find_leaks({"test": [_example("x", "other"), _example("y", changed)]}, _train(LONG))["test"]
    assert (leak.items, leak.exact, leak.similar) == (2, {1: "t0"}, {})


def test_system_messages_make_no_difference() -> None:
    train = [_example("a", "short question", system="Be brief.")]
    assert find_leaks({"test": [_example("x", "Short question", system="Be kind.")]}, train)["test"].exact == {0: "a"}


@pytest.mark.parametrize(
    "near", [f"now {LONG} and why", LONG.rpartition(" ")[0] + " gone", " ".join(LONG.split()[3 : 3 + RUN])]
)
def test_thirteen_words_in_a_row_are_similar(near: str) -> None:
    leak = find_leaks({"test": [_example("x", near)]}, _train("some prompt", LONG))["test"]
    assert (leak.exact, leak.similar) == ({}, {0: "t1"})


def test_twelve_words_in_a_row_are_no_leak() -> None:
    words = LONG.split()
    near = " ".join([*words[: RUN - 1], "instead", *words[RUN - 1 : 2 * RUN - 2]])
    assert find_leaks({"test": [_example("x", near)]}, _train(LONG)) == {}


def test_words_of_two_texts_do_not_make_a_run() -> None:
    words = LONG.split()
    train = _train(" ".join(words[:12]), " ".join(words[12:]))
    assert find_leaks({"test": [_example("x", f"well {LONG}")]}, train) == {}


def test_a_prompt_in_a_demonstration_is_similar_and_answers_are_not_compared() -> None:
    train = [_example("a", "tell me", demonstration=LONG), *_train()]
    items = [_example("x", f"well {LONG}"), _example("y", "tell me more", demonstration=f"well {LONG}")]
    assert find_leaks({"test": items}, train)["test"].similar == {0: "a"}


@pytest.mark.parametrize("size", [2, 5, 40, 300])
def test_wording_that_many_training_prompts_share_is_no_leak(size: int) -> None:
    train = [_example(f"t{i}", f"{LONG} number {i}") for i in range(size)]
    assert find_leaks({"test": [_example("x", f"{LONG} number {size}")]}, train) == {}
    assert find_leaks({"test": [_example("x", f"{LONG} number 1")]}, train)["test"].exact == {0: "t1"}


def test_a_text_that_is_repeated_counts_once() -> None:
    train = [_example(f"t{i}", LONG) for i in range(50)] + _train()
    assert find_leaks({"test": [_example("x", f"now {LONG}")]}, train)["test"].similar == {0: "t0"}


@pytest.mark.parametrize(
    ("one", "other"),
    [("What is 3 + 4?", "What is 3 - 4?"), ("1.5", "15"), ("2*(3+4)", "(2*3)+4"), ("???", "!!!"), ("x < y", "x > y")],
)
def test_short_prompts_that_differ_in_what_matters_are_no_leak(one: str, other: str) -> None:
    assert find_leaks({"test": [_example("x", one)]}, _train(other)) == {}


def test_text_without_spaces_has_words() -> None:
    text = "从前有一个农夫他有九只红色的母鸡后来卖掉了四只"
    assert find_leaks({"test": [_example("x", f"请问{text}还剩几只")]}, _train(text))["test"].similar == {0: "t0"}


@given(st.lists(st.text(alphabet="ab c", max_size=60), max_size=8), st.lists(st.text("ab c", max_size=60), max_size=8))
def test_it_finds_what_a_plain_search_finds(test: list[str], train: list[str]) -> None:
    """Words of one or two letters, so that runs repeat."""

    def runs(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}

    distinct = {" ".join(text.split()) for text in train}
    allowed = min(10, max(1, len(distinct) // 10))
    expected_exact = {i for i, text in enumerate(test) if " ".join(text.split()) in distinct}
    expected_similar = {
        i
        for i, text in enumerate(test)
        if i not in expected_exact
        and any(0 < sum(run in runs(other) for other in distinct) <= allowed for run in runs(text))
    }
    leak = find_leaks(
        {"test": [_example(str(i), text) for i, text in enumerate(test)]},
        [_example(str(i), text) for i, text in enumerate(train)],
    ).get("test")
    assert set(leak.exact if leak else ()) == expected_exact
    assert set(leak.similar if leak else ()) == expected_similar


def test_thirty_thousand_records_take_seconds() -> None:
    rng = numpy_rng("leaks")
    vocabulary = [f"word{i}" for i in range(5000)]
    texts = [" ".join(vocabulary[i] for i in row) for row in rng.integers(0, 5000, (30_000, 60)).tolist()]
    train = [_example(f"t{i}", text) for i, text in enumerate(texts)]
    test = [_example("planted", "so " + texts[27_777]), _example("new", "nothing of the kind")]
    started = time.perf_counter()
    assert find_leaks({"test": test}, train)["test"].similar == {0: "t27777"}
    assert time.perf_counter() - started < 12
