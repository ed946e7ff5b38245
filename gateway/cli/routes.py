"""`gateway routes`: the route table."""

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
from gateway.cli.output import failures, show

app = group("Show the route table.")


@app.command("routes", epilog=example("gateway routes --routes routes.yaml"))
def show_routes(
    config: ConfigFile = None,
    routes: RoutesFile = DEFAULT_ROUTES,
    output: OutputForm = Output.TEXT,
) -> None:
    """Show the route table, in the file's order; the most specific path wins."""
    from gateway.routefile import describe  # noqa: PLC0415  # `--help` needs none of it

    with failures(output):
        _, route_file = read_routes(Options(config, routes, output))
        table = describe(route_file)
        if output is Output.JSON:
            targets = {name: list(spec.targets) for name, spec in route_file.upstreams.items()}
            show({"routes": table, "upstreams": targets}, output)
        else:
            shown = [
                row
                | {"methods": ", ".join(row["methods"] or ["all"])}
                | {"scope": " ".join(row["scope"]), "limits": "; ".join(row["limits"])}
                for row in table
            ]
            show(shown, output)
