"""Leases: who is far from a limit waits for nothing, and the limit is exact all the same."""

import asyncio

import pytest
from limits_clock import Clock, landed

from gateway.limits import Limiter, Policy, lease
from gateway.store.redis import Store

IP = Policy("ip", 1000, 60, 3600)
CLIENT = "203.0.113.7"
OTHERS = [f"10.0.0.{number}" for number in range(50)]


def at_once(limiter: Limiter, bucket: str):
    """The decision, if it needs no Redis."""
    return limiter.known(bucket)


async def leased(clock: Clock, store: Store, number: int, policy: Policy = IP) -> list[Limiter]:
    """So many workers that have called just now."""
    await clock.drive(store)
    workers = [Limiter(policy, store, clock=clock) for _ in range(number)]
    for worker in workers:
        await worker.admit("198.51.100.1")
    await landed(*workers)
    return workers


async def call(worker: Limiter) -> None:
    """For more than the lease allows, of a bucket that has no reservation."""
    assert (await worker.admit(f"10.1.0.{worker.courier.calls}", 20)).admitted
    await landed(worker)


async def spend(worker: Limiter, number: int) -> int:
    """So many requests of the client at once; how many were admitted."""
    decisions = await asyncio.gather(*(worker.admit(CLIENT) for _ in range(number)))
    return sum(decision.admitted for decision in decisions)


async def test_far_from_a_limit_not_even_the_first_request_of_an_address_waits(
    store, clock: Clock, patient
):
    (worker,) = await leased(clock, store, 1)
    calls = worker.courier.calls
    assert {at_once(worker, bucket).remaining for bucket in OTHERS} == {999}
    assert worker.courier.calls == calls
    worker.courier.tell_now()
    await landed(worker)
    assert worker.courier.calls == calls + 1, "all of them in one call"
    other = Limiter(IP, store, clock=clock)
    counted = await asyncio.gather(*(other.admit(bucket) for bucket in OTHERS))
    assert {decision.remaining for decision in counted} == {998}


async def test_what_is_left_is_told_as_it_was_when_last_heard_of(store, clock: Clock, patient):
    (worker,) = await leased(clock, store, 1)
    told = []
    for _ in range(4):
        decision = at_once(worker, CLIENT)
        told.append((decision.remaining, decision.reset))
        worker.courier.tell_now()
        await landed(worker)
        await clock.advance(1000)
        await worker.admit("198.51.100.1")
    assert told == [(999, 60), (998, 59), (997, 58), (996, 57)]


async def test_no_more_is_admitted_than_the_lease_allows_until_it_is_told(
    store, clock: Clock, patient
):
    (worker,) = await leased(clock, store, 1)
    assert at_once(worker, CLIENT)
    assert at_once(worker, CLIENT) is None
    worker.courier.tell_now()
    await asyncio.sleep(0)
    assert at_once(worker, CLIENT) is None, "it is on its way"
    await landed(worker)
    await clock.advance(20)
    assert at_once(worker, CLIENT)


async def test_without_a_call_in_the_last_moments_there_is_no_lease(store, clock: Clock, patient):
    (worker,) = await leased(clock, store, 1)
    await clock.advance(49)
    assert at_once(worker, OTHERS[0])
    await clock.advance(1)
    assert at_once(worker, OTHERS[1]) is None


async def test_a_bucket_past_half_its_limit_is_asked_for_by_each_worker(
    store, clock: Clock, patient
):
    one, two = await leased(clock, store, 2)
    assert await spend(one, 501) == 501
    await landed(one)
    assert at_once(two, CLIENT), "two has not heard of it"
    two.courier.tell_now()
    await landed(two)
    assert at_once(two, CLIENT) is None
    assert at_once(one, CLIENT) is None
    assert at_once(two, OTHERS[0]), "of others it admits as ever"


async def test_what_others_may_have_admitted_stays_free_until_they_have_heard_of_the_mark(
    store, clock: Clock, patient
):
    one, two, three = await leased(clock, store, 3)
    asked = [asyncio.ensure_future(one.admit(CLIENT)) for _ in range(1001)]
    await landed(one)
    assert sum(each.done() for each in asked) == 998, "two and three may have admitted one each"
    assert at_once(two, CLIENT)
    await spend(three, 1)  # waits, and has heard by that
    await clock.advance(1)
    for worker in (two, three):
        worker.courier.tell_now()
    await landed(two, three)
    one.courier.ask_again()
    await landed(one)
    decisions = [each.result() for each in asked if each.done()]
    assert len(decisions) == 1001
    assert sum(decision.admitted for decision in decisions) == 998


async def test_a_worker_that_needs_no_lease_any_more_gives_it_back(store, clock: Clock):
    one, two = await leased(clock, store, 2)
    assert len(await store.client.hgetall("gw:ip:leases")) == 2
    await clock.advance(50)
    for worker in (one, two):
        worker.courier.give_back()
    await landed(one, two)
    assert await store.client.hgetall("gw:ip:leases") == {}
    assert await spend(one, 1001) == 1000


async def test_a_worker_that_stands_still_is_not_waited_for_longer_than_its_lease(
    store, clock: Clock, patient
):
    one, _stands_still = await leased(clock, store, 2)
    assert await spend(one, 999) == 999
    asked = asyncio.ensure_future(one.admit(CLIENT))
    await landed(one)
    assert not asked.done()
    await clock.advance(1000)
    one.courier.ask_again()
    await landed(one)
    assert asked.result().admitted


async def test_marks_that_redis_has_lost_cost_a_worker_its_lease_for_a_moment(
    store, clock: Clock, patient
):
    (worker,) = await leased(clock, store, 1)
    await spend(worker, 501)
    await landed(worker)
    await store.client.flushall()
    await clock.advance(0)
    await call(worker)
    assert at_once(worker, OTHERS[0]) is None
    await clock.advance(1000)
    await call(worker)
    assert at_once(worker, OTHERS[0])


async def test_too_many_marks_cost_a_worker_its_lease_and_no_memory(
    store, clock: Clock, patient, monkeypatch
):
    monkeypatch.setattr(lease, "MARKS_KEPT", 10)
    (worker,) = await leased(clock, store, 1)
    for bucket in OTHERS:
        await asyncio.gather(*(worker.admit(bucket) for _ in range(501)))
        await landed(worker)
    assert len(worker._lease._marked) <= 20
    assert at_once(worker, "192.0.2.1") is None


async def test_a_lease_ends_with_the_period_of_a_quota(store, clock: Clock, patient):
    day_ms = 86_400_000
    await clock.advance(day_ms - clock.ms % day_ms - 60)
    (worker,) = await leased(clock, store, 1, Policy("q", 6400, "day"))
    await worker.admit(CLIENT)
    await clock.advance(9)
    await call(worker)
    assert at_once(worker, CLIENT)
    await clock.advance(1)
    await call(worker)
    assert at_once(worker, CLIENT) is None, "50 ms are left of the day"


@pytest.mark.parametrize("requests", [1, 511])
async def test_a_small_limit_has_none(store, clock: Clock, requests):
    (worker,) = await leased(clock, store, 1, Policy("ip", requests, 60, 3600))
    assert at_once(worker, CLIENT) is None
    assert sorted(await store.client.keys("gw:ip:*")) == ["gw:ip:{198.51.100.1}"]


async def test_weights_above_the_allowance_are_asked_for(store, clock: Clock, patient):
    (worker,) = await leased(clock, store, 1)
    assert worker.known(CLIENT, cost=2) is None
    assert worker.known(CLIENT, cost=1)
