"""`gateway vault`: registered Binance keys. Their secrets never stand on a command line.

What works on all of them stands in `vault_bulk.py`.
"""

import getpass
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.operate import operate
from gateway.cli.options import (
    DEFAULT_ROUTES,
    ConfigFile,
    Options,
    Output,
    OutputForm,
    RoutesFile,
    example,
    group,
)
from gateway.cli.output import WRONG_USAGE, Failure, failures
from gateway.cli.vault_bulk import add_commands

app = group(
    "Register, verify, switch off and remove Binance keys.",
    "gateway vault add user@example.com < key.json",
)
add_commands(app)

FIELDS = ("api_key", "api_secret")
FORM = '{"api_key": "...", "api_secret": "..."}'
MAX_INPUT_CHARACTERS = 65_536

Email = Annotated[str, typer.Argument(metavar="EMAIL", help="Under which the key is registered.")]


@app.command(
    epilog=example(
        "gateway vault add user@example.com < binance-key.json",
        "gateway vault add user@example.com --from-file binance-key.json",
    )
)
def add(
    email: Email,
    from_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Read key and secret from this file.")
    ] = None,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Register a Binance key, in place of one that is there; it is stored encrypted.

    Key and secret come as JSON, {"api_key": ..., "api_secret": ...}, from standard input or a
    file; on a terminal they are asked for, without echo.
    """
    options = Options(config, routes, output)
    with failures(output):
        api_key, api_secret = read_credentials(from_file)
    operate(options, "vault.add", email=email, api_key=api_key, api_secret=api_secret)


@app.command(epilog=example("gateway vault show user@example.com"))
def show(
    email: Email,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Show what is known of a registered key, without its secrets."""
    operate(Options(config, routes, output), "vault.show", email=email)


@app.command(epilog=example("gateway vault verify user@example.com"))
def verify(
    email: Email,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Ask Binance whether it takes a key, and what the key may do; exit code 1 if it doesn't."""
    record = operate(Options(config, routes, output), "vault.verify", email=email)
    with failures(output):
        if record["verification_status"] != "verified":
            raise Failure("Binance does not take this key")


@app.command(epilog=example("gateway vault disable user@example.com"))
def disable(
    email: Email,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Hand a key out no more, until `enable`; returns when every worker knows.

    Its owner can still take it away, and can register none in its place.
    """
    operate(Options(config, routes, output), "vault.disable", email=email)


@app.command(epilog=example("gateway vault enable user@example.com"))
def enable(
    email: Email,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Hand a key out again, or let its owner register one."""
    operate(Options(config, routes, output), "vault.enable", email=email)


@app.command(epilog=example("gateway vault remove user@example.com"))
def remove(
    email: Email,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Forget a registered key; returns when every worker knows, as `keys revoke` does."""
    operate(Options(config, routes, output), "vault.remove", email=email)


def read_credentials(from_file: Path | None) -> tuple[str, str]:
    """Key and secret. Raises Failure, which never quotes what was read."""
    if from_file is None and sys.stdin.isatty():
        return getpass.getpass("Binance API key: "), getpass.getpass("Binance API secret: ")
    source = "standard input" if from_file is None else str(from_file)
    try:
        if from_file is None:
            text = sys.stdin.read(MAX_INPUT_CHARACTERS)
        else:
            with from_file.open(encoding="utf-8") as file:
                text = file.read(MAX_INPUT_CHARACTERS)
        given = json.loads(text)
    except OSError as error:
        raise Failure(f"{source} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict) or set(given) != set(FIELDS):
        raise Failure(f"{source} must hold {FORM} and nothing else", exit_code=WRONG_USAGE)
    return given["api_key"], given["api_secret"]
