"""`gateway tokens`: app tokens and their secrets. None of both is ever shown, nor an argument."""

import getpass
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.configuration import read_settings
from gateway.cli.operate import ask_gateway, operate
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
from gateway.cli.output import WRONG_USAGE, Failure, failures, show
from gateway.cli.reload import RELOAD_SECONDS

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.tokenfile import Rotated

app = group("Revoke app tokens; show and rotate their secrets.", "gateway tokens rotate")

MAX_INPUT_CHARACTERS = 65_536


@app.command("show", epilog=example("gateway tokens show", "gateway tokens show --running"))
def show_secrets(
    running: Annotated[
        bool, typer.Option("--running", help="As the running gateway has them, not the files.")
    ] = False,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Show which secret signs, which verify, and until when; never a secret."""
    options = Options(config, routes, output)
    with failures(output):
        from gateway.admin.tokens import shown  # noqa: PLC0415  # brings redis

        settings = read_settings(options, token_file=not running)
        if running:
            rows = ask_gateway(settings, "tokens.show", {})
        else:
            rows = shown(settings.app_tokens, time.time())
        show(rows, output)


@app.command(
    epilog=example("gateway tokens rotate", "gateway tokens rotate --ahead 10m --no-reload")
)
def rotate(
    ahead: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="Until the new one signs: every gateway must have it by then."
        ),
    ] = "60s",
    overlap: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="How long the former ones verify then; left out: until the last token has "
            "expired. 0s ends all of their tokens.",
        ),
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload/--no-reload", help="Tell the running gateway, by admin.token.")
    ] = True,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Add a new secret to app_tokens.secrets_file, and have the former one retire.

    The new one verifies at once and signs a minute later; the former one verifies until the last
    token that it signed has expired. Nobody is signed out. A new file belongs to whoever makes it:
    run this as the gateway's user.
    """
    options = Options(config, routes, output)
    with failures(output):
        settings = read_settings(options, token_file=False)
        rotated = _rotated(settings, ahead, overlap)
        told, problem = False, None
        if reload and settings.admin.token is not None:
            try:
                ask_gateway(settings, "reload", {}, seconds=RELOAD_SECONDS)
                told = True
            except Failure as failure:
                problem = failure
        show(_result(settings, rotated, told=told), output)
        if problem is not None:
            raise Failure(
                f"the file is written, but the gateway does not use it: {problem}",
                complaints=problem.complaints,
            )


@app.command(
    epilog=example(
        "gateway tokens revoke < token",
        "gateway tokens revoke --user 42 --jti 8Zk1tJ0a4w",
        "gateway tokens revoke --all",
    )
)
def revoke(
    user: Annotated[int | None, typer.Option(help="Whose token it is.")] = None,
    jti: Annotated[
        str | None, typer.Option(help="The token's id; or its `sid`, for all of its session.")
    ] = None,
    all_tokens: Annotated[
        bool, typer.Option("--all", help="All tokens of all users: everybody signs in again.")
    ] = False,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """End a token before it expires; returns when every worker knows, as `keys revoke` does.

    Without options the token itself is read from standard input, an access token or a refresh
    token; its whole session ends. All of one user's: `gateway users revoke-tokens`.
    """
    options = Options(config, routes, output)
    token = None
    if user is None and jti is None and not all_tokens:
        with failures(output):
            token = _read_token()
    operate(options, "tokens.revoke", user=user, jti=jti, token=token, all=all_tokens or None)


def _read_token() -> str:
    """From standard input. Raises Failure."""
    if sys.stdin.isatty():
        return getpass.getpass("Token: ")
    token = sys.stdin.read(MAX_INPUT_CHARACTERS).strip()
    if not token:
        raise Failure(
            "standard input is empty: give the token there, or --user and --jti, or --all",
            exit_code=WRONG_USAGE,
        )
    return token


def _rotated(settings: "Settings", ahead: str, overlap: str | None) -> "Rotated":
    from gateway.admin.arguments import BadArgument, duration  # noqa: PLC0415  # brings redis
    from gateway.errors import ConfigurationError  # noqa: PLC0415
    from gateway.tokenfile import CLOCK_SKEW_SECONDS, FileRefused, rotate  # noqa: PLC0415

    tokens = settings.app_tokens
    if tokens.secrets_file is None:
        raise Failure(
            "app_tokens.secrets_file is not set: name a file that the gateway may read, and this "
            "command makes it; secrets in the settings can only be changed there"
        )
    name = "ahead"
    try:
        ahead_seconds = duration(ahead)
        name = "overlap"
        seconds = tokens.lifetime + CLOCK_SKEW_SECONDS if overlap is None else duration(overlap)
    except BadArgument as mistake:
        raise Failure(f"--{name} {mistake}", exit_code=WRONG_USAGE) from None
    try:
        return rotate(
            Path(tokens.secrets_file),
            tokens.secrets,
            now=time.time(),
            ahead=ahead_seconds,
            overlap=seconds,
        )
    except FileRefused as refused:
        raise Failure(f"{tokens.secrets_file} {refused}") from None
    except ConfigurationError as error:
        raise Failure(f"{tokens.secrets_file} has mistakes", complaints=error.complaints) from None


def _result(settings: "Settings", rotated: "Rotated", *, told: bool) -> dict[str, Any]:
    from gateway.tokenfile import iso  # noqa: PLC0415  # brings yaml

    new, former, tokens = rotated.new, rotated.former, settings.app_tokens
    signs_from = iso(new.signs_from)
    file = Path(tokens.secrets_file or "").resolve()
    to_do = [f"have {file} on every other host, reloaded, before {signs_from}"]
    if not told and not settings.reload.watch:
        to_do.insert(0, "reload the gateway: `gateway reload`, or SIGHUP")
    if former is not None and any(key.id == former.id for key in tokens.secrets):
        to_do.append(
            f"take {former.id} out of app_tokens.secrets once the tokens that it signed have "
            f"expired: {tokens.lifetime} s after {signs_from}"
        )
    return {
        "id": new.id,
        "signs_from": signs_from,
        "replaces": former and {"id": former.id, "retires_at": iso(former.retires_at)},
        "dropped": list(rotated.dropped),
        "reloaded": told,
        "to_do": to_do,
    }
