import asyncio
import subprocess

import pytest
from redis_process import RedisProcess, eventually, news_heard

from gateway.errors import StoreUnavailable
from gateway.sections import StoreSettings
from gateway.store.redis import Store
from gateway.store.watch import Watched


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def watch(store: Store, stale_for: float = 300) -> Watched[str]:
    async def read(names):
        return await store.read_hashes([store.key("key", name) for name in names])

    return Watched(
        store.changes,
        "key",
        read,
        lambda _name, fields: fields.get("v"),
        remember=1000,
        stale_for=stale_for,
    )


async def sees(copies: Watched[str], name: str, value: str | None) -> None:
    async def as_wanted() -> bool:
        return await copies.get(name) == value

    await eventually(as_wanted)


async def test_what_any_other_client_writes_is_seen(real_store: Store, redis_server: RedisProcess):
    copies = watch(real_store)
    with redis_server.client() as other:
        assert await copies.get("a") is None
        other.hset("gw:key:a", "v", "1")
        await sees(copies, "a", "1")
        other.hset("gw:key:a", "v", "2")
        await sees(copies, "a", "2")
        other.delete("gw:key:a")
        await sees(copies, "a", None)
        other.hset("gw:key:a", "v", "3")
        await sees(copies, "a", "3")
        other.flushall()
        await sees(copies, "a", None)
        other.hset("gw:key:a", "v", "4")
        other.pexpire("gw:key:a", 20)
        await sees(copies, "a", None)


async def test_what_redis_cli_writes_is_seen(real_store: Store, redis_server: RedisProcess):
    copies = watch(real_store)
    assert await copies.get("a") is None
    subprocess.run(
        ["redis-cli", "-p", str(redis_server.port), "HSET", "gw:key:a", "v", "1"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    await sees(copies, "a", "1")


async def test_a_hit_asks_redis_nothing(real_store: Store, redis_server: RedisProcess):
    copies = watch(real_store)
    with redis_server.client() as other:
        other.hset("gw:key:a", "v", "1")
        await news_heard(real_store)
        assert await copies.get("a") == "1"
        other.config_resetstat()
        for _ in range(100):
            assert await copies.get("a") == "1"
        assert "cmdstat_hgetall" not in other.info("commandstats")


async def test_many_misses_at_once_are_one_pipeline(real_store: Store, redis_server: RedisProcess):
    copies = watch(real_store)
    with redis_server.client() as other:
        for number in range(50):
            other.hset(f"gw:key:{number}", "v", str(number))
        before = other.info("stats")["total_connections_received"]
        values = await asyncio.gather(*(copies.get(str(number % 50)) for number in range(200)))
        assert values == [str(number % 50) for number in range(200)]
        assert other.info("commandstats")["cmdstat_hgetall"]["calls"] >= 50
        assert other.info("stats")["total_connections_received"] - before <= 1


async def test_on_memory_what_the_process_says_it_wrote_is_seen(memory_store: Store):
    copies = watch(memory_store)
    assert await copies.get("a") is None
    await memory_store.client.hset("gw:key:a", "v", "1")
    memory_store.changed("gw:key:a")
    assert await copies.get("a") == "1"


async def test_a_known_name_outlives_redis_for_a_while_and_an_unknown_one_is_not_denied(
    redis_process: RedisProcess,
):
    clock = Clock()
    settings = StoreSettings(url=redis_process.url, timeout=2)
    store = await Store.open(settings, clock=clock)
    try:
        copies = watch(store, stale_for=300)
        with redis_process.client() as other:
            other.hset("gw:key:known", "v", "1")
        await news_heard(store)
        assert await copies.get("known") == "1"
        assert await copies.get("denied before") is None

        redis_process.stop()
        await eventually(lambda: not store.available)
        clock.now += 299
        assert await copies.get("known") == "1"
        for name in ("unknown", "denied before"):
            with pytest.raises(StoreUnavailable):
                await copies.get(name)
        clock.now += 1
        with pytest.raises(StoreUnavailable):
            await copies.get("known")

        redis_process.start()
        with redis_process.client() as other:
            other.hset("gw:key:known", "v", "2")
        await eventually(lambda: store.available)
        await sees(copies, "known", "2")
        assert await copies.get("unknown") is None
        with redis_process.client() as other:
            other.hset("gw:key:unknown", "v", "3")
        await sees(copies, "unknown", "3")
    finally:
        await store.close()


async def test_losing_only_the_channel_loses_no_change(redis_process: RedisProcess):
    store = await Store.open(StoreSettings(url=redis_process.url, timeout=2))
    try:
        copies = watch(store)
        with redis_process.client() as other:
            other.hset("gw:key:a", "v", "1")
            await sees(copies, "a", "1")
            other.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            other.hset("gw:key:a", "v", "2")
            await sees(copies, "a", "2")
            await eventually(lambda: store.available)
            other.hset("gw:key:a", "v", "3")
            await sees(copies, "a", "3")
    finally:
        await store.close()
