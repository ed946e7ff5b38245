"""Whether Redis answers and takes writes, as the last call found it.

A call that has no answer in time is the last one that waits: from then on calls fail at once, and
one *probe* at a time asks in their place, until it has an answer. So a Redis that hangs, or is
slower than the timeout, holds those who were under way, and nobody after them. A refused write
(memory full, a replica, too few replicas, no snapshot) ends writes alone: what is read is true.

The probe is a write that changes nothing, of the layout's version; a Redis that was emptied gets
that back by it. It goes by a new connection: the address may lead to another server by now, and
connections from before hang, or stay with the one that became a replica.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from enum import Enum, auto

from redis.exceptions import (
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.store.changes import Changes

logger = logging.getLogger("gateway.store")

PROBE_SECONDS = 0.1
PROBE_WHILE_GONE_SECONDS = 1.0  # the channel looks for Redis then, and its coming up wakes us
# redis-py takes some of these words off, and scripts and proxies put others before them.
NO_WRITES = re.compile(r"\b(READONLY|OOM|NOREPLICAS|MISCONF)\b")
DEMOTED = "previous master is now a slave"  # redis-py's words, for one that a Sentinel named
NO_ANSWER = re.compile(r"^(BUSY|MASTERDOWN|LOADING)\b")


class Meaning(Enum):
    """What an error says of Redis."""

    NO_ANSWER = auto()
    NO_WRITES = auto()
    MISTAKE = auto()  # of ours, or data of another type: Redis itself is well


def meaning(error: BaseException) -> Meaning:
    if refusal_of_writes(error) is not None:
        return Meaning.NO_WRITES
    if not isinstance(error, RedisError) or NO_ANSWER.match(str(error)):
        return Meaning.NO_ANSWER
    gone = isinstance(error, (RedisConnectionError, RedisTimeoutError, ClusterDownError))
    return Meaning.NO_ANSWER if gone else Meaning.MISTAKE


def refusal_of_writes(error: BaseException) -> str | None:
    """Redis's word for why it takes none; None: this isn't about that."""
    if isinstance(error, ReadOnlyError) or DEMOTED in str(error):
        return "READONLY"
    if isinstance(error, OutOfMemoryError):
        return "OOM"
    found = NO_WRITES.search(str(error)) if isinstance(error, RedisError) else None
    return None if found is None else found[1]


class Standing:
    """`probe` raises what a call would.

    `on_moved` is called when writes are taken again that were refused as by a replica: what still
    is connected may be connected to another server.
    """

    def __init__(
        self,
        changes: Changes,
        probe: Callable[[], Awaitable[None]],
        on_moved: Callable[[], None],
    ) -> None:
        self.answers = True
        self.refusal: str | None = None  # of writes, in Redis's word
        self._changes = changes
        self._probe = probe
        self._on_moved = on_moved
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        changes.listen("key", self)

    def failed(self, error: BaseException) -> Meaning:
        """A call ended so."""
        means = meaning(error)
        if means is Meaning.NO_ANSWER:
            self.answers = False
        elif means is Meaning.NO_WRITES:
            self.refusal = refusal_of_writes(error)
        if means is not Meaning.MISTAKE:
            self._look()
        return means

    def changed(self, name: str) -> None:
        """Of no interest."""

    def all_changed(self) -> None:
        """Redis is back, or was emptied."""
        self._look()
        self._woken.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _look(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._probe_until_well())

    async def _probe_until_well(self) -> None:
        while not await self._is_well():
            self._woken.clear()
            try:
                async with asyncio.timeout(
                    PROBE_SECONDS if self._changes.up else PROBE_WHILE_GONE_SECONDS
                ):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def _is_well(self) -> bool:
        refused = self.refusal
        try:
            await self._probe()
        except Exception as error:
            means = meaning(error)
            if means is not Meaning.NO_ANSWER:
                self.answers = True
                self.refusal = refusal_of_writes(error)
                if means is Meaning.MISTAKE:
                    logger.exception("the store's probe failed")
            return means is Meaning.MISTAKE
        self.answers, self.refusal = True, None
        if refused == "READONLY":
            self._on_moved()
        return True
