"""WebSocket: the handshake goes through as a request, then bytes go both ways untouched.

Rules: the pattern has admitted the request before it comes here; the backend's own answer is
what the client gets, 101 or not; each side that is slow holds the other; the end of one side is
the end of the other. A request that is no handshake goes as any other, without its `Upgrade`.
"""

import asyncio

from aiohttp import HttpVersion11

from gateway.errors import BadRequest
from gateway.exchange import STALLED_SECONDS, Exchange
from gateway.proxy.connection import NEVER, UpstreamConnection
from gateway.proxy.forward import Forwarder, Relay
from gateway.proxy.headers import NO_LENGTH, answer_lines

SWITCHING = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


class Tunneler:
    """A route's way to its upstream when it takes WebSockets; other requests go as ever."""

    __slots__ = ("_forwarder",)

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder

    async def respond(self, exchange: Exchange) -> None:
        if not is_handshake(exchange):
            await self._forwarder.respond(exchange)
            return
        forwarder = self._forwarder
        upstream, target, _ = await forwarder.pool.acquire(
            fresh=True, connect_timeout=forwarder.connect_timeout
        )
        relay = TunnelRelay(exchange, upstream, forwarder)
        try:
            await relay.carry(forwarder.head(exchange, target, framing=SWITCHING))
        finally:
            relay.finish()
            upstream.close()
            forwarder.pool.release(upstream)


def is_handshake(exchange: Exchange) -> bool:
    """Does the client ask for a WebSocket (RFC 6455 §4.1)?

    Raises BadRequest if a body follows: its bytes would come to a backend that declines as a
    request of their own, past every check.
    """
    message = exchange.message
    if not (
        message.upgrade
        and message.method == "GET"
        and message.version == HttpVersion11
        and exchange.headers.get("Upgrade", "").lower() == "websocket"
    ):
        return False
    if message.chunked or exchange.headers.get("Content-Length", "0") != "0":
        raise BadRequest("A WebSocket handshake has no body", reason="bad_framing")
    return True


class TunnelRelay(Relay):
    """A relay that becomes a tunnel when the backend answers 101."""

    __slots__ = ("_drain",)

    def __init__(
        self, exchange: Exchange, upstream: UpstreamConnection, forwarder: Forwarder
    ) -> None:
        super().__init__(exchange, upstream, forwarder)
        self._drain: asyncio.Task[None] | None = None

    def switched(self, first: bytes) -> None:
        exchange, upstream = self.exchange, self._upstream
        transport = exchange.connection.transport
        if transport is None:
            return
        exchange.status = 101
        exchange.close_after = True
        upstream.read_timeout = upstream.deadline = NEVER
        lines = answer_lines(upstream.headers, NO_LENGTH, own_cors=False, chunked=False)
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
        transport = self.exchange.connection.transport
        self.exchange.body_received_bytes += len(data)
        self._upstream.write(data)
        if not self._upstream.write_paused or transport is None or transport.is_closing():
            return
        transport.pause_reading()
        if self._drain is None:
            # A client that is not read from is not seen to leave: a backend may not stall forever.
            loop = asyncio.get_running_loop()
            self._upstream.deadline = loop.time() + STALLED_SECONDS
            self._drain = loop.create_task(self._resume_client())

    async def _resume_client(self) -> None:
        await self._upstream.drained()
        self._drain = None
        self._upstream.moved()
        transport = self.exchange.connection.transport
        if transport is not None and not transport.is_closing():
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
