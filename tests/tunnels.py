"""Both ends of upgraded connections, on raw sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from backend import Received, Script
from harness import Running

from gateway.proxy.tunnel import Tunnel

HEAD = b"Host: api.example\r\n"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def handshake(path: bytes = b"/ws", *fields: bytes, protocol: bytes = b"websocket") -> bytes:
    lines = (b"Connection: Upgrade", b"Upgrade: " + protocol, *fields)
    return b"GET %b HTTP/1.1\r\n%b%b\r\n\r\n" % (path, HEAD, b"\r\n".join(lines))


def agree(talk: Talk, *fields: bytes, protocol: bytes = b"websocket") -> Script:
    """A backend that switches, and goes on with `talk`."""

    async def script(
        _backend: Any, _got: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        lines = (b"Connection: upgrade", b"Upgrade: " + protocol, *fields)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n\r\n" % b"\r\n".join(lines))
        await talk(reader, writer)

    return script


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the end of what comes, and then end as well."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


@asynccontextmanager
async def opened(
    gateway: Running, path: bytes = b"/ws", *fields: bytes, protocol: bytes = b"websocket"
) -> AsyncIterator[tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client's tunnel: the head that opened it, and both directions."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        async with asyncio.timeout(20):
            writer.write(handshake(path, *fields, protocol=protocol))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 "), head
            yield head, reader, writer
    finally:
        writer.transport.abort()


def tunnels(gateway: Running) -> list[Tunnel]:
    """Those open now."""
    found = [socket.tunnel for socket in gateway.parts.sockets]
    return [tunnel for tunnel in found if isinstance(tunnel, Tunnel)]


def frame(payload: bytes, opcode: int = 2, *, last: bool = True) -> bytes:
    """As a server sends it: not masked (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        length = bytes((size,))
    elif size < 1 << 16:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    return bytes((0x80 * last | opcode,)) + length + payload
