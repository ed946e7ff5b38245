"""Starts the whole demo on this machine and ends it again, in reverse order, whatever happens.

Backends and stand-ins live in this process's event loop; the gateway is a child process.
"""

import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import gateway
from gateway.demo import backend
from gateway.demo.gateway_process import GatewayProcess, Secrets, running_gateway
from gateway.demo.identity_provider import IdentityProvider
from gateway.demo.lines import Facts
from gateway.demo.market_data import market_data_application
from gateway.demo.ports import HOST, DemoError, Ports, bind, port_of
from gateway.demo.seed import seed
from gateway.demo.strategy import strategy_application


@dataclass(frozen=True, slots=True)
class Stage:
    """The demo, running and seeded."""

    ports: Ports
    facts: Facts
    gateway: GatewayProcess


def shipped_routes() -> Path:
    """routes.yaml of the product: beside the package, or where the demo was started."""
    for folder in (Path(gateway.__file__).resolve().parents[1], Path.cwd()):
        if (folder / "routes.yaml").is_file():
            return folder / "routes.yaml"
    raise DemoError("there is no routes.yaml here; name one with --routes")


@contextlib.asynccontextmanager
async def stage(ports: Ports, routes: Path | None = None) -> AsyncIterator[Stage]:
    """Raises DemoError when a port is taken or a part doesn't start."""
    shipped = routes or shipped_routes()
    provider = IdentityProvider()
    async with contextlib.AsyncExitStack() as stack:
        # The gateway's own two are held only until all are known, then left to it.
        held = stack.enter_context(contextlib.ExitStack())
        data = held.enter_context(bind(ports.gateway, "--port"))
        admin = held.enter_context(bind(ports.admin, "--admin-port"))
        market_data = stack.enter_context(bind(ports.market_data, "--market-data-port"))
        strategy = stack.enter_context(bind(ports.strategy, "--strategy-port"))
        identity = stack.enter_context(bind(ports.identity, "--identity-port"))
        ports = replace(
            ports,
            gateway=port_of(data),
            admin=port_of(admin),
            market_data=port_of(market_data),
            strategy=port_of(strategy),
            identity=port_of(identity),
        )
        held.close()
        for application, listener in (
            (market_data_application(), market_data),
            (strategy_application(), strategy),
            (provider.application(), identity),
        ):
            runner = await backend.start(application, listener)
            stack.push_async_callback(runner.cleanup)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-demo-")))
        own = Secrets()
        process = await stack.enter_async_context(running_gateway(ports, shipped, own, folder))
        gateway_url = f"http://{HOST}:{ports.gateway}"
        admin_url = f"http://{HOST}:{ports.admin}"
        seeded = await seed(admin_url, own.admin_token, provider.binance_key)
        facts = Facts(
            gateway_url=gateway_url,
            admin_url=admin_url,
            identity_url=f"http://{HOST}:{ports.identity}",
            admin_token=own.admin_token,
            key=seeded.key,
            expired_key=seeded.expired_key,
            unpaid_key=seeded.unpaid_key,
            revoked_key=seeded.revoked_key,
            registered_last_four=provider.binance_key.api_key[-4:],
        )
        yield Stage(ports, facts, process)
