"""A connection's requests, one after the other, each carried by the same coroutine (`_serve`).

Usually the connection's task runs it. A request that has come whole while the task rests need not
wait for the loop to wake that: it goes by *the lane*. There `_serve` runs at once, within the call
that brought the bytes, up to where it waits; for its backend's answer it waits by `PAUSE`, and
goes on within the call that brings the last of that. So nothing is made, armed or woken for it.

Rules:
- In the lane as in the task one request is under way at a time, and others wait in `_messages`.
- Whatever else a request waits for is the task's: it goes on with the coroutine where that stands.
- While the lane is in use the connection looks to aiohttp as if its task were at work: `_waiter` is
  put aside. What runs in the lane runs as that task, so timeouts find whom to wake.
"""

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from contextvars import Context, copy_context
from time import monotonic
from types import coroutine
from typing import TYPE_CHECKING, Any, cast

from aiohttp import HttpVersion10, StreamReader
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import PayloadAccessError, RequestHandler, _ErrInfo
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.errors import BadRequest, HeadersTooLarge
from gateway.exchange import PAUSE, Exchange
from gateway.listener.framing import field_bytes

if TYPE_CHECKING:
    from gateway.listener.connection import ClientConnection
    from gateway.listener.listener import Listener

Run = Coroutine[Any, None, bool]

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

    __slots__ = (
        "_awaited",
        "_context",
        "_listener",
        "_resting",
        "_run",
        "_uses_lane",
        "has_large_heads",
        "in_lane",
        "payload",
        "requests_left",
    )

    def __init__(self, listener: "Listener", **options: Any) -> None:
        super().__init__(listener, **options)
        self._listener = listener
        self._uses_lane = listener.uses_lane
        self.requests_left = listener.bounds.requests_per_connection
        self.payload: StreamReader | None = None  # of the request that was begun last
        self.in_lane = False
        self.has_large_heads = False  # one came that may be too large, or in pieces
        self._resting: asyncio.Future[None] | None = None  # the task's waiter, while in the lane
        self._run: Run | None = None  # in the lane, or on its way from there to the task,
        self._awaited: object = None  # what it waits for, or what is to be thrown into it
        self._context: Context | None = None  # of what runs in the lane

    async def start(self) -> None:
        """The connection's task."""
        goes_on = True
        while goes_on and not self._force_close:
            if not self._messages:
                self._waiter = self._loop.create_future()
                try:
                    await self._waiter
                except BaseException as error:
                    if self._run is None:
                        raise
                    self._awaited = error  # meant for what the task has just been given
                finally:
                    self._waiter = None
            run, self._run = self._run, None
            if run is None:
                goes_on = await self._serve(*self._messages.popleft())
            else:
                goes_on = await self._rest_of(run)
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

    # The lane.

    def _take_up(self) -> None:
        """Have somebody serve what has come, unless there is somebody at it."""
        waiter, messages = self._waiter, self._messages
        if not messages or waiter is None or waiter.done():
            return
        if self._uses_lane and len(messages) == 1 and is_simple(*messages[0]):
            self._waiter, self._resting, self.in_lane = None, waiter, True
            self._run = self._serve(*messages.popleft())
            if self._context is None:
                self._context = copy_context()
            self.go_on()
        else:
            waiter.set_result(None)

    def go_on(self) -> None:
        """Run what is in the lane up to where it waits, or to its end."""
        run, task, loop, context = self._run, self._task_handler, self._loop, self._context
        assert run is not None
        assert context is not None
        try:
            _enter_task(loop, task)
        except RuntimeError:  # somebody else's task has called: one can't be within another
            self.give_to_task()
            return
        try:
            awaited = context.run(run.send, None)
        except StopIteration as end:
            goes_on = end.value
        else:
            if awaited is not PAUSE:
                self.give_to_task(awaited)
            return
        finally:
            _leave_task(loop, task)
        self._run = None
        self._waiter, self._resting, self.in_lane = self._resting, None, False
        if not goes_on:
            self.force_close()
        elif self._messages:
            self._take_up()
        else:
            self._keep_alive_from_now()

    def give_to_task(self, awaited: object = None) -> None:
        """Let the connection's task go on, with what waits for `awaited`."""
        self._awaited = awaited
        self._waiter, self._resting, self.in_lane = self._resting, None, False
        assert self._waiter is not None
        if not self._waiter.done():
            self._waiter.set_result(None)

    @coroutine
    def _rest_of(self, run: Run) -> Generator[Any, Any, bool]:
        """Go on with what was begun in the lane."""
        awaited, self._awaited = self._awaited, None
        error = awaited if isinstance(awaited, BaseException) else None
        context = self._context
        assert context is not None
        try:
            while True:
                if error is None:
                    try:
                        yield awaited
                    except BaseException as thrown:  # noqa: BLE001  # all of them are meant for it
                        error = thrown
                if error is None:
                    awaited = context.run(run.send, None)
                else:
                    awaited, error = context.run(run.throw, error), None
        except StopIteration as end:
            return bool(end.value)
        finally:
            awaited = error = None  # its traceback has this frame


def is_simple(message: RawRequestMessage | _ErrInfo, payload: StreamReader) -> bool:
    """Has a request come whole, and does its connection go on behind it?"""
    return (
        isinstance(message, RawRequestMessage)
        and not (message.should_close or message.upgrade or message.chunked)
        and payload.is_eof()
    )
