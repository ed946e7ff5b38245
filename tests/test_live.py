"""One worker's step to the next configuration, and what was on the way meanwhile."""

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from backend import RawBackend
from harness import ENVIRON, Running, open_gateway, read_answer, route, upstream
from redis_process import eventually
from tunnels import agree, echo, opened

from gateway.control import Configuration
from gateway.proxy.connection import UpstreamConnection
from gateway.proxy.pool import Pool
from gateway.proxy.sockets import NEVER, OpenSockets
from gateway.routefile import load_routes
from gateway.sections import SocketsSettings
from gateway.settings import load_settings

SETTINGS: dict[str, Any] = {"rate_limit": {"enabled": False}}


@pytest.fixture
async def backend() -> AsyncIterator[RawBackend]:
    backend = await RawBackend().start()
    yield backend
    await backend.stop()


@contextlib.asynccontextmanager
async def running(
    folder: Path, backend: RawBackend, *routes: dict[str, Any], **settings: Any
) -> AsyncIterator[Running]:
    table = {"upstreams": upstream(backend.url), "routes": list(routes)}
    async with open_gateway(folder, table, SETTINGS | settings) as gateway:
        yield gateway


def configuration(
    folder: Path, url: str, *routes: dict[str, Any], of_upstream: Any = None, **settings: Any
) -> Configuration:
    upstreams = upstream(url, **(of_upstream or {}))
    (folder / "gateway.yaml").write_text(json.dumps(SETTINGS | settings))
    table = {"version": 1, "upstreams": upstreams, "routes": list(routes)}
    (folder / "routes.yaml").write_text(json.dumps(table))
    loaded = load_settings(folder / "gateway.yaml", ENVIRON)
    return Configuration(loaded, load_routes(folder / "routes.yaml", loaded, ENVIRON))


async def use(gateway: Running, new: Configuration) -> None:
    await gateway.live.prepare(new)
    await gateway.live.commit()
    parts = gateway.live.parts
    gateway.listener.use(gateway.live.gateway, parts.settings.bounds, parts.addresses, None)


async def test_a_request_that_is_still_being_admitted_gets_to_the_upstream_of_before(
    tmp_path: Path, backend: RawBackend
) -> None:
    slow = route("/orders", "body_credentials", methods=["POST"])
    body = b'{"api_key": "a", "api_secret": "b"}'
    async with running(tmp_path, backend, slow) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"POST /orders HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
        writer.write(body[:10])
        await eventually(lambda: any(c._in_body for c in gateway.listener.connections))
        before = gateway.live.parts.pools["backend"]
        new = configuration(tmp_path, backend.url, slow, of_upstream={"max_requests": 7})
        await use(gateway, new)
        assert gateway.live.parts.pools["backend"] is not before
        for _ in range(3):  # the clock goes on meanwhile
            gateway.live.sweep(asyncio.get_running_loop().time())
            await asyncio.sleep(0)
        writer.write(body[10:])
        assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_a_pool_that_was_replaced_ends_at_its_deadline(
    tmp_path: Path, backend: RawBackend
) -> None:
    async with running(tmp_path, backend, route()) as gateway:
        before = gateway.live.parts.pools["backend"]
        limit = {"max_requests": 7}
        await use(gateway, configuration(tmp_path, backend.url, route(), of_upstream=limit))
        ((pool, ends),) = gateway.live.parts.leaving
        assert pool is before
        gateway.live.sweep(ends + 1)
        assert gateway.live.parts.leaving == []
        await eventually(lambda: before._closed)


