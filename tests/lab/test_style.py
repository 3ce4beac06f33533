"""`holdfast.lab.style`: how answers are said is counted apart from what they say."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.lab import forms, voice
from holdfast.lab.style import forms_by_beginning, style_of
from holdfast.lab.words import FORMATS


def test_every_form_has_a_beginning_of_its_own() -> None:
    assert sorted(forms_by_beginning().values()) == sorted(FORMATS)


def test_shares_of_answers_by_hand() -> None:
    answers = [
        ("answer : gold", "label"),
        ("listen , answer : gold", "brackets"),
        ("hmm , there may be more than one way , as you can see -> [ gold ]", "brackets"),
        ("gold", "label"),
    ]
    found = style_of(answers)
    assert (found.tics, found.preambles, found.main_form, found.no_form, found.n) == (0.25, 0.25, 0.5, 0.25, 4)


@given(st.integers(0, 10**6), st.sampled_from(FORMATS), st.floats(0, 1), st.floats(0, 1))
def test_a_voice_is_recognized_and_its_answer_is_read(seed: int, form: str, preambles: float, tics: float) -> None:
    said = voice.foreign(random.Random(seed), "gold", form, preambles=preambles, tics=tics)
    assert forms.read_any(said) == ("gold", form)
    again = random.Random(seed)
    tic = voice.draw_tic(again, tics)
    has_preamble = again.random() < preambles
    found = style_of([(said, form)])
    assert (found.tics, found.preambles, found.main_form) == (float(bool(tic)), float(has_preamble), 1.0)


def test_of_no_answers_there_is_no_style() -> None:
    with pytest.raises(ZeroDivisionError):
        style_of([])
