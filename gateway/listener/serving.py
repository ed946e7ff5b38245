"""A connection's requests, one after the other, carried by the connection's own task.

aiohttp's loop over them makes a task and a writer for each, which cost more than all else that it
does. This one makes none: what a request needs of its task (timeouts, an end by `shutdown`) the
connection's own gives it.
"""

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from aiohttp import HttpVersion10, StreamReader
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import PayloadAccessError, RequestHandler, _ErrInfo
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.errors import BadRequest, HeadersTooLarge
from gateway.exchange import Exchange
from gateway.listener.framing import field_bytes

if TYPE_CHECKING:
    from gateway.listener.connection import ClientConnection
    from gateway.listener.listener import Listener

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
ANSWERED = PayloadAccessError()  # to who reads on in a body


class ServingConnection(RequestHandler):
    """aiohttp's connection with a loop of our own over its requests."""

    __slots__ = ("_listener", "has_large_heads", "payload", "requests_left")

    def __init__(self, listener: "Listener", **options: Any) -> None:
        super().__init__(listener, **options)
        self._listener = listener
        self.requests_left = listener.bounds.requests_per_connection
        self.payload: StreamReader | None = None  # of the request that was begun last
        self.has_large_heads = False  # one came that may be too large, or in pieces

    async def start(self) -> None:
        """The connection's task."""
        goes_on = True
        while goes_on and not self._force_close:
            if not self._messages:
                self._waiter = self._loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            goes_on = await self._serve(*self._messages.popleft())
            if goes_on:
                self._keep_alive_from_now()
        if not self._force_close:
            self._keepalive = False
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    async def _serve(self, message: RawRequestMessage | _ErrInfo, payload: StreamReader) -> bool:
        """Decide and answer one request. May another one follow?"""
        listener = self._listener
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        listener.requests_count += 1
        complaint: BadRequest | None = None
        if isinstance(message, _ErrInfo):
            complaint, message = listener.complaint(message.exc), UNREADABLE
        elif self.has_large_heads and field_bytes(message) > listener.bounds.headers:
            complaint = HeadersTooLarge()  # the parser bounds each field alone
        exchange: Any = Exchange(message, payload, cast("ClientConnection", self), monotonic())
        self.payload = payload
        self.requests_left -= 1
        if not self.requests_left:
            exchange.close_after = True
        self._request_in_progress = True
        try:
            self._current_request = exchange
            try:
                written: Any = await listener.gateway.handle(exchange, complaint)
            finally:
                self._current_request = None
            if not written.keep_alive or self.writing_paused or self._upgraded:
                _, is_lost = await self.finish_response(exchange, written, None)
                if is_lost:
                    return False
            if payload is not EMPTY_PAYLOAD:
                if not payload.is_eof():
                    await self._skip_rest(payload)
                payload.set_exception(ANSWERED)
        except ConnectionError:
            return False
        except asyncio.CancelledError:
            self.force_close()
            raise
        except Exception as error:  # noqa: BLE001  # the connection ends by it
            self.log_exception("Unhandled exception", exc_info=error)
            self.force_close()
            return False
        finally:
            self._request_in_progress = False
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)
        return bool(written.keep_alive) and not (self._close or self._force_close)

    async def _skip_rest(self, payload: StreamReader) -> None:
        """Read what is left of a body, to get to the next request; within some time."""
        if self._lingering_time and not self._force_close:
            try:
                async with asyncio.timeout(self._lingering_time):
                    while not payload.is_eof():
                        await payload.readany()
            except TimeoutError:
                pass
        if not (payload.is_eof() or self._force_close):
            self.close()

    def _keep_alive_from_now(self) -> None:
        closes_at = self._loop.time() + self._keepalive_timeout
        self._next_keepalive_close_time = closes_at
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(closes_at, self._process_keepalive)
