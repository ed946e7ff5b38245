"""Asks every worker of every gateway whether it has heard of a change, and waits for all of them.

After the change a *barrier* is written, under the name of what was changed: in Redis Cluster each
node has its own stream of news, and the braces bring the barrier to the node of the change. Redis
sends news before it answers the command that brought them, and the barrier is written after that
answer: so it comes behind the change on every worker's channel (`registry.py`).

Rules: a worker that is live and does not confirm is waited for `WAIT_SECONDS`, and the barrier is
written again meanwhile, for those whose channel comes back. One that is silent is not waited for.
Both are named: they may admit what was revoked, from a copy, until `keys.stale_for` is over. One
whose name is taken away meanwhile has ended, and admits nobody.
"""

import asyncio
import contextlib
import secrets
from dataclasses import dataclass
from time import monotonic
from typing import Any, Self

from redis.exceptions import RedisError

from gateway.errors import StoreUnavailable
from gateway.store.redis import Store
from gateway.store.registry import SPACE, Calls, Roll

WAIT_SECONDS = 2.0
AGAIN_SECONDS = 0.25
SHORTEST_SECONDS = 0.001  # that Redis can wait; 0 would be forever
BARRIER_MS = 5_000
MOST_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """How many workers have confirmed, after how many seconds, and the names of the others."""

    confirmed: int
    seconds: float
    unconfirmed: tuple[str, ...]

    def shown(self) -> dict[str, Any]:
        return {
            "confirmed": self.confirmed,
            "seconds": round(self.seconds, 4),
            "unconfirmed": list(self.unconfirmed),
        }


class Barriers:
    """Asks about each key that this task writes within, from the moment of the write.

    async with Barriers(store) as barriers:
        ...
        acknowledgement = await barriers.passed()
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._began = monotonic()
        self._asked: dict[str, asyncio.Task[_Question]] = {}
        self._noting = store.noting(self._ask)

    async def __aenter__(self) -> Self:
        self._noting.__enter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._noting.__exit__(None, None, None)
        for task in self._asked.values():
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    async def passed(self) -> Acknowledgement:
        """Return when every live worker has heard of all that was written.

        Raises StoreUnavailable if not even the workers' names can be had.
        """
        if self._store.embedded:
            return Acknowledgement(1, monotonic() - self._began, ())
        questions = await asyncio.gather(*self._asked.values())
        unconfirmed = set[str]().union(*(question.unconfirmed for question in questions))
        confirmed = set[str]().union(*(question.confirmed for question in questions)) - unconfirmed
        seconds = monotonic() - self._began
        return Acknowledgement(len(confirmed), seconds, tuple(sorted(unconfirmed)))

    def _ask(self, key: str) -> None:
        if self._store.embedded:
            return
        if key in self._asked:  # written again: who has heard of that has heard of the first, too
            self._asked[key].cancel()
        question = _Question(self._store, key)
        self._asked[key] = asyncio.create_task(question.ask(monotonic() + WAIT_SECONDS))


class _Question:
    """One barrier, for one key that was written."""

    def __init__(self, store: Store, key: str) -> None:
        name = f"{{{key}}}:{secrets.token_hex(8)}"
        self.confirmed: set[str] = set()
        self._asked: set[str] = set()
        self._store = store
        self._call_roll = Calls(store)
        self._barrier = store.key(SPACE, name)
        self._ack = store.key("ack", name)

    @property
    def unconfirmed(self) -> set[str]:
        return self._asked - self.confirmed

    async def ask(self, ends: float) -> Self:
        """Until all have confirmed, or until `ends`. Raises StoreUnavailable."""
        connection = self._store.connection_to(self._ack)
        connecting = asyncio.create_task(connection.connect())
        try:
            with contextlib.suppress(StoreUnavailable):
                await self._announce()
            roll = await self._call_roll()
            self._asked = {*roll.live, *roll.silent}
            with contextlib.suppress(StoreUnavailable, RedisError, OSError, TimeoutError):
                async with asyncio.timeout(ends - monotonic() + AGAIN_SECONDS):
                    await connecting
                    await self._wait(connection, roll, ends)
        finally:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            await connection.disconnect(nowait=True)
        return self

    async def _wait(self, connection: Any, roll: Roll, ends: float) -> None:
        while True:
            again = min(monotonic() + AGAIN_SECONDS, ends)
            while self._is_awaited(roll) and monotonic() < again:
                await self._hear(connection, again - monotonic())
            if not self._is_awaited(roll) or monotonic() >= ends:
                return
            await self._announce()
            roll = await self._call_roll()
            self._asked &= {*roll.live, *roll.silent}

    async def _announce(self) -> None:
        async with self._store.guard():
            await self._store.client.set(self._barrier, "", px=BARRIER_MS)

    def _is_awaited(self, roll: Roll) -> bool:
        """Is there anybody who lives and has not confirmed?"""
        return not self.unconfirmed.isdisjoint(roll.live)

    async def _hear(self, connection: Any, seconds: float) -> None:
        """Wait at most so long for a confirmation, and take what others there are by then."""
        await connection.send_command("BLPOP", self._ack, max(seconds, SHORTEST_SECONDS))
        await connection.send_command("LPOP", self._ack, MOST_AT_ONCE)
        first = await connection.read_response()
        others = await connection.read_response()
        self.confirmed.update(first[1:] if first else (), others or ())
