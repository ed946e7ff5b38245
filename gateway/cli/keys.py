"""`gateway keys`: plan keys (pk_...), which belong to a user and outlive renewals of the plan."""

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
from gateway.cli.transfer import add_key_commands

app = group(
    "Issue, list, change, rotate and revoke plan keys.",
    "gateway keys issue --user 42 --name laptop",
)
add_key_commands(app)

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id (k_...), not the key.")]


@app.command(
    epilog=example(
        "gateway keys issue --user 42 --name laptop --output json",
        "gateway keys issue --user 42 --name ci --expires 2027-01-01",
    )
)
def issue(
    user: Annotated[int, typer.Option(metavar="ID", help="Whose key it is; made if unknown.")],
    name: Annotated[str, typer.Option(help="What its owner calls it.")],
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it stops working, UTC [never].")
    ] = None,
    allow: Annotated[
        str | None,
        typer.Option(metavar="NETWORKS", help="Where it may be used from, by commas [anywhere]."),
    ] = None,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Issue a key. It is shown this once, and kept by nobody but its owner."""
    options = Options(config, routes, output)
    operate(options, "keys.issue", user=user, name=name, expires=expires, allow=allow)


@app.command("list", epilog=example("gateway keys list --user 42"))
def list_keys(
    user: Annotated[
        int | None, typer.Option(metavar="ID", help="Only this user's keys [all].")
    ] = None,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """List keys, revoked and expired ones too."""
    operate(Options(config, routes, output), "keys.list", user=user)


@app.command(epilog=example("gateway keys show k_7Qm2sVbK1x"))
def show(
    key_id: KeyId,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Show what is known of a key; the key itself isn't."""
    operate(Options(config, routes, output), "keys.show", id=key_id)


@app.command(epilog=example("gateway keys usage k_7Qm2sVbK1x --days 7 --by route"))
def usage(
    key_id: KeyId,
    days: Annotated[int, typer.Option(metavar="N", help="So many days, today included.")] = 30,
    by: Annotated[
        str | None, typer.Option(metavar="day|route", help="Tell it by one of them [both].")
    ] = None,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Show what a key did, by day (UTC) and route."""
    options, tables = Options(config, routes, output), ("by_day", "by_route")
    operate(options, "keys.usage", tables=tables, id=key_id, days=days, by=by)


@app.command(epilog=example("gateway keys rotate k_7Qm2sVbK1x --overlap 7d --when-silent 24h"))
def rotate(
    key_id: KeyId,
    overlap: Annotated[
        str, typer.Option(metavar="DURATION", help="How long the old key works on: 7d, 24h, 90m.")
    ],
    when_silent: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Retire it earlier, once unused for so long [no]."),
    ] = None,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Replace a key by a new one, shown this once; both work until the old one retires."""
    options = Options(config, routes, output)
    operate(options, "keys.rotate", id=key_id, overlap=overlap, when_silent=when_silent)


@app.command(
    "set",
    epilog=example(
        "gateway keys set k_7Qm2sVbK1x --allow 203.0.113.0/24,2001:db8::/32",
        "gateway keys set k_7Qm2sVbK1x --expires never --allow any",
    ),
)
def set_key(
    key_id: KeyId,
    name: Annotated[str | None, typer.Option(help="What its owner calls it.")] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME|never", help="When it stops working, UTC.")
    ] = None,
    allow: Annotated[
        str | None,
        typer.Option(metavar="NETWORKS|any", help="Where it may be used from, by commas."),
    ] = None,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Change what is given of a key, and nothing else; returns when every worker knows."""
    options = Options(config, routes, output)
    operate(options, "keys.set", id=key_id, name=name, expires=expires, allow=allow)


@app.command(epilog=example("gateway keys revoke k_7Qm2sVbK1x"))
def revoke(
    key_id: KeyId,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Revoke a key, for good. It is dead everywhere when this returns.

    Every worker of every gateway has confirmed it then; those that didn't within 2 s are named,
    and the exit code is 1.
    """
    operate(Options(config, routes, output), "keys.revoke", id=key_id)
