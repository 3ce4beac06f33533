"""`holdfast.cli.say`: no control characters reach a terminal, and no terminal's encoding ends a command."""

import ast
import io
import json
import sys
from pathlib import Path

import pytest

import holdfast.cli
from commands import Commands
from holdfast.cli.app import main
from holdfast.cli.say import lenient_output, say, say_aside, say_json
from holdfast.cli.tables import table
from holdfast.errors import ConfigError, printable, shortened, shown

NASTY = "a\x1b[2J\x07\x9b31m\u202eb\ud800\x00c\r\u2028d"


def test_control_characters_are_written_as_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    say(NASTY)
    say_aside(NASTY)
    printed = capsys.readouterr()
    for text in (printed.out, printed.err):
        assert text == "a\\x1b[2J\\x07\\x9b31m\\u202eb\\ud800\\x00c\\r\\u2028d\n"


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({NASTY: [NASTY, "é"]})
    out = capsys.readouterr().out
    assert printable(out) == out
    assert json.loads(out) == {NASTY: [NASTY, "é"]}


def test_a_cell_of_a_table_stays_in_its_row() -> None:
    lines = table(("name", "value"), [("a\nb\x1b[31m", "1"), ("c", "2")]).split("\n")
    assert len(lines) == 3
    assert lines[1].split() == ["a", "b\\x1b[31m", "1"]


def test_an_error_is_one_line_that_can_be_read() -> None:
    line = str(ConfigError("x" * 10_000 + "\n" + NASTY, where="p" * 5000, fix="f" * 5000))
    assert len(line) < 1600
    assert printable(line) == line
    assert line.startswith("ppp")
    assert line.endswith("fff)")


def test_an_error_keeps_its_beginning_and_its_end() -> None:
    assert shortened("beginning " + "x" * 100 + " end", 30).startswith("beginning")
    assert shortened("beginning " + "x" * 100 + " end", 30).endswith(" end")
    assert len(shortened("x" * 100, 30)) == 30
    assert shown(10**5000) == "an integer of more than 60 digits"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_without_a_character_gets_another(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, errors="strict"))
    assert main(["methods"]) == 0
    sys.stdout.flush()
    assert b"sdft" in written.getvalue()
    assert sys.stdout.errors == "strict"


def test_replaced_characters_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", errors="strict"))
    with lenient_output():
        say("score – 1 · é")
        say_json("é")
        sys.stdout.flush()
    assert written.getvalue() == b'score ? 1 ? ?\n"\\u00e9"\n'


def test_commands_print_in_no_other_way() -> None:
    folder = Path(holdfast.cli.__file__).parent
    for path in folder.glob("*.py"):
        if path.name in ("say.py", "run_command.py"):
            continue
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"], path


def test_names_on_the_command_line_are_escaped(command: Commands) -> None:
    outcome = command("run", f"{NASTY.replace(chr(0), '')}.yaml")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert printable(outcome.err) == outcome.err
