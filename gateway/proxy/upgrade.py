"""Upgrades: the handshake goes through as a request; when the backend agrees, a tunnel is opened.

Rules:
- The pattern has admitted the request before it comes here; the backend's own answer is what the
  client gets, 101 or not. A 101 to what the client did not ask for is a bad answer.
- A request that asks for nothing its route allows goes as any other, without its `Upgrade`.
"""

from collections.abc import Iterable

from gateway.errors import GatewayError, UpstreamFailed
from gateway.exchange import Exchange
from gateway.proxy.answer import own_lines
from gateway.proxy.connection import NEVER, UpstreamConnection
from gateway.proxy.forward import Forwarder, Relay
from gateway.proxy.headers import NO_LENGTH, answer_lines
from gateway.proxy.sockets import End, OpenSockets, Socket
from gateway.proxy.tunnel import Side, Tunnel, WebSocketBackend
from gateway.proxy.websocket import MARKER, SUBPROTOCOL, WEBSOCKET, take_marker, upgrades_asked


class Upgrader:
    """A route's way to its upstream when it takes upgrades; other requests go as ever."""

    __slots__ = ("_answers_marker", "_forwarder", "_protocols", "_sockets")

    def __init__(
        self,
        forwarder: Forwarder,
        sockets: OpenSockets,
        protocols: Iterable[str],
        *,
        answers_marker: bool = False,
    ) -> None:
        """`protocols` in lower case. `answers_marker`: credentials may come as subprotocols."""
        self._forwarder = forwarder
        self._sockets = sockets
        self._protocols = frozenset(protocols)
        self._answers_marker = answers_marker

    async def respond(self, exchange: Exchange) -> None:
        """Raises as `Forwarder.respond`, and as `OpenSockets.place`."""
        asked = upgrades_asked(exchange, self._protocols)
        if not asked:
            await self._forwarder.respond(exchange)
            return
        forwarder = self._forwarder
        with self._sockets.place(exchange) as socket:
            marked = self._answers_marker and take_marker(exchange)
            pool = forwarder.pool
            upstream, target, _ = await pool.acquire(
                fresh=True, connect_timeout=forwarder.connect_timeout, client=exchange
            )
            failure: GatewayError | None = None
            relay = UpgradeRelay(exchange, upstream, forwarder)
            relay.asked, relay.marked = asked, marked
            relay.sockets, relay.socket = self._sockets, socket
            try:
                await relay.carry(forwarder.head(exchange, target, framing=_switching(asked)))
            except GatewayError as error:
                failure = error
                raise
            finally:
                relay.finish()
                upstream.close()
                pool.release(upstream, failure)
                failure = None  # its traceback has this frame


class UpgradeRelay(Relay):
    """A relay that opens a tunnel when the backend answers 101."""

    __slots__ = ("_tunnel", "asked", "marked", "socket", "sockets")

    asked: tuple[str, ...]  # what the client wants to speak, in lower case
    marked: bool  # the answer has to select a subprotocol: `primit`, if no other
    socket: Socket
    sockets: OpenSockets

    def __init__(
        self, exchange: Exchange, upstream: UpstreamConnection, forwarder: Forwarder
    ) -> None:
        super().__init__(exchange, upstream, forwarder)
        self._tunnel: Tunnel | None = None

    def switched(self, first: bytes) -> None:
        connection, upstream = self.exchange.connection, self._upstream
        if connection.transport is None or upstream.transport is None:
            return
        agreed = _agreed(upstream)
        if not set(agreed) <= set(self.asked):
            upstream.fail(UpstreamFailed(reason="upstream_bad_answer"))
            return
        client = Side(connection.transport, connection, End.CLIENT)
        if agreed == [WEBSOCKET]:
            backend: Side = WebSocketBackend(upstream.transport, upstream)
        else:
            backend = Side(upstream.transport, upstream, End.BACKEND)
        self._answer(agreed)
        tunnel = self._tunnel = Tunnel(client, backend, self.sockets.idle_seconds, self._ended)
        self.exchange.cancel = connection.flow = upstream.receiver = None
        upstream.deadline = NEVER
        self._forwarder.pool.became_tunnel(upstream)
        upstream.transport.set_protocol(backend)
        early = connection.switch(client)
        if connection.writing_paused:
            client.hold()
        if upstream.write_paused:
            backend.hold()
        if first:
            backend.data_received(first)
        if early:
            client.data_received(early)
        self.sockets.opened(self.socket, tunnel)

    def _answer(self, agreed: list[str]) -> None:
        exchange, upstream = self.exchange, self._upstream
        exchange.status = 101
        exchange.close_after = True
        lines = answer_lines(upstream.headers, NO_LENGTH, own_cors=False, chunked=False)
        if self.marked and not any(
            name.lower() == SUBPROTOCOL.lower().encode() for _, name, _ in upstream.headers
        ):
            lines.append(f"{SUBPROTOCOL}: {MARKER}\r\n".encode())
        self._out += (b"HTTP/1.1 101 Switching Protocols\r\n", *lines, _switching(agreed))
        self._out += (own_lines(exchange), b"\r\n")
        self.flush()

    def _ended(self, tunnel: Tunnel) -> None:
        self.exchange.sent_bytes = tunnel.backend.received_bytes
        self.exchange.body_received_bytes = tunnel.client.received_bytes
        self.sockets.closed(self.socket, tunnel.reason or End.CLIENT)
        self._tunnel = None
        self._settle()

    def finish(self) -> None:
        super().finish()
        if self._tunnel is not None:  # whose worker waits no longer
            self._tunnel.cut()


def _switching(protocols: Iterable[str]) -> bytes:
    return f"Connection: Upgrade\r\nUpgrade: {', '.join(protocols)}\r\n".encode()


def _agreed(upstream: UpstreamConnection) -> list[str]:
    """What the backend's 101 says will be spoken, in lower case; at least one word."""
    values = [value for _, name, value in upstream.headers if name.lower() == b"upgrade"]
    return [part.strip().decode("latin-1").lower() for part in b",".join(values).split(b",")]
