"""A timeout that does not blame others for this process's own lateness.

`asyncio.timeout` looks at the clock alone. After a burst of work in the event loop it can find its
time passed while the answer lies in the socket, unread: then a Redis that answered in a
millisecond would count as gone. This one gives the loop the time back that the loop itself took.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

LATE_SECONDS = 0.005  # a timer that fires later than this was kept waiting by our own work
MOST_EXTENSIONS = 8  # then it is over, however busy we are


@asynccontextmanager
async def patience(seconds: float) -> AsyncIterator[None]:
    """Bounds what stands within to `seconds` in which the loop was free to go on with it.

    Raises TimeoutError.
    """
    loop = asyncio.get_running_loop()
    started = monotonic()
    allowed_seconds = seconds
    extensions = 0
    timer: asyncio.TimerHandle | None = None

    def fire() -> None:
        nonlocal allowed_seconds, extensions, timer
        elapsed_seconds = monotonic() - started
        late_seconds = elapsed_seconds - allowed_seconds
        if late_seconds > LATE_SECONDS and extensions < MOST_EXTENSIONS:
            extensions += 1
            allowed_seconds = elapsed_seconds + min(late_seconds, seconds)
        elif late_seconds >= 0:
            timeout.reschedule(loop.time())
            return
        timer = loop.call_later(allowed_seconds - elapsed_seconds, fire)

    timer = loop.call_later(seconds, fire)
    try:
        async with asyncio.timeout(None) as timeout:
            yield
    finally:
        timer.cancel()
