"""`gateway store`: is the Redis that the settings name what a gateway needs?"""

import asyncio
from dataclasses import asdict

import typer

from gateway.cli.configuration import read_settings
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
from gateway.cli.output import REFUSED, Failure, failures, printable, show

app = group("Check the Redis that the settings name.", "gateway store check")


@app.callback()
def _store() -> None:
    """A group, though it has one command yet."""


@app.command(epilog=example("gateway store check --output json"))
def check(
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Say what is right and wrong with store.url's Redis, and what to do; 1 on an error."""
    from gateway.errors import ConfigurationError  # noqa: PLC0415  # `--help` needs none of it
    from gateway.store import check as store_check  # noqa: PLC0415

    with failures(output):
        settings = read_settings(Options(config, routes, output))
        try:
            findings = asyncio.run(store_check.check(settings.store), debug=False)
        except ConfigurationError as error:
            raise Failure(str(error)) from None
    good = all(finding.level != "error" for finding in findings)
    if output is Output.JSON:
        show({"ok": good, "findings": [asdict(finding) for finding in findings]}, output)
    else:
        for found in findings:
            print(printable(f"{found.level}: {found.server}: {found.topic}: {found.message}"))
    if not good:
        raise typer.Exit(REFUSED)
