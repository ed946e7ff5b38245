"""The usage ledger: what each key did, by day and route, and when it was used last.

A request adds to plain integers of this process. Twice a second they go to Redis in batches
(count.lua), so a worker that is killed takes along what it counted in its last second at most.

Rules:
- Only a key that was recognised is counted, valid or not: a stranger adds nothing.
- Batches go one after the other, each with a number that Redis remembers beside the counts: one
  whose answer was lost is sent again, and counts once. (A Redis that is away for longer than
  MARK_SECONDS right after such a loss may count that one batch twice.)
- While Redis is away the counts are kept. Beyond `ledger.remember` of them (one for each key, day
  and route), requests that need another one are not counted, and `dropped` says how many. So it is
  with what is left at the worker's end, when Redis is away even then.
- Nothing here lies in a space that is watched: the news of it would drown all other.

Keys: `{prefix}:usage:{key id}:{day}`, `{prefix}:used:{key id}`, `{prefix}:batch:{worker}`; all
expire. In a cluster each slot has its own `{prefix}:batch:{worker}:{{hash}}`. Days are UTC.

Terms: a *tally* is what one key did on one route on one day: FIELDS.
"""

import asyncio
import contextlib
import itertools
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.errors import ClientGone, Fault, StoreUnavailable
from gateway.exchange import Exchange
from gateway.sections import LedgerSettings
from gateway.store.redis import Store
from gateway.store.times import iso_utc

logger = logging.getLogger("gateway.store")

FIELDS = ("requests", "refusals", "sent_bytes", "received_bytes")
FLUSH_SECONDS = 0.5
LOOK_SECONDS = 5.0
HASHES_A_BATCH = 64  # Redis serves nobody else meanwhile: less than a millisecond
MARK_SECONDS = 3600
DAY_SECONDS = 86_400
LAST_ATTEMPTS = 3


@dataclass(slots=True)
class Use:
    """What one key did on one day, by route, and the last of it."""

    tallies: dict[str, list[int]] = field(default_factory=dict)
    last: float = 0.0  # monotonic seconds
    address: str = ""  # of the client


