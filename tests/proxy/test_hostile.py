"""What an attacker, or a broken backend, sends; over raw sockets, on both event loops.

Each table's rows are run whole and byte by byte: where a read ends must not change what is done.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from backend import OK, RawBackend, Received
from harness import Running, open_gateway, read_answer, route, upstream
from redis_process import eventually

from gateway import exchange as exchange_module
from gateway.proxy import connection as connection_module
from gateway.proxy import tunnel as tunnel_module

HEAD = b"Host: api.example\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\n" + HEAD + b"\r\n"
CREDENTIALS = b'{"api_key": "k", "api_secret": "s"}'
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a2V5\r\n"
SETTINGS: dict[str, Any] = {"rate_limit": {"requests": 100_000}, "bounds": {"body_timeout": 1}}


@pytest.fixture
async def backend() -> AsyncIterator[RawBackend]:
    backend = await RawBackend().start()
    yield backend
    await backend.stop()


@pytest.fixture
async def gateway(backend: RawBackend, tmp_path: Path) -> AsyncIterator[Running]:
    upstreams = upstream(backend.url, timeout={"connect": 1, "read": 1})
    routes = [
        route(),
        route("/ws", name="ws", websocket=True),
        route("/orders/auth", "body_credentials", name="orders", methods=["POST"]),
        route("/api/{rest...}", name="stripped", strip_prefix="/api"),
        route("/whole", name="whole", strip_prefix="/whole"),
    ]
    async with open_gateway(
        tmp_path, {"upstreams": upstreams, "routes": routes}, SETTINGS
    ) as running:
        yield running


def pieces(data: bytes, *, bytewise: bool) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))] if bytewise else [data]


async def all_of(gateway: Running, data: bytes, *, bytewise: bool = False) -> bytes:
    """Send everything; all that comes back until the gateway closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)

    async def read() -> bytes:
        got = b""
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                got += piece
        return got

    reading = asyncio.create_task(read())
    try:
        for piece in pieces(data, bytewise=bytewise):
            if writer.transport.is_closing():
                break
            writer.write(piece)
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            return await reading
    finally:
        writer.transport.abort()


def paths(backend: RawBackend) -> list[bytes]:
    return [received.line.split()[1] for received in backend.requests]


def post(fields: bytes, body: bytes = b"", target: bytes = b"/x") -> bytes:
    return b"POST " + target + b" HTTP/1.1\r\n" + HEAD + fields + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked\r\n"
