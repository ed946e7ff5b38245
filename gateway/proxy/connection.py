"""One connection to a backend: writes requests, parses answers with llhttp, one at a time.

Rules:
- What the backend says is handed to a `Receiver` as it comes; nothing is collected here.
- A connection carries the next request only if the last answer ended where it said it would,
  both sides want to go on, and no byte came that nobody asked for.
- Deadlines are loop times that the pool's sweep compares; no timer is armed per request.
- What comes beside bodies (heads, 1xx answers, trailers) is bounded.

llhttp by itself does not know that an answer to HEAD has no body, nor when a body that lasts
until the connection closes has ended: both are decided here.
"""

import asyncio
import logging
import re
import select
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import httptools

from gateway.errors import ClientGone, GatewayError, UpstreamFailed, UpstreamTimeout
from gateway.exchange import STALLED_SECONDS
from gateway.proxy.headers import (
    CODING,
    CONNECTION,
    LENGTH,
    SAYS_NO_NAMES,
    connection_names,
    kind_of,
)

if TYPE_CHECKING:
    from gateway.proxy.target import Address

logger = logging.getLogger("gateway.proxy")

NEVER = float("inf")
MAX_HEAD_BYTES = 256 * 1024  # and a read more
VERSIONS = ("1.1", "1.0")  # llhttp takes 0.9 and 2.0 too
BODILESS = frozenset({100, 102, 103})  # llhttp does not know that no 1xx has a body
CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search  # RFC 9112 §4: none in a reason


