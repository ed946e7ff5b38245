"""The `gateway` command.

One file per group of commands, each thin: parse, call, print. A group is imported when it is
called, and what is heavy (aiohttp, redis, pydantic) when it is needed: `gateway --help` has to
wait for none of it.
"""

import sys
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from gateway.cli.options import group
from gateway.memory import keep_private

GROUPS = {
    "serve": "Run the gateway.",
    "reload": "Have a running gateway use the files as they are now.",
    "check": "Find every problem in settings and routes.",
    "explain": "Say what would become of a request, without sending it.",
    "routes": "Show the route table.",
    "keys": "Issue, list, change, rotate and revoke plan keys.",
    "plans": "Set, show and take away the plan of a user.",
    "users": "Create, show, disable, unlink and delete users.",
    "tokens": "Revoke app tokens; show and rotate their secrets.",
    "vault": "Register, verify, switch off and remove Binance keys.",
    "ips": "List and lift the blocks of client addresses.",
    "store": "Check the Redis that the settings name.",
    "demo": "Run the whole product here, with lines to try.",
}


class Groups(TyperGroup):
    """The groups of `GROUPS`, each in the module of its name."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # typer's signature
        return list(GROUPS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in GROUPS:
            close = get_close_matches(cmd_name, GROUPS, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            ctx.fail(f"No such command '{cmd_name}'.{hint}")
        return get_command(import_module(f"gateway.cli.{cmd_name}").app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  # typer's signature
        with formatter.section("Commands"):
            formatter.write_dl(list(GROUPS.items()))


app = group(
    "An API gateway: authentication, plans and limits in front of services that have none.\n\n"
    "Each command tells with --help what it does, and shows an example."
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415  # takes as long as all the rest

        print(f"gateway {version('primit-gateway')}")
        raise typer.Exit


@app.callback(cls=Groups)
def _gateway(
    _version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_show_version, help="Show the version."
    ),
) -> None:
    """What goes before any command."""


def main() -> None:
    """The `gateway` command. Exit codes: 0 done, 1 refused or failed, 2 wrong usage."""
    keep_private()
    try:
        app(prog_name="gateway")
    except Exception as error:  # noqa: BLE001  # its own words could quote a secret
        from gateway.observe.logs import wordless  # noqa: PLC0415  # nobody else waits for it
        from gateway.observe.redaction import redact  # noqa: PLC0415

        print(redact(wordless(error)), file=sys.stderr)
        raise SystemExit(1) from None