HIDDEN = b"0\r\n\r\n" + SMUGGLED
REFUSED: dict[str, bytes] = {
    "length and chunked": post(b"Content-Length: 5\r\n" + CHUNKED, HIDDEN),
    "chunked and length": post(CHUNKED + b"Content-Length: 5\r\n", HIDDEN),
    "two lengths": post(b"Content-Length: 0\r\nContent-Length: 61\r\n", SMUGGLED),
    "two equal lengths": post(b"Content-Length: 1\r\nContent-Length: 1\r\n", b"1" + SMUGGLED),
    "list of lengths": post(b"Content-Length: 0, 61\r\n", SMUGGLED),
    "length with plus": post(b"Content-Length: +0\r\n", SMUGGLED),
    "length below zero": post(b"Content-Length: -1\r\n", SMUGGLED),
    "length in hex": post(b"Content-Length: 0x0\r\n", SMUGGLED),
    "length empty": post(b"Content-Length:\r\n", SMUGGLED),
    "length past 64 bits": post(b"Content-Length: 18446744073709551616\r\n", SMUGGLED),
    "length of 5,000 digits": post(b"Content-Length: %b5\r\n" % (b"0" * 5000), b"12345"),
    "gzip, chunked": post(b"Transfer-Encoding: gzip, chunked\r\n", HIDDEN),
    "chunked, identity": post(b"Transfer-Encoding: chunked, identity\r\n", HIDDEN),
    "identity": post(b"Transfer-Encoding: identity\r\n", HIDDEN),
    "coding empty": post(b"Transfer-Encoding:\r\n", HIDDEN),
    "two codings": post(CHUNKED + b"Transfer-Encoding: identity\r\n", HIDDEN),
    "twice chunked": post(CHUNKED + CHUNKED, HIDDEN),
    "chunked in quotes": post(b'Transfer-Encoding: "chunked"\r\n', HIDDEN),
    "chunked with a tab": post(b"Transfer-Encoding: \x0bchunked\r\n", HIDDEN),
    "chunked by a Kelvin sign": post(b"Transfer-Encoding: chun\xe2\x84\xaaed\r\n", HIDDEN),
    "space before the colon": post(b"Transfer-Encoding : chunked\r\n", HIDDEN),
    "space before the name": post(b" Transfer-Encoding: chunked\r\n", HIDDEN),
    "folded line": post(b"X: a\r\n b\r\n", SMUGGLED),
    "bare LF in the head": post(b"X: a\nContent-Length: 61\r\n", SMUGGLED),
    "bare CR in the head": post(b"X: a\rContent-Length: 61\r\n", SMUGGLED),
    "NUL in a value": post(b"X: a\0b\r\n", SMUGGLED),
    "name beyond ASCII": post("X-Uſer-Id: 1\r\n".encode(), SMUGGLED),
    "name with a space": post(b"X User-Id: 1\r\n", SMUGGLED),
    "chunked in 1.0": b"POST /x HTTP/1.0\r\n" + HEAD + CHUNKED + b"\r\n" + HIDDEN,
    "version 0.9": b"GET /x\r\n\r\n" + SMUGGLED,
    "version 2.0": b"GET /x HTTP/2.0\r\n" + HEAD + b"\r\n" + SMUGGLED,
    "version 1.2": b"GET /x HTTP/1.2\r\n" + HEAD + b"\r\n" + SMUGGLED,
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
    "absolute form without a host": b"GET http:///x HTTP/1.1\r\n" + HEAD + b"\r\n" + SMUGGLED,
    "absolute form with userinfo": b"GET http://a@b/x HTTP/1.1\r\n" + HEAD + b"\r\n" + SMUGGLED,
    "absolute form, two Hosts": b"GET http://a/x HTTP/1.1\r\n" + HEAD + HEAD + b"\r\n" + SMUGGLED,
    "absolute form, bad Host": b"GET http://a/x HTTP/1.1\r\nHost: a/b\r\n\r\n" + SMUGGLED,
    "absolute form, ambiguous": b"GET http://a/%2e%2e/x HTTP/1.1\r\n" + HEAD + b"\r\n" + SMUGGLED,
    "absolute form of another scheme": b"GET ftp://a/x HTTP/1.1\r\n" + HEAD + b"\r\n" + SMUGGLED,
    "asterisk form": b"GET * HTTP/1.1\r\n" + HEAD + b"\r\n" + SMUGGLED,
    "CONNECT": b"CONNECT api.example:80 HTTP/1.1\r\n" + HEAD + b"\r\n" + SMUGGLED,
    "no Host": b"GET /x HTTP/1.1\r\n\r\n" + SMUGGLED,
    "two Hosts": b"GET /x HTTP/1.1\r\n" + HEAD + HEAD + b"\r\n" + SMUGGLED,
    "Host with a path": b"GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n" + SMUGGLED,
    "Host with userinfo": b"GET /x HTTP/1.1\r\nHost: a@b\r\n\r\n" + SMUGGLED,
    "Host of 5,000 bytes": b"GET /x HTTP/1.1\r\nHost: %b\r\n\r\n" % (b"a" * 5000) + SMUGGLED,
    "dot segments": b"GET /x/%2e%2E/y HTTP/1.1\r\n" + HEAD + b"\r\n" + SMUGGLED,
    "encoded slash": b"GET /x%2fy HTTP/1.1\r\n" + HEAD + b"\r\n" + SMUGGLED,
    "backslash": b"GET /x\\y HTTP/1.1\r\n" + HEAD + b"\r\n" + SMUGGLED,
    "two slashes": b"GET //x HTTP/1.1\r\n" + HEAD + b"\r\n" + SMUGGLED,
    "fragment": b"GET /x#y HTTP/1.1\r\n" + HEAD + b"\r\n" + SMUGGLED,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SMUGGLED,
    "upgrade with a body": b"GET /ws HTTP/1.1\r\n%b%bContent-Length: %d\r\n\r\n%b"
    % (HEAD, WEBSOCKET, len(SMUGGLED), SMUGGLED),
    "upgrade with chunks": b"GET /ws HTTP/1.1\r\n%b%b%b\r\n%x\r\n%b\r\n0\r\n\r\n"
    % (HEAD, WEBSOCKET, CHUNKED, len(SMUGGLED), SMUGGLED),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("request_bytes", REFUSED.values(), ids=REFUSED.keys())
async def test_an_ambiguous_request_is_refused_with_all_that_follows_it(
    gateway: Running, backend: RawBackend, request_bytes: bytes, *, bytewise: bool
) -> None:
    got = await all_of(gateway, request_bytes, bytewise=bytewise)
    assert got.split(b" ", 2)[1] == b"400"
    assert got.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in got
    assert b"\r\nRateLimit: " in got  # it was counted
    assert b"smuggled" not in got
    assert backend.requests == []


BAD_CHUNKS: dict[str, bytes] = {
    "size of no number": b"zz\r\nhello\r\n0\r\n\r\n",
    "size with plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "size past 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "size below zero": b"-5\r\nhello\r\n0\r\n\r\n",
    "bare LF behind the size": b"5\nhello\r\n0\r\n\r\n",
    "bare LF behind the data": b"5\r\nhello\n0\r\n\r\n",
    "data longer than its size": b"5\r\nhello!\r\n0\r\n\r\n",
    "bare LF in an extension": b"5;a\nhello\r\n0\r\n\r\n",
    "bad second chunk": b"5\r\nhello\r\nzz\r\n",
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("target", [b"/x", b"/orders/auth", b"/health"])
@pytest.mark.parametrize("body", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
async def test_broken_chunks_end_the_request_at_once(
    gateway: Running, backend: RawBackend, body: bytes, target: bytes, *, bytewise: bool
) -> None:
    async with asyncio.timeout(0.9):  # before any timeout has to
        got = await all_of(gateway, post(CHUNKED, body + SMUGGLED, target), bytewise=bytewise)
    assert got.split(b" ", 2)[1] in ((b"400", b"405") if target == b"/health" else (b"400",))
    assert b"/smuggled" not in paths(backend)


async def test_all_header_fields_together_are_bounded(
    gateway: Running, backend: RawBackend
) -> None:
    fields = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 10_000) for number in range(4))
    assert (await all_of(gateway, post(fields))).startswith(b"HTTP/1.1 431 ")
    assert backend.requests == []


async def test_a_head_that_does_not_end_is_not_kept(gateway: Running, backend: RawBackend) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /x HTTP/1.1\r\n" + HEAD)
    for number in range(4):
        writer.write(b"X-%d: %b\r\n" % (number, b"a" * 15_000))
        await writer.drain()
        await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        assert (await read_answer(reader)).startswith(b"HTTP/1.1 431 ")
    writer.transport.abort()


# Upgrades.


async def test_only_a_websocket_handshake_is_a_tunnel(
    gateway: Running, backend: RawBackend
) -> None:
    for head in (
        b"GET /ws HTTP/1.1\r\n" + HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"POST /ws HTTP/1.1\r\n" + HEAD + WEBSOCKET,
        b"GET /ws HTTP/1.0\r\n" + HEAD + WEBSOCKET,
        b"GET /x HTTP/1.1\r\n" + HEAD + WEBSOCKET,
    ):
        got = await all_of(gateway, head + b"\r\n" + SMUGGLED)
        assert got.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in got
        assert backend.last.all(b"Upgrade") == []
    assert b"/smuggled" not in paths(backend)


async def test_what_a_client_sends_ahead_of_a_refused_upgrade_goes_nowhere(
    gateway: Running, backend: RawBackend
) -> None:
    backend.answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    got = await all_of(gateway, b"GET /ws HTTP/1.1\r\n" + HEAD + WEBSOCKET + b"\r\n" + SMUGGLED)
    assert got.startswith(b"HTTP/1.1 403 ")
    assert b"\r\nConnection: close\r\n" in got
    assert paths(backend) == [b"/ws"]


async def test_a_tunnel_whose_backend_stalls_does_not_outlive_its_client_for_good(
    gateway: Running, backend: RawBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel_module, "STALLED_SECONDS", 0.05)

    async def stall(
        _b: Any, _q: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n" + WEBSOCKET + b"\r\n")
        await asyncio.Event().wait()

    backend.script = stall
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /ws HTTP/1.1\r\n" + HEAD + WEBSOCKET + b"\r\n")
    await reader.readuntil(b"\r\n\r\n")
    writer.write(bytes(32 << 20))  # more than the sockets hold
    await eventually(lambda: not gateway.listener.connections)
    assert gateway.parts.pools["backend"].active_connections == 0
    writer.transport.abort()


# A backend that lies.


def answer(head: bytes, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body


BAD_ANSWERS: dict[str, bytes] = {
    "length and chunked": answer(b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n"),
    "chunked and length": answer(CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n"),
    "two lengths": answer(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!"),
    "length with plus": answer(b"Content-Length: +5\r\n", b"hello"),
    "list of lengths": answer(b"Content-Length: 5, 5\r\n", b"hello"),
    "length in hex": answer(b"Content-Length: 0x5\r\n", b"hello"),
    "coding unknown": answer(b"Transfer-Encoding: gzip\r\n", b"hello"),
    "gzip, chunked": answer(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
    "chunked and a blank": answer(b"Transfer-Encoding: chunked \r\n", b"0\r\n\r\n"),
    "chunked and a tab": answer(b"Transfer-Encoding: chunked\t\r\n", b"0\r\n\r\n"),
    "folded line": answer(b"A: b\r\n c\r\nContent-Length: 0\r\n"),
    "bare LF": answer(b"A: b\nContent-Length: 0\r\n"),
    "bare CR": answer(b"A: b\rSet-Cookie: c\r\nContent-Length: 0\r\n"),
    "control in the reason": b"HTTP/1.1 200 O\0\x01K\r\nContent-Length: 0\r\n\r\n",
    "status 000": b"HTTP/1.1 000 No\r\nContent-Length: 0\r\n\r\n",
    "status 099": b"HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n",
    "status 99": b"HTTP/1.1 99 No\r\nContent-Length: 0\r\n\r\n",
    "101 that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
    b"Upgrade: websocket\r\n\r\n" + b"x" * 100,
    "101 to nothing": b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK,
    "1xx with a body": b"HTTP/1.1 199 Odd\r\nContent-Length: 5\r\n\r\nhello" + OK,
    "1xx with chunks": b"HTTP/1.1 199 Odd\r\n" + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n" + OK,
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("said", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
async def test_an_ambiguous_answer_is_a_502_and_its_connection_is_not_used_again(
    gateway: Running, backend: RawBackend, said: bytes, *, bytewise: bool
) -> None:
    async def lie_once(
        backend: RawBackend, _request: Received, _reader: Any, writer: asyncio.StreamWriter
    ) -> None:
        for piece in pieces(said if len(backend.requests) == 1 else OK, bytewise=bytewise):
            writer.write(piece)
            await asyncio.sleep(0)

    backend.script = lie_once
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    for expected in (b"502", b"200"):
        writer.write(b"GET /x HTTP/1.1\r\n" + HEAD + b"\r\n")
        async with asyncio.timeout(0.9):
            assert (await read_answer(reader)).split()[1] == expected
    writer.close()
    assert backend.connections == 2


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_an_empty_answer_has_nothing_that_announces_a_body(
    gateway: Running, backend: RawBackend, method: bytes
) -> None:
    backend.answer = b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"
    got = await gateway.talk(method + b" /x HTTP/1.1\r\n" + HEAD + b"\r\n")
    assert got.startswith(b"HTTP/1.1 204 ")
    assert b"Content-Length" not in got


async def test_a_backend_can_not_name_away_how_long_its_answer_is(
    gateway: Running, backend: RawBackend
) -> None:
    backend.answer = answer(b"Connection: Content-Length\r\nContent-Length: 2\r\n", b"ok")
    got = await gateway.talk(b"GET /x HTTP/1.1\r\n" + HEAD + b"\r\n")
    assert got.endswith(b"ok")


ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "value": (b"HTTP/1.1 200 OK\r\nA: ", b"a" * 65536),
    "fields": (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 10_000),
    "reason": (b"HTTP/1.1 200 ", b"a" * 65536),
    "trailers": (answer(CHUNKED, b"2\r\nok\r\n0\r\n"), b"A: b\r\n" * 10_000),
    "trailer": (answer(CHUNKED, b"2\r\nok\r\n0\r\nA: "), b"a" * 65536),
    "1xx": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
}


@pytest.mark.parametrize("case", ENDLESS.values(), ids=ENDLESS.keys())
async def test_what_a_backend_says_beside_bodies_is_bounded(
    gateway: Running, backend: RawBackend, case: tuple[bytes, bytes]
) -> None:
    begin, more = case
    sent = 0

    async def flood(_b: Any, _q: Any, _r: Any, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(begin)
        while sent < 16 << 20:
            writer.write(more)
            await writer.drain()
            sent += len(more)

    backend.script = flood
    got = await all_of(gateway, b"GET /x HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 502 ") or not got.endswith(b"0\r\n\r\n")
    assert sent < 12 << 20  # it was cut off: what the sockets between hold is some MiB


async def test_bytes_behind_an_answer_do_not_end_it_a_second_time() -> None:
    """Two reads in one turn of the loop: the first is whole, the second nobody asked for."""
    ends = []

    class Taker:
        def head(self, _upstream: Any) -> None: ...
        def data(self, _chunk: bytes) -> None: ...
        def flush(self) -> None: ...
        def ended(self) -> None:
            ends.append(True)

    connection = connection_module.UpstreamConnection(asyncio.get_running_loop())
    connection.connection_made(asyncio.Transport())
    connection.start(Taker(), head_only=False, read_timeout=5)  # type: ignore[arg-type]
    connection.data_received(OK)
    connection.data_received(OK)
    assert ends == [True]
    assert not connection.detach()


# Slow and leaving clients.


async def test_a_client_that_asks_on_and_never_reads_is_not_served_on_and_harms_nobody(
    gateway: Running, backend: RawBackend
) -> None:
    backend.answer = answer(b"Content-Length: 20000\r\n", bytes(20_000))
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
    writer.write(b"GET /x HTTP/1.1\r\n%b\r\n" % HEAD * 2000)
    before = -1
    while before != len(backend.requests):  # until nothing moves any more
        before = len(backend.requests)
        await asyncio.sleep(0.2)
    assert before < 1000  # what did not fit into the sockets was not asked for
    async with asyncio.timeout(0.9):  # on the same connection, which had been held for the other
        assert (await gateway.talk(SMUGGLED)).startswith(b"HTTP/1.1 200 ")
    assert backend.connections == 1
    writer.transport.abort()


PARTIAL = post(b"Content-Length: 100\r\n", b"half", b"/orders/auth")


async def test_a_client_that_leaves_amid_its_body_leaves_nothing_behind(
    gateway: Running, backend: RawBackend
) -> None:
    before = len(asyncio.all_tasks())
    for request in (PARTIAL, PARTIAL.replace(b"/orders/auth", b"/x")):
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request)
        await writer.drain()
        await eventually(lambda: any(c._current_request for c in gateway.listener.connections))
        writer.transport.abort()
        await eventually(lambda: not gateway.listener.connections)
        await eventually(lambda: len(asyncio.all_tasks()) <= before)
    await eventually(lambda: not gateway.parts.pools["backend"].active_connections)
    await eventually(lambda: [line["status"] for line in gateway.log()] == [499, 499])


async def test_a_body_that_does_not_come_is_not_waited_for_without_end(
    gateway: Running, backend: RawBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_module, "BODY_SECONDS", 0.05)
    got = await gateway.talk(PARTIAL)
    assert got.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nConnection: close\r\n" in got


async def test_an_upload_that_stalls_is_the_clients_fault(
    gateway: Running, backend: RawBackend
) -> None:
    got = await gateway.talk(PARTIAL.replace(b"/orders/auth", b"/x"))
    assert got.startswith(b"HTTP/1.1 408 ")


async def test_a_client_that_stops_reading_does_not_hold_a_connection_for_good(
    gateway: Running, backend: RawBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "STALLED_SECONDS", 0.05)

    async def flood(_b: Any, _q: Any, _r: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"Content-Length: %d\r\n" % (64 << 20)))
        for _ in range(64):
            writer.write(bytes(1 << 20))
            await writer.drain()

    backend.script = flood
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
    writer.write(b"GET /x HTTP/1.1\r\n" + HEAD + b"\r\n")
    pool = gateway.parts.pools["backend"]
    await eventually(lambda: pool.active_connections == 1)
    await eventually(lambda: pool.active_connections == 0)
    await eventually(lambda: [line["reason"] for line in gateway.log()] == ["client_gone"])
    writer.transport.abort()


# Leave to send a body.


async def test_an_answer_without_the_body_that_waits_for_leave_ends_the_connection(
    gateway: Running, backend: RawBackend
) -> None:
    fields = b"Expect: 100-continue\r\nContent-Length: %d\r\n" % len(SMUGGLED)
    got = await all_of(gateway, b"GET /health HTTP/1.1\r\n" + HEAD + fields + b"\r\n" + SMUGGLED)
    assert got.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nConnection: close\r\n" in got


# What stops at the gateway.


async def test_connection_names_a_field_in_either_spelling(
    gateway: Running, backend: RawBackend
) -> None:
    await gateway.talk(
        b"GET /x HTTP/1.1\r\n" + HEAD + b"Connection: X_One, X-Two\r\nX_One: 1\r\nX_Two: 2\r\n\r\n"
    )
    assert backend.last.all(b"X_One") == backend.last.all(b"X_Two") == []


SPOOFED = [
    b"X-User-Id: 1",
    b"x-user-id: 1",
    b"X_USER_ID: 1",
    b"X-User_Id: 1",
    b"X-Plan: professional",
    b"X_Auth_Pattern: public",
    b"X-User-Email: a@b",
    b"X-Backend-Key: k",
    b"X_Backend_Key: k",
    b"X-Forwarded-For: 6.6.6.6",
    b"X_Forwarded_For: 6.6.6.6",
    b"X-Forwarded-Port: 6",
    b"X_Forwarded_Proto: https",
    b"Forwarded: for=6.6.6.6",
    b"X-Real-IP: 6.6.6.6",
    b"X_Real_IP: 6.6.6.6",
    b"X-Primit-API-Key: pk_6",
    b"X_Primit_API_Key: pk_6",
    b"Transfer_Encoding: chunked",
    b"Content_Length: 6",
    b"Proxy-Connection: 6",
    b"Keep-Alive: 6",
    b"TE: trailers",
    b"Trailer: X-User-Id",
    b"Upgrade: h2c",
]


@pytest.mark.parametrize("field", SPOOFED)
async def test_a_client_can_not_speak_for_the_gateway(
    gateway: Running, backend: RawBackend, field: bytes
) -> None:
    await gateway.talk(b"GET /x HTTP/1.1\r\n" + HEAD + field + b"\r\n" + field + b"\r\n\r\n")
    name, _ = field.split(b": ")
    folded = name.lower().replace(b"_", b"-")
    assert [v for n, v in backend.last.fields if n.lower().replace(b"_", b"-") == folded] in (
        [],
        [b"127.0.0.1"],
        [b"http"],
        [b"public"],
    )


async def test_a_prefix_is_taken_off_however_it_is_spelled(
    gateway: Running, backend: RawBackend
) -> None:
    for target, expected in (
        (b"/api/x/y?z=/api/", b"/x/y?z=/api/"),
        (b"/%61pi/x?", b"/x?"),
        (b"/ap%69/%61pi/x", b"/%61pi/x"),
        (b"/whole?x=1", b"/?x=1"),
        (b"/%77hole", b"/"),
    ):
        await gateway.talk(b"GET " + target + b" HTTP/1.1\r\n" + HEAD + b"\r\n")
        assert backend.last.line.split()[1] == expected


# Draining.


async def test_draining_closes_what_is_idle_at_once_and_the_rest_after_its_answer(
    gateway: Running, backend: RawBackend
) -> None:
    go_on = asyncio.Event()

    async def in_two_parts(_b: Any, _q: Any, _r: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"Content-Length: 2\r\n", b"o"))
        await go_on.wait()
        writer.write(b"k")

    idle_reader, idle = await asyncio.open_connection("127.0.0.1", gateway.port)
    idle.write(b"GET /x HTTP/1.1\r\n" + HEAD + b"\r\n")
    await read_answer(idle_reader)
    backend.script = in_two_parts
    busy_reader, busy = await asyncio.open_connection("127.0.0.1", gateway.port)
    busy.write(b"GET /x HTTP/1.1\r\n" + HEAD + b"\r\n")
    await busy_reader.readuntil(b"\r\n\r\no")
    gateway.listener.drain()
    async with asyncio.timeout(5):
        assert await idle_reader.read() == b""
        go_on.set()
        assert await busy_reader.read() == b"k"
    await eventually(lambda: not gateway.listener.connections)
    idle.close()
    busy.close()
