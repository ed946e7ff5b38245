"""`gateway serve`: run the gateway until a signal ends it."""

import typer

from gateway.cli.configuration import read_all
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


@app.command(epilog=example("gateway serve --config config/gateway.yaml --routes routes.yaml"))
def serve(
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C, which let requests under way finish."""
    options = Options(config, routes, output)
    with failures(output):
        settings, route_file = read_all(options)
    from gateway import server  # noqa: PLC0415  # after the check: a wrong file is told fast

    raise typer.Exit(server.serve(settings, route_file, options.settings_path, routes))
