"""What holds of every command: its help, its examples, its options, and how fast it is there."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from gateway.cli import GROUPS, app

HEAVY = ("aiohttp", "redis", "fakeredis", "cryptography", "yaml", "rich", "uvloop")
SECRET = re.compile(
    r"secret|token|password|passwd|credential|api.?key|^key$|private", re.IGNORECASE
)


def walk(command, path=()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every command that does something, with the words that call it."""
    if not hasattr(command, "list_commands"):
        yield path, command
        return
    context = command.make_context(" ".join(("gateway", *path)), [], resilient_parsing=True)
    for name in command.list_commands(context):
        yield from walk(command.get_command(context, name), (*path, name))


COMMANDS = {" ".join(path): command for path, command in walk(get_command(app))}
OWN = {name: command for name, command in COMMANDS.items() if name != "demo"}


def help_of(*words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--help"], prog_name="gateway")
    assert result.exit_code == 0
    return result.stdout


def examples(name: str) -> list[str]:
    return re.findall(r"gateway .*", help_of(*name.split()).partition("Example:")[2])


def test_there_is_every_command_of_the_design():
    assert set(COMMANDS) == {
        *("serve", "reload", "check", "explain", "routes", "demo"),
        *("keys issue", "keys list", "keys show", "keys set", "keys revoke"),
        *("keys export", "keys import", "keys usage", "keys rotate"),
        *("plans set", "plans show", "plans revoke"),
        *("users create", "users list", "users show", "users revoke-tokens"),
        *("tokens show", "tokens rotate", "tokens revoke"),
        *("users disable", "users enable", "users unlink", "users delete"),
        *("users export", "users import"),
        *("vault add", "vault import", "vault list", "vault show", "vault verify"),
        *("vault rotate", "vault disable", "vault enable", "vault remove"),
        *("ips list", "ips unblock", "store check"),
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_says_what_it_does_and_shows_an_example_of_itself(name):
    text = help_of(*name.split())
    assert text.startswith(f"Usage: gateway {name} ")
    assert text.splitlines()[2].strip()
    assert examples(name)
    assert all(line.startswith(f"gateway {name}") for line in examples(name))


@pytest.mark.parametrize("name", COMMANDS)
def test_each_example_is_what_the_command_takes(name):
    for line in examples(name):
        words = shlex.split(re.split(" [<>] ", line)[0])[1 + len(name.split()) :]
        COMMANDS[name].make_context(name, words)


@pytest.mark.parametrize("name", OWN)
def test_config_routes_and_output_go_after_any_command(name):
    text = help_of(*name.split())
    for option in ("--config FILE", "--routes FILE", "--output text|json"):
        assert option in text


@pytest.mark.parametrize("name", COMMANDS)
def test_no_argument_takes_a_secret(name):
    words = {
        word.lstrip("-")
        for parameter in COMMANDS[name].params
        for word in (*parameter.opts, parameter.metavar or "")
    }
    assert not [word for word in words if SECRET.search(word)]


def test_the_list_of_commands_says_what_their_own_help_says():
    shown = help_of()
    for name, summary in GROUPS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", shown, re.MULTILINE)
        if name not in COMMANDS:
            assert summary in help_of(name)


@pytest.mark.parametrize("words", [["--help"], *([*name.split(), "--help"] for name in COMMANDS)])
def test_help_waits_for_nothing_heavy(words):
    # typer itself takes pydantic for a command's parameters; the list of commands has none.
    heavy = HEAVY if len(words) > 1 else (*HEAVY, "pydantic.main")
    program = (
        "import sys; from gateway.cli import app; app(sys.argv[1:], standalone_mode=False); "
        f"sys.exit(', '.join(set({heavy}) & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_the_version_is_that_of_the_distribution():
    result = CliRunner().invoke(app, ["--version"])
    assert re.fullmatch(r"gateway \d+\.\d+\.\d+\n", result.stdout)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["kesy"], "Did you mean 'keys'"),
        (["zzz"], "No such command 'zzz'"),
        (["keys", "lst"], "list"),
        (["keys", "issue", "--name", "laptop"], "--user"),
        (["keys", "issue", "--user", "me", "--name", "laptop"], "--user"),
        (["keys", "list", "--output", "yaml"], "--output"),
        (["users", "show"], "ID"),
        (["ips", "list", "extra"], "extra"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_named_on_standard_error(words, said):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert said in result.stderr
