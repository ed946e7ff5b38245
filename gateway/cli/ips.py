"""`gateway ips`: client addresses that are blocked for having exceeded the limit."""

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

app = group("List and lift the blocks of client addresses.", "gateway ips unblock 203.0.113.9")


@app.command("list", epilog=example("gateway ips list"))
def list_blocks(
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """List the addresses (IPv6: networks) that are blocked now."""
    operate(Options(config, routes, output), "ips.list")


@app.command(epilog=example("gateway ips unblock 203.0.113.9"))
def unblock(
    ip: Annotated[str, typer.Argument(metavar="IP", help="As the list shows it.")],
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Let an address in again, with its whole quota."""
    operate(Options(config, routes, output), "ips.unblock", ip=ip)
