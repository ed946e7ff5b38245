"""What a connection does before its first request: PROXY header, then TLS.

Rules: the header is read to its last byte and not beyond (`get_buffer` gives no more room than
that), so that TLS begins on an untouched stream; both together have `head_timeout`; a connection
that fails either is closed without an answer, counted, and told as the census tells.
"""

import asyncio
import os
import socket
from typing import TYPE_CHECKING, cast

from gateway.listener.connection import NEVER, peer_of
from gateway.listener.proxy_protocol import Malformed, client_address, missing

if TYPE_CHECKING:
    from gateway.listener.listener import Listener

BAD_HEADER = "bad_proxy_header"
BAD_HANDSHAKE = "tls_handshake_failed"
NO_DESCRIPTOR = "no_descriptor"


class Entrance(asyncio.BufferedProtocol):
    """One connection until it is a `ClientConnection`, or is refused."""

    __slots__ = (
        "_deadline",
        "_header",
        "_listener",
        "_loop",
        "_peer",
        "_room",
        "_task",
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
        self._task: asyncio.Task[None] | None = None  # from the header's end on

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        both_ways = cast("asyncio.Transport", transport)  # as sockets have it
        listener = self._listener
        if not listener.census.arrive():
            both_ways.abort()
            return
        self._transport = both_ways
        self._peer = peer_of(transport)
        self._deadline = self._loop.time() + listener.bounds.head_timeout
        listener.entering.add(self)
        if not listener.is_announced(self._peer):
            self._hand_over(both_ways, self._peer)

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002  # why is no matter
        transport, self._transport = self._transport, None
        if transport is not None and self._task is None:
            self._gone(arrived=True)

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
        self._hand_over(transport, client or self._peer)

    # TLS, and what comes after.

    def _hand_over(self, transport: asyncio.Transport, peer: str) -> None:
        """Let the client's connection have the socket, and begin TLS on it.

        Not by `set_protocol` and `start_tls`: on uvloop a transport goes on reading meanwhile.
        """
        try:
            end = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        except OSError as error:
            self._refuse(NO_DESCRIPTOR, error.strerror or "")
            return
        self._task = self._loop.create_task(self._begin(end, peer))
        transport.abort()  # the descriptor alone: the connection is the other one's

    async def _begin(self, end: socket.socket, peer: str) -> None:
        listener = self._listener
        tls = listener.tls
        connection = listener.connection(peer)
        left = max(0.01, self._deadline - self._loop.time())
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                end,
                ssl=None if tls is None else tls.context,
                ssl_handshake_timeout=None if tls is None else left,
            )
        except OSError:  # ssl.SSLError and TimeoutError are too
            if not connection.has_begun:
                listener.census.refuse(BAD_HANDSHAKE, f"{peer} did not come to terms with us")
        finally:
            self._gone(arrived=not connection.has_begun)

    # The end.

    def check(self, now: float) -> None:
        """Refuse a connection whose header has not come in time. `now` is loop time."""
        if now >= self._deadline and self._task is None:  # which has a timer of its own
            self._refuse(BAD_HEADER, f"{self._peer} sent no whole PROXY header in time")

    def leave(self) -> None:
        """Close at once."""
        if self._task is not None:
            self._task.cancel()
        elif self._transport is not None:
            self._transport.abort()

    def _refuse(self, reason: str, why: str) -> None:
        self._deadline = NEVER
        self._listener.census.refuse(reason, why)
        self.leave()

    def _gone(self, *, arrived: bool) -> None:
        self._listener.entering.discard(self)
        if arrived:
            self._listener.census.leave(None)
