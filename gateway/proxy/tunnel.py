"""WebSocket: the handshake goes through as a request, then bytes go both ways untouched.

Rules: the pattern has admitted the request before it comes here; the backend's own answer is
what the client gets, 101 or not; each side that is slow holds the other; the end of one side is
the end of the other.
"""

import asyncio

from gateway.exchange import Exchange
from gateway.proxy.connection import NEVER, UpstreamConnection
from gateway.proxy.forward import Forwarder, Relay
from gateway.proxy.headers import HOP_BY_HOP, answer_lines

SWITCHING = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


class Tunneler:
    """A route's way to its upstream when it takes WebSockets; other requests go as ever."""

    __slots__ = ("_forwarder",)

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder

    async def respond(self, exchange: Exchange) -> None:
        if not exchange.message.upgrade:
            await self._forwarder.respond(exchange)
            return
        pool = self._forwarder.pool
        upstream, target, _ = await pool.acquire(fresh=True)
        relay = TunnelRelay(exchange, upstream, self._forwarder)
        try:
            await relay.carry(self._forwarder.head(exchange, target, framing=SWITCHING))
        finally:
            relay.finish()
            upstream.close()
            pool.release(upstream)


class TunnelRelay(Relay):
    """A relay that becomes a tunnel when the backend answers 101."""

    __slots__ = ("_drain",)

    def __init__(
        self, exchange: Exchange, upstream: UpstreamConnection, forwarder: Forwarder
    ) -> None:
        super().__init__(exchange, upstream, forwarder)
        self._drain: asyncio.Task[None] | None = None

    def switched(self, first: bytes) -> None:
        exchange, upstream = self._exchange, self._upstream
        transport = exchange.connection.transport
        if transport is None:
            return
        exchange.status = 101
        exchange.close_after = True
        upstream.read_timeout = upstream.deadline = NEVER
        lines = answer_lines(upstream.headers, HOP_BY_HOP, own_cors=False, chunked=False)
        self._out += (
            b"HTTP/1.1 101 Switching Protocols\r\n",
            *lines,
            SWITCHING,
            exchange.own_lines,
            b"\r\n",
        )
        if first:
            self.data(first)
        self.flush()
        exchange.connection.switch(ClientInput(self))

    def client_sent(self, data: bytes) -> None:
        transport = self._exchange.connection.transport
        self._exchange.body_received_bytes += len(data)
        self._upstream.write(data)
        if self._upstream.write_paused and transport is not None and self._drain is None:
            transport.pause_reading()
            self._drain = asyncio.get_running_loop().create_task(self._resume_client())

    async def _resume_client(self) -> None:
        await self._upstream.drained()
        self._drain = None
        transport = self._exchange.connection.transport
        if transport is not None:
            transport.resume_reading()


class ClientInput:
    """Takes the client's bytes from aiohttp's connection, which asks for a parser's shape."""

    __slots__ = ("_relay",)

    def __init__(self, relay: TunnelRelay) -> None:
        self._relay = relay

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._relay.client_sent(data)
        return False, b""

    def feed_eof(self) -> None:
        pass
