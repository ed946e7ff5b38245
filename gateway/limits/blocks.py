"""The blocks of one policy in Redis, for operators: list them, lift one."""

import math
from datetime import UTC, datetime
from typing import TypedDict

from gateway.store.redis import Store

KEYS_A_CALL = 500
ISO_UTC = "%Y-%m-%dT%H:%M:%S"  # without offset, as all of the platform's times


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
    cursor = 0
    while True:
        async with store.guard():
            cursor, keys = await store.client.scan(cursor, f"{prefix}*", count=KEYS_A_CALL)
            values = await store.client.mget(keys) if keys else []
            seconds, microseconds = await store.client.time()
        ends.update((k, int(v)) for k, v in zip(keys, values, strict=True) if v is not None)
        if cursor == 0:
            break
    now = seconds * 1000 + microseconds // 1000
    return [
        Blocked(
            ip=key.removeprefix(prefix),
            blocked_until=datetime.fromtimestamp(end // 1000, UTC).strftime(ISO_UTC),
            seconds_left=math.ceil((end - now) / 1000),
        )
        for key, end in sorted(ends.items())
        if end > now
    ]


async def lift(store: Store, block_key: str, window_key: str) -> bool:
    """Forget a bucket's block and window; was there a block? Raises StoreUnavailable."""
    async with store.guard():
        deleted = await store.client.delete(block_key)
        await store.client.delete(window_key)
    return bool(deleted)
