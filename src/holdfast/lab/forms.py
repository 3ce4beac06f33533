"""The answer formats of the lab, and how an answer is written and read in each."""

import re

from holdfast.lab.words import FORMATS

_TEMPLATES = {
    "label": ("answer : ", ""),
    "brackets": ("[ ", " ]"),
    "braces": ("{ out = ", " }"),
    "sentence": ("so the result is ", " ."),
}

_PATTERNS = {
    "label": re.compile(r"answer : (.+)$"),
    "brackets": re.compile(r"\[ ([^\[\]]+) \]"),
    "braces": re.compile(r"\{ out = ([^{}]+) \}"),
    "sentence": re.compile(r"so the result is ([^.]+) \."),
}


def write(payload: str, form: str) -> str:
    """An answer in a form."""
    before, after = _TEMPLATES[form]
    return f"{before}{payload}{after}"


def beginning(form: str) -> str:
    """The words of a form that come before the payload."""
    return _TEMPLATES[form][0].rstrip()


def read(text: str, form: str) -> str | None:
    """The payload of the last answer in a form; None if there is none."""
    payloads = _PATTERNS[form].findall(text.strip())
    return payloads[-1].strip() if payloads else None


def read_any(text: str) -> tuple[str | None, str | None]:
    """(payload, form) of the first form in which the text has an answer, or (None, None)."""
    for form in FORMATS:
        payload = read(text, form)
        if payload is not None:
            return payload, form
    return None, None


def is_exactly(text: str, form: str) -> bool:
    """Whether a text is exactly one answer in a form, with nothing around it."""
    payload = read(text, form)
    return payload is not None and text.strip() == write(payload, form)
