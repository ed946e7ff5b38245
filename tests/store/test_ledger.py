"""The ledger of usage on both stores, and what becomes of it when Redis is not there."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from exchanges import exchange
from redis_process import RedisProcess, eventually

from gateway.errors import (
    ClientGone,
    Forbidden,
    GatewayError,
    StoreUnavailable,
    TooManyRequests,
    Unauthenticated,
    UpstreamFailed,
)
from gateway.sections import LedgerSettings, StoreSettings
from gateway.store.ledger import DAY_SECONDS, LOOK_SECONDS, Ledger
from gateway.store.redis import Store
from gateway.store.usage import Usage

NOON = 1777464000.0  # 2026-04-29T12:00:00
TODAY = "2026-04-29"


@dataclass(frozen=True)
class Route:
    name: str
    pattern: str = "plan_key"


class Clock:
    """Unix seconds and monotonic ones, which move together."""

    def __init__(self) -> None:
        self.passed = 0.0

    def unix(self) -> float:
        return NOON + self.passed

    def monotonic(self) -> float:
        return 500.0 + self.passed


@pytest.fixture
def clock() -> Clock:
    return Clock()


def ledger_on(store: Store, clock: Clock, **settings: Any) -> Ledger:
    return Ledger(store, LedgerSettings(**settings), clock.unix, clock.monotonic)


@pytest.fixture
def ledger(store: Store, clock: Clock) -> Ledger:
    return ledger_on(store, clock)


@pytest.fixture
def usage(store: Store, clock: Clock) -> Usage:
    return Usage(store, clock.unix)


def count(
    ledger: Ledger,
    clock: Clock,
    key_id: str = "k_1",
    route: str = "stock",
    failure: GatewayError | None = None,
    *,
    sent: int = 0,
    received: int = 0,
    address: str = "203.0.113.7",
) -> None:
    """A request that is finished now."""
    finished = exchange("GET", "/")
    finished.started = clock.monotonic()
    finished.route, finished.failure, finished.client_ip = Route(route), failure, address
    finished.sent_bytes, finished.body_received_bytes = sent, received
    ledger.count(finished, key_id, 0.0)


async def total(usage: Usage, key_id: str = "k_1", days: int = 30) -> int:
    return (await usage.of(key_id, days))["requests"]


async def test_what_a_key_did_is_told_by_day_and_by_route(ledger, usage, clock):
    count(ledger, clock, sent=100, received=7)
    count(ledger, clock, "k_2")
    clock.passed = DAY_SECONDS
    count(ledger, clock, sent=50)
    count(ledger, clock, route="index", failure=Forbidden("", reason="plan_not_active"))
    await ledger.flush()
    zero = {"requests": 0, "refusals": 0, "sent_bytes": 0, "received_bytes": 0}
    told = await usage.of("k_1", 30)
    assert told.pop("last_used_at") is not None
    assert told == {
        "id": "k_1",
        "days": 30,
        "requests": 3,
        "refusals": 1,
        "sent_bytes": 150,
        "received_bytes": 7,
        "last_used_from": "203.0.113.7",
        "by_day": [
            zero | {"day": TODAY, "requests": 1, "sent_bytes": 100, "received_bytes": 7},
            zero | {"day": "2026-04-30", "requests": 2, "refusals": 1, "sent_bytes": 50},
        ],
        "by_route": [
            zero | {"route": "index", "requests": 1, "refusals": 1},
            zero | {"route": "stock", "requests": 2, "sent_bytes": 150, "received_bytes": 7},
        ],
    }
    assert (await usage.of("k_1", 1))["requests"] == 2
    assert await total(usage, "k_2") == 1


async def test_redis_holds_it_by_the_documented_names(ledger, store, clock):
    count(ledger, clock, sent=5)
    count(ledger, clock, failure=Forbidden(""))
    await ledger.flush()
    client = store.client
    assert await client.hgetall(f"gw:usage:k_1:{TODAY}") == {
        "requests:stock": "2",
        "refusals:stock": "1",
        "sent_bytes:stock": "5",
    }
    used = await client.hgetall("gw:used:k_1")
    assert used.keys() == {"requests", "last_used", "last_from"}
    for name in (f"gw:usage:k_1:{TODAY}", "gw:used:k_1"):
        assert 399 * DAY_SECONDS < await client.ttl(name) <= 400 * DAY_SECONDS


@pytest.mark.parametrize(
    ("failure", "refused"),
    [
        (None, 0),
        (Unauthenticated("", reason="invalid_key", challenge=""), 1),
        (Forbidden(""), 1),
        (TooManyRequests("", reason="rate_limited", retry_after=1), 1),
        (StoreUnavailable(), 0),
        (UpstreamFailed(), 0),
        (ClientGone(), 0),
    ],
)
async def test_only_what_is_the_clients_fault_counts_as_refused(
    ledger, usage, clock, failure, refused
):
    count(ledger, clock, failure=failure)
    await ledger.flush()
    told = await usage.of("k_1", 1)
    assert (told["requests"], told["refusals"]) == (1, refused)


async def test_the_last_use_of_several_workers_is_the_latest_one(store, usage, clock):
    first, second = ledger_on(store, clock), ledger_on(store, clock)
    count(first, clock, address="203.0.113.1")
    clock.passed = 60
    count(second, clock, address="203.0.113.2")
    await second.flush()
    latest = await usage.last("k_1")
    await first.flush()
    assert latest["last_used_from"] == "203.0.113.2"
    assert await usage.last("k_1") == latest | {"requests": 2}


async def test_a_key_that_was_never_used_says_so(usage):
    assert await usage.last("k_1") == {
        "last_used_at": None,
        "last_used_from": None,
        "requests": 0,
    }


async def test_what_is_under_way_uses_its_key_and_is_no_request_yet(ledger, usage, clock):
    with_key, without = exchange("GET", "/"), exchange("GET", "/")
    with_key.key_id, with_key.client_ip = "k_1", "203.0.113.7"
    for passed in (1, LOOK_SECONDS):
        clock.passed = passed
        ledger.look([with_key, without])
        await ledger.flush()
        assert ((await usage.last("k_1"))["last_used_at"] is not None) is (passed == LOOK_SECONDS)
    last = await usage.last("k_1")
    assert (last["last_used_from"], last["requests"]) == ("203.0.113.7", 0)


async def test_midnight_parts_the_days_to_the_request(ledger, usage, clock):
    clock.passed = DAY_SECONDS / 2 - 0.001
    count(ledger, clock)
    clock.passed += 0.001
    count(ledger, clock)
    await ledger.flush()
    told = await usage.of("k_1", 2)
    assert [(day["day"], day["requests"]) for day in told["by_day"]] == [
        (TODAY, 1),
        ("2026-04-30", 1),
    ]


async def test_many_keys_go_in_many_batches_and_none_is_lost(ledger, usage, clock):
    for number in range(1000):
        count(ledger, clock, f"k_{number}")
    await ledger.flush()
    assert [await total(usage, f"k_{number}") for number in (0, 99, 100, 500, 999)] == [1] * 5
    assert ledger._tallies == 0


async def test_a_batch_that_is_sent_again_counts_once(ledger, usage, clock):
    count(ledger, clock)
    call, lost = ledger._count, []

    async def lose_the_answer(*arguments: Any, **_: Any) -> Any:
        await call(*arguments)
        lost.append(arguments)
        raise ConnectionResetError

    ledger._count = lose_the_answer
    with pytest.raises(StoreUnavailable):
        await ledger.flush()
    ledger._count = call
    count(ledger, clock)
    await eventually(lambda: ledger._store.available)
    await ledger.flush()
    assert len(lost) == 1
    assert await total(usage) == 2


async def test_what_another_program_wrote_there_is_left_and_told(ledger, store, usage, clock):
    await store.client.set(f"gw:usage:k_1:{TODAY}", "a string")
    await store.client.hset(f"gw:usage:k_2:{TODAY}", "requests:stock", "many")
    for key_id in ("k_1", "k_2", "k_3"):
        count(ledger, clock, key_id)
    await ledger.flush()
    assert ledger.dropped == 2
    assert await store.client.get(f"gw:usage:k_1:{TODAY}") == "a string"
    assert await total(usage, "k_3") == 1


async def test_beyond_what_is_remembered_only_what_is_known_is_counted(store, usage, clock):
    ledger = ledger_on(store, clock, remember=2)
    for key_id in ("k_1", "k_2", "k_3", "k_1"):
        count(ledger, clock, key_id)
    assert ledger.dropped == 1
    await ledger.flush()
    assert [await total(usage, key_id) for key_id in ("k_1", "k_2", "k_3")] == [2, 1, 0]
    count(ledger, clock, "k_3")
    await ledger.flush()
    assert (await total(usage, "k_3"), ledger.dropped) == (1, 1)


async def test_no_change_is_told_to_anybody(ledger, store, clock):
    class Heard(list[str]):
        def changed(self, name: str) -> None:
            self.append(name)

        def all_changed(self) -> None:
            pass

    heard = Heard()
    for space in ("key", "user", "vault"):
        store.changes.listen(space, heard)
    count(ledger, clock)
    await ledger.flush()
    await store.client.set("gw:vault:marker", "")
    store.changed("gw:vault:marker")
    await eventually(lambda: "marker" in heard)
    assert set(heard) == {"marker"}


@pytest.fixture
async def fragile(redis_process: RedisProcess) -> AsyncIterator[Store]:
    """A store that gives Redis little time."""
    opened = await Store.open(StoreSettings(url=redis_process.url, timeout=0.2))
    yield opened
    await opened.close()


async def written(ledger: Ledger) -> bool:
    try:
        await ledger.flush()
    except StoreUnavailable:
        return False
    return True


async def test_while_redis_is_away_all_is_kept_and_written_after(fragile, redis_process, clock):
    ledger, usage = ledger_on(fragile, clock), Usage(fragile, clock.unix)
    count(ledger, clock)
    redis_process.kill()
    for _ in range(3):
        assert not await written(ledger)
        count(ledger, clock)
    redis_process.start()
    await eventually(lambda: written(ledger))
    assert await total(usage) == 4
    assert ledger.dropped == 0


async def test_a_redis_that_stood_still_counts_once_what_it_was_sent_twice(
    fragile, redis_process, clock
):
    ledger, usage = ledger_on(fragile, clock), Usage(fragile, clock.unix)
    count(ledger, clock)
    await ledger.flush()
    redis_process.pause()
    for _ in range(3):
        count(ledger, clock)
        assert not await written(ledger)
    redis_process.resume()
    await eventually(lambda: written(ledger))
    await eventually(lambda: fragile.available)
    assert await total(usage) == 4


async def test_a_worker_that_ends_without_redis_says_what_is_missing(
    fragile, redis_process, clock, caplog
):
    ledger = ledger_on(fragile, clock)
    for _ in range(3):
        count(ledger, clock)
    redis_process.kill()
    assert not await written(ledger)
    count(ledger, clock, "k_2")
    await ledger.close()
    assert ledger.dropped == 4
    assert "4 requests are missing" in caplog.text


async def test_a_ledger_is_settled_once_every_flush_has_succeeded_for_a_while(
    fragile, redis_process, clock
):
    ledger = ledger_on(fragile, clock)
    assert not ledger.settled(0)
    await ledger.flush()
    clock.passed = 5
    assert ledger.settled(5)
    assert not ledger.settled(6)
    redis_process.kill()
    count(ledger, clock)
    assert not await written(ledger)
    assert not ledger.settled(0)
