"""`holdfast.judging.output`: what judging processes print, without what a terminal obeys."""

import os

import pytest

from holdfast.judging.output import Output


def test_control_characters_of_a_process_are_shown_as_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    read, write = os.pipe()
    output = Output(os.fdopen(read, "rb"))
    os.write(write, "good\tmorning\r\n\x1b[2J\x07\u202eé".encode() + b"\xff\n")
    output.forward()
    assert capsys.readouterr().err == "good\tmorning\n\\x1b[2J\\x07\\u202eé\ufffd\n"
    os.write(write, b"\x1b[31mlast\r\n\n")
    output.forward()
    assert output.last_line == "\\x1b[31mlast"
    os.close(write)
    output.forward()
    assert output.pipe is None
