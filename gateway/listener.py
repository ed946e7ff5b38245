"""The client's side: aiohttp's low-level server, made fit for an edge.

aiohttp's connection parses, keeps alive and lingers; this one differs from it where a gateway
must: its request object is our `Exchange`, a parse error is answered in our form and echoes
nothing, bodies are never decompressed, and a slow client is told to whoever writes to it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from aiohttp import HttpVersion10, StreamReader, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.errors import BadRequest, HeadersTooLarge, RequestLineTooLong
from gateway.exchange import STALLED_SECONDS, Exchange, Flow, break_off
from gateway.pipeline import Gateway, Written
from gateway.settings import BoundsSettings

# Stands in for a head that could not be parsed: nothing of it is repeated anywhere.
UNREADABLE = RawRequestMessage(
    "UNKNOWN",
    "-",
    HttpVersion10,
    CIMultiDictProxy(CIMultiDict()),
    (),
    True,  # should_close
    None,
    False,  # upgrade
    False,  # chunked
    URL("/"),
)


class ClientConnection(RequestHandler):
    """One connection of a client."""

    __slots__ = (
        "draining",
        "end_of_unfinished",
        "flow",
        "max_unfinished_bytes",
        "payload",
        "peer",
        "secure",
        "unfinished_bytes",
    )

    def __init__(self, manager: "Listener", **options: Any) -> None:
        super().__init__(manager, **options)
        self.peer = ""
        self.secure = False
        self.flow: Flow | None = None
        self.payload: StreamReader | None = None  # of the request that was begun last
        self.draining = False
        # Of a head that is still coming: the parser keeps them, and bounds each field alone.
        self.unfinished_bytes = 0
        self.end_of_unfinished = b""
        self.max_unfinished_bytes = manager.max_unfinished_bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else "127.0.0.1"  # a unix socket is local
        self.secure = transport.get_extra_info("sslcontext") is not None
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self.payload is not None:
            # aiohttp would wait on for what is left of a body whose request has been answered.
            break_off(self.payload, TimeoutError())

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        messages, waiter = self._messages, self._waiter
        if messages:
            message, payload = messages[-1]
            if not isinstance(message, RawRequestMessage):
                self._break_body()
            elif message.upgrade and not self._upgraded and payload.is_eof():
                self._hold_upgrade(data)
            self.unfinished_bytes = 0
        elif waiter is not None and not waiter.done():
            self.unfinished_bytes += len(data)
            self.end_of_unfinished = (self.end_of_unfinished + data)[-3:]
            if self.unfinished_bytes > self.max_unfinished_bytes:
                too_large = _ErrInfo(431, LineTooLong(b"", -1), "")
                messages.append((too_large, EMPTY_PAYLOAD))
                waiter.set_result(None)

    def _hold_upgrade(self, data: bytes) -> None:
        """Keep what comes behind this head, as aiohttp does for the one protocol that it knows.

        It has dropped what came along in the same read; where there was any, it is no upgrade.
        """
        if self.unfinished_bytes:
            data = self.end_of_unfinished + data
        self._upgraded = data.find(b"\r\n\r\n") == len(data) - 4

    def _break_body(self) -> None:
        """The parser has given up; tell those who wait for the rest of a body. It does not."""
        payload = self._messages[-2][1] if len(self._messages) > 1 else self.payload
        if payload is not None:
            break_off(payload, TimeoutError())  # the kind that aiohttp does not log

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.flow is not None:
            self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.flow is not None:
            self.flow.resume_reading()

    async def drained(self) -> None:
        """Return when the client has taken enough of what was written; one that stalls is cut."""
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                await self._drain_helper()
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()

    @property
    def holds_upgrade(self) -> bool:
        return bool(self._upgraded)

    def switch(self, protocol: asyncio.Protocol) -> bytes:
        assert self.transport is not None
        early, self._message_tail = self._message_tail, b""
        self.transport.set_protocol(protocol)
        if self._buffer_paused:
            self._resume_reading_for_buffer()
        return early

    def drain(self) -> None:
        """Take no further request; the one under way may finish."""
        self.draining = True
        if self._waiter is not None and not self._waiter.done():  # idle
            self.force_close()

    def _make_error_handler(self, err_info: Any) -> Callable[[Any], Awaitable[web.StreamResponse]]:
        manager = self._manager
        assert isinstance(manager, Listener)
        complaint = manager.complaint(err_info.exc)

        async def refuse(exchange: Any) -> Any:
            return await manager.gateway.handle(exchange, complaint)

        return refuse


class Listener(web.Server):
    """Accepts connections for a `Gateway`; call it for a connection's protocol object."""

    def __init__(self, gateway: Gateway, bounds: BoundsSettings) -> None:
        super().__init__(self._handle, request_factory=self._exchange)  # type: ignore[arg-type]
        self.gateway = gateway
        self._request_line_bytes = bounds.request_line
        self._head_bytes = bounds.headers
        # A field takes four bytes more than its name and value.
        self.max_unfinished_bytes = bounds.request_line + bounds.headers + 4 * bounds.header_fields
        # aiohttp tells the two kinds of too long lines apart by nothing but the limit it names.
        field_bytes = bounds.headers + (bounds.headers == bounds.request_line)
        self._options: dict[str, Any] = {
            "loop": self._loop,
            "keepalive_timeout": bounds.keep_alive,
            "access_log": None,
            "max_line_size": bounds.request_line,
            "max_field_size": field_bytes,
            "max_headers": bounds.header_fields,
            "auto_decompress": False,
        }

    def __call__(self) -> RequestHandler:
        return ClientConnection(self, **self._options)

    async def _handle(self, exchange: Any) -> Written:
        # The parser bounds each field alone.
        fields = exchange.message.raw_headers
        if sum([len(name) + len(value) for name, value in fields]) > self._head_bytes:
            return await self.gateway.handle(exchange, HeadersTooLarge())
        return await self.gateway.handle(exchange)

    def _exchange(
        self,
        message: RawRequestMessage,
        payload: Any,
        protocol: Any,
        _writer: object,
        _task: object,
    ) -> Exchange:
        if not isinstance(message.headers, CIMultiDictProxy):
            message = UNREADABLE
        protocol.payload = payload
        return Exchange(message, payload, protocol, monotonic())

    def complaint(self, error: BaseException | None) -> BadRequest:
        """The parser's error in our words (RFC 9110 §15.5.15, RFC 6585 §5)."""
        if isinstance(error, LineTooLong):
            if error.args[1] == self._request_line_bytes:
                return RequestLineTooLong()
            return HeadersTooLarge()
        if "Too many headers" in str(error):
            return HeadersTooLarge()
        return BadRequest("Bad Request", reason="malformed_request")

    def drain(self) -> None:
        """No further requests on any connection; those under way may finish."""
        for connection in self.connections:
            if isinstance(connection, ClientConnection):
                connection.drain()
