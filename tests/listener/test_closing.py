"""How a connection ends: what a client may still read, while it sends or does not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from backend import RawBackend, Received
from harness import Running, open_gateway, read_answer, route, upstream
from redis_process import eventually

from gateway.listener import connection as connection_module

GET = b"GET /x HTTP/1.1\r\nHost: api.example\r\n\r\n"
GET_10 = b"GET /x HTTP/1.0\r\n"
PIECE = bytes(64 << 10)


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
    ]
    files = {"upstreams": upstream(backend.url), "routes": routes}
    async with open_gateway(folder, files, settings) as running:
        yield running


async def upload_without_looking(gateway: Running, head: bytes, size: int) -> bytes:
    """Send a head and `size` bytes, as long as they are taken; then read all there is.

    As a client does that reads its answer only when it has sent all: a reset would be what it
    finds instead.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head)
    got = b""
    try:
        async with asyncio.timeout(20):
            for _ in range(size // len(PIECE)):
                writer.write(PIECE)
                await writer.drain()
            got = await reader.read()
    finally:
        writer.transport.abort()
    return got


EARLY: dict[str, tuple[bytes, bytes]] = {
    "no such route method": (b"DELETE /orders/auth", b"405"),
    "no token": (b"POST /me", b"401"),
    "no key": (b"POST /klines", b"401"),
    "too long": (b"POST /small", b"413"),
    "too long for credentials": (b"POST /orders/auth", b"413"),
    "malformed": (b"POST /x y", b"400"),
    "the backend's own": (b"POST /x", b"403"),
}


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(("line", "status"), EARLY.values(), ids=EARLY.keys())
async def test_a_client_that_still_sends_gets_the_answer_whole(
    backend: RawBackend, tmp_path: Path, line: bytes, status: bytes, framing: str
) -> None:
    async def refuse(
        _b: Any, _q: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        while await reader.read(len(PIECE)):
            pass

    backend.script, backend.read_bodies = refuse, False
    size = 32 << 20
    head = line + b" HTTP/1.1\r\nHost: a\r\n"
    if framing == "length":
        head += b"Content-Length: %d\r\n\r\n" % size
    else:
        head += b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size
    async with gateway_before(backend, tmp_path) as gateway:
        got = await upload_without_looking(gateway, head, size)
        assert got.split(b" ", 2)[1] == status
        answer, _, body = got.partition(b"\r\n\r\n")
        assert b"\r\nConnection: close" in answer
        assert b"\r\nContent-Length: %d\r\n" % len(body) in answer
        await eventually(lambda: not gateway.listener.connections)


async def test_a_client_that_sends_on_forever_is_not_listened_to_forever(
    backend: RawBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "LINGER_SECONDS", 0.3)
    async with gateway_before(backend, tmp_path) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"POST /x y HTTP/1.1\r\n\r\n")
        with suppress(ConnectionError):
            async with asyncio.timeout(10):
                while True:
                    writer.write(PIECE)
                    await writer.drain()
        await eventually(lambda: not gateway.listener.connections)
        writer.transport.abort()


async def test_a_client_that_never_closes_its_half_is_not_waited_for_forever(
    backend: RawBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "LINGER_SECONDS", 0.3)
    async with gateway_before(backend, tmp_path) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"POST /x y HTTP/1.1\r\n\r\n")
        await eventually(lambda: len(gateway.log()) == 1)
        await eventually(lambda: not gateway.listener.connections)
        writer.transport.abort()


