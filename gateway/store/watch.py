"""In-process copies of hashes in Redis that Redis keeps true.

A hit costs a dictionary lookup and never suspends. Misses of one turn of the event loop go to Redis
in one pipeline, and those of one name share one answer. That a name is *not* there is remembered as
well. Beyond `remember` entries, the one that was used the longest time ago goes. Names that are not
there have a room of their own, a tenth of that: whoever makes names up drives out no copy.

Rules, while changes are heard (`changes.py`): a copy is true until its change is heard. What was
read before a change was heard, and arrives after it, is handed to those who asked before, and not
kept. A process that stood still asks Redis until it has heard what came meanwhile; if there is no
answer, the copy counts as one of the time below.

While they are not heard: a copy stays good for `stale_for` seconds, but that a name was not there
says nothing; anything else is asked of Redis each time, or is a StoreUnavailable. When changes are
heard again, all copies go.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.errors import StoreUnavailable
from gateway.store.changes import Changes

logger = logging.getLogger("gateway.store")

T = TypeVar("T")
V = TypeVar("V")

NAMES_A_CALL = 512
ABSENT_SHARE = 10


@dataclass(frozen=True, slots=True, eq=False)
class _Fetch(Generic[T]):
    """A name that is being asked for, and who waits. Each waits alone: one may leave."""

    name: str
    waiters: list[asyncio.Future[T | None]]

    def answer(self, value: T | None) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(value)

    def fail(self) -> None:
        """Whoever has no answer by now gets none. Each has an exception object of its own."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(StoreUnavailable())


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
        self.without_store = 0  # answered by copies that may be stale, or not at all
        self._changes = changes
        self._read = read
        self._parse = parse
        self._remember = remember
        self._remember_absent = max(1, remember // ABSENT_SHARE)
        self._stale_for_seconds = stale_for
        self._copies: OrderedDict[str, T] = OrderedDict()  # the last used comes last
        self._absent: OrderedDict[str, None] = OrderedDict()
        self._fetches: dict[str, _Fetch[T]] = {}
        self._due: list[_Fetch[T]] = []
        self._calls: set[asyncio.Task[None]] = set()
        changes.listen(space, self)

    def __len__(self) -> int:
        return len(self._copies) + len(self._absent)

    def peek(self, name: str) -> T | None:
        """What `get` would give, if that is a copy sure to be true; None: ask `get`."""
        value = self._copies.get(name)
        if value is not None and self._changes.clock() < self._changes.current_until:
            self._copies.move_to_end(name)
            self.hits += 1
            return value
        return None

    async def get(self, name: str) -> T | None:
        """None: there is no such thing. Raises StoreUnavailable: that can't be known now."""
        value = self._copies.get(name)
        changes = self._changes
        is_current = changes.clock() < changes.current_until
        if value is not None and (is_current or self._good_while_down()):
            self._copies.move_to_end(name)
            self.hits += 1
            self.without_store += not self._changes.up
            return value
        if is_current and name in self._absent:
            self._absent.move_to_end(name)
            self.hits += 1
            return None
        self.misses += 1
        try:
            return await self._fetched(name)
        except StoreUnavailable:
            if value is None or self._copies.get(name) is not value or not self._good_unasked():
                raise
            self.without_store += 1
            return value

    def changed(self, name: str) -> None:
        self._copies.pop(name, None)
        self._absent.pop(name, None)
        self._fetches.pop(name, None)

    def all_changed(self) -> None:
        self._copies.clear()
        self._absent.clear()
        self._fetches.clear()

    def _good_while_down(self) -> bool:
        changes = self._changes
        if changes.up:
            return False
        return changes.clock() - changes.down_since < self._stale_for_seconds

    def _good_unasked(self) -> bool:
        changes = self._changes
        if not changes.up:
            return self._good_while_down()
        return changes.clock() - changes.current_until < self._stale_for_seconds

    def _fetched(self, name: str) -> asyncio.Future[T | None]:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T | None] = loop.create_future()
        fetch = self._fetches.get(name)
        if fetch is not None and (self._changes.current or not self._changes.up):
            fetch.waiters.append(waiter)
            return waiter
        fetch = self._fetches[name] = _Fetch(name, [waiter])
        self._due.append(fetch)
        if len(self._due) == 1:
            loop.call_soon(self._depart)
        return waiter

    def _depart(self) -> None:
        """Ask for what this turn of the event loop brought."""
        due, self._due = self._due, []
        for start in range(0, len(due), NAMES_A_CALL):
            call = asyncio.create_task(self._call(due[start : start + NAMES_A_CALL]))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _call(self, fetches: Sequence[_Fetch[T]]) -> None:
        try:
            hashes = await self._read([fetch.name for fetch in fetches])
            for fetch, fields in zip(fetches, hashes, strict=True):
                if fields is not None:
                    value = self._parse(fetch.name, fields) if fields else None
                    self._keep(fetch, value)
                    fetch.answer(value)
        except StoreUnavailable:
            self.without_store += sum(len(fetch.waiters) for fetch in fetches)
        except Exception:
            logger.exception("an answer of the store could not be read")
        finally:
            for fetch in fetches:
                if self._fetches.get(fetch.name) is fetch:
                    del self._fetches[fetch.name]
                fetch.fail()

    def _keep(self, fetch: _Fetch[T], value: T | None) -> None:
        """Unless its change was heard since it was asked for, or can't be heard."""
        if self._changes.up and self._fetches.get(fetch.name) is fetch:
            if value is None:
                self._copies.pop(fetch.name, None)
                _put(self._absent, fetch.name, None, self._remember_absent)
            else:
                self._absent.pop(fetch.name, None)
                _put(self._copies, fetch.name, value, self._remember)


def _put(kept: OrderedDict[str, V], name: str, value: V, most: int) -> None:
    kept[name] = value
    if len(kept) > most:
        kept.popitem(last=False)
