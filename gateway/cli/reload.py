"""`gateway reload`: have a running gateway use the files as they are now."""

from typing import Annotated

import typer

from gateway.cli.configuration import read_settings
from gateway.cli.operate import ask_gateway
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
from gateway.cli.output import failures, show

app = group("Have a running gateway use the files as they are now.")

RELOAD_SECONDS = 100.0


@app.command(epilog=example("gateway reload", "gateway reload --workers", "kill -HUP PID"))
def reload(
    workers: Annotated[
        bool,
        typer.Option(
            "--workers", help="Start new workers; the old ones finish what they are serving."
        ),
    ] = False,
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Read settings and routes again, check them, and use them in every worker, or change nothing.

    The gateway reads the files that it was started with; --config only tells where it listens.
    It needs admin.token; SIGHUP to the gateway does the same and needs none.
    """
    options = Options(config, routes, output)
    with failures(output):
        settings = read_settings(options)
        result = ask_gateway(settings, "reload", {"workers": workers}, seconds=RELOAD_SECONDS)
        del result["problems"]
        show(result, output)
