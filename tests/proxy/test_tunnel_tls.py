"""Tunnels whose one end or both speak TLS, which can't end half: the end of one is that of both."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from backend import RawBackend
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from harness import Running, open_gateway, route, upstream
from redis_process import eventually
from stand_ins import certificate
from tunnels import agree, echo, handshake, silent

CLOSE_1001 = b"\x88\x02\x03\xe9"
MUCH = 4 << 20  # bytes


@pytest.fixture
def server_side(tmp_path: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "tls.pem").write_bytes(pem + certificate(key).encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.pem")
    return context


@pytest.fixture
def client_side() -> ssl.SSLContext:
    """Trusts anybody: whom to trust is shown elsewhere."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.fixture(params=["client", "backend", "both"])
def encrypted(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def backend(encrypted: str, server_side: ssl.SSLContext) -> AsyncIterator[RawBackend]:
    backend = await RawBackend(tls=None if encrypted == "client" else server_side).start()
    yield backend
    await backend.stop()


@pytest.fixture
async def gateway(
    backend: RawBackend,
    tmp_path: Path,
    encrypted: str,
    server_side: ssl.SSLContext,
) -> AsyncIterator[Running]:
    tls = {"tls": {"verify": False}} if backend.tls else {}
    upstreams = upstream(backend.url, **tls)
    table = {"upstreams": upstreams, "routes": [route("/ws", websocket=True)]}
    loop = asyncio.get_running_loop()
    servers = []
    async with open_gateway(tmp_path, table) as running:
        if encrypted != "backend":
            front = await loop.create_server(running.listener, "127.0.0.1", 0, ssl=server_side)
            servers.append(front)
            running.port = front.sockets[0].getsockname()[1]
        yield running
        for listening in servers:
            listening.close()


@asynccontextmanager
async def opened(gateway: Running, context: ssl.SSLContext | None) -> AsyncIterator[Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, ssl=context)
    try:
        async with asyncio.timeout(20):
            writer.write(handshake())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            yield reader, writer
    finally:
        writer.transport.abort()


@pytest.fixture
def context(encrypted: str, client_side: ssl.SSLContext) -> ssl.SSLContext | None:
    return None if encrypted == "backend" else client_side


async def test_bytes_go_both_ways(
    gateway: Running, backend: RawBackend, context: ssl.SSLContext | None
) -> None:
    backend.script = agree(echo)
    async with opened(gateway, context) as (reader, writer):
        writer.write(bytes(MUCH))
        assert await reader.readexactly(MUCH) == bytes(MUCH)


async def test_the_end_of_the_client_ends_both_once_all_is_written(
    gateway: Running,
    backend: RawBackend,
    context: ssl.SSLContext | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    received = asyncio.get_running_loop().create_future()

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        received.set_result(await reader.read())

    backend.script = agree(collect)
    async with opened(gateway, context) as (_reader, writer):
        writer.write(bytes(MUCH))
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()
        assert len(await received) == MUCH
    await eventually(lambda: not gateway.listener.connections)
    await eventually(lambda: bool(gateway.log()))
    assert gateway.log()[0]["end"] == "client"
    assert "eof_received" not in caplog.text  # asyncio complains of who asks it for a half


async def test_the_end_of_the_backend_ends_both_once_all_is_written(
    gateway: Running, backend: RawBackend, context: ssl.SSLContext | None
) -> None:
    async def burst(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(MUCH))
        writer.close()

    backend.script = agree(burst)
    async with opened(gateway, context) as (reader, _writer):
        await asyncio.sleep(0.1)
        assert len(await reader.read()) == MUCH
    await eventually(lambda: not gateway.listener.connections)
    await eventually(lambda: bool(gateway.log()))
    assert gateway.log()[0]["end"] == "backend"


async def test_a_close_frame_reaches_the_client(
    gateway: Running, backend: RawBackend, context: ssl.SSLContext | None
) -> None:
    backend.script = agree(silent)
    async with opened(gateway, context) as (reader, _writer):
        gateway.parts.sockets.drain()
        assert await reader.read() == CLOSE_1001
    await eventually(lambda: not gateway.listener.connections)