async def test_the_names_of_a_new_upstream_are_looked_up_before_it_takes_requests(
    tmp_path: Path, backend: RawBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = backend.url.rpartition(":")[2]
    loop = asyncio.get_running_loop()

    async def slow(*_: Any, **_named: Any) -> Any:
        await asyncio.sleep(0.2)
        return [(2, 1, 6, "", ("127.0.0.1", int(port)))]

    async with running(tmp_path, backend, route()) as gateway:
        monkeypatch.setattr(loop, "getaddrinfo", slow)
        await use(gateway, configuration(tmp_path, f"http://backend.test:{port}", route()))
        assert next(iter(gateway.live.parts.pools["backend"].states())) == ("up", 1)


async def test_a_socket_on_a_changed_route_keeps_it_and_its_deadline_over_further_reloads(
    tmp_path: Path, backend: RawBackend
) -> None:
    backend.script = agree(echo)
    before, after = route("/ws", websocket=True), route("/ws", "app_token", websocket=True)
    async with running(tmp_path, backend, before) as gateway, opened(gateway) as (_, reader, w):
        (socket,) = gateway.parts.sockets
        admitted = socket.exchange.route
        await use(gateway, configuration(tmp_path, backend.url, after))
        ends_at = socket.ends_at
        assert ends_at != NEVER
        more = route("/more", name="more")
        await use(gateway, configuration(tmp_path, backend.url, after, more))
        assert socket.exchange.route is admitted
        assert socket.ends_at == ends_at
        w.write(b"still here")
        assert await reader.readexactly(10) == b"still here"


async def test_a_socket_that_was_admitted_on_a_route_that_is_gone_by_now_ends_with_it() -> None:
    sockets = OpenSockets(SocketsSettings(), str)
    old, new = SimpleNamespace(name="kept"), SimpleNamespace(name="kept")
    sockets.end_routes(lambda route: new if route in (old, new) else None, 5.0)

    def late(route: Any) -> Any:
        return SimpleNamespace(identity=None, client_ip="192.0.2.1", route=route)

    with sockets.place(late(SimpleNamespace(name="gone"))) as gone:
        assert gone.ends_at == 5.0
    for admitted in (old, new):
        with sockets.place(late(admitted)) as kept:
            assert (kept.ends_at, kept.exchange.route) == (NEVER, new)


async def test_a_short_deadline_does_not_wait_for_a_longer_one_before_it(
    tmp_path: Path, backend: RawBackend
) -> None:
    backend.script = agree(echo)
    routes = [route(f"/{name}", name=name) for name in ("first", "second")]

    async def never(*_: Any) -> None:
        await asyncio.sleep(60)

    backend.script = never
    async with running(tmp_path, backend, *routes) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually(lambda: len(backend.requests) == 1)
        for left, drain in ((routes[1:], 3600), ([], 0)):
            new = configuration(tmp_path, backend.url, *left, reload={"drain": drain})
            await use(gateway, new)
        assert (await read_answer(reader)).startswith(b"HTTP/1.1 503 ")
        writer.close()


async def test_whoever_waits_for_a_providers_keys_gets_them_after_its_settings_have_changed(
    tmp_path: Path, backend: RawBackend
) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_b: Any, _q: Any, _r: Any, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await go_on.wait()
        writer.write(b"HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n")

    backend.script = slow
    google = {"audiences": ["a"], "certificates_url": backend.url + "/certs"}
    async with running(tmp_path, backend, google=google) as gateway:
        verifier = gateway.live.parts.google
        assert verifier is not None
        waiting = asyncio.create_task(verifier.keys._fetch_shared())
        await asked.wait()
        google["audiences"] = ["b"]
        await use(gateway, configuration(tmp_path, backend.url, google=google))
        go_on.set()
        await waiting
        assert verifier.keys._failed  # by what the provider said


def alive() -> int:
    """Pools and their connections in memory, with those that only a cycle of references keeps."""
    gc.unfreeze()
    return sum(isinstance(thing, Pool | UpstreamConnection) for thing in gc.get_objects())


async def test_nothing_of_a_configuration_before_stays_in_memory(
    tmp_path: Path, backend: RawBackend
) -> None:
    gc.unfreeze()
    gc.collect()
    before = alive()
    async with running(tmp_path, backend, route()) as gateway:
        for limit in range(1, 6):
            assert (await gateway.talk(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")).endswith(b"ok")
            of_upstream = {"max_requests": limit}
            await use(
                gateway, configuration(tmp_path, backend.url, route(), of_upstream=of_upstream)
            )
        assert gateway.live.parts.pools["backend"].idle_connections == 0
        gateway.live.sweep(max(ends for _, ends in gateway.live.parts.leaving) + 1)
        await eventually(lambda: not gateway.live.parts.closing)
        await eventually(lambda: backend.open_connections == 0)
        gc.collect()  # which does not look at what a reload found
        assert alive() == before + 1
