"""How long a client may take, and how many connections there may be; on both event loops."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from backend import RawBackend
from harness import Running, open_gateway, read_answer, route, upstream
from redis_process import eventually

GET = b"GET /x HTTP/1.1\r\nHost: api.example\r\n\r\n"
SHORT = 0.3  # seconds; what must not happen is given ten


@asynccontextmanager
async def gateway_with(
    backend: RawBackend, folder: Path, *, settings: dict[str, Any] | None = None, **bounds: Any
) -> AsyncIterator[Running]:
    routes = [
        route(),
        route("/orders/auth", "body_credentials", name="orders", methods=["POST"]),
    ]
    files = {"upstreams": upstream(backend.url), "routes": routes}
    async with open_gateway(folder, files, {"bounds": bounds, **(settings or {})}) as running:
        yield running


async def connect(gateway: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", gateway.port)


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        return await reader.read()


async def refusals(gateway: Running, reason: str, pattern: str = "none") -> float:
    """How often a refusal has been counted."""
    series = f'gateway_refusals_total{{pattern="{pattern}",reason="{reason}"}} '
    for line in gateway.parts.metrics.render()[0].decode().splitlines():
        if line.startswith(series):
            return float(line.removeprefix(series))
    return 0.0


# Time for heads.


@pytest.mark.parametrize("begin", [b"", b"G", GET[:-1], b"\r\n"])
async def test_a_head_that_does_not_come_whole_in_time_is_a_408_or_if_none_began_nothing(
    backend: RawBackend, tmp_path: Path, begin: bytes
) -> None:
    async with gateway_with(backend, tmp_path, head_timeout=SHORT) as gateway:
        reader, writer = await connect(gateway)
        writer.write(begin)
        got = await rest_of(reader)
        writer.close()
        await eventually(lambda: not gateway.listener.connections)
        if not begin:
            assert got == b""
            assert gateway.log() == []
            return
        assert got.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert got.endswith(b'{"detail": "Request Timeout"}')
        assert b"\r\nConnection: close\r\n" in got
        await eventually(lambda: [line["reason"] for line in gateway.log()] == ["request_timeout"])
        assert await refusals(gateway, "request_timeout") == 1
    assert backend.requests == []


async def test_a_head_that_drips_is_not_waited_for_longer(
    backend: RawBackend, tmp_path: Path
) -> None:
    async with gateway_with(backend, tmp_path, head_timeout=SHORT) as gateway:
        reader, writer = await connect(gateway)

        async def drip() -> None:
            for byte in GET[:-1] + b"X: " + b"a" * 10_000:
                writer.write(bytes((byte,)))
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(10):
            assert (await read_answer(reader)).startswith(b"HTTP/1.1 408 ")
        dripping.cancel()
        writer.transport.abort()


async def test_a_later_head_has_its_time_from_its_first_byte(
    backend: RawBackend, tmp_path: Path
) -> None:
    async with gateway_with(backend, tmp_path, head_timeout=SHORT) as gateway:
        reader, writer = await connect(gateway)
        writer.write(GET)
        await read_answer(reader)
        await asyncio.sleep(3 * SHORT)  # idle: keep_alive bounds that, head_timeout does not
        writer.write(GET)
        assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
        writer.write(GET[:-1])
        assert (await rest_of(reader)).startswith(b"HTTP/1.1 408 ")
        writer.close()
        await eventually(lambda: len(gateway.log()) == 3)


async def test_a_head_behind_a_request_under_way_has_its_time_from_that_ones_answer(
    backend: RawBackend, tmp_path: Path
) -> None:
    answered = asyncio.Event()

    async def slowly(_b: Any, _q: Any, _r: Any, writer: asyncio.StreamWriter) -> None:
        await answered.wait()
        writer.write(backend.answer)

    backend.script = slowly
    async with gateway_with(backend, tmp_path) as gateway:
        reader, writer = await connect(gateway)
        writer.write(GET + GET[:5])
        await eventually(lambda: len(backend.requests) == 1)
        (connection,) = gateway.listener.connections
        now = asyncio.get_running_loop().time()
        connection.deadline = now - 1  # type: ignore[attr-defined]  # the request took its time
        await eventually(lambda: connection.deadline > now)  # type: ignore[attr-defined]
        answered.set()
        assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
        writer.write(GET[5:])
        assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
        writer.write(GET[:5])
        await eventually(lambda: connection._unfinished_bytes == 5)  # type: ignore[attr-defined]
        connection.deadline = now  # type: ignore[attr-defined]
        assert (await rest_of(reader)).startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_a_head_behind_a_request_under_way_is_bounded_in_size_too(
    backend: RawBackend, tmp_path: Path
) -> None:
    answered = asyncio.Event()

    async def slowly(_b: Any, _q: Any, _r: Any, writer: asyncio.StreamWriter) -> None:
        await answered.wait()
        writer.write(backend.answer)

    backend.script = slowly
    async with gateway_with(backend, tmp_path) as gateway:
        reader, writer = await connect(gateway)
        writer.write(GET)
        await eventually(lambda: len(backend.requests) == 1)
        writer.write(GET[:-2])
        for number in range(50):
            writer.write(b"X-%d: %b\r\n" % (number, b"a" * 20_000))
            await asyncio.sleep(0)
        await eventually(lambda: gateway.listener.connections[0]._complained)
        answered.set()
        assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
        async with asyncio.timeout(10):
            assert (await read_answer(reader)).startswith(b"HTTP/1.1 431 ")
        writer.transport.abort()
    assert len(backend.requests) == 1


# Time for bodies.


@pytest.mark.parametrize("target", [b"/x", b"/orders/auth"], ids=["streamed", "whole"])
@pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n", b"Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize("begin", [b"", b"5\r\nhello\r\n"])
async def test_a_body_that_stops_is_a_408_and_its_upstream_request_ends(
    backend: RawBackend, tmp_path: Path, target: bytes, framing: bytes, begin: bytes
) -> None:
    async with gateway_with(backend, tmp_path, body_timeout=SHORT) as gateway:
        reader, writer = await connect(gateway)
        writer.write(b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (target, framing) + begin)
        got = await rest_of(reader)
        assert got.startswith(b"HTTP/1.1 408 ")
        assert b"\r\nConnection: close\r\n" in got
        writer.close()
        await eventually(lambda: [line["reason"] for line in gateway.log()] == ["request_timeout"])
        await eventually(lambda: not backend.open_connections)
        await eventually(lambda: not gateway.listener.connections)


@pytest.mark.parametrize("target", [b"/x", b"/orders/auth"], ids=["streamed", "whole"])
async def test_a_body_in_small_pieces_has_its_time_for_each(
    backend: RawBackend, tmp_path: Path, target: bytes
) -> None:
    body = b'{"api_key": "k", "api_secret": "s"}'
    async with gateway_with(backend, tmp_path, body_timeout=1, head_timeout=1) as gateway:
        reader, writer = await connect(gateway)
        writer.write(
            b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (target, len(body))
        )
        for byte in body:
            writer.write(bytes((byte,)))
            await asyncio.sleep(0.06)  # two seconds in all
        assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
        assert backend.last.body == body
        writer.transport.abort()


async def test_a_client_whose_body_waits_for_the_backend_is_not_late(
    backend: RawBackend, tmp_path: Path
) -> None:
    """Back-pressure holds the client; the time that takes is not the client's."""
    go_on = asyncio.Event()

    async def slowly(
        _b: Any, _q: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await go_on.wait()
        await reader.readexactly(16 << 20)
        writer.write(backend.answer)

    backend.script, backend.read_bodies = slowly, False
    async with gateway_with(backend, tmp_path, body_timeout=SHORT) as gateway:
        reader, writer = await connect(gateway)
        writer.write(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (16 << 20))
        writer.write(bytes(16 << 20))
        await asyncio.sleep(4 * SHORT)
        go_on.set()
        async with asyncio.timeout(10):
            assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
        writer.transport.abort()


# How many requests and connections.


async def test_the_last_request_that_a_connection_may_carry_is_told_so(
    backend: RawBackend, tmp_path: Path
) -> None:
    async with gateway_with(backend, tmp_path, requests_per_connection=3) as gateway:
        reader, writer = await connect(gateway)
        for last in (False, False, True):
            writer.write(GET)
            answer = await read_answer(reader)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert (b"\r\nConnection: close\r\n" in answer) is last
        assert await rest_of(reader) == b""
        writer.close()
        reader, writer = await connect(gateway)
        writer.write(GET * 10)
        got = await rest_of(reader)
        assert got.count(b"HTTP/1.1 200 ") == 3
        writer.close()
        await eventually(lambda: not gateway.listener.connections)
    assert len(backend.requests) == 6


async def is_served(gateway: Running) -> bool:
    try:
        return (await gateway.talk(GET)).startswith(b"HTTP/1.1 200 ")
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


@pytest.mark.parametrize(
    ("bound", "reason"),
    [
        ("connections", "too_many_connections"),
        ("connections_per_ip", "too_many_connections_per_ip"),
    ],
)
async def test_connections_beyond_a_bound_are_closed_counted_and_told_of_once(
    backend: RawBackend,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    bound: str,
    reason: str,
) -> None:
    caplog.set_level(logging.WARNING, "gateway.listener")
    async with gateway_with(backend, tmp_path, **{bound: 2}) as gateway:
        kept = [await connect(gateway) for _ in range(2)]
        await eventually(lambda: len(gateway.listener.connections) == 2)
        for _ in range(3):
            assert not await is_served(gateway)
        assert await refusals(gateway, reason) == 3
        assert [record.getMessage().count(reason) for record in caplog.records] == [1]
        for reader, writer in kept:  # those who are in are served
            writer.write(GET)
            assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
        kept[0][1].transport.abort()
        await eventually(lambda: len(gateway.listener.connections) == 1)
        assert await is_served(gateway)
        kept[1][1].transport.abort()
        await eventually(lambda: not gateway.listener.connections)
        assert (gateway.listener.census.total, gateway.listener.census.by_bucket) == (0, {})


async def test_trusted_proxies_may_have_more_connections_than_an_address(
    backend: RawBackend, tmp_path: Path
) -> None:
    settings = {"client_ip": {"trusted_proxies": ["127.0.0.1"]}}
    async with gateway_with(backend, tmp_path, settings=settings, connections_per_ip=1) as gateway:
        kept = [await connect(gateway) for _ in range(5)]
        assert await is_served(gateway)
        for _, writer in kept:
            writer.transport.abort()


async def test_the_bound_per_address_goes_by_the_address_in_a_proxy_header(
    backend: RawBackend, tmp_path: Path
) -> None:
    settings = {"listen": {"proxy_protocol": {"trusted": ["127.0.0.1"]}}}
    async with gateway_with(backend, tmp_path, settings=settings, connections_per_ip=1) as gateway:
        writers = []
        for client, is_served_too in (
            (b"2001:db8::7", True),
            (b"2001:db8:0:1::7", True),
            (b"2001:db8::8", False),  # of the same /64, as for the rate limit
        ):
            reader, writer = await connect(gateway)
            writers.append(writer)
            writer.write(b"PROXY TCP6 %b 2001:db8::1 40000 443\r\n" % client + GET)
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                async with asyncio.timeout(10):
                    answer = await read_answer(reader)
                assert answer.startswith(b"HTTP/1.1 200 ")
                assert is_served_too
                continue
            assert not is_served_too
        for writer in writers:
            writer.transport.abort()
        await eventually(lambda: not gateway.listener.census.total)
        assert gateway.listener.census.by_bucket == {}