@dataclass(frozen=True, slots=True)
class Hash:
    """What a batch adds to one hash in Redis; `tallies` are settled with it."""

    key: str
    adds: dict[str, int]
    tallies: int = 0
    use: Use | None = None  # whose last time it holds


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes to Redis in one call, and again with its number until it is known to be there."""

    number: int
    hashes: tuple[Hash, ...]


class Ledger:
    """One worker's counts. `clock` gives Unix seconds, `monotonic` those of `Exchange.started`."""

    def __init__(
        self,
        store: Store,
        settings: LedgerSettings,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dropped = 0  # requests that were not counted, and additions that Redis refused
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self._remember = settings.remember
        self._keep_seconds = settings.keep_days * DAY_SECONDS
        self._count = store.script(Path(__file__).with_name("count.lua").read_text())
        self._mark = store.key("batch", secrets.token_urlsafe(9))
        self._next_look = monotonic() + LOOK_SECONDS
        self._number = 0
        self._settled_since: float | None = None  # None: the last flush failed, or there was none
        self._tallies = 0  # that are not known to be in Redis
        self._days: dict[str, dict[str, Use]] = {}
        self._batch: Batch | None = None  # it may be in Redis already
        self._batches: Iterator[Batch] = iter(())  # what goes after it
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._turn_day()

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Write what is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for _ in range(LAST_ATTEMPTS):
            with contextlib.suppress(StoreUnavailable):
                await self.flush()
                return
        left = (*((self._batch,) if self._batch else ()), *self._batches, *self._cut(self._days))
        lost = sum(each.adds["requests"] for batch in left for each in batch.hashes if each.use)
        self.dropped += lost
        logger.error("the store is away: %d requests are missing in the ledger of usage", lost)

    def count(self, exchange: Exchange, key_id: str, seconds: float) -> None:
        """Count a finished request with this key, which took `seconds`."""
        now = exchange.started + seconds
        if now >= self._day_ends:
            self._turn_day()
        use = self._today.get(key_id)
        route = "-" if exchange.route is None else exchange.route.name
        tally = None if use is None else use.tallies.get(route)
        if use is None or tally is None:
            if self._tallies >= self._remember:
                self.dropped += 1
                return
            self._tallies += 1
            use = use or self._today.setdefault(key_id, Use())
            tally = use.tallies[route] = [0] * len(FIELDS)
        use.last = now
        use.address = exchange.client_ip
        tally[0] += 1
        failure = exchange.failure
        if failure is not None and failure.fault is Fault.CLIENT:
            tally[1] += not isinstance(failure, ClientGone)
        tally[2] += exchange.sent_bytes
        tally[3] += exchange.body_received_bytes

    def look(self, under_way: Iterable[Exchange]) -> None:
        """Note now and then that what has not ended uses its key."""
        now = self._monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        for exchange in under_way:
            if exchange.key_id is not None:
                use = self._today.setdefault(exchange.key_id, Use())
                use.last, use.address = now, exchange.client_ip

    async def flush(self) -> None:
        """Write all that was counted by now. Raises StoreUnavailable: then it is written later."""
        async with self._writing:
            try:
                await self._write_batches()
                days, self._days = self._days, {}
                self._turn_day()
                self._batches = self._cut(days)
                await self._write_batches()
            except StoreUnavailable:
                self._settled_since = None
                raise
        if self._settled_since is None:
            self._settled_since = self._monotonic()

    def settled(self, seconds: float) -> bool:
        """Has every flush succeeded for so long?"""
        since = self._settled_since
        return since is not None and self._monotonic() - since >= seconds

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
            except StoreUnavailable:
                pass
            except Exception:
                logger.exception("the ledger of usage could not be written")

    def _turn_day(self) -> None:
        now = self._clock()
        self._today = self._days.setdefault(iso_utc(now)[:10], {})
        self._day_ends = self._monotonic() + DAY_SECONDS - now % DAY_SECONDS

    def _cut(self, days: Mapping[str, Mapping[str, Use]]) -> Iterator[Batch]:
        hashes = (
            each
            for day, uses in days.items()
            for key_id, use in uses.items()
            for each in self._hashes(key_id, day, use)
        )
        while chunk := tuple(itertools.islice(hashes, HASHES_A_BATCH)):
            self._number += 1
            yield Batch(self._number, chunk)

    def _hashes(self, key_id: str, day: str, use: Use) -> Iterator[Hash]:
        requests = sum(tally[0] for tally in use.tallies.values())
        if self._store.spread and "}" in key_id:  # no mark could share its slot
            self._tallies -= len(use.tallies)
            self.dropped += requests
            return
        yield Hash(self._store.key("used", key_id), {"requests": requests}, 0, use)
        adds = {
            f"{name}:{route}": count
            for route, tally in use.tallies.items()
            for name, count in zip(FIELDS, tally, strict=True)
            if count
        }
        if adds:
            yield Hash(self._store.key("usage", key_id, day), adds, len(use.tallies))

    async def _write_batches(self) -> None:
        while batch := self._batch or next(self._batches, None):
            self._batch = batch
            await self._write(batch)
            self._batch = None

    async def _write(self, batch: Batch) -> None:
        calls = [
            self._call(batch.number, [batch.hashes[at] for at in group])
            for group in self._store.slot_groups([each.key for each in batch.hashes]).values()
        ]
        async with self._store.guard():
            if len(calls) == 1:
                answers = [await self._count(*calls[0])]
            else:
                pipeline = self._store.client.pipeline(transaction=False)
                for keys, arguments in calls:
                    await self._count(keys, arguments, client=pipeline)
                answers = await pipeline.execute()
        self._tallies -= sum(each.tallies for each in batch.hashes)
        if refused := sum(answers):
            self.dropped += refused
            logger.error("Redis refused %d additions to the ledger of usage", refused)

    def _call(self, number: int, hashes: Sequence[Hash]) -> tuple[list[str], list[Any]]:
        """Keys and arguments of count.lua. In a cluster, the mark shares the slot of the hashes."""
        mark = f"{self._mark}:{{{hashes[0].key}}}" if self._store.spread else self._mark
        now = self._monotonic()
        arguments: list[Any] = [number, MARK_SECONDS, self._keep_seconds]
        for each in hashes:
            use = each.use
            last = ("", "") if use is None else (round((now - use.last) * 1000), use.address)
            arguments += (*last, len(each.adds))
            for addition in each.adds.items():
                arguments += addition
        return [mark, *(each.key for each in hashes)], arguments
