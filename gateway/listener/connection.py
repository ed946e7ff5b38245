"""One connection of a client: aiohttp's, made fit for an edge.

aiohttp's connection parses and keeps alive; this one differs from it where a gateway must: its
request object is our `Exchange`, a parse error is answered in our form and echoes nothing, bodies
are never decompressed, a slow client is told to whoever writes to it, and all it may take its time
for has an end.

Deadlines are loop times that the listener's sweep compares (`check`); nothing is armed per request.
Which one runs:

    idle        head_timeout from the connection's begin, or from the first byte of a later head
                (with no byte yet, keep_alive, which aiohttp's own timer watches)
    in a body   body_timeout from the last piece, as long as somebody waits for the next one
    leaving     LINGER_SECONDS for the client to read and close, then STALLED_SECONDS to be cut
"""

import asyncio
from typing import TYPE_CHECKING, Any, cast

from aiohttp import StreamReader
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo

from gateway.errors import BadRequest, HeadersTooLarge, RequestTimeout, forget_frames
from gateway.exchange import STALLED_SECONDS, BodyStalled, Exchange, Flow, break_off
from gateway.listener.framing import EmptyLines, RequestLine, has_much_framing, least_bytes
from gateway.listener.serving import UNREADABLE, ServingConnection

if TYPE_CHECKING:
    from gateway.listener.listener import Listener

NEVER = float("inf")
LINGER_SECONDS = 5.0
END_OF_HEAD = b"\r\n\r\n"


