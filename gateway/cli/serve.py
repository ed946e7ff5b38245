"""`gateway serve`: run the gateway until a signal ends it."""

import os

import typer

from gateway.cli.operate import wrong_configuration
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
from gateway.cli.output import failures

app = group("Run the gateway.")


@app.command(
    epilog=example("gateway serve --config config/gateway.yaml --routes routes.yaml"),
)
def serve(
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C, which let requests under way finish."""
    from gateway.errors import ConfigurationError  # noqa: PLC0415  # `--help` needs none of it
    from gateway.routefile import load_configuration  # noqa: PLC0415

    settings_path = Options(config, routes, output).settings_path
    with failures(output):
        try:
            settings, route_file = load_configuration(settings_path, routes, os.environ)
        except ConfigurationError as error:
            raise wrong_configuration(error.complaints) from None
    from gateway import server  # noqa: PLC0415  # after the check: a wrong file is told fast

    raise typer.Exit(server.serve(settings, route_file, settings_path, routes))
