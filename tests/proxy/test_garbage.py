"""What a request leaves behind is gone with it, whatever became of it: no cycles.

A reload freezes what is alive (`gc.freeze`), and what is frozen amid a cycle is never freed; and
collections take time from every other request.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from backend import RawBackend, Received, Script
from harness import Running, open_gateway, route, upstream
from redis_process import eventually
from tunnels import agree, echo, opened, tunnels

from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.listener.connection import ClientConnection
from gateway.proxy.connection import UpstreamConnection
from gateway.proxy.forward import Relay
from gateway.proxy.tunnel import Side, Tunnel
from gateway.store.patience import Patience

KINDS = (
    ClientConnection,
    Exchange,
    GatewayError,
    Patience,
    Relay,
    Side,
    Tunnel,
    UpstreamConnection,
)
TIMES = 5
ENDING_TURNS = 200
GET = b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf"


async def cut(
    _backend: RawBackend, _request: Received, _reader: object, writer: asyncio.StreamWriter
) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    await writer.drain()
    writer.transport.abort()


async def reset(
    _backend: RawBackend, _request: Received, _reader: object, writer: asyncio.StreamWriter
) -> None:
    writer.transport.abort()


@pytest.fixture
async def backend() -> AsyncIterator[RawBackend]:
    backend = await RawBackend().start()
    yield backend
    await backend.stop()


@pytest.fixture
async def gateway(backend: RawBackend, redis_url: str, tmp_path: Path) -> AsyncIterator[Running]:
    upstreams = upstream(backend.url) | {"dead": {"targets": ["http://127.0.0.1:1"]}}
    routes = [
        route("/a", websocket=True),
        route("/paid", "plan_key", plan="standard", name="paid"),
        route("/dead", name="dead") | {"upstream": "dead"},
    ]
    table = {"upstreams": upstreams, "routes": routes}
    settings = {"store": {"url": redis_url, "prefix": "garbage"}}
    async with open_gateway(tmp_path, table, settings) as running:
        yield running


async def one_after_the_other(gateway: Running) -> None:
    await gateway.talk(GET % b"/a", until_closed=True)


async def unknown_path(gateway: Running) -> None:
    await gateway.talk(GET % b"/nowhere", until_closed=True)


async def unknown_key(gateway: Running) -> None:
    head = b"GET /paid HTTP/1.1\r\nHost: a\r\nX-Primit-API-Key: pk_x\r\nConnection: close\r\n\r\n"
    assert b" 401 " in await gateway.talk(head, until_closed=True)


async def malformed(gateway: Running) -> None:
    assert b" 400 " in await gateway.talk(b"GET\0/ HTTP/1.1\r\n\r\n", until_closed=True)


async def backend_refuses(gateway: Running) -> None:
    assert b" 502 " in await gateway.talk(GET % b"/dead", until_closed=True)


async def client_leaves(gateway: Running) -> None:
    backend_has = len(gateway.log())
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(POST)
    await asyncio.sleep(0.05)
    writer.transport.abort()
    await eventually(lambda: len(gateway.log()) > backend_has)


async def socket(gateway: Running) -> None:
    async with opened(gateway, b"/a") as (_, reader, writer):
        writer.write(b"something")
        assert await reader.readexactly(9) == b"something"
        writer.close()
        await reader.read()
    await eventually(lambda: not tunnels(gateway))


@pytest.mark.parametrize(
    ("ask", "script"),
    [
        (one_after_the_other, None),
        (one_after_the_other, cut),
        (one_after_the_other, reset),
        (unknown_path, None),
        (unknown_key, None),
        (malformed, None),
        (backend_refuses, None),
        (client_leaves, None),
        (socket, agree(echo)),
    ],
)
async def test_nothing_is_left_for_the_garbage_collector(
    gateway: Running,
    backend: RawBackend,
    ask: Callable[[Running], Awaitable[None]],
    script: Script | None,
) -> None:
    backend.script = script
    await ask(gateway)  # the first one makes what stays
    gc.collect()
    gc.disable()
    try:
        before = alive()
        for _ in range(TIMES):
            await ask(gateway)
        for _ in range(ENDING_TURNS):  # what a connection's end sets off
            if not alive() - before:
                break
            await asyncio.sleep(0.01)
        left = alive() - before
    finally:
        gc.enable()
    assert not left


def alive() -> Counter[str]:
    kinds = (type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, KINDS))
    return Counter(kinds)
