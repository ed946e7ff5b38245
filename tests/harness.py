"""A whole gateway in the test's own event loop: real sockets, real parts, settings as a test needs.

`open_gateway` builds it as a worker does, from a settings and a routes file on disk.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.control import Configuration
from gateway.listener import Listener
from gateway.live import LiveGateway
from gateway.observe.access_log import AccessLog
from gateway.observe.metrics import Metrics
from gateway.parts import Parts
from gateway.pipeline import Gateway
from gateway.routefile import load_routes
from gateway.settings import load_settings
from gateway.tls import server_tls
from gateway.worker import tick

TOKEN_SECRET = "a-token-secret-of-more-than-32-bytes"
VAULT_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
ENVIRON = {"GATEWAY_TOKEN_SECRET": TOKEN_SECRET, "GATEWAY_VAULT_KEY": VAULT_KEY}


@dataclass
class Running:
    """A gateway that runs; `parts` are its insides, for arranging a test."""

    port: int
    live: LiveGateway
    listener: Listener
    log_path: Path

    @property
    def parts(self) -> Parts:
        return self.live.parts

    @property
    def gateway(self) -> Gateway:
        return self.live.gateway

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> list[dict[str, Any]]:
        """The access log as far as it is written."""
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]

    async def talk(self, *pieces: bytes, until_closed: bool = False) -> bytes:
        """Send bytes on a connection of their own; what came back.

        One answer by its Content-Length, or all until the gateway closes.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            async with asyncio.timeout(10):
                if until_closed:
                    return await reader.read()
                return await read_answer(reader)
        finally:
            writer.transport.abort()


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """One answer with its body, by Content-Length (none: no body)."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        if name.lower() == b"content-length":
            return head + await reader.readexactly(int(value))
    return head


@asynccontextmanager
async def open_gateway(
    folder: Path,
    routes: dict[str, Any],
    settings: dict[str, Any] | None = None,
    environ: dict[str, str] | None = None,
) -> AsyncIterator[Running]:
    environ = ENVIRON | (environ or {})
    settings_path, routes_path = folder / "gateway.yaml", folder / "routes.yaml"
    settings_path.write_text(json.dumps(settings or {}))  # JSON is YAML
    routes_path.write_text(json.dumps({"version": 1, **routes}))
    loaded = load_settings(settings_path, environ)
    route_file = load_routes(routes_path, loaded, environ)
    log_path = folder / "access.log"
    descriptor = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    metrics = Metrics()
    access_log = AccessLog(loaded.logging, descriptor=descriptor)
    access_log.start()
    live = await LiveGateway.open(Configuration(loaded, route_file), metrics, access_log)
    listener = Listener(live.gateway, loaded, live.parts.addresses, server_tls(loaded))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(listener, "127.0.0.1", 0)
    ticker = loop.create_task(tick(live, metrics, listener))
    try:
        yield Running(server.sockets[0].getsockname()[1], live, listener, log_path)
    finally:
        ticker.cancel()
        server.close()
        await listener.shutdown(0.1)
        await live.close()
        access_log.close()
        os.close(descriptor)


def upstream(url: str, **more: Any) -> dict[str, Any]:
    return {"backend": {"targets": [url], **more}}


def route(path: str = "/{rest...}", auth: str = "public", **more: Any) -> dict[str, Any]:
    return {
        "name": more.pop("name", "all"),
        "path": path,
        "auth": auth,
        "upstream": "backend",
        **more,
    }
