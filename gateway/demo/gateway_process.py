"""The real gateway as a child process of the demo, with settings and routes made for it.

Secrets are new each time and reach it by environment alone. It has a session of its own, so that
Ctrl-C in the terminal reaches the demo, which then ends the gateway as an operator would.
"""

import asyncio
import base64
import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import yaml

from gateway.demo.identity_provider import APPLE_AUDIENCE, GOOGLE_AUDIENCE
from gateway.demo.ports import HOST, DemoError, Ports

START_SECONDS = 20.0
POLL_SECONDS = 0.05
DRAIN_SECONDS = 3
STOP_SECONDS = 10.0
SHOWN_LOG_CHARACTERS = 4000


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the gateway needs to know and nobody else; new for each demo."""

    admin_token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    token_secret: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)
    vault_key: str = field(
        default_factory=lambda: base64.b64encode(secrets.token_bytes(32)).decode(), repr=False
    )

    def environment(self) -> dict[str, str]:
        return {
            "GATEWAY_ADMIN_TOKEN": self.admin_token,
            "GATEWAY_TOKEN_SECRET": self.token_secret,
            "GATEWAY_VAULT_KEY": self.vault_key,
        }


def settings_text(ports: Ports) -> str:
    """gateway.yaml for the demo: everything on this machine, the stand-ins for the world."""
    identity = f"http://{HOST}:{ports.identity}"
    return yaml.safe_dump(
        {
            "listen": {"host": HOST, "port": ports.gateway, "workers": 1},
            "admin": {"host": HOST, "port": ports.admin, "token": "${GATEWAY_ADMIN_TOKEN}"},
            "store": {"url": "memory://"},
            # So that one line can show the limit as another client, without blocking this one.
            "client_ip": {"trusted_proxies": [f"{HOST}/32"]},
            "app_tokens": {"secrets": [{"id": "demo", "secret": "${GATEWAY_TOKEN_SECRET}"}]},
            "google": {
                "audiences": [GOOGLE_AUDIENCE],
                "certificates_url": f"{identity}/oauth2/v1/certs",
            },
            "apple": {"audiences": [APPLE_AUDIENCE], "keys_url": f"{identity}/auth/keys"},
            "vault": {
                "encryption_keys": [{"id": "demo", "secret": "${GATEWAY_VAULT_KEY}"}],
                "binance_url": identity,
            },
            "shutdown": {"grace": 0, "deadline": DRAIN_SECONDS},
        },
        sort_keys=False,
    )


def routes_for(shipped: Path, ports: Ports, folder: Path) -> Path:
    """The shipped route table; where backends have other ports, a copy with other targets."""
    usual = Ports()
    if (ports.market_data, ports.strategy) == (usual.market_data, usual.strategy):
        return shipped
    try:
        table = yaml.safe_load(shipped.read_text(encoding="utf-8"))
        for name, port in (("market-data", ports.market_data), ("strategy", ports.strategy)):
            table["upstreams"][name]["targets"] = [f"http://{HOST}:{port}"]
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise DemoError(f"{shipped} can't be used for the demo: {error!r}") from error
    copy = folder / "routes.yaml"
    copy.write_text(yaml.safe_dump(table, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return copy


def environment(outer: Mapping[str, str], own: Secrets) -> dict[str, str]:
    """`outer` without the settings of another gateway, with the demo's secrets."""
    kept = {name: value for name, value in outer.items() if not name.startswith("GATEWAY_")}
    return kept | own.environment()


@dataclass(frozen=True, slots=True)
class GatewayProcess:
    """A running gateway, and where it writes what it has to say."""

    process: asyncio.subprocess.Process
    log: Path

    async def wait(self) -> int:
        return await self.process.wait()

    async def kill(self) -> None:
        """End it in this moment, with its workers: nothing of what it does is finished."""
        os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()

    def last_words(self) -> str:
        """The end of its log, without the lines of single requests."""
        rows = self.log.read_text(errors="replace").splitlines()
        words = [row for row in rows if '"client_ip":' not in row]
        return "\n".join(words)[-SHOWN_LOG_CHARACTERS:]


@contextlib.asynccontextmanager
async def running_gateway(
    ports: Ports, shipped_routes: Path, own: Secrets, folder: Path
) -> AsyncIterator[GatewayProcess]:
    """The demo's gateway, ready. Raises as `serving`."""
    settings = folder / "gateway.yaml"
    settings.write_text(settings_text(ports), encoding="utf-8")
    routes = routes_for(shipped_routes, ports, folder)
    async with serving(settings, routes, ports.admin, own, folder / "gateway.log") as gateway:
        yield gateway


@contextlib.asynccontextmanager
async def serving(
    settings: Path, routes: Path, admin_port: int, own: Secrets, log: Path
) -> AsyncIterator[GatewayProcess]:
    """Start `gateway serve`, wait until it is ready, and end it with everything it started.

    Raises DemoError when it ends or isn't ready in time.
    """
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "gateway", "serve", "--config", str(settings), "--routes", str(routes)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(os.environ, own),
            start_new_session=True,
        )
    gateway = GatewayProcess(process, log)
    try:
        await _ready(gateway, f"http://{HOST}:{admin_port}/readyz")
        yield gateway
    finally:
        await _end(process)


async def _ready(gateway: GatewayProcess, url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    timeout = aiohttp.ClientTimeout(total=2)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        while gateway.process.returncode is None:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            if time.monotonic() > deadline:
                raise DemoError(
                    f"the gateway wasn't ready within {START_SECONDS:.0f} s:\n"
                    + gateway.last_words()
                )
            await asyncio.sleep(POLL_SECONDS)
    raise DemoError(
        f"the gateway ended with exit code {gateway.process.returncode}:\n" + gateway.last_words()
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM; then SIGKILL for whatever is left of its session."""
    if process.returncode == -signal.SIGKILL:  # by `kill`: by now its id may be another's
        return
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
