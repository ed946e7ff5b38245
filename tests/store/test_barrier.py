"""Workers on one Redis, each a store with a registry: who confirms a change, and who is named."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import pytest
from redis_process import RedisProcess, eventually

from gateway.errors import StoreUnavailable
from gateway.sections import KeySettings, StoreSettings
from gateway.store import barrier, registry
from gateway.store.barrier import Acknowledgement, Barriers
from gateway.store.keys import Keys
from gateway.store.redis import Store
from gateway.store.registry import Registry

KEY = "gw:key:" + 64 * "a"
FIELDS = {"id": "k_1", "user_id": "42"}


@dataclass
class Worker:
    store: Store
    registry: Registry
    keys: Keys

    @property
    def name(self) -> str:
        return self.registry.name

    async def deafen(self) -> None:
        """Its channel is down; it may ask Redis still, and says that it lives."""
        assert self.store._channel is not None
        await self.store._channel.close()


class Nobody:
    async def ensure(self, user_id: int) -> None: ...


@asynccontextmanager
async def worker(url: str, name: str) -> AsyncIterator[Worker]:
    store = await Store.open(StoreSettings(url=url, timeout=2))
    own = Registry(store, name, assumed=1, kept_seconds=300)
    await own.start()
    try:
        yield Worker(store, own, Keys(store, KeySettings(), Nobody()))
    finally:
        await own.close()
        await store.close()


@pytest.fixture
async def workers(redis_url: str) -> AsyncIterator[list[Worker]]:
    async with AsyncExitStack() as opened:
        yield [await opened.enter_async_context(worker(redis_url, name)) for name in "abc"]


@pytest.fixture
async def revoker(workers: Sequence[Worker], real_store: Store) -> Store:
    """It is no worker itself."""
    return real_store


async def confirm(revoker: Store, *keys: str) -> Acknowledgement:
    async with Barriers(revoker) as barriers:
        revoker.changed(*(keys or (KEY,)))
        return await barriers.passed()


async def on_the_roll(store: Store) -> set[str]:
    return set(await store.client.zrange("gw:workers", 0, -1))


async def test_all_workers_confirm_and_none_goes_by_a_copy_any_more(
    workers: list[Worker], revoker: Store
) -> None:
    for turn in range(100):
        digest = f"{turn:064x}"
        await revoker.client.hset(f"gw:key:{digest}", mapping=FIELDS)
        for each in workers:
            record = await each.keys.find(digest)
            assert record is not None
        await revoker.client.hset(f"gw:key:{digest}", "revoked_at", "now")
        told = await confirm(revoker, f"gw:key:{digest}")
        assert (told.confirmed, told.unconfirmed) == (3, ())
        for each in workers:
            assert digest not in each.keys.copies._copies
            found = await each.keys.find(digest)
            assert found is not None
            assert found.revoked_at == "now"


async def test_several_changes_are_confirmed_together(
    workers: list[Worker], revoker: Store
) -> None:
    keys = ("gw:key:a", "gw:user:42", "gw:vault:{odd}@example.com")
    told = await confirm(revoker, *keys)
    assert (told.confirmed, told.unconfirmed) == (3, ())


async def test_what_is_written_twice_is_asked_about_after_the_second_time(
    workers: list[Worker], revoker: Store
) -> None:
    digest = 64 * "b"
    key = f"gw:key:{digest}"
    async with Barriers(revoker) as barriers:
        for name in ("first", "second"):
            await revoker.client.hset(key, mapping=FIELDS | {"name": name})
            revoker.changed(key)
            await asyncio.gather(*(each.keys.find(digest) for each in workers))
        told = await barriers.passed()
    assert (told.confirmed, told.unconfirmed) == (3, ())
    for each in workers:
        found = await each.keys.find(digest)
        assert found is not None
        assert found.name == "second"


async def test_what_another_task_writes_meanwhile_is_not_asked_about(
    workers: list[Worker], revoker: Store
) -> None:
    may_write = asyncio.Event()

    async def write() -> None:
        await may_write.wait()
        revoker.changed(KEY)

    other = asyncio.create_task(write())
    async with Barriers(revoker) as barriers:
        may_write.set()
        await other
        told = await barriers.passed()
    assert (told.confirmed, told.unconfirmed) == (0, ())


async def test_one_that_does_not_hear_is_named_and_the_others_confirm(
    workers: list[Worker], revoker: Store
) -> None:
    await workers[1].deafen()
    told = await confirm(revoker)
    assert (told.confirmed, told.unconfirmed) == (2, ("b",))


async def test_one_that_hears_again_meanwhile_confirms(
    workers: list[Worker], revoker: Store
) -> None:
    channel = workers[1].store._channel
    assert channel is not None
    await workers[1].deafen()
    asked = asyncio.create_task(confirm(revoker))
    await asyncio.sleep(barrier.AGAIN_SECONDS)
    await channel.start()
    told = await asked
    assert (told.confirmed, told.unconfirmed) == (3, ())


@pytest.mark.parametrize("how", ["it says so itself", "its gateway does"])
async def test_one_that_ends_meanwhile_is_not_waited_for(
    workers: list[Worker], revoker: Store, how: str
) -> None:
    await workers[1].deafen()
    asked = asyncio.create_task(confirm(revoker))
    await asyncio.sleep(barrier.AGAIN_SECONDS)
    if how == "it says so itself":
        await workers[1].registry.close()
    else:
        assert workers[1].registry._task is not None
        workers[1].registry._task.cancel()
        workers[0].registry.left(["b"])
    told = await asked
    assert (told.confirmed, told.unconfirmed) == (2, ())


async def test_a_silent_one_is_named_and_not_waited_for(
    workers: list[Worker], revoker: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(barrier, "WAIT_SECONDS", 3600)  # nobody has the patience
    seconds, _ = await revoker.client.time()
    long_ago = (seconds - registry.SILENT_SECONDS - 1) * 1000
    await revoker.client.zadd("gw:workers", {"gone": long_ago})
    told = await confirm(revoker)
    assert (told.confirmed, told.unconfirmed) == (3, ("gone",))


async def test_a_name_goes_when_its_copies_can_not_be_good_any_more(
    workers: list[Worker], revoker: Store
) -> None:
    seconds, _ = await revoker.client.time()
    await revoker.client.zadd("gw:workers", {"kept": (seconds - 299) * 1000})
    await revoker.client.zadd("gw:workers", {"gone": (seconds - 305) * 1000})
    workers[0].registry.all_changed()

    async def as_wanted() -> bool:
        return await on_the_roll(revoker) == {"a", "b", "c", "kept"}

    await eventually(as_wanted)


async def test_a_roll_has_an_end(
    workers: list[Worker], revoker: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "MOST_WORKERS", 10)
    seconds, _ = await revoker.client.time()
    others = {f"dead{number}": (seconds - 100) * 1000 for number in range(50)}
    await revoker.client.zadd("gw:workers", others)
    workers[0].registry.all_changed()

    async def as_wanted() -> bool:
        names = await on_the_roll(revoker)
        return len(names) <= 10 and {"a", "b", "c"} <= names

    await eventually(as_wanted)


async def test_who_was_forgotten_by_redis_is_on_the_roll_again_at_once(
    workers: list[Worker], revoker: Store
) -> None:
    for each in workers:
        each.registry._next_beat = time.monotonic() + 3600
    await revoker.client.flushall()

    async def as_wanted() -> bool:
        return await on_the_roll(revoker) == {"a", "b", "c"}

    await eventually(as_wanted)


async def test_every_worker_knows_how_many_there_are(redis_url: str) -> None:
    async with worker(redis_url, "a") as one:
        assert one.registry.live == 1
        async with worker(redis_url, "b") as two:
            assert two.registry.live == 2
            await eventually(lambda: one.registry.live == 2)
        await eventually(lambda: one.registry.live == 1)


async def test_an_outage_does_not_make_workers_fewer(redis_process: RedisProcess) -> None:
    async with AsyncExitStack() as opened:
        names = ("a", "b", "c")
        there = [await opened.enter_async_context(worker(redis_process.url, n)) for n in names]
        await eventually(lambda: all(each.registry.live == 3 for each in there))
        redis_process.stop()
        await eventually(lambda: not any(each.store.available for each in there))
        redis_process.start()
        with redis_process.client() as client:
            client.delete("gw:workers")
        seen = set()
        await eventually(lambda: all(each.store.available for each in there))
        for _ in range(30):
            await asyncio.sleep(0.05)
            seen |= {each.registry.live for each in there}
        assert seen == {3}


async def test_nothing_is_left_in_redis_of_who_asked_and_who_answered(
    workers: list[Worker], revoker: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(barrier, "BARRIER_MS", 50)
    await confirm(revoker)
    left = [name async for some in revoker.scan("gw:*") for name in some]
    temporary = [name for name in left if name.startswith(("gw:barrier:", "gw:ack:"))]
    assert temporary
    for name in temporary:
        assert -1 != await revoker.client.pttl(name) <= registry.ACK_SECONDS * 1000
    await asyncio.sleep(0.2)  # the end of a barrier is news as well, and nothing to confirm
    left = [name async for some in revoker.scan("gw:ack:*") for name in some]
    assert left == []


async def test_embedded_there_is_one_worker_and_it_knows(memory_store: Store) -> None:
    own = Registry(memory_store, "a", assumed=8, kept_seconds=300)
    await own.start()
    assert own.live == 1
    told = await confirm(memory_store)
    assert (told.confirmed, told.unconfirmed) == (1, ())


async def test_without_redis_nobody_can_be_asked(redis_process: RedisProcess) -> None:
    store = await Store.open(StoreSettings(url=redis_process.url, timeout=1))
    redis_process.kill()
    with pytest.raises(StoreUnavailable):
        await confirm(store)
    with suppress(StoreUnavailable):
        await store.close()


async def test_if_redis_goes_while_they_are_asked_nobody_has_confirmed(
    redis_process: RedisProcess,
) -> None:
    async with worker(redis_process.url, "a") as one:
        await one.deafen()
        store = await Store.open(StoreSettings(url=redis_process.url, timeout=1))
        asked = asyncio.create_task(confirm(store))
        await asyncio.sleep(barrier.AGAIN_SECONDS / 2)
        redis_process.kill()
        told = await asked
        assert (told.confirmed, told.unconfirmed) == (0, ("a",))
        await store.close()
