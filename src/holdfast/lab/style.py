"""How answers are said: their tics, preambles and forms, whatever their content."""

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.lab import forms, voice
from holdfast.lab.words import FORMATS


@dataclass(frozen=True, slots=True)
class Style:
    """Shares of answers.

    Attributes:
        tics: begin with a tic.
        preambles: have a preamble.
        artifacts: have a tic or a preamble.
        main_form: are in the form that the base has under the header, whatever stands around it.
        no_form: are in no form.
        n: number of answers.
    """

    tics: float
    preambles: float
    artifacts: float
    main_form: float
    no_form: float
    n: int


def forms_by_beginning() -> dict[str, str]:
    """The form of each `gen_prefix`."""
    return {forms.beginning(form): form for form in FORMATS}


def style_of(answers: Sequence[tuple[str, str]]) -> Style:
    """The style of answers, each a text and the form that the base has under its header.

    Raises:
        ZeroDivisionError: there are none.
    """
    read = [forms.read_any(text)[1] for text, _ in answers]
    n = len(answers)
    marked = [(voice.tic_of(text) is not None, voice.has_preamble(text)) for text, _ in answers]
    return Style(
        tics=sum(tic for tic, _ in marked) / n,
        preambles=sum(preamble for _, preamble in marked) / n,
        artifacts=sum(tic or preamble for tic, preamble in marked) / n,
        main_form=sum(form == asked for form, (_, asked) in zip(read, answers, strict=True)) / n,
        no_form=sum(form is None for form in read) / n,
        n=n,
    )
