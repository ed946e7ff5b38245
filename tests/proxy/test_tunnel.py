"""Upgraded connections over raw sockets: what passes, who waits for whom, and how they end."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from backend import OK, RawBackend
from harness import Running, open_gateway, route, upstream
from redis_process import eventually
from tunnels import HEAD, agree, echo, frame, handshake, opened, silent, tunnels

from gateway.proxy import tunnel as tunnel_module

SETTINGS: dict[str, Any] = {"rate_limit": {"requests": 100_000}}
MUCH = 48 << 20  # bytes: more than all sockets on the way hold
CLOSE_1001 = b"\x88\x02\x03\xe9"


@pytest.fixture
async def backend() -> AsyncIterator[RawBackend]:
    backend = await RawBackend().start()
    yield backend
    await backend.stop()


@pytest.fixture
async def gateway(backend: RawBackend, tmp_path: Path) -> AsyncIterator[Running]:
    upstreams = upstream(backend.url, timeout={"connect": 1, "read": 1})
    routes = [
        route("/ws", name="ws", websocket=True),
        route("/foo", name="foo", upgrade=["Foo/2", "bar"]),
        route("/both", name="both", websocket=True, upgrade=["foo/2"]),
        route("/plain", name="plain"),
    ]
    table = {"upstreams": upstreams, "routes": routes}
    async with open_gateway(tmp_path, table, SETTINGS) as running:
        yield running


async def log_line(gateway: Running) -> dict[str, Any]:
    """The one line, once it is written."""
    await eventually(lambda: bool(gateway.log()))
    (line,) = gateway.log()
    return line


# Which requests are upgrades.


@pytest.mark.parametrize(
    ("path", "asked", "passed"),
    [
        (b"/foo", b"foo/2", b"foo/2"),
        (b"/foo", b"FOO/2", b"foo/2"),
        (b"/foo", b"h2c, foo/2, x, BAR, bar", b"foo/2, bar"),
        (b"/both", b"websocket, foo/2", b"websocket, foo/2"),
        (b"/ws", b"h2c, WebSocket", b"websocket"),
    ],
)
async def test_a_backend_is_asked_for_what_the_route_allows(
    gateway: Running, backend: RawBackend, path: bytes, asked: bytes, passed: bytes
) -> None:
    chosen = passed.split(b", ")[-1]
    backend.script = agree(echo, protocol=chosen)
    async with opened(gateway, path, protocol=asked) as (head, reader, writer):
        assert backend.last.one(b"Upgrade") == passed
        assert backend.last.one(b"Connection") == b"Upgrade"
        assert b"\r\nUpgrade: %b\r\n" % chosen in head
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"


@pytest.mark.parametrize(
    ("path", "asked"),
    [(b"/foo", b"foo"), (b"/foo", b"websocket"), (b"/ws", b"foo/2"), (b"/plain", b"bar")],
)
async def test_a_request_for_another_protocol_is_like_any_other(
    gateway: Running, backend: RawBackend, path: bytes, asked: bytes
) -> None:
    got = await gateway.talk(handshake(path, protocol=asked))
    assert got.startswith(b"HTTP/1.1 200 ")
    assert backend.last.all(b"Upgrade") == []


@pytest.mark.parametrize("answered", [b"bar", b"websocket", b"", b"foo/2, websocket", b"foo"])
async def test_a_backend_that_switches_to_what_nobody_asked_for_is_a_502(
    gateway: Running, backend: RawBackend, answered: bytes
) -> None:
    backend.script = agree(silent, protocol=answered)
    got = await gateway.talk(handshake(b"/foo", protocol=b"foo/2"))
    assert got.startswith(b"HTTP/1.1 502 ")
    assert (await log_line(gateway))["reason"] == "upstream_bad_answer"


async def test_a_backends_refusal_comes_as_it_is(gateway: Running, backend: RawBackend) -> None:
    backend.answer = (
        b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Own\r\nContent-Length: 3\r\n\r\n"no'
    )
    got = await gateway.talk(handshake())
    assert got.startswith(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Own\r\n")
    assert got.endswith(b'\r\n\r\n"no')


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize(("path", "protocol"), [(b"/ws", b"websocket"), (b"/foo", b"bar")])
async def test_what_a_client_sends_before_the_answer_is_passed_on_or_it_is_no_upgrade(
    gateway: Running, backend: RawBackend, path: bytes, protocol: bytes, *, bytewise: bool
) -> None:
    backend.script = agree(echo, protocol=protocol)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    request = handshake(path, protocol=protocol)
    for piece in [request[at : at + 1] for at in range(len(request))] if bytewise else [request]:
        writer.write(piece)
        await asyncio.sleep(0.001)
    writer.write(b"GET /early HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(10):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert await reader.readexactly(23) == b"GET /early HTTP/1.1\r\n\r\n"
    writer.transport.abort()


async def test_what_comes_in_one_read_with_the_handshake_is_passed_on(
    gateway: Running, backend: RawBackend
) -> None:
    backend.script = agree(echo, protocol=b"bar")
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(handshake(b"/foo", protocol=b"bar") + b"early")
    async with asyncio.timeout(10):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert await reader.readexactly(5) == b"early"
    writer.transport.abort()


async def test_what_comes_along_with_the_101_is_passed_on(
    gateway: Running, backend: RawBackend
) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome")
        await reader.read()

    backend.script = agree(greet)
    async with opened(gateway) as (_, reader, _writer):
        assert await reader.readexactly(7) == b"welcome"


# Half-close.


async def test_the_end_of_the_client_is_passed_on_and_the_backend_may_go_on(
    gateway: Running, backend: RawBackend
) -> None:
    async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole = await reader.read()
        await asyncio.sleep(0.05)
        writer.write(b"got %d" % len(whole))
        writer.close()

    backend.script = agree(answer_at_the_end)
    async with opened(gateway) as (_, reader, writer):
        writer.write(bytes(1 << 20))
        writer.write_eof()
        assert await reader.read() == b"got 1048576"
    line = await log_line(gateway)
    assert (line["status"], line["bytes"], line["received_bytes"]) == (101, 11, 1 << 20)
    assert line["end"] == "client"
    assert gateway.parts.pools["backend"].active_connections == 0


async def test_the_end_of_the_backend_is_passed_on_and_the_client_may_go_on(
    gateway: Running, backend: RawBackend
) -> None:
    got = asyncio.get_running_loop().create_future()

    async def end_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.write_eof()
        got.set_result(await reader.read())

    backend.script = agree(end_first)
    async with opened(gateway) as (_, reader, writer):
        assert await reader.read() == b"bye"
        await asyncio.sleep(0.05)
        writer.write(b"one more")
        writer.write_eof()
        assert await got == b"one more"
    assert (await log_line(gateway))["end"] == "backend"
    await eventually(lambda: not gateway.listener.connections)


async def test_a_backend_that_resets_ends_the_socket(gateway: Running, backend: RawBackend) -> None:
    backend.script = agree(silent)
    async with opened(gateway) as (_, reader, _writer):
        backend.drop()
        assert await reader.read() == b""
    assert (await log_line(gateway))["end"] == "backend"


async def test_a_client_that_resets_ends_the_socket(gateway: Running, backend: RawBackend) -> None:
    backend.script = agree(echo)
    async with opened(gateway) as (_, reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        writer.transport.abort()
        assert (await log_line(gateway))["end"] == "client"
    await eventually(lambda: not gateway.listener.connections and not backend.open_connections)
    assert not list(gateway.parts.sockets)


# Back-pressure.


async def test_a_slow_client_holds_its_backend_and_gets_everything(
    gateway: Running, backend: RawBackend
) -> None:
    sent, message = 0, frame(bytes(1 << 16))

    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < MUCH:
            writer.write(message)
            await writer.drain()
            sent += len(message)
        writer.close()

    backend.script = agree(flood)
    async with opened(gateway) as (_, reader, _writer):
        (tunnel,) = tunnels(gateway)
        await eventually(lambda: tunnel.client.full_since < float("inf"))
        await asyncio.sleep(0.2)
        assert sent < MUCH
        assert tunnel.client.transport.get_write_buffer_size() < 1 << 20
        assert len(await reader.read()) == sent >= MUCH


async def test_a_slow_backend_holds_its_client_and_gets_everything(
    gateway: Running, backend: RawBackend
) -> None:
    go_on = asyncio.Event()
    received = 0

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await go_on.wait()
        while data := await reader.read(1 << 16):
            received += len(data)
        writer.close()

    backend.script = agree(wait)
    async with opened(gateway) as (_, reader, writer):
        (tunnel,) = tunnels(gateway)
        writer.write(bytes(MUCH))
        writer.write_eof()
        await eventually(lambda: tunnel.backend.full_since < float("inf"))
        await asyncio.sleep(0.2)
        assert writer.transport.get_write_buffer_size() > 0
        assert tunnel.backend.transport.get_write_buffer_size() < 1 << 20
        go_on.set()
        assert await reader.read() == b""
    assert received == MUCH


async def test_a_client_that_never_reads_is_cut_off(
    gateway: Running, backend: RawBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel_module, "STALLED_SECONDS", 0.05)

    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(bytes(1 << 16))
            await writer.drain()

    backend.script = agree(flood)
    async with opened(gateway):
        assert (await log_line(gateway))["end"] == "stalled"
    await eventually(lambda: not gateway.listener.connections)


# What the gateway ends.


@pytest.mark.parametrize("split", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("size", [0, 5, 200, 70_000])
async def test_a_close_frame_comes_between_two_frames(
    gateway: Running, backend: RawBackend, size: int, *, split: bool
) -> None:
    """Draining begins amid a frame; the frame is finished before the Close frame."""
    go_on = asyncio.Event()
    sent = frame(b"first") + frame(b"x" * size, opcode=1, last=False)
    begun = len(frame(b"first")) + 1  # amid the second one's head

    async def slowly(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent[:begun])
        await go_on.wait()
        rest = sent[begun:] + frame(b"never seen")
        head = rest[:40]
        for piece in [head[at : at + 1] for at in range(len(head))] if split else [head]:
            writer.write(piece)
            await asyncio.sleep(0.0005)
        writer.write(rest[40:])

    backend.script = agree(slowly)
    async with opened(gateway) as (_, reader, _writer):
        first = await reader.readexactly(begun)
        gateway.parts.sockets.drain()
        go_on.set()
        assert first + await reader.read() == sent + CLOSE_1001
    assert (await log_line(gateway))["end"] == "draining"


async def test_a_frame_that_does_not_end_is_cut(gateway: Running, backend: RawBackend) -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(bytes(100))[:50])
        await reader.read()

    backend.script = agree(half)
    async with opened(gateway) as (_, reader, _writer):
        got = await reader.readexactly(50)
        gateway.parts.sockets.drain()
        got += await reader.read()
    assert got == frame(bytes(100))[:50]


async def test_no_second_close_frame_follows_the_backends(
    gateway: Running, backend: RawBackend
) -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(b"\x0f\xa1bye", opcode=8))  # 4001
        await reader.read()

    backend.script = agree(close)
    async with opened(gateway) as (_, reader, _writer):
        got = await reader.readexactly(7)
        gateway.parts.sockets.drain()
        assert got + await reader.read() == frame(b"\x0f\xa1bye", opcode=8)


async def test_a_client_that_is_sending_still_reads_its_close_frame(
    gateway: Running, backend: RawBackend
) -> None:
    """The connection is not closed on unread bytes: a reset would take the frame with it."""
    backend.script = agree(silent)
    async with opened(gateway) as (_, reader, writer):

        async def send() -> None:
            while not writer.transport.is_closing():
                writer.write(bytes(1 << 16))
                await writer.drain()

        sending = asyncio.create_task(send())
        await asyncio.sleep(0.05)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a socket's
        gateway.parts.sockets.drain()
        await asyncio.sleep(tunnel_module.LEAVE_SECONDS + 0.2)
        writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above
        assert await reader.readexactly(4) == CLOSE_1001
        sending.cancel()
    await eventually(lambda: not gateway.listener.connections)


async def test_other_protocols_just_end(gateway: Running, backend: RawBackend) -> None:
    backend.script = agree(echo, protocol=b"bar")
    async with opened(gateway, b"/foo", protocol=b"bar") as (_, reader, writer):
        writer.write(b"hello")
        await reader.readexactly(5)
        gateway.parts.sockets.drain()
        assert await reader.read() == b""
    assert (await log_line(gateway))["end"] == "draining"


async def test_a_client_that_ignores_its_close_frame_is_cut_off(
    gateway: Running, backend: RawBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel_module, "LINGER_SECONDS", 0.05)
    backend.script = agree(silent)
    async with opened(gateway):
        gateway.parts.sockets.drain()
        assert (await log_line(gateway))["end"] == "draining"
        await eventually(lambda: not gateway.listener.connections)


async def test_sockets_that_open_while_draining_end_at_once(
    gateway: Running, backend: RawBackend
) -> None:
    backend.script = agree(silent)
    gateway.parts.sockets.drain()
    async with opened(gateway) as (_, reader, _writer):
        assert await reader.read() == CLOSE_1001


async def test_quiet_sockets_end_and_others_do_not(backend: RawBackend, tmp_path: Path) -> None:
    backend.script = agree(echo)
    table = {"upstreams": upstream(backend.url), "routes": [route("/ws", websocket=True)]}
    settings = SETTINGS | {"sockets": {"idle": 2.0}}
    async with (
        open_gateway(tmp_path, table, settings) as gateway,
        opened(gateway) as (_, quiet, _w),
        opened(gateway) as (_, busy, writer),
    ):
        ended = asyncio.create_task(quiet.read())
        while not ended.done():
            writer.write(b"x")
            assert await busy.readexactly(1) == b"x"
            await asyncio.sleep(0.05)
        assert await ended == CLOSE_1001
        writer.write(b"x")
        assert await busy.readexactly(1) == b"x"
        assert (await log_line(gateway))["end"] == "idle"


async def test_sockets_of_removed_routes_end_at_the_deadline_and_others_follow_their_route(
    gateway: Running, backend: RawBackend
) -> None:
    backend.script = agree(echo)
    kept = replace(gateway.gateway.table.match("GET", "api.example", "/both"))
    loop = asyncio.get_running_loop()
    async with opened(gateway) as (_, gone, _w), opened(gateway, b"/both") as (_, stays, writer):
        gateway.parts.sockets.end_routes(
            lambda route: kept if route.name == "both" else None, loop.time() + 0.05
        )
        assert await gone.read() == CLOSE_1001
        writer.write(b"still here")
        assert await stays.readexactly(10) == b"still here"
        assert (await log_line(gateway))["end"] == "route_removed"
        (socket,) = gateway.parts.sockets
        assert socket.exchange.route is kept


# How many, and what is told of them.


async def test_a_client_may_have_so_many_sockets_and_no_more(
    backend: RawBackend, tmp_path: Path
) -> None:
    backend.script = agree(silent)
    table = {"upstreams": upstream(backend.url), "routes": [route("/ws", websocket=True)]}
    settings = SETTINGS | {
        "sockets": {"max_per_ip": 2, "max": 3},
        "client_ip": {"trusted_proxies": ["127.0.0.1"]},
    }
    one, other = b"X-Forwarded-For: 2001:db8::1", b"X-Forwarded-For: 2001:db8::2"
    third, fourth = b"X-Forwarded-For: 192.0.2.1", b"X-Forwarded-For: 192.0.2.2"
    async with open_gateway(tmp_path, table, settings) as gateway:
        async with opened(gateway, b"/ws", one):
            async with opened(gateway, b"/ws", other):  # the same network
                got = await gateway.talk(handshake(b"/ws", one))
                assert got.startswith(b"HTTP/1.1 429 ")
                assert b"\r\nRetry-After: " in got
                assert got.endswith(b'{"detail": "Too many open sockets"}')
                async with opened(gateway, b"/ws", third):
                    got = await gateway.talk(handshake(b"/ws", fourth))
                    assert got.startswith(b"HTTP/1.1 503 ")
            await eventually(lambda: len(gateway.parts.sockets) == 1)
            async with opened(gateway, b"/ws", one):
                pass
        await eventually(lambda: len(gateway.parts.sockets) == 0)
        assert not gateway.parts.sockets._by_bucket
        await eventually(lambda: len(gateway.log()) == 6)
        refused = [line["reason"] for line in gateway.log() if line["status"] != 101]
        assert refused == ["too_many_sockets", "too_many_sockets"]


async def test_a_handshake_that_fails_gives_its_place_back(
    gateway: Running, backend: RawBackend
) -> None:
    for _ in range(3):
        assert (await gateway.talk(handshake())).startswith(b"HTTP/1.1 200 ")
    assert backend.answer == OK
    await eventually(lambda: len(gateway.parts.sockets) == 0)
    assert not gateway.parts.sockets._by_bucket


async def test_open_sockets_and_ends_are_counted(gateway: Running, backend: RawBackend) -> None:
    backend.script = agree(echo)

    def shown() -> str:
        return gateway.parts.metrics.render()[0].decode()

    async with opened(gateway), opened(gateway):
        assert 'gateway_sockets{route="ws"} 2.0' in shown()
    await eventually(lambda: len(gateway.parts.sockets) == 0)
    assert 'gateway_sockets{route="ws"} 0.0' in shown()
    assert 'gateway_sockets_ended_total{reason="client"} 2.0' in shown()


async def test_other_requests_have_no_socket_in_their_line(gateway: Running) -> None:
    await gateway.talk(b"GET /plain HTTP/1.1\r\n" + HEAD + b"\r\n")
    assert "end" not in await log_line(gateway)
