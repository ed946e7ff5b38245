"""How results and errors are written."""

import json

import pytest
import typer

from gateway.cli.options import Output
from gateway.cli.output import Failure, failures, printable, show

EVIL = "Jane\x1b]0;x\x07\x9b31m\u202egnp\ud800"
ROWS = [{"id": 1, "name": "李雷", "on": True}, {"id": 10, "name": None, "on": False}]


def test_an_object_is_lines_of_name_and_value(capsys):
    show({"id": "k_1", "expires_at": None, "methods": ["GET", "POST"], "is_vip": True}, Output.TEXT)
    assert capsys.readouterr().out == (
        "id:         k_1\n"
        "expires_at: -\n"
        "methods:    GET; POST\n"
        "is_vip:     yes\n"
    )  # fmt: skip


def test_nested_objects_are_told_apart(capsys):
    show({"limits": [{"name": "ip", "window": 60}, {"name": "me", "window": 1}]}, Output.TEXT)
    assert capsys.readouterr().out == "limits: name=ip window=60; name=me window=1\n"


def test_an_array_is_a_table_whose_columns_are_aligned_for_wide_characters_too(capsys):
    show(ROWS, Output.TEXT)
    assert capsys.readouterr().out == (
        "ID  NAME  ON\n"
        "1   李雷  yes\n"
        "10  -     no\n"
    )  # fmt: skip


def test_an_empty_array_is_said_to_be_empty(capsys):
    show([], Output.TEXT)
    show([], Output.JSON)
    assert capsys.readouterr().out == "none\n[]\n"


def test_json_is_one_line_in_the_platforms_form(capsys):
    show(ROWS, Output.JSON)
    out = capsys.readouterr().out
    assert out.startswith('[{"id": 1, "name": "李雷", "on": true}, ')
    assert out.count("\n") == 1


@pytest.mark.parametrize("output", Output)
def test_nothing_that_commands_a_terminal_is_written(output, capsys):
    show([{"name": EVIL}], output)
    show({"name": EVIL}, output)
    with pytest.raises(typer.Exit), failures(output):
        raise Failure(EVIL)
    written = capsys.readouterr()
    assert all(line.isprintable() for line in (written.out + written.err).splitlines())


def test_escapes_mean_the_same_in_json():
    text = EVIL + "😀\U000e0041"
    assert json.loads(printable(json.dumps(text, ensure_ascii=False))) == text


def test_in_a_terminal_a_table_still_has_every_value(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    show([{"id": "k_1", "name": "[red]laptop[/red]", "url": "http://a"}], Output.TEXT)
    out = capsys.readouterr().out
    for text in ("id", "k_1", "[red]laptop[/red]", "http://a"):
        assert text in out


def test_a_failure_is_a_sentence_or_an_object_on_standard_error(capsys):
    for output in Output:
        with pytest.raises(typer.Exit) as ended, failures(output):
            raise Failure("no such key", exit_code=2)
        assert ended.value.exit_code == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err == 'error: no such key\n{"error": "no such key"}\n'


def test_complaints_come_one_by_one(capsys):
    for output in Output:
        with pytest.raises(typer.Exit) as ended, failures(output):
            raise Failure("2 problems", complaints=("a:1:1: one", "b:1:1: two"))
        assert ended.value.exit_code == 1
    assert capsys.readouterr().err == (
        "a:1:1: one\nb:1:1: two\n"
        '{"error": "2 problems", "complaints": ["a:1:1: one", "b:1:1: two"]}\n'
    )
