"""One admitted request, carried to its backend, and the backend's answer carried back.

A `Forwarder` belongs to a route and is made with the route table; a `Relay` belongs to one
request and takes its answer. Bodies pass in both directions as they come, and a side that is slow
holds the other: nothing is collected.

Rules:
- A request is written anew from what was parsed, never copied.
- It is sent again only where `retry.py` finds that safe, while the route's attempts and the
  upstream's budget last, and to another address if there is one.
- An answer that breaks off is never ended well: the client's connection is cut.
"""

import asyncio
from time import monotonic

from aiohttp import HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD

from gateway.errors import (
    ClientGone,
    GatewayError,
    PayloadTooLarge,
    UpstreamFailed,
)
from gateway.exchange import Exchange
from gateway.limits import ClientAddresses
from gateway.proxy.answer import connection_line, own_lines
from gateway.proxy.connection import NEVER, UpstreamConnection
from gateway.proxy.headers import (
    NO_LENGTH,
    answer_lines,
    connection_names,
    forwarded_lines,
    request_lines,
    without_prefix,
)
from gateway.proxy.pool import Pool
from gateway.proxy.retry import IDEMPOTENT, may_send_again
from gateway.proxy.target import Address, Target


class Forwarder:
    """A route's way to its upstream. `read_timeout` and `connect_timeout` are seconds.

    `attempts`: how often a request is tried at most, the first time included.
    """

    __slots__ = (
        "_addresses",
        "_attempts",
        "_drops",
        "_preserve_host",
        "_set_lines",
        "_strip_prefix",
        "connect_timeout",
        "max_body_bytes",
        "own_cors",
        "pool",
        "read_timeout",
    )

    def __init__(
        self,
        pool: Pool,
        *,
        addresses: ClientAddresses,
        drops: frozenset[bytes],
        set_lines: bytes = b"",
        preserve_host: bool = False,
        strip_prefix: str | None = None,
        max_body_bytes: int | None = None,
        connect_timeout: float = 2.0,
        read_timeout: float = 30.0,
        attempts: int = 1,
        own_cors: bool = False,
    ) -> None:
        self.pool = pool
        self._attempts = attempts
        self._addresses = addresses
        self._drops = drops
        self._set_lines = set_lines
        self._preserve_host = preserve_host
        self._strip_prefix = strip_prefix
        self.max_body_bytes = max_body_bytes
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self.own_cors = own_cors

    async def respond(self, exchange: Exchange) -> None:
        """Forward, and write the answer. Raises a GatewayError before or amid the answer."""
        self.check_length(exchange)
        pool = self.pool
        left = self._attempts
        tried: tuple[Address, ...] = ()
        while True:
            upstream, target, reused = await pool.acquire(
                connect_timeout=self.connect_timeout,
                fresh=bool(tried),
                careful=exchange.method not in IDEMPOTENT,
                tried=tried,
                attempts=left,
                client=exchange,
            )
            relay = Relay(exchange, upstream, self)
            failure: GatewayError | None = None
            try:
                await relay.carry(self.head(exchange, target, framing=_framing(exchange)))
                return
            except GatewayError as error:
                failure = error
                left -= 1 if reused else upstream.tries
                assert upstream.address is not None
                tried = (*tried, upstream.address)
                if (
                    left < 1
                    or not may_send_again(exchange, upstream)
                    or not _was_cut(error)
                    # What a new connection has died of, the same backend would die of again.
                    or not (reused or pool.has_another(tried))
                    or not pool.budget.spend()
                ):
                    raise
            finally:
                relay.finish()
                pool.release(upstream, failure)
                failure = None  # its traceback has this frame

    def check_length(self, exchange: Exchange) -> None:
        """Raise PayloadTooLarge for a body that says at once that it is too long."""
        limit = self.max_body_bytes
        if limit is not None:
            declared = exchange.headers.get("Content-Length")
            if declared is not None and int(declared) > limit:
                raise PayloadTooLarge(limit)

    def head(self, exchange: Exchange, target: Target, *, framing: bytes) -> bytes:
        """The request's head for `target`; `framing` are the lines that say how its body ends."""
        headers = exchange.headers
        path = exchange.target
        if self._strip_prefix is not None:
            path = without_prefix(path, self._strip_prefix)
        drops = self._drops
        connection = headers.getall("Connection", None)
        if connection is not None:
            drops |= connection_names(connection)
        trace = exchange.trace
        if trace is not None:
            drops |= trace.replaces
        peer = exchange.connection.peer
        host = exchange.host
        trusted = self._addresses.trusts(peer)
        sent_host = host if self._preserve_host and host else target.authority
        identity = exchange.identity
        forwarded = forwarded_lines(
            client=exchange.client_ip,
            peer=peer,
            scheme="https" if exchange.connection.secure else "http",
            host=host,
            trusted=headers if trusted else None,
        )
        own = (
            f"{exchange.method} {path} HTTP/1.1\r\nHost: {sent_host}\r\n"
            f"{forwarded}X-Request-ID: {exchange.request_id}\r\n"
        )
        return b"".join(
            (
                own.encode("utf-8", "surrogateescape"),
                *request_lines(exchange.message.raw_headers, drops, trusted=trusted),
                b"" if trace is None else trace.line,
                identity.headers if identity is not None else b"",
                self._set_lines,
                framing,
                b"\r\n",
            )
        )


