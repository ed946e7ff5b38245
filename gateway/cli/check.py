"""`gateway check`: every problem of settings and routes at once, each with its place."""

import os

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
from gateway.cli.output import failures, printable, show

app = group("Find every problem in settings and routes.")


@app.command(
    epilog=example("gateway check --config config/gateway.yaml --routes routes.yaml"),
)
def check(
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Find every problem in settings and routes, as `gateway serve` would; 1 if there is any."""
    from gateway.errors import ConfigurationError  # noqa: PLC0415  # `--help` needs none of it
    from gateway.routefile import load_configuration  # noqa: PLC0415

    settings_path = Options(config, routes, output).settings_path
    with failures(output):
        try:
            _, route_file = load_configuration(settings_path, routes, os.environ)
        except ConfigurationError as error:
            raise wrong_configuration(error.complaints) from None
    found = {"routes": len(route_file.routes), "upstreams": len(route_file.upstreams)}
    if output is Output.JSON:
        show({**found, "warnings": route_file.warnings}, output)
        return
    for warning in route_file.warnings:
        print(printable(f"warning: {warning}"))
    print(
        f"ok: {found['routes']} routes to {found['upstreams']} upstreams, "
        f"no problem, {len(route_file.warnings)} warnings"
    )
