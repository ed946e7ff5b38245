"""One request under way, and what becomes of it: the one object every stage reads and fills in.

It takes the place of aiohttp's request object (`web.Server` asks for `_finish`, `_cancel` and
`_task`): a gateway needs little of what that one brings along. Headers and target keep the bytes
that came; nothing here interprets a credential.

Lifetimes: `message`, `payload`, `connection` come from the parser; the pipeline fills in
`client_ip` and `request_id`, then `limits`, `route` and `identity`; `status`, `refusal` and what
goes with them are for log, metrics and traces.
"""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import StreamReader
from aiohttp.http_parser import RawRequestMessage

from gateway.errors import BadRequest, ClientGone, GatewayError, PayloadTooLarge, RequestTimeout

if TYPE_CHECKING:
    from gateway.limits import Decision, Slots
    from gateway.observe.tracing import Trace

ABSOLUTE_FORM = re.compile(r"(?i:https?)://([^/?]+)(.*)", re.DOTALL).fullmatch
# How long a client may take to send a body that must be whole, and to take anything at all of an
# answer: without an end to both, a few clients could hold every connection.
BODY_SECONDS = 60.0
STALLED_SECONDS = 120.0


class BodyStalled(TimeoutError):
    """No more of a body came in time; a TimeoutError, because aiohttp does not log those."""


