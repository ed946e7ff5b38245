"""A clock that tests set: Redis's, as window.lua reads it, and every worker's own, in step."""

import asyncio

from gateway.limits import Limiter
from gateway.store.redis import Store

CLOCK = "local clock = tonumber(redis.call('GET', 'test:clock'))\n"
START_MS = 1_700_000_000_000


class Clock:
    """Called, it is a worker's monotonic clock in seconds."""

    def __init__(self) -> None:
        self.ms = START_MS
        self._stores: list[Store] = []

    def __call__(self) -> float:
        return self.ms / 1000

    async def drive(self, store: Store) -> None:
        """Set the clock of this store's Redis, too."""
        self._stores.append(store)
        await self.advance(0)

    async def advance(self, milliseconds: int) -> None:
        self.ms += milliseconds
        for store in self._stores:
            await store.client.set("test:clock", self.ms)


async def landed(*limiters: Limiter) -> None:
    """Return when no limiter has a call under way and every answer has reached its request."""
    turns_without_calls = 0
    while turns_without_calls < 3:
        await asyncio.sleep(0)
        flights = [each.courier.flight for each in limiters if each.courier.flight is not None]
        turns_without_calls = 0 if flights else turns_without_calls + 1
        if flights:
            await asyncio.wait(flights)
