"""`gateway demo`: the whole product on this machine, and curl lines that show it."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import ConfigFile, Output, OutputForm, example, group
from gateway.cli.output import Failure, failures

app = group("Run the whole product here, with lines to try.")


@app.command(
    epilog=example(
        "gateway demo --port 8088", "gateway demo --check", "gateway demo --scale --seconds 30"
    )
)
def demo(
    check: Annotated[
        bool, typer.Option("--check", help="Run all lines, print a table, exit 0 or 1.")
    ] = False,
    scale: Annotated[
        bool,
        typer.Option("--scale", help="Two gateways and a Redis under load, and in trouble."),
    ] = False,
    seconds: Annotated[float, typer.Option(min=1, help="--scale: about how long it takes.")] = 60.0,
    port: Annotated[int | None, typer.Option(help="The gateway's port [8080].")] = None,
    admin_port: Annotated[int | None, typer.Option(help="Its admin port [9901].")] = None,
    market_data_port: Annotated[int | None, typer.Option(help="[9001]")] = None,
    strategy_port: Annotated[int | None, typer.Option(help="[9002]")] = None,
    identity_port: Annotated[
        int | None, typer.Option(help="Stand-ins for Google, Apple and Binance [9003].")
    ] = None,
    routes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Another route table than the shipped one."),
    ] = None,
    config: ConfigFile = None,  # noqa: ARG001  # as after every command; it would not be a demo
    output: OutputForm = Output.TEXT,
) -> None:
    """Run gateway, backends and an identity provider here, and print curl lines to try them.

    Ctrl-C ends it all. Port 0 takes any free one, as --check does where none is given. The
    settings are the demo's own, whatever --config says. --scale needs redis-server; it chooses
    its ports itself, ends by itself, and exits with 1 if anything was lost or not as promised.
    """
    from rich.console import Console  # noqa: PLC0415  # `--help` needs none of it

    from gateway.demo.ports import DemoError, Ports  # noqa: PLC0415
    from gateway.demo.run import run_check, run_demo  # noqa: PLC0415
    from gateway.demo.scale import run_scale  # noqa: PLC0415

    usual = Ports.free() if check else Ports()
    ports = Ports(
        gateway=usual.gateway if port is None else port,
        admin=usual.admin if admin_port is None else admin_port,
        market_data=usual.market_data if market_data_port is None else market_data_port,
        strategy=usual.strategy if strategy_port is None else strategy_port,
        identity=usual.identity if identity_port is None else identity_port,
    )
    run = run_check if check else run_demo
    with failures(output):
        try:
            if scale:
                code = run_scale(seconds, Console(), as_json=output is Output.JSON)
            else:
                code = run(ports, routes, Console(), as_json=output is Output.JSON)
        except DemoError as error:
            raise Failure(str(error)) from None
    raise typer.Exit(code)
