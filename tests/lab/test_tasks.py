"""`holdfast.lab.tasks`: the properties of the lab's tasks, suites and documents, without a model."""

import random
from importlib.resources import files

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from holdfast.data.example import Example
from holdfast.errors import ConfigError
from holdfast.lab import conventions, documents, questions
from holdfast.lab.tasks import SUITES, TASKS, lab_suite, lab_task
from holdfast.lab.words import FORMATS, NEW_OPERATION_MEANINGS, vocabulary
from holdfast.measure.statistics import largest_margin
from holdfast.pretrain.train import encode_document


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(str(files("holdfast.lab") / "base"))


@pytest.mark.parametrize("name", TASKS)
def test_demonstrations_are_correct_and_splits_are_disjoint(name: str) -> None:
    task = lab_task(name)
    for example in [*task.train, *task.test]:
        assert example.demonstration is not None
        verdict = task.verify(example, example.demonstration)
        assert verdict.reward == 1.0
        assert verdict.feedback == ""
    assert not {_prompt(e) for e in task.train} & {_prompt(e) for e in task.test}


def _prompt(example: Example) -> tuple[tuple[str, str], ...]:
    return tuple((m["role"], m["content"]) for m in example.messages)


@pytest.mark.parametrize("name", TASKS)
def test_partial_credit_is_below_half_and_the_full_reward_means_correct(name: str) -> None:
    task = lab_task(name)
    rng = random.Random(0)
    for example in task.train[:100]:
        other = rng.choice(task.train)
        for convention in FORMATS:
            for payload in (example.answer.payload, other.answer.payload, "zzz", ""):
                verdict = task.verify(example, conventions.write(payload, convention))
                assert verdict.reward == 1.0 or verdict.reward <= 0.5
                if verdict.reward == 1.0 and name != "programs":
                    assert payload.split()[-1] == example.answer.payload.split()[-1]
                    assert verdict.format_ok


@pytest.mark.parametrize("name", TASKS)
def test_feedback_never_gives_the_answer_away(name: str) -> None:
    task = lab_task(name)
    for example in task.train[:200]:
        for wrong in ("", "nonsense", *(conventions.write("4 4", c) for c in FORMATS)):
            verdict = task.verify(example, wrong)
            if verdict.reward < 1:
                assert verdict.feedback
                said = set(verdict.feedback.split())
                assert not said & (set(example.answer.payload.split()) - {"is"})


def test_a_program_is_scored_by_its_results() -> None:
    task = lab_task("programs")
    example = next(e for e in task.train if "double" not in e.answer.payload and "first" not in e.answer.payload)

    def reward(program: str) -> float:
        return task.verify(example, conventions.write(program, "sentence")).reward

    assert reward(example.answer.payload) == 1.0
    assert reward(f"reverse ( reverse ( {example.answer.payload} ) )") == 1.0
    assert reward("dance ( k )") == reward("sort sort k") == pytest.approx(0.2)
    assert 0.2 <= reward("k") < 0.5


def test_no_pretraining_document_has_a_header_of_a_stream() -> None:
    rng = random.Random(0)
    fresh = {" ".join(header) for header in conventions.FRESH}
    assert not fresh & {" ".join(h) for h in (*conventions.MEMORIZED, *conventions.FREE)}
    for _ in range(3000):
        assert documents.sample_document(rng).messages[0]["content"] not in fresh


@pytest.mark.parametrize("name", SUITES)
def test_suites_are_reproducible_and_large_enough(name: str) -> None:
    suite = lab_suite(name)
    lab_suite.cache_clear()
    again = lab_suite(name)
    assert [e.messages for e in suite.test] == [e.messages for e in again.test]
    assert largest_margin(len(suite.test)) < 0.04
    assert largest_margin(len(lab_task(TASKS[0]).test)) < 0.04


def test_out_of_distribution_suites_use_a_phrasing_that_no_task_trains_on() -> None:
    for name in TASKS:
        trained = {e.messages[-1]["content"] for e in (*lab_task(name).train, *lab_task(name).test)}
        assert not trained & {e.messages[-1]["content"] for e in lab_suite(f"{name}-ood").test}
        example = lab_suite(f"{name}-ood").test[0]
        assert lab_suite(f"{name}-ood").verify(example, example.demonstration or "").reward == 1.0


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no task 'maths'.*calculation"):
        lab_task("maths")
    with pytest.raises(ConfigError, match=r"no suite 'old'.*old-skills"):
        lab_suite("old")


def test_every_word_of_the_world_is_one_token_and_any_text_survives(tokenizer: PreTrainedTokenizerBase) -> None:
    for word in vocabulary():
        assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1, word
    for text in ("[ a b ]", "so the result is 3 4 .", "Grüße, 你好\nand a second line", "def f(x):\n\n return {x}"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_only_assistant_tokens_are_trained(tokenizer: PreTrainedTokenizerBase) -> None:
    rng = random.Random(1)
    for _ in range(200):
        document = documents.sample_document(rng)
        ids, labels = encode_document(tokenizer, document)
        turns = [m["content"] for m in document.messages if m["role"] == "assistant"]
        trained_text = tokenizer.decode([i for i, label in zip(ids, labels, strict=True) if label != -100])
        assert (
            trained_text.split("<|end|>")[:-1] == pytest.approx(turns)
            or [t.strip() for t in trained_text.split("<|end|>")[:-1]] == turns
        )
        assert len(ids) <= 160


def test_prompts_of_pretraining_equal_the_prompts_of_the_recipes_teachers(tokenizer: PreTrainedTokenizerBase) -> None:
    """The chat template renders a conversation to the same tokens as pretraining does."""
    rng = random.Random(2)
    for _ in range(50):
        *prompt, answer = documents.demonstrated(rng, rng.choice(conventions.FREE)).messages
        rendered = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        ids, _ = encode_document(tokenizer, documents.Document((*prompt, answer)))
        assert ids[: len(rendered)] == rendered


def test_open_words_may_mean_any_of_their_meanings() -> None:
    rng = random.Random(3)
    seen = set()
    for _ in range(400):
        question = documents.open_question(rng)
        if question.family == "calculation" and " 9 " in question.text:
            seen.add(question.payload)
    assert len(seen) > len(NEW_OPERATION_MEANINGS)


@pytest.mark.parametrize(
    ("operation", "items", "result"),
    [("swap", "a b c", "c b a"), ("drop", "a b", "b"), ("double", "a b", "a a b b"), ("sort", "c a b", "a b c")],
)
def test_list_operations(operation: str, items: str, result: str) -> None:
    assert questions.apply_list_operation(operation, items.split()) == result.split()


def test_programs_run_as_nested_calls() -> None:
    assert questions.run_program("drop ( sort ( k ) )", ["c", "a", "b"]) == ["b", "c"]
    assert questions.run_program("k", ["c"]) == ["c"]
    for broken in ("", "sort", "sort ( )", "sort k", "dance ( k )", "sort ( k", "( k )", "sort ( drop )"):
        assert questions.run_program(broken, ["c"]) is None


def test_every_task_has_enough_distinct_prompts() -> None:
    for name in TASKS:
        task = lab_task(name)
        prompts = {_prompt(e) for e in (*task.train, *task.test, *lab_suite(f"{name}-ood").test)}
        assert len(prompts) == len(task.train) + len(task.test) + len(lab_suite(f"{name}-ood").test)
