"""How much may be under way at once on an upstream, and the queue of those who wait for it.

Rules:
- A turn is taken before anything else is done, and given back once, however the request ends.
- Who waits is served in the order of arrival; nobody passes the queue. A turn that becomes free is
  handed over in the same moment, so it can't be taken by a newcomer in between.
- A WebSocket counts as a connection for its life, and as a request only until it is one.
- Waiting ends with a turn, with the time that `sweep` compares (no timer is armed), or when the
  client leaves.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.errors import ClientGone, UpstreamUnavailable


class Client(Protocol):
    """Who waits; `cancel` is called when they leave."""

    cancel: Callable[[], None] | None

    @property
    def gone(self) -> bool: ...


class Turns:
    """The turns of one upstream in one worker."""

    def __init__(
        self, *, max_requests: int, max_connections: int, max_queue: int, queue_timeout: float
    ) -> None:
        self._max_requests = max_requests
        self._max_connections = max_connections
        self._max_queue = max_queue
        self._queue_timeout = queue_timeout  # seconds
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[asyncio.Future[None], float] = {}  # in order, with their deadlines
        self.requests = 0
        self.tunnels = 0

    @property
    def under_way(self) -> int:
        return self.requests + self.tunnels

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def take(self) -> bool:
        """Take a turn, if there is one and nobody waits for it."""
        if self.requests < self._max_requests and (
            self.requests + self.tunnels < self._max_connections
        ):
            self.requests += 1
            return True
        return False

    async def wait(self, client: Client | None) -> None:
        """Take a turn when it is one's turn.

        Raises UpstreamUnavailable when the queue is full or the time is over, ClientGone.
        """
        if client is not None and client.gone:
            raise ClientGone
        if len(self._waiting) >= self._max_queue:
            raise UpstreamUnavailable(reason="upstream_overloaded")
        turn = self._loop.create_future()
        self._waiting[turn] = self._loop.time() + self._queue_timeout
        if client is not None:
            client.cancel = lambda: self._end(turn, ClientGone())
        try:
            await turn
        except BaseException:
            self._waiting.pop(turn, None)
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give_back()  # it was handed over in the moment in which the task was cancelled
            raise
        finally:
            if client is not None:
                client.cancel = None

    def give_back(self, *, tunnel: bool = False) -> None:
        """The request is over, however it ended."""
        if tunnel:
            self.tunnels -= 1
        else:
            self.requests -= 1
        if self._waiting:
            self._hand_over()

    def became_tunnel(self) -> None:
        self.requests -= 1
        self.tunnels += 1
        self._hand_over()

    def sweep(self, now: float) -> None:
        """End the waiting of those whose deadline is before loop time `now`."""
        while self._waiting:
            turn, deadline = next(iter(self._waiting.items()))
            if deadline >= now:
                return
            self._end(turn, UpstreamUnavailable(reason="upstream_overloaded"))

    def refuse_all(self) -> None:
        for turn in list(self._waiting):
            self._end(turn, UpstreamUnavailable())

    def _end(self, turn: asyncio.Future[None], error: Exception) -> None:
        self._waiting.pop(turn, None)
        if not turn.done():
            turn.set_exception(error)

    def _hand_over(self) -> None:
        while self._waiting and self.take():
            turn = next(iter(self._waiting))
            del self._waiting[turn]
            if turn.done():  # its task was cancelled in this moment
                self.requests -= 1
            else:
                turn.set_result(None)