async def test_our_half_is_closed_first(
    backend: RawBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "LINGER_SECONDS", 600)
    async with gateway_before(backend, tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"POST /x y HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(10):
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")  # all of it, to its end
        assert len(gateway.listener.connections) == 1
        writer.close()
        await eventually(lambda: not gateway.listener.connections)


async def test_a_client_that_never_takes_its_last_bytes_is_cut_in_the_end(
    backend: RawBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left to be written when an idle connection closes must not keep it for good."""
    monkeypatch.setattr(connection_module, "STALLED_SECONDS", 0.3)
    backend.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n" + bytes(40_000)
    settings = {"bounds": {"keep_alive": 0.5}}
    async with gateway_before(backend, tmp_path, settings) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
        left = 0
        while not left:  # until the sockets are full, and less is left than makes a client slow
            asked = len(gateway.log())
            writer.write(GET)
            await eventually(lambda asked=asked: len(gateway.log()) > asked)
            (connection,) = gateway.listener.connections
            left = connection._socket.get_write_buffer_size()  # type: ignore[attr-defined]
        assert not connection.writing_paused
        await eventually(lambda: not gateway.listener.census.total)
        writer.transport.abort()


async def test_a_small_body_of_a_refused_request_does_not_end_the_connection(
    backend: RawBackend, tmp_path: Path
) -> None:
    async with gateway_before(backend, tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"POST /me HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        answer = await read_answer(reader)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"\r\nConnection: close\r\n" not in answer
        writer.write(b"hello" + GET)
        assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
        writer.transport.abort()


ENDS: dict[str, tuple[bytes, bytes | None]] = {
    "1.1": (GET, None),
    "1.1 close": (GET[:-2] + b"Connection: close\r\n\r\n", b"close"),
    "1.0": (GET_10 + b"\r\n", b"close"),
    "1.0 keep-alive": (GET_10 + b"Connection: keep-alive\r\n\r\n", b"keep-alive"),
    "1.0 close": (GET_10 + b"Connection: close\r\n\r\n", b"close"),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize(("request_bytes", "said"), ENDS.values(), ids=ENDS.keys())
async def test_a_connection_goes_on_as_its_client_says(
    backend: RawBackend, tmp_path: Path, request_bytes: bytes, said: bytes | None, *, bytewise: bool
) -> None:
    async with gateway_before(backend, tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        for turn in range(2):
            step = 1 if bytewise else len(request_bytes)
            for at in range(0, len(request_bytes), step):
                writer.write(request_bytes[at : at + step])
                await asyncio.sleep(0)
            answer = await read_answer(reader)
            assert answer.startswith(b"HTTP/1.1 200 ")
            line = b"\r\nConnection: %b\r\n" % said if said else b"\r\nConnection:"
            assert (line in answer) is (said is not None)
            if said == b"close":
                assert turn == 0
                async with asyncio.timeout(10):
                    assert await reader.read() == b""
                await eventually(lambda: not gateway.listener.connections)
                break
        writer.close()


# Pipelining.


async def test_pipelined_requests_are_answered_in_order(
    backend: RawBackend, tmp_path: Path
) -> None:
    async def named(
        _b: RawBackend, received: Received, _r: Any, writer: asyncio.StreamWriter
    ) -> None:
        number = int(received.line.split()[1].removeprefix(b"/n"))
        await asyncio.sleep(0.002 * (5 - number % 5))
        body = b"%d" % number
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    backend.script = named
    async with gateway_before(backend, tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        count = 200
        writer.write(b"".join(GET.replace(b"/x", b"/n%d" % n) for n in range(count)))
        async with asyncio.timeout(20):
            for number in range(count):
                assert (await read_answer(reader)).endswith(b"\r\n\r\n%d" % number)
        writer.transport.abort()


@pytest.mark.parametrize("stalled", ["the client", "the backend"])
async def test_ten_thousand_pipelined_requests_do_not_pile_up(
    backend: RawBackend, tmp_path: Path, stalled: str
) -> None:
    go_on = asyncio.Event()

    async def wait(_b: Any, _q: Any, _r: Any, writer: asyncio.StreamWriter) -> None:
        if stalled == "the backend":
            await go_on.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + bytes(20_000))

    backend.script = wait
    settings = {"rate_limit": {"enabled": False}, "bounds": {"requests_per_connection": 100_000}}
    async with gateway_before(backend, tmp_path, settings) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
        writer.write(GET.replace(b"\r\n\r\n", b"\r\nX: %b\r\n\r\n" % (b"x" * 1500)) * 10_000)
        before = -1
        while before != len(backend.requests):
            before = len(backend.requests)
            await asyncio.sleep(0.3)
        (connection,) = gateway.listener.connections
        assert connection.transport is not None
        assert len(connection._messages) <= 32
        assert connection.transport.get_write_buffer_size() < 256 << 10
        assert writer.transport.get_write_buffer_size() > 0  # the rest was never taken
        go_on.set()
        writer.transport.abort()
        await eventually(lambda: not gateway.listener.connections)


async def test_a_connection_that_comes_when_the_worker_retires_is_told_with_its_first_answer(
    backend: RawBackend, tmp_path: Path
) -> None:
    async with gateway_before(backend, tmp_path) as gateway:
        gateway.listener.retire()
        assert b"\r\nConnection: close\r\n" in await gateway.talk(GET, until_closed=True)
    async with gateway_before(backend, tmp_path) as gateway:
        gateway.listener.drain()
        assert b"\r\nConnection: close\r\n" in await gateway.talk(GET, until_closed=True)
