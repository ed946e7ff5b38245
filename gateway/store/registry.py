"""Which workers of all gateways on one Redis live, and what each confirms to revokers.

Redis holds when each was last heard of (`roll.lua`). A worker says every second that it lives, and
takes its name away when it ends; that of one that died, its gateway takes away. A name that
nobody took away stays for `kept_seconds`: as long as its worker, if only cut off, may still admit
from its copies.

A revoker (`barrier.py`) writes what it revokes, and then a *barrier*, a key of its own under a
watched prefix. News come in order, so who hears the barrier has heard the change before. It
confirms: no request that begins from now on finds the copy from before. One whose channel is
down hears neither, and does not confirm.

Rules: one task does all of it. What fails is not tried again: the next second calls the roll
again, and a revoker writes its barrier again.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from gateway.errors import StoreUnavailable
from gateway.store.redis import Store

logger = logging.getLogger("gateway.store")

ROLL = Path(__file__).with_name("roll.lua").read_text()
CONFIRM = Path(__file__).with_name("confirm.lua").read_text()
SPACE = "barrier"
BEAT_SECONDS = 1.0
SILENT_SECONDS = 3.0
MOST_WORKERS = 10_000
BARRIERS_DUE = 1_000  # beyond these, the oldest are not confirmed until they are written again
ACK_SECONDS = 5.0
# Fewer workers count as fewer after so many beats: when Redis is back, not all say at once that
# they live.
LASTING_BEATS = 5


class Roll(NamedTuple):
    """Names of workers. Those that are silent may be dead, or only cut off from Redis."""

    live: Sequence[str]
    silent: Sequence[str]


class Calls:
    """Calls the roll. Raises StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._script = store.script(ROLL)

    async def __call__(self, caller: str = "", kept_seconds: float = 0) -> Roll:
        limits = [round(seconds * 1000) for seconds in (SILENT_SECONDS, kept_seconds)]
        async with self._store.guard():
            answer = await self._script(
                keys=[workers_key(self._store)], args=[caller, *limits, MOST_WORKERS]
            )
        return Roll(*answer)


class Registry:
    """`live` is how many workers there are, over all gateways, as far as is known.

    While Redis is away it stays what it was; before Redis was ever there it is `assumed`. `clock`
    gives seconds that never run backwards.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        *,
        assumed: int,
        kept_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.live = assumed
        self._counts = deque([assumed] * LASTING_BEATS, maxlen=LASTING_BEATS)
        self._store = store
        self._kept_seconds = kept_seconds + SILENT_SECONDS
        self._clock = clock
        self._call_roll = Calls(store)
        self._confirm = store.script(CONFIRM)
        self._heard: deque[str] = deque(maxlen=BARRIERS_DUE)
        self._gone: list[str] = []
        self._next_beat = 0.0
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when this worker is on the roll, or Redis is not there."""
        if self._store.embedded:
            self.live = 1
            return
        self._store.changes.listen(SPACE, self)
        await self._work()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(StoreUnavailable):
            await self._take_away([self.name])

    def left(self, names: Sequence[str]) -> None:
        """These workers have ended, and nobody else may have said so."""
        self._gone += names
        self._woken.set()

    # What is heard from Redis.

    def changed(self, barrier: str) -> None:
        self._heard.append(barrier)
        self._woken.set()

    def all_changed(self) -> None:
        """Redis is back, or was emptied: be on the roll before there are copies of anything."""
        self._next_beat = 0.0
        self._woken.set()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._next_beat - self._clock())):
                    await self._woken.wait()
            await self._work()

    async def _work(self) -> None:
        self._woken.clear()
        try:
            while self._heard:
                await self._pass(self._heard.popleft())
            if self._clock() >= self._next_beat:
                self._next_beat = self._clock() + BEAT_SECONDS
                roll = await self._call_roll(self.name, self._kept_seconds)
                self._counts.append(len(roll.live))
                self.live = max(self._counts)
            if self._gone:
                names, self._gone = self._gone, []
                await self._take_away(names)
        except StoreUnavailable:
            pass
        except Exception:
            logger.exception("the roll of workers could not be called")

    async def _pass(self, barrier: str) -> None:
        keys = [self._store.key(space, barrier) for space in (SPACE, "ack")]
        async with self._store.guard():
            await self._confirm(keys=keys, args=[self.name, round(ACK_SECONDS * 1000)])

    async def _take_away(self, names: Sequence[str]) -> None:
        async with self._store.guard():
            await self._store.client.zrem(workers_key(self._store), *names)


def workers_key(store: Store) -> str:
    return store.key("workers")


def gateway_name() -> str:
    """Of the gateway whose arbiter this process is: unique, and to be found by an operator."""
    return f"{socket.gethostname()}-{os.getpid()}-{os.urandom(2).hex()}"
