"""`gateway explain`: which route takes a request and what it asks, or why none does."""

from typing import Annotated
from urllib.parse import urlsplit

import typer

from gateway.cli.configuration import read_routes
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

app = group("Say what would become of a request, without sending it.")


@app.command(
    epilog=example(
        "gateway explain GET '/stock/v1/klines?symbol=AAPL'",
        "gateway explain POST https://api.example.com/orders/auth --output json",
    )
)
def explain(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="As in GET.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="A whole URL, or path and query.")],
    host: Annotated[
        str | None, typer.Option(metavar="NAME", help="The Host header [as in URL].")
    ] = None,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Say which route takes a request and what it asks, without sending anything.

    Exit code 1: the gateway would refuse it, whatever the credential; with the reason.
    """
    from gateway.cli.explanation import explained  # noqa: PLC0415  # `--help` needs none of it

    with failures(output):
        if not (method.isascii() and method.isalpha() and method.isupper()):
            raise Failure("METHOD must be in capitals, as in GET", exit_code=WRONG_USAGE)
        authority, target = split(url)
        settings, route_file = read_routes(Options(config, routes, output))
        named = authority if host is None else host
        show(explained(settings, route_file, method, named, target), output)


def split(url: str) -> tuple[str, str]:
    """The host that `url` names ("" for a path), and what a client sends: path and query.

    The target stays byte for byte as it is given; a client sends no fragment.
    """
    url = url.partition("#")[0]
    if url.startswith("/"):
        return "", url
    if not url.lower().startswith(("http://", "https://")):
        raise Failure("URL must begin with /, http:// or https://", exit_code=WRONG_USAGE)
    try:
        parts = urlsplit(url)
        authority = parts.netloc.rpartition("@")[2]
    except ValueError:
        raise Failure("URL has no valid host", exit_code=WRONG_USAGE) from None
    target = url[url.index("://") + 3 + len(parts.netloc) :]
    return authority, target if target.startswith("/") else f"/{target}"
