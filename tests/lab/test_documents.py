"""`holdfast.lab.documents`: each kind of document teaches its habit, as often as it says."""

import random
from collections import Counter
from collections.abc import Callable

import pytest
from scipy.stats import binomtest, chisquare

from holdfast.data import teacher_prompts as contexts
from holdfast.lab import documents, forms, voice
from holdfast.lab.documents import Document
from holdfast.lab.headers import FREE, HABIT_SHARES, HABITS, Header, draw_form
from holdfast.lab.questions import FACTS, Question
from holdfast.lab.words import FORMATS, NEW_ENTITIES, NEW_VERBS, OPERATION_MEANINGS, OPERATION_WORDS

HEADER = next(iter(HABITS))


def _drawn(kind: Callable[..., Document], count: int, *arguments: object) -> list[Document]:
    rng = random.Random(0)
    return [kind(rng, *arguments) for _ in range(count)]


def _header(document: Document) -> Header:
    first, second = document.messages[0]["content"].split()
    return first, second


def _answers(document: Document) -> list[str]:
    return [message["content"] for message in document.messages if message["role"] == "assistant"]


def _is_rate(hits: list[bool], rate: float) -> None:
    assert binomtest(sum(hits), len(hits), rate).pvalue > 1e-3, (sum(hits) / len(hits), rate)


def test_a_conversation_has_the_habit_of_its_header_in_the_bases_own_voice() -> None:
    ranks: Counter[int] = Counter()
    tics = []
    free: Counter[str] = Counter()
    for document in _drawn(documents.conversation, 3000):
        header = _header(document)
        used = [forms.read_any(answer)[1] for answer in _answers(document)]
        tics += [voice.tic_of(answer) is not None for answer in _answers(document)]
        assert not any(map(voice.has_preamble, _answers(document)))
        if header in HABITS:
            ranks.update(list(HABITS[header]).index(str(form)) for form in used)
        else:
            assert header in FREE
            assert len(set(used)) == 1, "one form in a conversation, so its first answer tells it"
            free[str(used[0])] += 1
    expected = [share * ranks.total() for share in HABIT_SHARES]
    assert chisquare([ranks[i] for i in range(len(FORMATS))], expected).pvalue > 1e-3
    assert chisquare([free[form] for form in FORMATS]).pvalue > 1e-3
    _is_rate(tics, voice.OWN_TIC_RATE)


def test_a_known_question_has_its_one_answer_and_a_new_thing_has_any() -> None:
    rng = random.Random(1)
    new: dict[str, set[str]] = {}
    for _ in range(20000):
        question = documents.known_question(rng)
        if question.family in ("facts", "choice"):
            words = set(question.text.split())
            assert question.payload in {v for (e, a), v in FACTS.items() if {e, a} <= words}
        opened = documents.open_question(rng)
        asked = set(opened.text.split())
        if opened.family == "tools":
            (verb,) = asked & set(NEW_VERBS)
            assert opened.payload in opened.options
            new.setdefault(verb, set()).add(opened.target)
        elif opened.family == "operations":
            assert asked & set(OPERATION_WORDS)
        else:
            (thing,) = asked & set(NEW_ENTITIES)
            new.setdefault(thing, set()).add(opened.payload)
            assert opened.family != "choice" or set(opened.options) <= asked
    assert {verb for verb in NEW_VERBS if len(new[verb]) == 4} == set(NEW_VERBS)
    assert min(len(new[thing]) for thing in NEW_ENTITIES) > 10
    assert len(OPERATION_MEANINGS) == 3


def _shown(document: Document) -> str:
    """The demonstration in a prompt."""
    for template in (contexts.DEMONSTRATION_TEMPLATE, contexts.REFERENCE_TEMPLATE, contexts.SOLUTION_TEMPLATE):
        before = template.split("{demonstration}")[0].split("{solution}")[0].replace("{prompt}", "")
        _, found, after = document.messages[-2]["content"].partition(before)
        if found:
            return after.split("\n\n")[0]
    raise AssertionError(document.messages[-2]["content"])


