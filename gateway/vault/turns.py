"""When Binance may be asked: one question at a time for an email, and not too many in all.

Binance counts calls by address, and bans one that goes on after a 429 for minutes, then days. The
backends trade from the same addresses, so a flood of `/api-key/verify` must not bring that about:
all gateways keep one book of their calls in Redis, and whoever is told to wait makes all wait.

A turn is a key that expires, `gw:verify:{email}`: a worker that dies with it blocks nobody for
longer than its question could have taken.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from gateway.errors import BinanceFailed, StoreUnavailable
from gateway.store.redis import Store
from gateway.store.script import Script

AGAIN_SECONDS = 0.1  # until a turn that was taken is asked for again
MARGIN_SECONDS = 2.0  # that a turn lasts beyond its question: for Redis
LIMITED = "rate limit"


class Turns:
    """`timeout_seconds` is how long one question takes at most; `calls` how many a minute may have.

    Methods raise StoreUnavailable when Redis is away.
    """

    def __init__(
        self,
        store: Store,
        *,
        timeout_seconds: float,
        calls: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._timeout_seconds = timeout_seconds
        self._calls = calls
        self._clock = clock
        self._release = _script(store, "release.lua")
        self._book = _script(store, "calls.lua")

    @asynccontextmanager
    async def of(self, email: str) -> AsyncIterator[None]:
        """Wait for the turn of `email`, and have it within.

        Raises BinanceFailed when somebody else has it for longer than a question takes.
        """
        name, mine = self._store.key("verify", email), secrets.token_hex(8)
        lasts_ms = int((self._timeout_seconds + MARGIN_SECONDS) * 1000)
        until = self._clock() + self._timeout_seconds
        while True:
            async with self._store.guard():
                taken = await self._store.client.set(name, mine, nx=True, px=lasts_ms)
            if taken:
                break
            if self._clock() >= until:
                raise BinanceFailed("timeout")
            await asyncio.sleep(AGAIN_SECONDS)
        try:
            yield
        finally:
            with suppress(StoreUnavailable):  # then it ends by itself
                async with self._store.guard():
                    await self._release(keys=[name], args=[mine])

    async def spend(self, share: float = 1.0) -> None:
        """Enter a call to Binance in the book; of a minute's calls `share` may be made.

        Raises BinanceFailed if now is not the time.
        """
        wait_ms = await self._ask_book(max(1, int(self._calls * share)), 0)
        if wait_ms:
            raise BinanceFailed(LIMITED, retry_after=-(-wait_ms // 1000))

    async def pause(self, seconds: int) -> None:
        """Let nobody call for so long: Binance has said so."""
        await self._ask_book(self._calls, seconds * 1000)

    async def _ask_book(self, calls: int, pause_ms: int) -> int:
        async with self._store.guard():
            return int(await self._book(keys=[self._store.key("binance")], args=[calls, pause_ms]))


def _script(store: Store, name: str) -> Script:
    return store.script(Path(__file__).with_name(name).read_text(encoding="utf-8"))
