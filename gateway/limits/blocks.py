"""The blocks of one policy in Redis, for operators: list them, lift one."""

import math
from typing import TypedDict

from gateway.store.redis import Store
from gateway.store.times import iso_utc


class Blocked(TypedDict):
    """A blocked address (or IPv6 network), until when, and for how long by Redis's clock."""

    ip: str
    blocked_until: str
    seconds_left: int


async def blocked_now(store: Store, prefix: str) -> list[Blocked]:
    """What the keys that begin with `prefix` block, in the order of their names.

    Raises StoreUnavailable.
    """
    ends: dict[str, int] = {}
    async for keys in store.scan(f"{prefix}*"):
        async with store.guard():
            values = await store.client.mget(keys)
        for key, value in zip(keys, values, strict=True):
            if value is not None:
                ends[key.removeprefix(prefix).strip("{}")] = int(value)
    async with store.guard():
        seconds, microseconds = await store.client.time()
    now = seconds * 1000 + microseconds // 1000
    return [
        Blocked(
            ip=ip,
            blocked_until=iso_utc(end // 1000),
            seconds_left=math.ceil((end - now) / 1000),
        )
        for ip, end in sorted(ends.items())
        if end > now
    ]


async def lift(store: Store, block_key: str, window_key: str) -> bool:
    """Forget a bucket's block and window; was there a block? Raises StoreUnavailable."""
    async with store.guard():
        deleted = await store.client.delete(block_key)
        await store.client.delete(window_key)
    return bool(deleted)