class RouteLabels(Protocol):
    """What log and metrics say of a route; from the route table, never from a request."""

    @property
    def name(self) -> str: ...
    @property
    def pattern(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Who was admitted, and by which pattern. `headers` are the ready head lines for the backend.

    Made once per credential and remembered with it; `head_lines` in `proxy/headers.py` makes the
    bytes (each line ends with CRLF).
    """

    pattern: str
    user_id: int | None = None
    email: str | None = None
    plan: str | None = None
    key_id: str | None = None
    headers: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer made by the gateway itself."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str | None = "application/json"


def json_answer(status: int, value: Any, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """`value` as JSON in the platform's form: UTF-8 as it is, a space after colon and comma."""
    return Answer(status, json.dumps(value, ensure_ascii=False).encode(), headers)


class Flow(Protocol):
    """Who writes to the client right now, and must wait while the client is slow."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class ClientConnection(Protocol):
    """What an exchange needs of the client's connection (`listener.py` has the real one)."""

    transport: asyncio.Transport | None
    shown: tuple[str, object] | None  # the credential of its last request, and what came of it
    peer: str
    secure: bool
    draining: bool  # the next answer says that it is the last
    ending: bool  # the answer under way is the last, whether it says so or not
    flow: "Flow | None"

    @property
    def writing_paused(self) -> bool: ...

    @property
    def holds_upgrade(self) -> bool:
        """Is what comes behind a head that asks for an upgrade kept, all of it?"""

    async def drained(self) -> None:
        """Return when the client has taken enough of what was written. Raises ConnectionError."""

    async def finish(self, exchange: "Exchange") -> None:
        """The answer to `exchange` was the last: let its client read it, then close."""

    def switch(self, protocol: asyncio.Protocol) -> bytes:
        """From here on the transport is `protocol`'s; what has come for it by now."""

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...


class Exchange:
    """A request, from its parsed head to its log line."""

    __slots__ = (
        "_task",
        "answered",
        "body",
        "body_received_bytes",
        "cancel",
        "client_ip",
        "close_after",
        "connection",
        "cors_lines",
        "failure",
        "headers",
        "host",
        "identity",
        "key_id",
        "limits",
        "message",
        "method",
        "path",
        "payload",
        "refusal",
        "request_id",
        "route",
        "sent_bytes",
        "slots",
        "socket_end",
        "started",
        "status",
        "target",
        "trace",
        "upstream_seconds",
        "wants_continue",
    )

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        connection: ClientConnection,
        started: float,
    ) -> None:
        self.message = message
        self.method = message.method
        self.headers = message.headers
        self.payload = payload
        self.connection = connection
        self.started = started  # monotonic seconds; the loop's clock is too coarse
        # Path and query, as they came (surrogate escapes for bytes beyond ASCII), and for whom.
        self.target = target = message.path
        self.host: str = message.headers.get("Host", "")
        if target[:1] != "/":
            self._take_absolute_form()
        self.path = self.target.partition("?")[0]  # not decoded
        self.client_ip = ""
        self.request_id = ""
        self.trace: Trace | None = None  # None: the request is not traced
        self.cors_lines = b""  # those of them that speak to browsers
        self.route: RouteLabels | None = None
        self.identity: Identity | None = None
        self.key_id: str | None = None  # of the plan key that was recognised, valid or not
        self.limits: tuple[Decision, ...] = ()
        self.slots: tuple[tuple[Slots, str], ...] = ()  # what it has until it ends, of what bucket
        self.body: bytes | None = None  # whole, once `read_body` was called
        self.body_received_bytes = 0
        self.wants_continue = False
        self.answered = False  # the first byte of an answer has been written
        # The client's connection can't carry another request: it says so, or aiohttp's parser
        # can't be trusted with one (it gives a chunked body's trailers to the request behind it,
        # and drops what came along with an upgrade that it does not know).
        self.close_after = message.should_close or message.chunked or message.upgrade
        self.cancel: Callable[[], None] | None = None  # called when the client leaves
        self.status = 0
        self.sent_bytes = 0
        self.refusal: str | None = None  # an error's `reason`
        self.socket_end: str | None = None  # why a socket that it opened has ended
        self.failure: GatewayError | None = None
        self.upstream_seconds: float | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def gone(self) -> bool:
        """Has the client left?"""
        return self.connection.transport is None

    def send_continue(self) -> None:
        """Tell a client that waits with its body to send it (RFC 9110 §10.1.1); once."""
        if self.wants_continue:
            self.wants_continue = False
            transport = self.connection.transport
            if transport is not None and not transport.is_closing():
                transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take_absolute_form(self) -> None:
        """`GET http://host/path` is `GET /path` for that host, whatever `Host` says.

        RFC 9112 §3.2.2. Other forms of a target stay as they are, and are no path to any route.
        """
        absolute = ABSOLUTE_FORM(self.target)
        if absolute is not None:
            self.host, rest = absolute.groups()
            self.target = rest if rest.startswith("/") else f"/{rest}"

    async def read_body(self, limit_bytes: int) -> bytes:
        """The whole body, read once and kept in `body`.

        Raises PayloadTooLarge as soon as its length is known to pass `limit_bytes`, RequestTimeout
        after BODY_SECONDS, and as `next_piece`.
        """
        if self.body is not None:
            return self.body
        declared = self.message.headers.get("Content-Length")
        if declared is not None and int(declared) > limit_bytes:
            raise PayloadTooLarge(limit_bytes)
        self.send_continue()
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(None if self.payload.is_eof() else BODY_SECONDS):
                while piece := await self.next_piece():
                    self.body_received_bytes += len(piece)
                    if self.body_received_bytes > limit_bytes:
                        raise PayloadTooLarge(limit_bytes)
                    parts.append(piece)
        except TimeoutError:
            raise RequestTimeout from None
        self.body = b"".join(parts)
        return self.body

    async def next_piece(self) -> bytes:
        """What has come of the body by now, at least a byte; nothing at its end.

        Raises ClientGone, RequestTimeout when nothing came for too long, and BadRequest for a body
        that is not framed as it should be.
        """
        try:
            piece = await self.payload.readany()
            if not piece and (broken := self.payload.exception()) is not None:
                raise broken
            return piece
        except Exception as error:  # noqa: BLE001  # aiohttp has several for a broken body
            error.__traceback__ = None  # it leads back to the payload, which has the error
            if self.gone or isinstance(error, ConnectionError):
                raise ClientGone from None
            if isinstance(error, BodyStalled):
                raise RequestTimeout from None
            raise BadRequest("Malformed request body", reason="malformed_body") from None

    # What aiohttp's connection calls on its request object.

    def _finish(self) -> None:
        pass

    def _cancel(self, _exc: BaseException) -> None:
        if self.cancel is not None:
            self.cancel()
        break_off(self.payload, ConnectionResetError())


def break_off(payload: StreamReader, error: Exception) -> None:
    """End a body that will not come whole, and tell those who wait for the rest of it.

    Its end is said beside the error: aiohttp's reader, once woken by the end of a chunk, looks for
    bytes or the end, not for an error that came in the same moment, and would wait forever.
    """
    if not payload.is_eof():
        payload.set_exception(error)
        payload.feed_eof()
