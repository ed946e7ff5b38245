"""What a connection does before its first request: PROXY header, then TLS.

Rules: the header is read to its last byte and not beyond (`get_buffer` gives no more room than
that), so that TLS begins on an untouched stream; both together have `head_timeout`; a connection
that fails either is closed without an answer, counted, and told as the census tells.
"""

import asyncio
from typing import TYPE_CHECKING, cast

from gateway.listener.connection import peer_of
from gateway.listener.proxy_protocol import Malformed, client_address, missing

if TYPE_CHECKING:
    from gateway.listener.listener import Listener

BAD_HEADER = "bad_proxy_header"
BAD_HANDSHAKE = "tls_handshake_failed"


class Entrance(asyncio.BufferedProtocol):
    """One connection until it is a `ClientConnection`, or is refused."""

    __slots__ = (
        "_arrived",
        "_deadline",
        "_handshake",
        "_header",
        "_listener",
        "_loop",
        "_peer",
        "_room",
        "_transport",
    )

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._header = b""
        self._room = bytearray()
        self._deadline = 0.0
        self._arrived = False
        self._handshake: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        both_ways = cast("asyncio.Transport", transport)  # as sockets have it
        listener = self._listener
        if not listener.census.arrive():
            both_ways.abort()
            return
        self._arrived = True
        self._transport = both_ways
        self._peer = peer_of(transport)
        self._deadline = self._loop.time() + listener.bounds.head_timeout
        listener.entering.add(self)
        if not listener.is_announced(self._peer):
            self._go_on(both_ways)

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002  # why is no matter
        self._gone()

    # The PROXY header.

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002  # more than we want
        self._room = bytearray(missing(self._header))
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self._header += self._room[:nbytes]
        transport = self._transport
        if transport is None:
            return
        try:
            if missing(self._header):
                return
            client = client_address(self._header)
        except Malformed:
            self._refuse(BAD_HEADER, f"{self._peer} began with no good PROXY header")
            return
        if client is not None:
            self._peer = client
        transport.pause_reading()  # until another protocol reads
        self._go_on(transport)
        if not transport.is_closing():
            transport.resume_reading()

    def _go_on(self, transport: asyncio.Transport) -> None:
        if self._listener.tls is None:
            connection = self._listener.connection()
            transport.set_protocol(connection)
            self._hand_over()
            connection.begin(transport, self._peer)
        else:
            self._handshake = self._loop.create_task(self._begin_tls(transport))

    # TLS.

    async def _begin_tls(self, transport: asyncio.Transport) -> None:
        tls = self._listener.tls
        assert tls is not None
        early = Early()
        try:
            secured = await self._loop.start_tls(
                transport,
                early,
                tls.context,
                server_side=True,
                ssl_handshake_timeout=max(0.01, self._deadline - self._loop.time()),
            )
        except OSError:  # ssl.SSLError and TimeoutError are too
            self._refuse(BAD_HANDSHAKE, f"{self._peer} did not come to terms with us")
            self._gone()
            return
        if secured is None or early.is_lost:
            self._gone()
            return
        connection = self._listener.connection()
        secured.set_protocol(connection)
        self._hand_over()
        connection.begin(secured, self._peer)
        if early.data and not secured.is_closing():
            connection.data_received(b"".join(early.data))

    # The end.

    def check(self, now: float) -> None:
        """Refuse a connection whose header has not come in time. `now` is loop time."""
        if now >= self._deadline and self._handshake is None:  # which has a timer of its own
            self._refuse(BAD_HEADER, f"{self._peer} sent no whole PROXY header in time")

    def leave(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _refuse(self, reason: str, why: str) -> None:
        self._deadline = float("inf")  # once
        self._listener.census.refuse(reason, why)
        self.leave()

    def _hand_over(self) -> None:
        self._arrived = False
        self._gone()

    def _gone(self) -> None:
        self._listener.entering.discard(self)
        self._transport = None
        if self._arrived:
            self._arrived = False
            self._listener.census.leave(None)


class Early(asyncio.Protocol):
    """Keeps what comes in the same read as the handshake's end, before anybody can take it."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        self.data.append(data)

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002  # why is no matter
        self.is_lost = True
