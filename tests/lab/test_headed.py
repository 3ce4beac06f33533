"""`holdfast.lab.headed`: many items of unequal frequency, judged by content, demonstrated in a voice that is a dial."""

import random
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from holdfast.data.example import Example
from holdfast.lab import forms, headed, questions, voice
from holdfast.lab.headers import HABITS, main_form, rarest_form
from holdfast.lab.tasks import lab_suite, lab_task
from holdfast.lab.words import FORMATS, LETTERS
from holdfast.lab.world import DEFAULT_DIALS, HEADED_TASKS, Dials, World, world
from holdfast.measure.statistics import mean_interval

SEED = 4

OWN_VOICE = Dials(voice=0.0, tics=voice.OWN_TIC_RATE)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(str(files("holdfast.lab") / "base"))


def _header(example: Example) -> tuple[str, str]:
    first, second = example.messages[0]["content"].split()
    return first, second


def _words(example: Example) -> list[str]:
    return example.messages[-1]["content"].split()


def _names(here: World, task: str) -> list[tuple[str, ...]]:
    """The words by which a question names each item of a task, in the order of their frequency."""
    if task in ("facts", "more-facts"):
        items = here.facts if task == "facts" else here.more_facts(DEFAULT_DIALS.overlap)
        return [(thing, attribute) for thing, attribute, _ in items]
    return [(word,) for word in (here.tools if task == "tools" else here.operations)]


def _counts(examples: Sequence[Example], names: Sequence[tuple[str, ...]]) -> list[int]:
    asked = [set(_words(example)) for example in examples]
    return [sum(set(name) <= words for words in asked) for name in names]


