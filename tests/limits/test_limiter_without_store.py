"""Redis stopped, killed, hung and back, in each of the three modes; a real server each time."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from gateway.errors import StoreUnavailable
from gateway.limits import Limiter, Policy
from gateway.sections import StoreSettings
from gateway.store.redis import Store

IP = Policy("ip", 100, 60, 3600)
CLIENT, OTHER = "203.0.113.7", "203.0.113.8"


@pytest.fixture
async def own_store(redis_process) -> AsyncIterator[Store]:
    store = await Store.open(StoreSettings(url=redis_process.url, timeout=2.0))
    yield store
    await store.close()


async def eventually(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def admitted(limiter, number, bucket=CLIENT) -> int:
    decisions = await asyncio.gather(*(limiter.admit(bucket) for _ in range(number)))
    return sum(decision.admitted for decision in decisions)


async def test_local_keeps_the_limit_in_this_worker_and_redis_takes_over_again(
    own_store, redis_process
):
    limiter = Limiter(IP, own_store, "local")
    assert await admitted(limiter, 60) == 60
    redis_process.stop()
    assert await admitted(limiter, 130) == 100
    assert limiter.counts.degraded >= 130 - 16
    decision = await limiter.admit(CLIENT)
    assert (decision.admitted, decision.blocked, decision.retry_after) == (False, True, 3600)
    redis_process.start()
    await eventually(lambda: own_store.available)
    degraded = limiter.counts.degraded
    assert (await limiter.admit(CLIENT)).remaining == 39, "as it was before"
    assert limiter.counts.degraded == degraded


async def test_local_divides_the_limit_among_the_workers(own_store, redis_process):
    workers = [4]
    limiter = Limiter(IP, own_store, "local", share=lambda: workers[0])
    redis_process.kill()
    assert await admitted(limiter, 30) == 25
    workers[0] = 2
    assert await admitted(limiter, 30) == 25, "of 50, now that there are fewer"


async def test_local_keeps_refusing_whom_redis_had_blocked(own_store, redis_process):
    ahead = 0.0
    limiter = Limiter(IP, own_store, "local", clock=lambda: time.monotonic() + ahead)
    await admitted(limiter, 101)
    redis_process.kill()
    await eventually(lambda: not own_store.available)
    ahead = 2.0  # past the time for which a remembered refusal is trusted
    decision = await limiter.admit(CLIENT)
    assert (decision.admitted, decision.blocked) == (False, True)
    assert await admitted(limiter, 1, OTHER) == 1


async def test_allow_admits_everyone(own_store, redis_process):
    limiter = Limiter(IP, own_store, "allow")
    redis_process.kill()
    assert await admitted(limiter, 300) == 300
    redis_process.start()
    await eventually(lambda: own_store.available)
    assert await admitted(limiter, 101) == 100


async def test_deny_is_a_503_and_never_a_429(own_store, redis_process):
    limiter = Limiter(IP, own_store, "deny")
    redis_process.kill()
    outcomes = await asyncio.gather(
        *(limiter.admit(CLIENT) for _ in range(10)), return_exceptions=True
    )
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == 10, "an exception object of its own each"
    redis_process.start()
    await eventually(lambda: own_store.available)
    assert await admitted(limiter, 101) == 100


async def test_a_redis_that_hangs_holds_nobody(redis_process):
    store = await Store.open(StoreSettings(url=redis_process.url, timeout=0.2))
    limiter = Limiter(IP, store, "local")
    assert await admitted(limiter, 1) == 1
    redis_process.pause()
    try:
        assert await admitted(limiter, 130) == 100
        await eventually(lambda: not store.available)
        calls = limiter.courier.calls
        assert await admitted(limiter, 10, OTHER) == 10
        assert limiter.courier.calls == calls, "it is not asked again and again"
    finally:
        redis_process.resume()
    await eventually(lambda: store.available)
    await store.close()


async def test_who_comes_while_redis_does_not_answer_waits_no_longer_than_the_first(redis_process):
    store = await Store.open(StoreSettings(url=redis_process.url, timeout=0.2))
    limiter = Limiter(IP, store, "local")
    await admitted(limiter, 1)
    redis_process.pause()
    try:
        first = asyncio.ensure_future(limiter.admit(CLIENT))
        await eventually(lambda: limiter.courier.calls == 2)
        second = asyncio.ensure_future(limiter.admit(OTHER))
        await first
        await asyncio.sleep(0)
        assert second.done()
        assert limiter.courier.calls == 2
    finally:
        redis_process.resume()
    await store.close()


async def test_when_redis_lost_everything_the_limit_starts_anew(own_store, redis_process):
    limiter = Limiter(IP, own_store, "local")
    await admitted(limiter, 90)
    with redis_process.client() as client:
        client.flushall()
        client.script_flush()
    assert await admitted(limiter, 101) in range(100, 101)


async def test_what_redis_refuses_is_as_if_it_were_away(own_store, redis_process):
    limiter = Limiter(IP, own_store, "local")
    with redis_process.client() as client:
        client.config_set("maxmemory", 1)
        assert await admitted(limiter, 101) == 100
        assert limiter.counts.degraded == 101
        client.config_set("maxmemory", 0)
    assert (await limiter.admit(OTHER)).remaining == 99


async def test_a_gateway_starts_without_redis(redis_process):
    redis_process.stop()
    store = await Store.open(StoreSettings(url=redis_process.url))
    limiter = Limiter(IP, store, "local")
    assert await admitted(limiter, 101) == 100
    with pytest.raises(StoreUnavailable):
        await limiter.blocked()
    with pytest.raises(StoreUnavailable):
        await limiter.unblock(CLIENT)
    await limiter.close()
    await store.close()
