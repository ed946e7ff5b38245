"""In-process copies of hashes in Redis that Redis keeps true.

A hit costs a dictionary lookup and never suspends. Misses of one turn of the event loop go to Redis
in one pipeline, and those of one name share one answer. That a name is *not* there is remembered as
well. Beyond `remember` entries, the one that was used the longest time ago goes.

Rules, while changes are heard (`changes.py`): a copy is true until its change is heard. What was
read before a change was heard, and arrives after it, is handed to those who asked before, and not
kept. While they are not heard: a copy stays good for `stale_for` seconds, but that a name was not
there says nothing; anything else is asked of Redis each time, or is a StoreUnavailable. When
changes are heard again, all copies go.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import Generic, TypeVar

from gateway.errors import StoreUnavailable
from gateway.store.changes import Changes

logger = logging.getLogger("gateway.store")

T = TypeVar("T")

NAMES_A_CALL = 512


class _Absence(Enum):
    """Told apart from None, which is "not there"."""

    UNKNOWN = 0
    UNREADABLE = 1


class Watched(Generic[T]):
    """Copies of one space, `key` in `gw:key:{name}`.

    `read` takes names and gives their hashes, empty for none and None for unreadable, or raises
    StoreUnavailable. `parse` makes a value of a name and its hash; None is like "not there".
    """

    def __init__(
        self,
        changes: Changes,
        space: str,
        read: Callable[[Sequence[str]], Awaitable[Sequence[Mapping[str, str] | None]]],
        parse: Callable[[str, Mapping[str, str]], T | None],
        *,
        remember: int,
        stale_for: float,
    ) -> None:
        self.hits = 0
        self.misses = 0
        self._changes = changes
        self._read = read
        self._parse = parse
        self._remember = remember
        self._stale_for_seconds = stale_for
        self._copies: OrderedDict[str, T | None] = OrderedDict()  # the last used comes last
        self._fetches: dict[str, list[asyncio.Future[T | None]]] = {}
        self._due: list[str] = []
        self._calls: set[asyncio.Task[None]] = set()
        changes.listen(space, self)

    def __len__(self) -> int:
        return len(self._copies)

    async def get(self, name: str) -> T | None:
        """None: there is no such thing. Raises StoreUnavailable: that can't be known now."""
        value = self._copies.get(name, _Absence.UNKNOWN)
        if value is not _Absence.UNKNOWN and (self._changes.up or self._good_while_down(value)):
            self._copies.move_to_end(name)
            self.hits += 1
            return value
        self.misses += 1
        return await self._fetched(name)

    def changed(self, name: str) -> None:
        self._copies.pop(name, None)
        self._fetches.pop(name, None)

    def all_changed(self) -> None:
        self._copies.clear()
        self._fetches.clear()

    def _good_while_down(self, value: T | None) -> bool:
        changes = self._changes
        return value is not None and changes.clock() - changes.down_since < self._stale_for_seconds

    def _fetched(self, name: str) -> asyncio.Future[T | None]:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T | None] = loop.create_future()
        waiters = self._fetches.get(name)
        if waiters is not None:
            waiters.append(waiter)
            return waiter
        self._fetches[name] = [waiter]
        self._due.append(name)
        if len(self._due) == 1:
            loop.call_soon(self._depart)
        return waiter

    def _depart(self) -> None:
        """Ask for what this turn of the event loop brought."""
        due, self._due = self._due, []
        # A name whose change was heard in between may stand there twice; its first askers were
        # detached with it, and the second entry serves the later ones.
        for start in range(0, len(due), NAMES_A_CALL):
            call = asyncio.create_task(self._call(due[start : start + NAMES_A_CALL]))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _call(self, names: Sequence[str]) -> None:
        raise NotImplementedError
