"""`gateway check`: every problem of settings and routes at once, each with its place."""

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
from gateway.cli.output import failures, printable, show

app = group("Find every problem in settings and routes.")


@app.command(epilog=example("gateway check --config config/gateway.yaml --routes routes.yaml"))
def check(
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Find every problem in settings and routes, as `gateway serve` would; 1 if there is any."""
    options = Options(config, routes, output)
    with failures(output):
        _, route_file = read_all(options)
    found = {"routes": len(route_file.routes), "upstreams": len(route_file.upstreams)}
    if output is Output.JSON:
        show({**found, "warnings": route_file.warnings}, output)
        return
    for warning in route_file.warnings:
        print(printable(f"warning: {warning}"))
    print(
        f"ok: no problem; routes: {found['routes']}, upstreams: {found['upstreams']}, "
        f"warnings: {len(route_file.warnings)}"
    )
