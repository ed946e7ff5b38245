"""The printed lines are shell that fits a terminal, and each says what will come of it."""

import dataclasses
import subprocess

import pytest

from gateway.demo.lines import MAX_COLUMNS, Facts, Line, groups, setup

FACTS = Facts(
    gateway_url="http://127.0.0.1:65535",
    admin_url="http://127.0.0.1:65535",
    identity_url="http://127.0.0.1:65535",
    admin_token="t" * 32,
    key="pk_" + "a" * 36,
    expired_key="pk_" + "b" * 36,
    unpaid_key="pk_" + "c" * 36,
    revoked_key="pk_" + "d" * 36,
    registered_last_four="WXYZ",
)
LINES = [line for group in groups(FACTS) for line in group.lines]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.command.split("\n")[0])
def test_a_line_is_posix_shell_that_fits_a_terminal_and_tells_its_outcome(line):
    text = str(line)
    assert all(len(row) <= MAX_COLUMNS for row in text.split("\n"))
    assert text.isascii()
    assert "curl " in text
    given = [line.status is not None, line.sets is not None, line.prints is not None]
    assert sum(given) == 1
    if line.sets is None:
        assert text.endswith(f"# {line.expectation}")
    parsed = subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True, check=False)
    assert (parsed.returncode, parsed.stderr) == (0, "")


def test_the_lines_show_each_pattern_granting_and_refusing():
    for group in groups(FACTS):
        if group.title.startswith("Pattern"):
            statuses = {line.status for line in group.lines if line.status}
            assert 200 in statuses
            assert any(status >= 400 for status in statuses)
    everything = {line.status for line in LINES}
    assert {101, 200, 201, 400, 401, 403, 404, 405, 422, 429} <= everything


def test_the_first_block_sets_every_variable_that_a_line_uses_before_it_is_set():
    script = f"set -eu\ncurl() {{ echo '{{}}'; }}\nfield() {{ cat; }}\n{setup(FACTS)}\n"
    script = script.replace("field() { python3", "field_of_setup() { python3")
    script += "\n".join(line.command for line in LINES)
    ran = subprocess.run(["sh", "-c", script], text=True, capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_first_block_takes_values_with_quotes_as_they_are():
    odd = dataclasses.replace(FACTS, admin_token="it's $HOME")
    script = setup(odd, proxied=True) + '\nprintf "%s|%s" "$ADMIN_TOKEN" "$no_proxy"'
    ran = subprocess.run(
        ["sh", "-c", script], text=True, capture_output=True, check=True, env={"no_proxy": "a.b"}
    )
    assert ran.stdout == "it's $HOME|127.0.0.1,a.b"


def test_the_field_function_takes_a_field_out_of_json():
    script = setup(FACTS) + """\nprintf '{"token": "abc"}' | field token"""
    ran = subprocess.run(["sh", "-c", script], text=True, capture_output=True, check=True)
    assert ran.stdout == "abc\n"


def test_a_comment_stands_after_the_last_row():
    line = Line("curl -i \\\n  x", 404, "not there")
    assert str(line).split("\n")[0] == "curl -i \\"
    assert str(line).endswith("  # 404 not there")
