"""A timeout that does not blame others for this process's own lateness.

`asyncio.timeout` looks at the clock alone. After a burst of work in the event loop it can find its
time passed while the answer lies in the socket, unread: then a Redis that answered in a
millisecond would count as gone. This one gives the loop the time back that the loop itself took.
"""

import asyncio
from time import monotonic
from types import TracebackType

LATE_SECONDS = 0.005  # a timer that fires later than this was kept waiting by our own work
MOST_EXTENSIONS = 8  # then it is over, however busy we are


class Patience:
    """Bounds what stands within to `seconds` in which the loop was free to go on with it.

    Raises TimeoutError. Every call to Redis has one: when it is over it holds nothing, so that no
    garbage collection is needed to be rid of it.
    """

    __slots__ = ("_allowed_seconds", "_extensions", "_seconds", "_started", "_timeout", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = self._allowed_seconds = seconds
        self._extensions = 0

    async def __aenter__(self) -> None:
        self._started = monotonic()
        self._timeout: asyncio.Timeout | None = asyncio.timeout(None)
        loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = loop.call_later(self._seconds, self._fire)
        await self._timeout.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        timer, self._timer = self._timer, None
        timeout, self._timeout = self._timeout, None
        assert timer is not None
        assert timeout is not None
        timer.cancel()
        await timeout.__aexit__(kind, error, traceback)

    def _fire(self) -> None:
        if self._timeout is None:
            return
        loop = asyncio.get_running_loop()
        elapsed_seconds = monotonic() - self._started
        late_seconds = elapsed_seconds - self._allowed_seconds
        if late_seconds > LATE_SECONDS and self._extensions < MOST_EXTENSIONS:
            self._extensions += 1
            self._allowed_seconds = elapsed_seconds + min(late_seconds, self._seconds)
        elif late_seconds >= 0:
            self._timeout.reschedule(loop.time())
            return
        self._timer = loop.call_later(self._allowed_seconds - elapsed_seconds, self._fire)
