"""PROXY headers on real sockets, plain and before TLS: whose connection it becomes."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import certificate_files
import pytest
from backend import RawBackend
from harness import Running, open_gateway, read_answer, route, upstream
from redis_process import eventually
from test_proxy_protocol import inet, v2
from test_tls import client_context

GET = b"GET /x HTTP/1.1\r\nHost: api.example\r\n\r\n"
V1 = b"PROXY TCP4 203.0.113.7 192.0.2.9 40000 443\r\n"
V2 = v2(0x21, 0x11, inet("203.0.113.7"))
LOCAL = v2(0x20, 0x00, b"")


@asynccontextmanager
async def gateway_behind(
    backend: RawBackend,
    folder: Path,
    *,
    trusted: str = "127.0.0.0/8",
    tls: bool = False,
    **more: Any,
) -> AsyncIterator[Running]:
    listen: dict[str, Any] = {"proxy_protocol": {"trusted": [trusted]}}
    if tls:
        listen["tls"] = certificate_files.write(folder, "one")
    files = {"upstreams": upstream(backend.url), "routes": [route()]}
    async with open_gateway(folder, files, {"listen": listen, **more}) as running:
        yield running


@pytest.mark.parametrize("cut", ["whole", "bytewise", "apart"])
@pytest.mark.parametrize(
    ("header", "client"),
    [
        (V1, "203.0.113.7"),
        (V2, "203.0.113.7"),
        (LOCAL, "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    ],
    ids=["v1", "v2", "local", "unknown"],
)
async def test_the_address_in_the_header_is_the_clients(
    backend: RawBackend, tmp_path: Path, header: bytes, client: str, cut: str
) -> None:
    async with gateway_behind(backend, tmp_path) as gateway:
        whole = header + GET
        pieces = {
            "whole": [whole],
            "bytewise": [whole[at : at + 1] for at in range(len(whole))],
            "apart": [header, GET],
        }[cut]
        got = await gateway.talk(*pieces)
        assert got.startswith(b"HTTP/1.1 200 ")
        assert backend.last.all(b"X-Forwarded-For") == [client.encode()]
        await eventually(lambda: [line["client_ip"] for line in gateway.log()] == [client])
        await eventually(lambda: not gateway.listener.census.total)
        assert gateway.listener.census.by_bucket == {}


async def test_limits_and_forwarded_addresses_go_by_the_header(
    backend: RawBackend, tmp_path: Path
) -> None:
    async with gateway_behind(
        backend,
        tmp_path,
        rate_limit={"requests": 1},
        client_ip={"trusted_proxies": ["203.0.113.7"]},
    ) as gateway:
        for header, forwarded, client, status in (
            (V1, b"198.51.100.1", b"198.51.100.1", b"200"),
            (V1, b"198.51.100.2", b"198.51.100.2", b"200"),
            (V1.replace(b".7 ", b".8 "), b"198.51.100.3", b"203.0.113.8", b"200"),
            (V1.replace(b".7 ", b".8 "), b"198.51.100.4", b"203.0.113.8", b"429"),
        ):
            request = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: %b\r\n\r\n" % forwarded)
            got = await gateway.talk(header + request)
            assert got.split()[1] == status
            if status == b"200":
                assert backend.last.one(b"X-Forwarded-For").split(b", ")[0] == client


@pytest.mark.parametrize(
    "begin", [GET, b"PROXY NONSENSE\r\n" + GET, V1[:-2] + b"\n\n" + GET, b"\x16"]
)
async def test_a_balancer_that_sends_no_good_header_is_closed_counted_and_told_of_once(
    backend: RawBackend, tmp_path: Path, caplog: pytest.LogCaptureFixture, begin: bytes
) -> None:
    caplog.set_level(logging.WARNING, "gateway.listener")
    async with gateway_behind(backend, tmp_path) as gateway:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(begin)
            async with asyncio.timeout(10):
                with suppress(ConnectionResetError):
                    assert await reader.read() == b""
            writer.transport.abort()
        counted = gateway.parts.metrics.render()[0].decode()
        assert 'gateway_refusals_total{pattern="none",reason="bad_proxy_header"} 3.0' in counted
        await eventually(lambda: not gateway.listener.census.total)
    assert len(caplog.records) == 1
    assert "127.0.0.1" in caplog.text
    assert "NONSENSE" not in caplog.text
    assert backend.requests == []


@pytest.mark.parametrize("begin", [b"", V1[:-1], V2[:13]])
async def test_a_header_that_does_not_come_is_not_waited_for_without_end(
    backend: RawBackend, tmp_path: Path, begin: bytes
) -> None:
    async with gateway_behind(backend, tmp_path, bounds={"head_timeout": 0.2}) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(begin)
        async with asyncio.timeout(10):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.transport.abort()
        await eventually(lambda: not gateway.listener.census.total)
        assert 'reason="bad_proxy_header"} 1.0' in gateway.parts.metrics.render()[0].decode()


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
async def test_from_anybody_else_a_header_is_a_malformed_request(
    backend: RawBackend, tmp_path: Path, header: bytes
) -> None:
    async with gateway_behind(backend, tmp_path, trusted="192.0.2.0/24") as gateway:
        got = await gateway.talk(header + GET, until_closed=True)
        assert got.startswith(b"HTTP/1.1 400 ")
        assert backend.requests == []
        got = await gateway.talk(GET)
        assert got.startswith(b"HTTP/1.1 200 ")
        assert backend.last.one(b"X-Forwarded-For") == b"127.0.0.1"


@pytest.mark.parametrize("header", [V1, V2, b""], ids=["v1", "v2", "untrusted"])
async def test_the_header_comes_before_tls(
    backend: RawBackend, tmp_path: Path, header: bytes
) -> None:
    trusted = "127.0.0.0/8" if header else "192.0.2.0/24"
    async with gateway_behind(backend, tmp_path, trusted=trusted, tls=True) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(header)
        await writer.start_tls(client_context(), server_hostname="one")
        for _ in range(2):
            writer.write(GET)
            async with asyncio.timeout(10):
                assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
        assert backend.last.one(b"X-Forwarded-Proto") == b"https"
        expected = b"203.0.113.7" if header else b"127.0.0.1"
        assert backend.last.one(b"X-Forwarded-For") == expected
        writer.transport.abort()
        await eventually(lambda: not gateway.listener.census.total)


async def test_header_hello_and_request_in_as_few_segments_as_can_be(
    backend: RawBackend, tmp_path: Path
) -> None:
    """The header and the ClientHello in one; then the handshake's end and the request in one."""
    async with gateway_behind(backend, tmp_path, tls=True) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client_context().wrap_bio(coming, going, server_hostname="one")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        writer.write(V2 + going.read())
        while True:
            coming.write(await reader.read(65536))
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                continue
        tls.write(GET)
        writer.write(going.read())
        answer = b""
        async with asyncio.timeout(10):
            while not answer.endswith(b"ok"):
                coming.write(await reader.read(65536))
                try:
                    answer += tls.read(65536)
                except ssl.SSLWantReadError:
                    continue
        assert answer.startswith(b"HTTP/1.1 200 ")
        writer.transport.abort()
