"""What the ledger has written, read for the operator and for a key's holder.

Terms: as in `ledger.py`; a *period* is the last so many days, today (UTC) included.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from gateway.errors import StoreUnavailable
from gateway.exchange import Answer, Exchange, json_answer
from gateway.store.ledger import FIELDS
from gateway.store.redis import Store
from gateway.store.times import iso_utc

HOLDERS_DAYS = 30  # that a key's holder sees

Counts = dict[str, int]  # by the names in FIELDS


class Usage:
    """Every method raises StoreUnavailable when Redis is away. `clock` gives Unix seconds."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def last(self, key_id: str) -> dict[str, Any]:
        """When a key was used last, from where, and how often in all; None and 0: never."""
        (fields,) = await self._read(self._store.key("used", key_id))
        return _last(fields)

    async def of(self, key_id: str, days: int) -> dict[str, Any]:
        """What a key did in a period of `days`: in all, by day and by route."""
        today = datetime.fromtimestamp(self._clock(), UTC).date()
        period = [today - timedelta(days=days - 1 - ago) for ago in range(days)]
        used, *hashes = await self._read(
            self._store.key("used", key_id),
            *(self._store.key("usage", key_id, day.isoformat()) for day in period),
        )
        total, by_day, by_route = _counts(), dict[date, Counts](), dict[str, Counts]()
        for day, fields in zip(period, hashes, strict=True):
            for name, value in fields.items():
                what, _, route = name.partition(":")
                if what in total and route:
                    for counts in (
                        total,
                        by_day.setdefault(day, _counts()),
                        by_route.setdefault(route, _counts()),
                    ):
                        counts[what] += _number(value)
        last = _last(used)
        return {
            "id": key_id,
            "days": days,
            **total,
            "last_used_at": last["last_used_at"],
            "last_used_from": last["last_used_from"],
            "by_day": [{"day": day.isoformat(), **counts} for day, counts in by_day.items()],
            "by_route": [{"route": route, **by_route[route]} for route in sorted(by_route)],
        }

    async def _read(self, *keys: str) -> list[dict[str, str]]:
        hashes = await self._store.read_hashes(keys)
        read = [fields for fields in hashes if fields is not None]
        if len(read) < len(hashes):
            raise StoreUnavailable
        return read


class KeyUsage:
    """GET /api-key/usage, for whoever holds the key that it was asked with.

    From where it was used last is not told: who has stolen a key need not learn its owner's
    address. The answer is of the key, not of the path: no cache may keep it.
    """

    def __init__(self, usage: Usage) -> None:
        self._usage = usage

    async def respond(self, exchange: Exchange) -> Answer:
        assert exchange.key_id is not None, "the route asks for a key"
        usage = await self._usage.of(exchange.key_id, HOLDERS_DAYS)
        del usage["last_used_from"]
        return json_answer(200, usage, (("Cache-Control", "no-store"),))


def _counts() -> Counts:
    return dict.fromkeys(FIELDS, 0)


def _last(fields: Mapping[str, str]) -> dict[str, Any]:
    used_ms = _number(fields.get("last_used", ""))
    return {
        "last_used_at": iso_utc(used_ms / 1000) if used_ms else None,
        "last_used_from": fields.get("last_from"),
        "requests": _number(fields.get("requests", "")),
    }


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 16 else 0