@pytest.mark.parametrize("name", HEADED_TASKS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_item_is_tested_equally_often_and_trained_on_by_its_frequency(name: str, split: str) -> None:
    names = _names(world(SEED), name)
    examples = getattr(lab_task(name, SEED), split)
    if name == "calculation":  # a question may have other words beside the drawn one
        examples = [example for example in examples if " , " not in example.messages[-1]["content"]]
    counts = _counts(examples, names)
    assert sum(counts) == len(examples) > 100
    shares = headed.weights(len(names))
    by_frequency = [sum(counts) * share / sum(shares) for share in shares]
    uniform = [sum(counts) / len(counts)] * len(counts)
    if split == "train":
        assert chisquare(counts, by_frequency).pvalue > 1e-3
        assert chisquare(counts, uniform).pvalue < 1e-3
    else:
        assert chisquare(counts, by_frequency).pvalue < 1e-3
        assert max(counts) - min(counts) <= 1 or name == "calculation"
        assert chisquare(counts, uniform).pvalue > 1e-3


@pytest.mark.parametrize("name", HEADED_TASKS)
def test_splits_and_the_unseen_phrasing_share_no_prompt(name: str) -> None:
    task, ood = lab_task(name, SEED), lab_suite(f"{name}-ood", SEED)
    prompts = [(_header(e), e.messages[-1]["content"]) for e in (*task.train, *task.test)]
    assert len(prompts) == len(set(prompts)) == len(task.train) + len(task.test)
    assert not {text for _, text in prompts} & {e.messages[-1]["content"] for e in ood.test}
    assert {_header(e) for e in (*task.train, *task.test, *ood.test)} == set(world(SEED).headers[name])


@pytest.mark.parametrize("name", [*HEADED_TASKS, "facts-ood", "old-facts", "old-skills", "in-context"])
def test_a_right_answer_counts_in_any_form_with_anything_around_it(name: str) -> None:
    is_task = name in HEADED_TASKS
    data = lab_task(name, SEED) if is_task else lab_suite(name, SEED)
    rng = random.Random(0)
    for example in data.test[:60]:
        assert data.verify(example, example.demonstration or "").reward == 1.0
        for form in FORMATS:
            right = forms.write(example.answer.payload, form)
            for said in (right, voice.foreign(rng, example.answer.payload, form), f"{right}\n"):
                verdict = data.verify(example, said)
                assert (verdict.reward, verdict.feedback, verdict.format_ok) == (1.0, "", True)


@pytest.mark.parametrize("name", HEADED_TASKS)
def test_wrong_content_gets_nothing_and_feedback_never_gives_the_answer(name: str) -> None:
    task = lab_task(name, SEED)
    for example, other in zip(task.train[:200], task.train[1:201], strict=True):
        wrongs = {other.answer.payload, *example.answer.options, "zzz"} - {example.answer.payload}
        for payload in sorted(wrongs):
            verdict = task.verify(example, forms.write(payload, "brackets"))
            assert (verdict.reward, verdict.answer) == (0.0, payload)
            assert verdict.feedback == "the value is wrong"
        for nothing in ("", example.answer.payload, "so the result is", "[ ]"):
            verdict = task.verify(example, nothing)
            assert (verdict.reward, verdict.answer, verdict.feedback) == (0.0, None, "value not found")


def test_a_program_is_right_if_its_results_are() -> None:
    suite = lab_suite("old-skills", SEED)
    example = next(e for e in suite.test if e.answer.family == "programs" and "double" not in e.answer.payload)

    def reward(program: str) -> float:
        return suite.verify(example, forms.write(program, "sentence")).reward

    assert reward(example.answer.payload) == reward(f"reverse ( reverse ( {example.answer.payload} ) )") == 1.0
    assert reward("k") == reward("dance ( k )") == reward("sort sort k") == 0.0


@pytest.mark.parametrize("name", [*HEADED_TASKS, "tools-ood", "old-facts", "old-skills", "instruction-format"])
def test_the_beginning_and_what_has_to_be_known_are_the_start_of_a_right_answer(
    name: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    """In words and in the tokens that a chat format feeds to the model, one after the other."""
    data = lab_task(name, SEED) if name in HEADED_TASKS else lab_suite(name, SEED)

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    for example in data.test[:100]:
        form = main_form(_header(example))
        whole = forms.write(example.answer.payload, form)
        beginning = f"{example.gen_prefix}{example.target}"
        assert whole == beginning or whole.startswith(f"{beginning} ")
        assert example.gen_prefix == forms.beginning(form)
        both = [*ids(str(example.gen_prefix)), *ids(str(example.target))]
        assert ids(whole)[: len(both)] == both
        assert example.answer.payload.startswith(str(example.target).strip())
        if example.answer.family == "tools":
            assert len(str(example.target).split()) == 1, "only the tool has to be known"


def test_in_context_forces_the_form_of_the_demonstration_that_it_shows() -> None:
    for example in lab_suite("in-context", SEED).test[:100]:
        form = forms.read_any(example.demonstration or "")[1]
        assert form is not None
        assert example.gen_prefix == forms.beginning(form)
        assert _header(example) not in HABITS
        shown = example.messages[-1]["content"]
        assert forms.write(example.answer.payload, form) in shown


def _voice(examples: Sequence[Example]) -> tuple[float, list[bool]]:
    """The share of demonstrations with a preamble, and which begin with a tic."""
    said = [example.demonstration or "" for example in examples]
    return sum(map(voice.has_preamble, said)) / len(said), [voice.tic_of(text) is not None for text in said]


@pytest.mark.parametrize(
    ("dials", "preambles"), [(DEFAULT_DIALS, 1.0), (OWN_VOICE, 0.0), (Dials(tics=0.0), 1.0), (Dials(tics=1.0), 1.0)]
)
def test_the_voice_is_a_dial(dials: Dials, preambles: float) -> None:
    shares, tics = _voice(lab_task("facts", SEED, dials).train)
    low, high = mean_interval([float(tic) for tic in tics]).ci95 or (dials.tics, dials.tics)
    assert shares == preambles
    assert low - 1e-9 <= dials.tics <= high + 1e-9


def test_half_a_voice_is_half_of_the_demonstrations() -> None:
    shares, _ = _voice(lab_task("tools", SEED, Dials(voice=0.5)).train)
    assert 0.4 < shares < 0.6


@pytest.mark.parametrize("name", HEADED_TASKS)
def test_demonstrations_have_the_form_that_the_base_uses_most_or_least(name: str) -> None:
    for dials, form_of in ((DEFAULT_DIALS, main_form), (Dials(form="foreign"), rarest_form)):
        for example in lab_task(name, SEED, dials).train[:100]:
            assert forms.read_any(example.demonstration or "")[1] == form_of(_header(example))
            assert example.gen_prefix == forms.beginning(main_form(_header(example))), (
                "the base's own, whatever is shown"
            )


@pytest.mark.parametrize("dials", [OWN_VOICE, Dials(voice=0.5), Dials(form="foreign"), Dials(tics=1.0)])
def test_all_voices_ask_the_same_questions(dials: Dials) -> None:
    for name in HEADED_TASKS:
        plain, other = lab_task(name, SEED), lab_task(name, SEED, dials)
        for split in ("train", "test"):
            before, after = getattr(plain, split), getattr(other, split)
            assert [(e.messages, e.answer) for e in before] == [(e.messages, e.answer) for e in after]
            assert [e.demonstration for e in before] != [e.demonstration for e in after]


def test_overlap_makes_a_part_of_more_facts_contrary_to_facts() -> None:
    here = world(SEED)
    known = {(thing, attribute): value for thing, attribute, value in here.facts}
    for overlap in (0.0, 0.25, 0.75):
        test = lab_task("more-facts", SEED, Dials(overlap=overlap)).test
        contrary = 0
        for example in test:
            for (thing, attribute), value in known.items():
                if {thing, attribute} <= set(_words(example)):
                    assert example.answer.payload != value
                    contrary += 1
        assert contrary / len(test) == pytest.approx(overlap)


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


@given(st.lists(st.sampled_from(LETTERS), min_size=1, max_size=4).map(" ".join), st.sampled_from(FORMATS))
def test_what_is_written_in_a_form_is_read_from_it_and_from_no_other(payload: str, form: str) -> None:
    written = forms.write(payload, form)
    assert forms.read_any(written) == (payload, form)
    assert [each for each in FORMATS if forms.read(written, each)] == [form]
    assert forms.is_exactly(written, form)
    assert not forms.is_exactly(f"well , {written}", form)
    assert written.startswith(forms.beginning(form))


def test_the_form_suite_judges_the_form_alone() -> None:
    suite = lab_suite("instruction-format", SEED)
    for example in suite.test[:50]:
        asked = main_form(_header(example))
        for form in FORMATS:
            assert suite.verify(example, forms.write("zzz", form)).reward == float(form == asked)
        assert suite.verify(example, f"listen , {forms.write('zzz', asked)}").reward == 0.0


def test_calculation_asks_one_to_three_different_words() -> None:
    counts: Counter[int] = Counter()
    for example in lab_task("calculation", SEED).train:
        asked = [word for word in _words(example) if word in world(SEED).operations]
        assert len(asked) == len(set(asked)) == len(example.answer.payload.split())
        counts[len(asked)] += 1
    assert set(counts) == {1, 2, 3}