def _framing(exchange: Exchange) -> bytes:
    if exchange.body is not None:
        return b"Content-Length: %d\r\n" % len(exchange.body)
    if exchange.message.chunked:
        return b"Transfer-Encoding: chunked\r\n"
    declared = exchange.headers.get("Content-Length")
    return b"" if declared is None else b"Content-Length: %d\r\n" % int(declared)


def _was_cut(error: GatewayError) -> bool:
    """Did the backend end the connection? Of a timeout nobody knows what it did meanwhile."""
    return isinstance(error, UpstreamFailed)


class Relay:
    """One answer on its way to one client."""

    __slots__ = (
        "_chunks",
        "_done",
        "_forwarder",
        "_out",
        "_pump",
        "_request_sent",
        "_started",
        "_upstream",
        "exchange",
    )

    def __init__(
        self, exchange: Exchange, upstream: UpstreamConnection, forwarder: Forwarder
    ) -> None:
        self.exchange = exchange
        self._upstream = upstream
        self._forwarder = forwarder
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pump: asyncio.Task[None] | None = None
        self._out: list[bytes] = []
        self._chunks = False  # the answer goes to the client in chunks
        self._request_sent = True
        self._started = monotonic()
        exchange.cancel = self._client_left
        exchange.connection.flow = upstream
        upstream.start(
            self, head_only=exchange.method == "HEAD", read_timeout=forwarder.read_timeout
        )

    async def carry(self, head: bytes) -> None:
        """Send the request, and return when its answer has been written."""
        exchange = self.exchange
        if exchange.gone:
            raise ClientGone
        if exchange.body is not None:
            self._upstream.write(head + exchange.body)
        elif exchange.payload is EMPTY_PAYLOAD:
            exchange.body = b""
            self._upstream.write(head)
        elif exchange.payload.is_eof() and exchange.payload.exception() is None:
            self._upstream.write(head + self._rest_of_body())
        else:
            self._request_sent = False
            self._upstream.write(head)
            self._pump = asyncio.get_running_loop().create_task(self._send_body())
        await self._done

    def _settle(self, error: GatewayError | None = None) -> None:
        """It is over; `error`: not well."""
        if not self._done.done():
            if error is None:
                self._done.set_result(None)
            else:
                self._done.set_exception(error)

    def finish(self) -> None:
        """Let go of the client and of the request; the caller releases the connection."""
        exchange = self.exchange
        exchange.cancel = None
        exchange.connection.flow = None
        exchange.upstream_seconds = monotonic() - self._started
        if self._pump is not None and not self._pump.done():
            self._pump.cancel()
            # What is left of the request must not reach the next one on this connection.
            self._upstream.close()
        self._pump = None

    def _rest_of_body(self) -> bytes:
        """A body that has come whole already, framed."""
        body = self.exchange.payload.read_nowait()
        self.exchange.body_received_bytes = len(body)
        limit = self._forwarder.max_body_bytes
        if limit is not None and len(body) > limit:
            raise PayloadTooLarge(limit)
        self.exchange.body = body  # should it have to be sent again
        if not self.exchange.message.chunked:
            return body
        return (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"

    async def _send_body(self) -> None:
        exchange, upstream = self.exchange, self._upstream
        chunked = exchange.message.chunked
        limit = self._forwarder.max_body_bytes
        try:
            exchange.send_continue()
            while chunk := await self._next_piece():
                exchange.body_received_bytes += len(chunk)
                if limit is not None and exchange.body_received_bytes > limit:
                    raise PayloadTooLarge(limit)
                upstream.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
                await upstream.drained()
            if chunked:
                upstream.write(b"0\r\n\r\n")
            self._request_sent = True
        except GatewayError as error:
            upstream.fail(error)

    async def _next_piece(self) -> bytes:
        """What has come of the body. While the client is awaited, the backend is not late."""
        self._upstream.deadline = NEVER
        piece = await self.exchange.next_piece()
        self._upstream.moved()
        return piece

    @property
    def is_moving(self) -> bool:
        """Is anything of request or answer on its way? Else only the backend is waited for."""
        return self.exchange.answered or not self._request_sent

    def end(self, error: GatewayError) -> None:
        """End it for `error`, unless it has ended."""
        if self._upstream.receiver is self:
            self._upstream.fail(error)

    def _client_left(self) -> None:
        self._upstream.fail(ClientGone())

    # Receiver

    def informational(self, upstream: UpstreamConnection) -> None:
        """103 and its like pass; a 100 was for us (RFC 9110 §15.2)."""
        if upstream.status > 101 and self.exchange.message.version >= HttpVersion11:
            lines = answer_lines(upstream.headers, NO_LENGTH, own_cors=False, chunked=False)
            self._out.append(b"HTTP/1.1 %d %b\r\n" % (upstream.status, upstream.reason))
            self._out += (*lines, b"\r\n")

    def head(self, upstream: UpstreamConnection) -> None:
        exchange = self.exchange
        status = exchange.status = upstream.status
        bodiless = status in (204, 304) or exchange.method == "HEAD"
        framing = b""
        if not bodiless and (upstream.chunked or not upstream.has_length):
            if exchange.message.version >= HttpVersion11:
                self._chunks = True
                framing = b"Transfer-Encoding: chunked\r\n"
            else:
                exchange.close_after = True
        if not self._request_sent:
            exchange.close_after = True
        named = upstream.named | NO_LENGTH if status == 204 else upstream.named
        self._out += (
            b"HTTP/1.1 %d %b\r\n" % (status, upstream.reason),
            *answer_lines(
                upstream.headers,
                named,
                own_cors=self._forwarder.own_cors,
                chunked=upstream.chunked,
            ),
            own_lines(exchange),
            framing,
            connection_line(exchange),
            b"\r\n",
        )

    def data(self, chunk: bytes) -> None:
        self.exchange.sent_bytes += len(chunk)
        if self._chunks:
            self._out += (b"%x\r\n" % len(chunk), chunk, b"\r\n")
        else:
            self._out.append(chunk)

    def flush(self) -> None:
        out = self._out
        transport = self.exchange.connection.transport
        if out and transport is not None and not transport.is_closing():
            self.exchange.answered = True
            transport.write(out[0] if len(out) == 1 else b"".join(out))
        out.clear()

    def ended(self) -> None:
        if self._chunks:
            self._out.append(b"0\r\n\r\n")
        self.flush()
        self._settle()

    def switched(self, first: bytes) -> None:  # noqa: ARG002  # only a tunnel asks for it
        self._upstream.fail(UpstreamFailed(reason="upstream_bad_answer"))

    def failed(self, error: GatewayError) -> None:
        self._out.clear()
        self._settle(error)
