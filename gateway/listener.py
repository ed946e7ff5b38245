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
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
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


# Of chunk sizes, extensions and trailers, before they are measured against the chunks' own bytes.
MAX_FRAMING_BYTES = 16_384


def _least_bytes(message: RawRequestMessage) -> int:
    """How long the head of `message` was at least."""
    return len(message.path) + sum([len(name) + len(value) for name, value in message.raw_headers])


class ClientConnection(RequestHandler):
    """One connection of a client."""

    __slots__ = (
        "chunked_body",
        "chunked_bytes",
        "draining",
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
        # A connection carries one chunked body at most: it ends behind it.
        self.chunked_body: StreamReader | None = None
        self.chunked_bytes = 0  # of it, with its framing
        # Of a head that is still coming: the parser keeps them, and bounds each field alone.
        self.unfinished_bytes = 0
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
            self.unfinished_bytes = 0
            if not isinstance(messages[-1][0], RawRequestMessage):
                self._break_body()
            elif messages[-1][0].chunked or len(messages) > 1:
                self._begin_chunked(len(data))
        elif self.chunked_body is not None and not self.chunked_body.is_eof():
            self.chunked_bytes += len(data)
            if self._has_much_framing(self.chunked_body):
                break_off(self.chunked_body, TimeoutError())
        elif waiter is not None and not waiter.done():
            self.unfinished_bytes += len(data)
            if self.unfinished_bytes > self.max_unfinished_bytes:
                too_large = _ErrInfo(431, LineTooLong(b"", -1), "")
                messages.append((too_large, EMPTY_PAYLOAD))
                waiter.set_result(None)

    def _begin_chunked(self, received_bytes: int) -> None:
        """Measure what has come of a chunked body; what came with it is not its framing."""
        chunked = None
        for index, (message, body) in enumerate(self._messages):
            if isinstance(message, RawRequestMessage):
                received_bytes -= _least_bytes(message)
                if message.chunked and chunked is None:
                    chunked, self.chunked_body = index, body
                else:
                    received_bytes -= body.total_bytes
        if chunked is None or self.chunked_body is None:
            return
        self.chunked_bytes = received_bytes
        if self._has_much_framing(self.chunked_body):
            too_much = _ErrInfo(400, BadHttpMessage("Too much framing"), "")
            self._messages[chunked] = (too_much, EMPTY_PAYLOAD)

    def _has_much_framing(self, body: StreamReader) -> bool:
        """Do the chunks bring more of extensions and trailers than of bytes? (RFC 9112 §7.1.1)

        Chunks of a byte each, without any extension, are still fine.
        """
        framing = self.chunked_bytes - body.total_bytes
        return framing > MAX_FRAMING_BYTES + 8 * body.total_bytes

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

    def switch(self, protocol: Any) -> None:
        self.set_parser(protocol)

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
