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
from gateway.cli.transfer import add_user_commands

app = group(
    "Create, show, disable, unlink and delete users.",
    "gateway users show 42",
)

add_user_commands(app)

UserId = Annotated[int, typer.Argument(metavar="ID", help="The user's id.")]


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


@app.command(epilog=example("gateway users show 42", "gateway users show --email user@example.com"))
def show(
    user_id: Annotated[
        int | None, typer.Argument(metavar="[ID]", help="The user's id.", show_default=False)
    ] = None,
    email: Annotated[str | None, typer.Option(help="Theirs, instead of the id.")] = None,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Show a user, and what became of the links to providers."""
    if (user_id is None) == (email is None):
        raise typer.BadParameter("give an ID or --email")
    operate(
        Options(config, routes, output), "users.show", tables=("links",), id=user_id, email=email
    )


@app.command(epilog=example("gateway users revoke-tokens 42"))
def revoke_tokens(
    user_id: UserId,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """End all app tokens of a user; returns when every worker knows, as `keys revoke` does.

    Whoever signs in again gets a good one.
    """
    operate(Options(config, routes, output), "users.revoke-tokens", id=user_id)


@app.command(epilog=example("gateway users disable 42"))
def disable(
    user_id: UserId,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Let nobody in as this user: no token, no sign-in, no plan key.

    Returns when every worker knows, as `keys revoke` does.
    """
    operate(Options(config, routes, output), "users.disable", id=user_id)


@app.command(epilog=example("gateway users enable 42"))
def enable(
    user_id: UserId,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Let a disabled user in again; tokens of before stay dead, sign-in gives new ones."""
    operate(Options(config, routes, output), "users.enable", id=user_id)


@app.command(epilog=example("gateway users unlink 42 google"))
def unlink(
    user_id: UserId,
    provider: Annotated[str, typer.Argument(metavar="google|apple", help="Whose link goes.")],
    may_return: Annotated[
        bool,
        typer.Option("--may-return", help="A later sign-in with the same email may link it again."),
    ] = False,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Take a Google or Apple account from a user, and end all their tokens.

    Whoever signs in with that account from then on is a user of their own.
    """
    operate(
        Options(config, routes, output),
        "users.unlink",
        id=user_id,
        provider=provider,
        may_return=may_return,
    )


@app.command(epilog=example("gateway users delete 42"))
def delete(
    user_id: UserId,
    registered_key: Annotated[
        bool,
        typer.Option(
            "--registered-key", help="Remove the Binance key under the user's email as well."
        ),
    ] = False,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Delete a user for good: the record, what leads to it, and their plan keys.

    The id is never given again. Cut off, the same command goes on where it was.
    """
    operate(
        Options(config, routes, output), "users.delete", id=user_id, registered_key=registered_key
    )
