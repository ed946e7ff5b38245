"""`gateway users`: the accounts that keys and plans belong to."""

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

app = group("Create, list and show users; end their tokens.", "gateway users show 42")


@app.command(epilog=example("gateway users create --email user@example.com --name 'Jane Doe'"))
def create(
    email: Annotated[str | None, typer.Option(help="Where sign-in finds the user.")] = None,
    name: Annotated[str | None, typer.Option(help="As it is shown.")] = None,
    user_id: Annotated[
        int | None, typer.Option("--id", metavar="ID", help="The id to take [the next free one].")
    ] = None,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Create a user."""
    operate(Options(config, routes, output), "users.create", email=email, name=name, id=user_id)


@app.command("list", epilog=example("gateway users list --output json"))
def list_users(
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """List all users."""
    operate(Options(config, routes, output), "users.list")


@app.command(epilog=example("gateway users show 42"))
def show(
    user_id: Annotated[int, typer.Argument(metavar="ID", help="The user's id.")],
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Show a user."""
    operate(Options(config, routes, output), "users.show", id=user_id)


@app.command(epilog=example("gateway users revoke-tokens 42"))
def revoke_tokens(
    user_id: Annotated[int, typer.Argument(metavar="ID", help="The user's id.")],
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """End all app tokens of a user; returns when every worker knows, as `keys revoke` does.

    Whoever signs in again gets a good one.
    """
    operate(Options(config, routes, output), "users.revoke-tokens", id=user_id)