class ClientConnection(ServingConnection):
    """One connection for its lifetime; it knows requests only by what aiohttp says of them."""

    __slots__ = (
        "_bounds",
        "_bucket",
        "_census",
        "_chunked_body",
        "_chunked_bytes",
        "_complained",
        "_counted",
        "_empty_lines",
        "_end_of_unfinished",
        "_held",
        "_in_body",
        "_left",
        "_max_unfinished_bytes",
        "_request_line",
        "_socket",
        "_unfinished_bytes",
        "deadline",
        "draining",
        "ending",
        "flow",
        "has_begun",
        "peer",
        "secure",
        "shown",
    )

    def __init__(self, listener: "Listener", peer: str, **options: Any) -> None:
        """`peer` is who is behind a connection that has arrived already; empty: it is new."""
        super().__init__(listener, **options)
        self._bounds = bounds = listener.bounds
        self._census = listener.census
        self._counted = False
        self._bucket: str | None = None
        # aiohttp forgets its transport when it begins to close it.
        self._socket: asyncio.Transport | None = None
        self.peer = peer
        self.has_begun = False
        self.secure = False
        self.flow: Flow | None = None
        self.shown: tuple[str, object] | None = None
        self.draining = self.ending = False
        self.deadline = NEVER
        self._in_body = False  # what comes next belongs to the body of the last head
        # A connection carries one chunked body at most: it ends behind it.
        self._chunked_body: StreamReader | None = None
        self._chunked_bytes = 0  # of it, with its framing
        # Of a head that is still coming: the parser keeps them, and bounds each field alone.
        self._unfinished_bytes = 0
        self._end_of_unfinished = b""
        self._held = b""  # what one read brought beyond the requests that may wait
        self._empty_lines = EmptyLines()
        self._request_line = RequestLine()
        # A field takes four bytes more than its name and value.
        self._max_unfinished_bytes = bounds.request_line + bounds.headers + 4 * bounds.header_fields
        self._complained = False  # of the head that is coming
        self._left: asyncio.Future[None] | None = None  # while lingering

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        both_ways = cast("asyncio.Transport", transport)  # as sockets have it
        if not self.peer:
            if not self._census.arrive():
                both_ways.abort()
                return
            self.peer = peer_of(transport)
        self.has_begun = True
        self._counted = True
        self._bucket = self._census.settle(self.peer)
        if self._bucket is None:
            both_ways.abort()
            return
        self._socket = both_ways
        self.secure = transport.get_extra_info("sslcontext") is not None
        self.deadline = self._loop.time() + self._bounds.head_timeout
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._counted:
            self._counted = False
            self._census.leave(self._bucket)
        if self.payload is not None:
            # aiohttp would wait on for what is left of a body whose request has been answered.
            break_off(self.payload, TimeoutError())
            self.payload = None  # it refers to this
        self._stop_lingering()

    # What comes from the client.

    def data_received(self, data: bytes) -> None:
        """Give the parser each head of a read by itself, and none while too many wait.

        It forgets what it has parsed of a read when something in it is wrong: behind a good request
        that would cost the good one its answer.
        """
        if self._held:
            data, self._held = self._held + data, b""
        while data and not (self._in_body or self._upgraded or self._close):
            if len(self._messages) >= self._max_msg_queue_size:
                self._held = data  # aiohttp has paused the reading; it calls when some are answered
                return
            lines = self._empty_lines
            if lines.expected and not lines.are_whole(data):
                self._complain(BadRequest("Bad Request", reason="malformed_request"))
                return
            known = self._end_of_unfinished if self._unfinished_bytes else b""
            end = (known + data).find(END_OF_HEAD) + len(END_OF_HEAD) - len(known)
            if not 0 < end < len(data):
                break
            head, data = data[:end], data[end:]
            self._parse(head)
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        heads = self._request_count
        super().data_received(data)
        messages = self._messages
        if self._request_count != heads:
            if self._unfinished_bytes or len(data) > self._listener.bounds.headers:
                self.has_large_heads = True
            is_http = self._request_line.is_http(data)
            message, payload = messages[-1]
            if isinstance(message, _ErrInfo):
                forget_frames(message.exc)
            elif not is_http:
                version = BadRequest("Unsupported HTTP version", reason="bad_version")
                message, payload = _ErrInfo(version.status, version, ""), EMPTY_PAYLOAD
                messages[-1] = message, payload
            if getattr(message, "upgrade", False) and not self._upgraded and payload.is_eof():
                self._hold_upgrade(data)
            self._unfinished_bytes = 0
            self._empty_lines.expected = True
            self.deadline = NEVER
            self._in_body = False
            if payload is not EMPTY_PAYLOAD:
                self._await_body(payload)
            elif not isinstance(message, RawRequestMessage):
                self._break_body()
            if len(messages) > 1 or getattr(message, "chunked", False):
                self._begin_chunked(len(data))
        elif self._in_body:
            self._await_body(messages[-1][1] if messages else self.payload)
            body = self._chunked_body
            if body is not None:
                self._chunked_bytes += len(data)
                if has_much_framing(body, self._chunked_bytes):
                    self._refuse_chunked(body)
        elif data and not self._upgraded and not self._close:
            self._end_of_unfinished = (self._end_of_unfinished + data)[-3:]
            self._request_line.more(data)
            self._more_of_head(len(data))

    def _hold_upgrade(self, data: bytes) -> None:
        """Keep what comes behind this head, as aiohttp does for the one protocol that it knows.

        It has dropped what came along in the same read; where there was any, it is no upgrade.
        """
        if self._unfinished_bytes:
            data = self._end_of_unfinished + data
        self._upgraded = data.find(END_OF_HEAD) == len(data) - 4

    def _begin_chunked(self, received_bytes: int) -> None:
        """Measure what has come of a chunked body; what came with it is not its framing."""
        chunked = None
        for message, body in self._messages:
            if isinstance(message, RawRequestMessage):
                received_bytes -= least_bytes(message)
                if message.chunked and chunked is None:
                    chunked = body
                else:
                    received_bytes -= body.total_bytes
        if chunked is None:
            return
        self._chunked_body = chunked
        self._chunked_bytes = received_bytes
        if has_much_framing(chunked, received_bytes):
            self._refuse_chunked(chunked)

    def _refuse_chunked(self, body: StreamReader) -> None:
        """End a body whose framing is too much, and its request if nobody has taken that yet."""
        for index, (_, queued) in enumerate(self._messages):
            if queued is body:
                too_much = _ErrInfo(400, BadHttpMessage("Too much framing"), "")
                self._messages[index] = (too_much, EMPTY_PAYLOAD)
                return
        break_off(body, TimeoutError())

    def _await_body(self, payload: StreamReader | None) -> None:
        self._in_body = payload is not None and not payload.is_eof()
        self.deadline = self._loop.time() + self._bounds.body_timeout if self._in_body else NEVER

    def _more_of_head(self, size: int) -> None:
        if not self._unfinished_bytes and self.deadline == NEVER:
            self.deadline = self._loop.time() + self._bounds.head_timeout
        self._unfinished_bytes += size
        if self._unfinished_bytes > self._max_unfinished_bytes:
            self._complain(HeadersTooLarge())

    def _complain(self, error: BadRequest) -> None:
        """Let a head that did not come whole take its turn, as one that could not be parsed."""
        if self._complained:
            return
        self._complained = True
        self._messages.append((_ErrInfo(error.status, error, ""), EMPTY_PAYLOAD))
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        else:  # one before it is not answered yet: read no more until then
            self._pause_reading_for_buffer()

    def _break_body(self) -> None:
        """The parser has given up; tell those who wait for the rest of a body. It does not."""
        payload = self._messages[-2][1] if len(self._messages) > 1 else self.payload
        if payload is not None:
            break_off(payload, TimeoutError())  # the kind that aiohttp does not log

    def check(self, now: float) -> None:
        """Do what the deadline asks for, if it has passed. `now` is loop time."""
        waiter, payload = self._waiter, self.payload
        if self._close or self._force_close:
            if now >= self.deadline:
                self._end()
        elif waiter is not None and not waiter.done():
            if now >= self.deadline:
                self.deadline = NEVER
                if self._unfinished_bytes:
                    self._complain(RequestTimeout())
                else:
                    self.force_close()
        elif payload is not None and not payload.is_eof() and payload._waiter is not None:  # noqa: SLF001
            if now >= self.deadline:
                break_off(payload, BodyStalled())
        else:
            # Nobody waits for the client: its time begins when somebody does.
            bounds = self._bounds
            self.deadline = now + (bounds.body_timeout if self._in_body else bounds.head_timeout)

    # What goes to the client.

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
        self.deadline = NEVER
        early, self._message_tail = self._message_tail, b""
        self.transport.set_protocol(protocol)
        if self._buffer_paused:
            self._resume_reading_for_buffer()
        return early

    # The end.

    async def finish(self, exchange: Exchange) -> None:
        """Close behind the answer to `exchange`, in stages (RFC 9112 §9.6).

        To a client that still sends, closing at once would be a reset, which destroys what it has
        not read of its answer. So ours is the first half to close, and what comes is thrown away
        until the client closes the other or LINGER_SECONDS are over. TLS has no halves: there the
        client only gets the time. One that had announced its last request, and sent it, is done.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        message = exchange.message
        done = message.should_close and message is not UNREADABLE and exchange.payload.is_eof()
        self._close = True  # from here on aiohttp drops what comes
        self._lingering_time = 0.0  # nor does it linger in its own way
        self.deadline = self._loop.time() + STALLED_SECONDS
        if done and not self._messages:
            return
        if transport.can_write_eof():
            transport.write_eof()
        self._reading_paused = self._buffer_paused = False
        self._resume_transport_reading()
        self.deadline = self._loop.time() + LINGER_SECONDS
        self._left = self._loop.create_future()
        await self._left

    def _end(self) -> None:
        """The client has had its time."""
        self.deadline = self._loop.time() + STALLED_SECONDS
        if not self._stop_lingering() and self._socket is not None:
            self._socket.abort()  # it does not take even what was written before the end

    def _stop_lingering(self) -> bool:
        left = self._left
        if left is None or left.done():
            return False
        left.set_result(None)
        return True

    def force_close(self) -> None:
        super().force_close()
        self.deadline = self._loop.time() + STALLED_SECONDS

    def drain(self) -> None:
        """Take no further request; the one under way may finish."""
        self.draining = self.ending = True
        if self._waiter is not None and not self._waiter.done():  # idle
            self.force_close()


def peer_of(transport: asyncio.BaseTransport) -> str:
    """The address at the other end; a unix socket's is local."""
    peer = transport.get_extra_info("peername")
    return peer[0] if isinstance(peer, tuple) else "127.0.0.1"
