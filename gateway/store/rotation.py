"""Rotation of keys: a new one beside the old one, which retires by itself.

The new key has whatever the record of the old one says of its holder and its bounds. The old one
gets `replaced_by` and `retires_at`: from then on it is not valid, judged at each use as an expiry
is, without a call to Redis. With `silent_for` (seconds) it retires earlier, once it was unused for
that long, at the earliest that long after the rotation.

Rules of silence:
- It is judged by the last use that any worker has written to the ledger, on Redis's clock, and
  what it leads to is a `revoked_at` in the record: all workers hear of it as of any revocation. It
  is written only if no use was written meanwhile (in a cluster, where the two may lie on different
  servers, one in the milliseconds between comes too late).
- Uses reach Redis a moment late. So a key is given SLACK_SECONDS more; and a worker judges nobody
  until it could write its own uses for that long: after an outage, all write first. A use that
  reaches Redis later than that comes too late.
- Any worker judges, every few seconds; to judge twice changes nothing.

Keys: `{prefix}:retiring`: ids of keys that may fall silent, by when that can be at the earliest
(Unix milliseconds).
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from gateway.errors import StoreUnavailable
from gateway.store.keys import KeyRecord, Keys, UnknownKeyError, digest, new_id, new_key
from gateway.store.ledger import Ledger
from gateway.store.redis import Store
from gateway.store.times import iso_utc

logger = logging.getLogger("gateway.store")

ROUND_SECONDS = 2.0
SLACK_SECONDS = 5.0  # more than a flush of the ledger and a round of judging take
KEYS_A_ROUND = 500
ATTEMPTS = 5
RETIRING = "retiring"
# What a new key does not have of the one before it.
OWN_FIELDS = frozenset(
    {"id", "created_at", "revoked_at", "replaced_by", "retires_at", "silent_for"}
)


class NotRotatable(Exception):
    """The key is no more, or has been replaced; the message says which."""


class Rotation:
    """`clock` gives Unix seconds. Methods raise StoreUnavailable when Redis is away."""

    def __init__(self, store: Store, keys: Keys, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._retiring = store.key(RETIRING)
        self._task: asyncio.Task[None] | None = None
        folder = Path(__file__).parent
        self._set = store.script((folder / "rotate.lua").read_text())
        self._silence = store.script((folder / "silence.lua").read_text())
        self._retire = store.script((folder / "retire.lua").read_text())

    async def rotate(
        self, key_id: str, overlap: int, silent_for: int | None = None
    ) -> tuple[KeyRecord, KeyRecord, str]:
        """The old key's record, the new one's, and the new key's plaintext. Times in seconds.

        Raises UnknownKeyError, NotRotatable. A new key whose answer got lost is no obstacle once it
        is revoked: then the old one can be rotated again.
        """
        for _ in range(ATTEMPTS):
            name, fields = await self._record(key_id)
            now = self._clock()
            old = await self._keys.show(key_id)
            await self._check(old, now)
            key = new_key()
            new = {field: value for field, value in fields.items() if field not in OWN_FIELDS}
            new |= {"id": new_id(), "created_at": iso_utc(now)}
            change = {"replaced_by": new["id"], "retires_at": iso_utc(now + overlap)}
            if silent_for is not None:
                change["silent_for"] = str(silent_for)
            # The new one first: whatever breaks off in between, the old one goes on. After the
            # change nothing is asked any more: the new key's plaintext is nowhere but here.
            await self._write(digest(key), new)
            if silent_for is not None:
                await expect_silence(self._store, {key_id: silent_for}, anew=True)
            if await self._replace(name, fields, change):
                own: dict[str, Any] = dict.fromkeys(OWN_FIELDS)
                own |= {"id": new["id"], "created_at": new["created_at"]}
                said: dict[str, Any] = {**change, "silent_for": silent_for}
                return replace(old, **said), replace(old, **own), key
            await self._remove(digest(key), new["id"])
        raise StoreUnavailable

    def start(self, ledger: Ledger) -> None:
        """Judge from now on, in the background, while `ledger` writes what this worker counts."""
        self._task = asyncio.get_running_loop().create_task(self._run(ledger))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def judge(self) -> None:
        """Retire the keys that fell silent."""
        async with self._store.guard():
            due = await self._store.client.zrangebyscore(
                self._retiring, "-inf", self._clock() * 1000, 0, KEYS_A_ROUND, withscores=True
            )
        for key_id, due_ms in due:
            await self._judge(key_id, due_ms)

    async def _run(self, ledger: Ledger) -> None:
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            if ledger.settled(SLACK_SECONDS):
                with contextlib.suppress(StoreUnavailable):
                    await self.judge()

    async def _judge(self, key_id: str, due_ms: float) -> None:
        try:
            record = await self._keys.show(key_id)
        except UnknownKeyError:
            record = None
        if record is None or record.silent_for is None or not record.is_valid(self._clock()):
            async with self._store.guard():
                await self._store.client.zrem(self._retiring, key_id)
            return
        used = self._store.key("used", key_id)
        async with self._store.guard():
            now_ms, silent_ms, last_used = await self._silence(keys=[used])
        needed_ms = (record.silent_for + SLACK_SECONDS) * 1000
        if 0 <= silent_ms < needed_ms:
            async with self._store.guard():
                due_ms = now_ms - silent_ms + needed_ms
                await self._store.client.zadd(self._retiring, {key_id: due_ms})
        elif due_ms <= now_ms:
            name, _ = await self._record(key_id)
            async with self._store.guard():
                retired = await self._retire(
                    keys=[name] if self._store.spread else [name, used],
                    args=[key_id, iso_utc(self._clock()), last_used],
                )
            self._store.changed(name)
            if retired:
                logger.info("key %s is replaced and fell silent: it retires", key_id)

    async def _record(self, key_id: str) -> tuple[str, dict[str, str]]:
        """A key's record as it is, and its name in Redis. Raises UnknownKeyError."""
        async with self._store.guard():
            sha256_hex = await self._store.client.get(self._store.key("keyid", key_id))
        name = self._store.key("key", sha256_hex or "")
        (fields,) = await self._store.read_hashes([name])
        if fields is None:
            raise StoreUnavailable
        if sha256_hex is None or fields.get("id") != key_id:
            raise UnknownKeyError(f"there is no key {key_id}")
        return name, fields

    async def _write(self, sha256_hex: str, fields: Mapping[str, str]) -> None:
        name = self._store.key("key", sha256_hex)
        async with self._store.guard():
            # In this order: cut off in between, it is no key, and not one that can't be revoked.
            await self._store.client.set(self._store.key("keyid", fields["id"]), sha256_hex)
            await self._store.client.hset(name, mapping=fields)
        self._store.changed(name)

    async def _remove(self, sha256_hex: str, key_id: str) -> None:
        name = self._store.key("key", sha256_hex)
        async with self._store.guard():
            await self._store.client.delete(name)
            await self._store.client.delete(self._store.key("keyid", key_id))
        self._store.changed(name)

    async def _check(self, old: KeyRecord, now: float) -> None:
        if old.replaced_by is not None and await self._stands(old.replaced_by):
            raise NotRotatable(
                f"it has been replaced by {old.replaced_by}: rotate that one, or revoke it first"
            )
        if not old.is_valid(now):
            raise NotRotatable("it is revoked or expired, or has retired: issue a new one")

    async def _stands(self, key_id: str) -> bool:
        try:
            return (await self._keys.show(key_id)).revoked_at is None
        except UnknownKeyError:
            return False

    async def _replace(
        self, name: str, fields: Mapping[str, str], change: Mapping[str, str]
    ) -> bool:
        """Make this change of the record, unless it has other fields by now."""
        async with self._store.guard():
            done = await self._set(
                keys=[name],
                args=[len(fields), *chain(*fields.items()), *chain(*change.items())],
            )
        self._store.changed(name)
        return bool(done)


async def expect_silence(store: Store, silences: Mapping[str, int], *, anew: bool = False) -> None:
    """Have keys judged, by their ids, once they may have been silent for so many seconds from now.

    `anew`: also those that are to be judged already. Raises StoreUnavailable.
    """
    async with store.guard():
        now, _ = await store.client.time()
        due = {key: (now + seconds + SLACK_SECONDS) * 1000 for key, seconds in silences.items()}
        await store.client.zadd(store.key(RETIRING), due, nx=not anew)
