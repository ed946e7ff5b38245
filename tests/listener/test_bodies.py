"""Leave to send a body, back-pressure both ways, and clients that leave, in every phase."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from backend import RawBackend
from harness import Running, open_gateway, read_answer, route, upstream
from redis_process import eventually

GET = b"GET /x HTTP/1.1\r\nHost: api.example\r\n\r\n"
MEGABYTES = 32 << 20


@asynccontextmanager
async def gateway_before(
    backend: RawBackend, folder: Path, settings: dict[str, Any] | None = None
) -> AsyncIterator[Running]:
    routes = [
        route(),
        route("/small", name="small", max_body=1000),
        route("/me", "app_token", name="me"),
        route("/klines", "plan_key", name="klines", plan="standard"),
        route("/orders/auth", "body_credentials", name="orders", methods=["POST"]),
        route("/registered", "registered_key", name="registered", methods=["POST"]),
        route("/owned", "registered_key", name="owned", methods=["POST"], owner="app_token"),
    ]
    files = {"upstreams": upstream(backend.url), "routes": routes}
    async with open_gateway(folder, files, settings) as running:
        yield running


# Leave to send a body.

REFUSED: dict[str, tuple[bytes, bytes, bytes]] = {
    "no route": (b"PATCH /orders/auth", b"", b"405"),
    "app token": (b"POST /me", b"", b"401"),
    "bad app token": (b"POST /me", b"Authorization: Bearer x.y.z\r\n", b"401"),
    "plan key": (b"POST /klines", b"", b"401"),
    "bad plan key": (b"POST /klines", b"X-Primit-API-Key: pk_" + b"0" * 36 + b"\r\n", b"401"),
    "owner of a registered key": (b"POST /owned", b"", b"401"),
    "public, too long": (b"POST /small", b"", b"413"),
    "body credentials, too long": (b"POST /orders/auth", b"", b"413"),
    "registered key, too long": (b"POST /registered", b"", b"413"),
}


@pytest.mark.parametrize(("line", "fields", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_refused_upload_gets_no_leave_to_send_its_body(
    backend: RawBackend, tmp_path: Path, line: bytes, fields: bytes, status: bytes
) -> None:
    head = b" HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100000000\r\n"
    async with gateway_before(backend, tmp_path) as gateway:
        got = await gateway.talk(line + head + fields + b"\r\n")
        assert got.split(b" ", 2)[1] == status
        assert b"100 Continue" not in got
        assert b"\r\nConnection: close\r\n" in got
    assert backend.requests == []


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (b"/x", b"hello"),
        (b"/orders/auth", b'{"api_key": "k", "api_secret": "s"}'),
    ],
    ids=["streamed", "whole"],
)
async def test_an_admitted_upload_gets_leave_once_and_from_us(
    backend: RawBackend, tmp_path: Path, target: bytes, body: bytes
) -> None:
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: %d\r\n\r\n"
    async with gateway_before(backend, tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(head % (target, len(body)))
        async with asyncio.timeout(10):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
            assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
        assert backend.last.body == body
        assert backend.last.all(b"Expect") == []
        writer.transport.abort()


async def test_leave_is_not_given_to_http_1_0(backend: RawBackend, tmp_path: Path) -> None:
    head = b"POST /x HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    async with gateway_before(backend, tmp_path) as gateway:
        got = await gateway.talk(head + b"hello", until_closed=True)
        assert got.startswith(b"HTTP/1.1 200 ")
        assert backend.last.body == b"hello"


# Back-pressure.


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_backend_that_does_not_read_stops_the_upload_and_not_the_gateway(
    backend: RawBackend, tmp_path: Path, framing: str
) -> None:
    go_on = asyncio.Event()
    taken = 0

    async def stall(
        _b: Any, _q: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal taken
        await go_on.wait()
        while taken < MEGABYTES:
            taken += len(await reader.read(1 << 20))
        writer.write(backend.answer)

    backend.script, backend.read_bodies = stall, False
    async with gateway_before(backend, tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        if framing == "length":
            writer.write(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % MEGABYTES)
            writer.write(bytes(MEGABYTES))
        else:
            writer.write(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            chunk = b"2000\r\n" + bytes(0x2000) + b"\r\n"
            writer.write(chunk * (MEGABYTES // 0x2000) + b"0\r\n\r\n")
        before, left = -1, writer.transport.get_write_buffer_size()
        while before != left:  # until nothing moves any more
            await asyncio.sleep(0.3)
            before, left = left, writer.transport.get_write_buffer_size()
        (connection,) = gateway.listener.connections
        pool = gateway.parts.pools["backend"]
        assert pool.active_connections == 1
        held = connection.payload._size  # type: ignore[attr-defined]
        assert held <= 1 << 20
        assert left > MEGABYTES // 3  # what is not there is in sockets: some MiB each
        go_on.set()
        async with asyncio.timeout(30):
            assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
        assert taken >= MEGABYTES
        writer.transport.abort()


async def test_a_client_that_does_not_read_stops_the_backend_and_not_the_gateway(
    backend: RawBackend, tmp_path: Path
) -> None:
    sent = 0

    async def pour(_b: Any, _q: Any, _r: Any, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MEGABYTES)
        while sent < MEGABYTES:
            writer.write(bytes(1 << 16))
            await writer.drain()
            sent += 1 << 16

    backend.script = pour
    async with gateway_before(backend, tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
        writer.write(GET)
        before = -1
        while before != sent or not sent:
            before = sent
            await asyncio.sleep(0.3)
        (connection,) = gateway.listener.connections
        assert connection.transport is not None
        assert connection.transport.get_write_buffer_size() < 1 << 20
        assert sent < MEGABYTES * 2 // 3
        async with asyncio.timeout(30):
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(MEGABYTES)
        writer.transport.abort()


# Clients that leave.


async def test_a_client_that_leaves_before_the_answer_ends_the_upstream_request(
    backend: RawBackend, tmp_path: Path
) -> None:
    async def never(_b: Any, _q: Any, reader: asyncio.StreamReader, _w: Any) -> None:
        await reader.read()

    backend.script = never
    async with gateway_before(backend, tmp_path) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(GET)
        await eventually(lambda: backend.open_connections == 1)
        await eventually(lambda: len(backend.requests) == 1)
        writer.transport.abort()
        await eventually(lambda: not backend.open_connections)
        await eventually(lambda: [line["reason"] for line in gateway.log()] == ["client_gone"])


async def test_a_client_that_leaves_amid_its_upload_ends_the_upstream_request(
    backend: RawBackend, tmp_path: Path
) -> None:
    async with gateway_before(backend, tmp_path) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
        await eventually(lambda: backend.open_connections == 1)
        await eventually(lambda: len(backend.requests) == 1)
        writer.transport.abort()
        await eventually(lambda: not backend.open_connections)
        await eventually(lambda: [line["status"] for line in gateway.log()] == [499])


async def test_a_client_that_leaves_amid_its_download_ends_the_upstream_request(
    backend: RawBackend, tmp_path: Path
) -> None:
    async def pour(_b: Any, _q: Any, _r: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"5\r\nhello\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    backend.script = pour
    async with gateway_before(backend, tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(GET)
        await reader.readuntil(b"hello")
        writer.transport.abort()
        await eventually(lambda: not backend.open_connections)
        await eventually(lambda: [line["reason"] for line in gateway.log()] == ["client_gone"])


async def test_a_client_that_leaves_while_its_limit_is_asked_for_never_reaches_a_backend(
    backend: RawBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway_before(backend, tmp_path) as gateway:
        limiter = gateway.parts.limiter
        asked, go_on = asyncio.Event(), asyncio.Event()
        ask = limiter.ask

        async def slowly(bucket: str, cost: int) -> Any:
            asked.set()
            await go_on.wait()
            return await ask(bucket, cost)

        monkeypatch.setattr(limiter, "ask", slowly)
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(GET)
        await eventually(asked.is_set)
        writer.transport.abort()
        await eventually(lambda: not gateway.listener.census.total)
        go_on.set()
        await eventually(lambda: [line["reason"] for line in gateway.log()] == ["client_gone"])
        await eventually(lambda: not gateway.listener.connections)
    assert backend.requests == []
