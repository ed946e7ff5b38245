"""`gateway plans`: which plan a user has, and until when."""

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

app = group(
    "Set, show and take away the plan of a user.",
    "gateway plans set --user 42 --plan standard --until 2027-01-01",
)


@app.command(
    "set", epilog=example("gateway plans set --user 42 --plan standard --until 2027-01-01")
)
def set_plan(
    user: Annotated[int, typer.Option(metavar="ID", help="Whose plan; made if unknown.")],
    plan: Annotated[str, typer.Option(help="One of the settings' plans.")],
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it ends, UTC [never].")
    ] = None,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Give a user a plan, in place of the one before; returns when every worker knows."""
    operate(Options(config, routes, output), "plans.set", user=user, plan=plan, until=until)


@app.command("show", epilog=example("gateway plans show --user 42"))
def show_plan(
    user: Annotated[int, typer.Option(metavar="ID", help="Whose plan.")],
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Show the plan of a user."""
    operate(Options(config, routes, output), "plans.show", user=user)


@app.command(epilog=example("gateway plans revoke --user 42"))
def revoke(
    user: Annotated[int, typer.Option(metavar="ID", help="Whose plan.")],
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Take a user's plan away; returns when every worker knows, as `keys revoke` does."""
    operate(Options(config, routes, output), "plans.revoke", user=user)
