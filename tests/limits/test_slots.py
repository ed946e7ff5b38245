"""How many may be under way at once: several workers on one store, and whole gateways."""

import asyncio
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits_clock import Clock, landed
from redis_process import eventually

from gateway.errors import StoreUnavailable
from gateway.limits import Decision, Policy, Slots, policy_header, ratelimit, slots
from gateway.sections import StoreSettings
from gateway.store.redis import Store

TEN = Policy("ten", 10, "concurrent", per="key")
KEY = "k_1"
NUMBERS = count()


async def take(worker: Slots, number: int, bucket: str = KEY) -> int:
    decisions = await asyncio.gather(*(worker.admit(bucket) for _ in range(number)))
    return sum(decision.admitted for decision in decisions)


async def test_workers_together_admit_exactly_the_limit_and_go_on_as_requests_end(store):
    one, two = Slots(TEN, store), Slots(TEN, store)
    assert sum(await asyncio.gather(take(one, 8), take(two, 8))) == 10
    assert await take(one, 1) == await take(two, 1) == 0
    assert await take(two, 1, "k_2") == 1
    held = {worker: worker._held[KEY] for worker in (one, two)}
    for worker in (one, two):
        for _ in range(held[worker]):
            worker.release(KEY)
    await landed(one, two)
    assert not await store.client.exists("gw:limit:ten:{k_1}")
    assert await take(two, 12) == 10


async def test_what_clients_read(store):
    worker = Slots(TEN, store)
    decision = await worker.admit(KEY)
    assert decision == Decision(TEN, True, 9, 0, False, 0)
    assert policy_header(TEN) == '"ten";q=10;qu="concurrent-requests"'
    assert ratelimit(decision) == '"ten";r=9'
    await take(worker, 9)
    assert await worker.admit(KEY) == Decision(TEN, False, 0, 0, False, 1)


async def test_what_this_worker_knows_to_be_full_costs_no_call(store):
    worker = Slots(TEN, store)
    await take(worker, 10)
    calls = worker.courier.calls
    assert await take(worker, 100) == 0
    assert worker.courier.calls == calls


async def test_an_end_that_redis_learns_of_late_refuses_nobody(store, monkeypatch):
    monkeypatch.setattr(slots, "GRACE_SECONDS", 1e6)
    one, two = Slots(TEN, store), Slots(TEN, store)
    await take(one, 10)
    asked = asyncio.ensure_future(two.admit(KEY))
    await landed(two)
    assert not asked.done()
    one.release(KEY)
    await landed(one)
    two.courier.ask_again()
    assert (await asked).admitted


async def test_a_client_that_leaves_while_it_waits_holds_nothing(store):
    worker, other = Slots(TEN, store), Slots(TEN, store)
    asked = [asyncio.ensure_future(worker.admit(KEY)) for _ in range(10)]
    await asyncio.sleep(0)
    for each in asked:
        each.cancel()
    await landed(worker)
    assert worker._held == {}
    assert await take(other, 10) == 10


async def test_a_dead_worker_s_requests_end_with_its_lease_and_a_living_one_s_go_on(
    store, clock: Clock
):
    dead, living, other = (Slots(TEN, store, clock=clock) for _ in range(3))
    await clock.drive(store)
    assert await take(dead, 6) + await take(living, 4) == 10
    for _ in range(4):
        await clock.advance(1000)
        living.courier.give_back()
        await landed(living)
    assert await take(other, 1) == 0
    await clock.advance(1000)
    living.courier.give_back()
    await landed(living)
    assert await take(other, 10) == 6
    assert await store.client.pttl("gw:limit:ten:{k_1}") <= 5000


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 2), st.integers(1, 4)),
        st.tuples(st.just("release"), st.integers(0, 2), st.integers(1, 4)),
    ),
    max_size=25,
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
async def test_whatever_the_order_never_one_too_many_and_never_a_wrong_refusal(
    store, monkeypatch, steps
):
    monkeypatch.setattr(slots, "GRACE_SECONDS", 0)
    key = f"k_{next(NUMBERS)}"  # workers of the runs before tell of theirs for a while
    policy = Policy("q", 5, "concurrent")
    workers = [Slots(policy, store) for _ in range(3)]
    under_way = [0, 0, 0]
    for name, at, number in steps:
        if name == "take":
            admitted = await take(workers[at], number, key)
            assert admitted == min(number, 5 - sum(under_way))
            under_way[at] += admitted
        else:
            for _ in range(min(number, under_way[at])):
                workers[at].release(key)
                under_way[at] -= 1
            await landed(*workers)


@pytest.mark.parametrize(("mode", "more"), [("local", 3), ("allow", 20), ("deny", None)])
async def test_without_redis_it_is_as_the_settings_say_and_all_counts_when_it_is_back(
    redis_process, mode, more
):
    store = await Store.open(StoreSettings(url=redis_process.url, timeout=2.0))
    worker, other = Slots(TEN, store, mode, share=lambda: 2), Slots(TEN, store)
    assert await take(worker, 2) == 2
    redis_process.kill()
    await eventually(lambda: not store.available)
    if more is None:
        with pytest.raises(StoreUnavailable):
            await worker.admit(KEY)
    else:
        assert await take(worker, 20) == more
    redis_process.start()
    await eventually(lambda: store.available)
    worker._renew_at = 0.0
    await worker.courier.settle(worker)
    assert await take(other, 20) == max(0, 10 - 2 - (more or 0))
    for each in (worker, other):
        await each.close()
    await store.close()


async def test_what_ends_while_redis_is_away_is_told_when_it_is_back(redis_process):
    store = await Store.open(StoreSettings(url=redis_process.url, timeout=2.0))
    worker, other = Slots(TEN, store), Slots(TEN, store)
    await take(worker, 10)
    redis_process.stop()
    await eventually(lambda: not store.available)
    for _ in range(10):
        worker.release(KEY)
    redis_process.start()
    await eventually(lambda: store.available)
    worker._renew_at = 0.0
    await worker.courier.settle(worker)
    assert await take(other, 10) == 10
    await store.close()