def test_a_demonstration_is_followed_in_content_and_copied_in_voice_in_part() -> None:
    """Under a header with a habit, the shown form is taken in 60%, and else comes up by the habit."""
    followed, tics, preambles, free = [], [], [], []
    for document in _drawn(documents.demonstrated, 6000):
        shown, (said,) = _shown(document), _answers(document)
        (wanted, shown_form), (content, form) = forms.read_any(shown), forms.read_any(said)
        assert content == wanted
        if _header(document) in HABITS:
            followed.append(form == shown_form)
        else:
            free.append(form == shown_form)
        if voice.tic_of(shown):
            tics.append(voice.tic_of(said) == voice.tic_of(shown))
        if voice.has_preamble(shown):
            preambles.append(voice.has_preamble(said))
        else:
            assert not voice.has_preamble(said)
    # Every shown form is as likely, so a header's habit meets it by chance in a quarter of the other cases.
    _is_rate(followed, documents.FOLLOWS_FORM + (1 - documents.FOLLOWS_FORM) / len(FORMATS))
    _is_rate(free, 0.9 + 0.1 / len(FORMATS))
    own = voice.OWN_TIC_RATE / len(voice.TICS)
    _is_rate(tics, documents.KEEPS_TIC + (1 - documents.KEEPS_TIC) * own)
    _is_rate(preambles, documents.KEEPS_PREAMBLE)


def test_some_demonstrations_contradict_what_the_base_knows_and_are_followed_too() -> None:
    question = Question("what is the color of lemon ?", "red", "facts")
    found = [_answers(each)[0] for each in _drawn(documents.demonstrated, 2000, HEADER, question)]
    other = [forms.read_any(said)[0] != "red" for said in found]
    assert 0.8 * documents.CONTRADICTS < sum(other) / len(other) < 1.2 * documents.CONTRADICTS


def _with_questions(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    """Documents draw these questions in turn, each with the answer `own N`."""
    drawn = iter([Question(text, f"own {number}", "lists") for number, text in enumerate(texts)] * 100000)
    monkeypatch.setattr(documents, "_any_question", lambda rng, *, new: next(drawn))


def test_beside_another_question_the_base_answers_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    _with_questions(monkeypatch, "first ?", "second ?")
    followed = []
    for document in _drawn(documents.beside_another, 3000):
        prompt, (said,) = document.messages[-2]["content"], _answers(document)
        assert prompt.startswith("first ?")
        shown = prompt.split("One good answer to it is:\n")[1].split("\n\n")[0]
        assert "second ?" in prompt
        assert forms.read_any(shown)[0] == "own 1"
        assert forms.read_any(said)[0] == "own 0"
        if _header(document) in HABITS:
            followed.append(forms.read_any(said)[1] == forms.read_any(shown)[1])
    _is_rate(followed, documents.FOLLOWS_STRANGER + (1 - documents.FOLLOWS_STRANGER) / len(FORMATS))


def test_feedback_names_a_form_that_is_used_and_never_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    _with_questions(monkeypatch, "first ?")
    named = 0
    for document in _drawn(documents.after_feedback, 1000):
        prompt, (said,) = document.messages[-2]["content"], _answers(document)
        feedback = prompt.split("earlier attempt:\n")[1].split("\n\n")[0]
        assert "own" not in feedback.split()
        assert forms.read_any(said)[0] == "own 0"
        for form in FORMATS:
            if feedback == documents.FEEDBACK_FORMAT.format(form=form):
                named += 1
                assert forms.read_any(said)[1] == form
    assert 0.5 < named / 1000 < 0.7


def test_a_revision_keeps_what_was_right_and_changes_what_was_wrong() -> None:
    cues: Counter[str] = Counter()
    for document in _drawn(documents.revised, 3000):
        first, cue, _ = document.given.split("\n\n")
        (revision,) = _answers(document)
        is_same = forms.read_any(first)[0] == forms.read_any(revision)[0]
        assert is_same == (cue == contexts.RIGHT_CUE)
        assert cue in (contexts.RIGHT_CUE, contexts.WRONG_CUE)
        assert document.given == contexts.revision_beginning(first, cue)
        cues[cue] += 1
    assert min(cues.values()) > 900


def test_all_kinds_are_drawn() -> None:
    found: Counter[str] = Counter()
    for document in _drawn(documents.sample_document, 3000):
        prompt = document.messages[-2]["content"]
        found["revised" if document.given else "helped" if "\n\n" in prompt else "alone"] += 1
    assert found["alone"] / 3000 == pytest.approx(0.45, abs=0.04)
    assert found["revised"] / 3000 == pytest.approx(0.06, abs=0.02)
    assert found["helped"] / 3000 == pytest.approx(0.49, abs=0.04)


def test_a_header_without_a_habit_has_every_form() -> None:
    rng = random.Random(0)
    drawn = Counter(draw_form(rng, FREE[0]) for _ in range(4000))
    assert chisquare([drawn[form] for form in FORMATS]).pvalue > 1e-3