class Receiver(Protocol):
    """Takes one answer. `head` once, `data` any number of times, then `ended` or `failed` once.

    `flush` comes after each read from the socket, so that a head and the body that came with it
    leave in one write.
    """

    def head(self, upstream: "UpstreamConnection") -> None: ...
    def informational(self, upstream: "UpstreamConnection") -> None: ...
    def data(self, chunk: bytes) -> None: ...
    def flush(self) -> None: ...
    def ended(self) -> None: ...
    def switched(self, first: bytes) -> None: ...
    def failed(self, error: GatewayError) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """One connection for its lifetime; what `_reset` sets belongs to the answer under way."""

    __slots__ = (
        "_complete",
        "_drain",
        "_excess",
        "_head_bytes",
        "_head_only",
        "_held",
        "_loop",
        "_parser",
        "_switched",
        "address",
        "answered",
        "chunked",
        "deadline",
        "has_length",
        "headers",
        "idle_since",
        "is_tunnel",
        "keeps_alive",
        "leased",
        "named",
        "on_lost",
        "read_timeout",
        "reason",
        "receiver",
        "sent",
        "status",
        "transport",
        "tries",
        "write_paused",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.transport: asyncio.Transport | None = None
        self.write_paused = False
        self._drain: asyncio.Future[None] | None = None
        self._switched = False
        self._held = False  # reading is paused: the client is slower
        self._head_bytes = 0  # read since the last byte of a body
        self.idle_since = 0.0
        self.deadline = NEVER  # loop time
        self.read_timeout = 30.0  # seconds
        self.keeps_alive = True
        self.sent = False  # anything of the request under way was written
        # The pool's: where it leads, whether an exchange has it, whether that is a WebSocket by
        # now, and how many addresses were tried until it stood.
        self.address: Address | None = None
        self.leased = False
        self.is_tunnel = False
        self.tries = 1
        self.on_lost: Callable[[UpstreamConnection], None] | None = None
        self.receiver: Receiver | None = None
        self._reset(head_only=False)

    def _reset(self, *, head_only: bool) -> None:
        self._head_only = head_only
        self._complete = False
        self._excess = False
        self.answered = False  # any byte of the answer has come
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[int, bytes, bytes]] = []  # kind, name, value
        self.named: frozenset[bytes] = frozenset()  # fields that `Connection` lists
        self.chunked = False
        self.has_length = False

    # The side of the request.

    def start(self, receiver: Receiver, *, head_only: bool, read_timeout: float) -> None:
        """Begin an exchange; `head_only` for HEAD. `read_timeout` is seconds between bytes."""
        self._reset(head_only=head_only)
        self._head_bytes = 0
        self.sent = False
        self.receiver = receiver
        self.read_timeout = read_timeout
        self.moved()

    def write(self, data: bytes) -> None:
        transport = self.transport
        if transport is not None and not transport.is_closing():
            self.sent = True
            transport.write(data)
            if not self._held:
                self.deadline = self._loop.time() + self.read_timeout

    def moved(self) -> None:
        """Something went on: the time until it must again begins anew."""
        if not self._held:
            self.deadline = self._loop.time() + self.read_timeout

    async def drained(self) -> None:
        """Return when the backend has taken enough of what was written.

        Raises nothing when the connection is lost: the receiver hears of that.
        """
        if self.write_paused and self.transport is not None:
            self._drain = self._loop.create_future()
            await self._drain

    def pause_reading(self) -> None:
        """The client is slower than the backend: leave the rest in the backend's socket."""
        self._held = True
        self.deadline = self._loop.time() + STALLED_SECONDS
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        self._held = False
        self.moved()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    @property
    def is_usable(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    @property
    def is_quiet(self) -> bool:
        """Has nothing come that was not read yet? While idle, that could only be its end.

        Asks the system: the event loop may not have got to it.
        """
        if self.transport is None or self.transport.is_closing():
            return False
        descriptor = self.transport.get_extra_info("socket").fileno()
        news = select.poll()
        news.register(descriptor, select.POLLIN)
        return not news.poll(0)

    def expire(self) -> None:
        """The deadline has passed: say whose fault it is, and end the connection."""
        self.fail(ClientGone() if self._held else UpstreamTimeout())

    def close(self) -> None:
        """End the connection at once; nobody is told any more."""
        self.receiver = None
        if self.transport is not None:
            self.transport.abort()

    def fail(self, error: GatewayError) -> None:
        """End the connection and tell the receiver why."""
        receiver = self.receiver
        self.close()
        if receiver is not None:
            receiver.failed(error)

    def detach(self) -> bool:
        """The exchange is over. True when the connection can carry another one."""
        self.receiver = None
        if self._held:  # by a client that had not taken this answer yet
            self.resume_reading()
        self.deadline = NEVER
        reusable = self._complete and self.keeps_alive and not self._excess and self.is_usable
        if reusable and self._head_only:
            self._parser = httptools.HttpResponseParser(self)
        return reusable

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # sockets give a Transport
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        receiver = self.receiver
        if receiver is None:  # nobody asked
            self.close()
            return
        if self._complete:
            self._excess = True
            return
        self.answered = True
        self.deadline = self._loop.time() + self.read_timeout
        if self._switched:
            receiver.data(data)
            receiver.flush()
            return
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self.status != 101:
                self.fail(UpstreamFailed(reason="upstream_bad_answer"))
                return
            self._switched = True
            receiver.switched(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            if isinstance(error, httptools.HttpParserCallbackError):
                _log_defect(error.__context__)
            if not self._complete:
                self.fail(UpstreamFailed(reason="upstream_bad_answer"))
                return
            self._excess = True
        if self._head_bytes > MAX_HEAD_BYTES and not self._complete:
            self.fail(UpstreamFailed(reason="upstream_bad_answer"))
            return
        receiver.flush()
        if self._complete:
            receiver.ended()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        del self._parser  # it refers to this: see `nothing_more` in pool.py
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)
        if self.on_lost is not None:
            self.on_lost(self)
        receiver, self.receiver = self.receiver, None
        if receiver is None or self._complete:
            return
        lasts_until_close = self.status and not self.chunked and not self.has_length
        if self._switched or (lasts_until_close and exc is None):
            self._complete = True
            receiver.ended()
        else:
            receiver.failed(UpstreamFailed(reason="upstream_reset"))

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self._complete:
            self._excess = True

    def on_status(self, reason: bytes) -> None:
        if CONTROL(reason):
            raise ValueError("a control character in the reason")
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status >= 200:  # a trailer: it goes no further
            return
        kind = kind_of(name)
        self.headers.append((kind, name, value))
        if kind == LENGTH:
            self.has_length = True
        elif kind == CODING:
            if value.lower() != b"chunked" or self.chunked:  # to llhttp, a tab behind it matters
                raise ValueError("a transfer coding that is not plain chunked")
            self.chunked = True
        elif kind == CONNECTION and value.lower() not in SAYS_NO_NAMES:
            self.named |= connection_names((value.decode("latin-1"),))

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        receiver = self.receiver
        self.status = self._parser.get_status_code()
        if receiver is None or self.status == 101:
            return
        if self.status < 100:
            raise ValueError("no status")
        if self._parser.get_http_version() not in VERSIONS:
            raise ValueError("not HTTP/1")
        if self.status < 200:
            if self.status not in BODILESS and (self.chunked or self.has_length):
                raise ValueError("a body where there is none")
            receiver.informational(self)
            return
        self.keeps_alive = self._parser.should_keep_alive()
        receiver.head(self)
        if self._head_only:
            self._complete = True

    def on_body(self, chunk: bytes) -> None:
        if self._complete:  # a body behind a HEAD's answer
            self._excess = True
        elif self.receiver is not None:
            self._head_bytes = 0
            self.receiver.data(chunk)

    def on_message_complete(self) -> None:
        if 100 <= self.status < 200 and self.status != 101:
            head_only = self._head_only
            self._reset(head_only=head_only)
            self.answered = True
        elif self.status != 101:
            self._complete = True


def _log_defect(error: BaseException | None) -> None:
    """A callback of ours raises ValueError for a bad answer; anything else is a defect."""
    if error is not None and not isinstance(error, ValueError):
        logger.error("reading a backend's answer failed", exc_info=error)
