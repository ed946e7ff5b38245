"""The limiter on fakeredis and on real Redis: what clients see, and what it costs."""

import asyncio
import time
from collections import Counter

import pytest
from limits_clock import Clock, landed

from gateway.limits import Decision, Limiter, Policy, limiter, policy_header, ratelimit
from gateway.sections import StoreSettings
from gateway.store.redis import Store

IP = Policy("ip", 1000, 60, 3600)
OWN = Policy("api-key", 30, 60, 0)
CLIENT = "203.0.113.7"


def at_once(coroutine):
    """The result of a coroutine that must not suspend."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise AssertionError("it suspended")


def work(seconds):
    """Keep the event loop from turning, as requests do that are handled."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def admit(limiter, number, bucket=CLIENT):
    return await asyncio.gather(*(limiter.admit(bucket) for _ in range(number)))


async def test_of_1200_requests_at_once_over_two_workers_exactly_1000_pass(real_store):
    one, two = Limiter(IP, real_store), Limiter(IP, real_store)
    decisions = await asyncio.gather(
        *(worker.admit(CLIENT) for _ in range(600) for worker in (one, two))
    )
    assert Counter(decision.admitted for decision in decisions) == {True: 1000, False: 200}
    refused = [decision for decision in decisions if not decision.admitted]
    assert Counter(decision.blocked for decision in refused) == {True: 199, False: 1}
    assert all(3599 <= decision.retry_after <= 3600 for decision in refused)
    for worker in (one, two):
        decision = await worker.admit(CLIENT)
        assert (decision.admitted, decision.blocked) == (False, True)


async def test_of_1200_requests_in_bursts_over_three_workers_exactly_1000_pass(real_store):
    workers = [Limiter(IP, real_store) for _ in range(3)]

    async def client(worker):
        return [await worker.admit(CLIENT) for _ in range(40)]

    answers = await asyncio.gather(*(client(worker) for _ in range(10) for worker in workers))
    decisions = [decision for answer in answers for decision in answer]
    assert sum(decision.admitted for decision in decisions) == 1000
    assert sum(worker.courier.calls for worker in workers) < 1200, "reservations save calls"


async def test_a_busy_event_loop_is_not_an_outage(redis_url):
    """Turns of the loop that take longer than the store's timeout must not cost exactness."""
    store = await Store.open(StoreSettings(url=redis_url, timeout=0.02))
    one, two = Limiter(IP, store), Limiter(IP, store)

    async def busy(worker):
        work(0.0001)
        decision = await worker.admit(CLIENT)
        work(0.0001)
        return decision

    decisions = await asyncio.gather(*(busy(each) for _ in range(600) for each in (one, two)))
    assert sum(decision.admitted for decision in decisions) == 1000
    assert one.counts.degraded + two.counts.degraded == 0
    await store.close()


async def test_the_quota_counts_down_and_the_window_slides(store, clock: Clock):
    worker = Limiter(OWN, store, clock=clock)
    await clock.drive(store)
    first = await worker.admit(CLIENT)
    assert first == Decision(OWN, True, 29, 60, False, 0)
    await clock.advance(59_001)
    assert [each.remaining for each in await admit(worker, 3)] == [28, 27, 26]
    await clock.advance(999)
    assert (await worker.admit(CLIENT)) == Decision(OWN, True, 26, 60, False, 0)


async def test_without_a_block_refused_requests_are_not_counted(store, clock: Clock):
    worker = Limiter(OWN, store, clock=clock)
    await clock.drive(store)
    await admit(worker, 30)
    for wait in (60, 59, 1):
        decisions = await admit(worker, 5)
        assert decisions == [Decision(OWN, False, 0, wait, False, wait)] * 5
        await clock.advance(1000 if wait == 60 else (wait - 1) * 1000)
    await clock.advance(1000)
    assert (await worker.admit(CLIENT)).admitted


async def test_a_block_lasts_its_time_on_every_worker_and_then_ends(store, clock: Clock):
    one, two = (Limiter(IP, store, clock=clock) for _ in range(2))
    await clock.drive(store)
    decisions = await admit(one, 1002)
    assert [each.admitted for each in decisions] == [True] * 1000 + [False] * 2
    assert decisions[1000] == Decision(IP, False, 0, 60, False, 3600)
    assert decisions[1001] == Decision(IP, False, 0, 60, True, 3600)
    await clock.advance(3_599_999)
    for worker in (one, two):
        assert (await worker.admit(CLIENT)) == Decision(IP, False, 0, 1, True, 1)
    await clock.advance(1)
    for worker in (one, two):
        assert (await worker.admit(CLIENT)).admitted


async def test_a_blocked_client_costs_redis_one_look_a_second(store, clock: Clock):
    worker = Limiter(IP, store, clock=clock)
    await clock.drive(store)
    await admit(worker, 1001)
    await landed(worker)
    calls = worker.courier.calls
    await clock.advance(999)
    for _ in range(100):
        assert at_once(worker.admit(CLIENT)).blocked
    assert worker.courier.calls == calls
    await clock.advance(1)
    assert all(each.blocked for each in await admit(worker, 100))
    assert worker.courier.calls == calls + 1
    assert at_once(worker.admit(CLIENT)).blocked


async def test_what_one_turn_of_the_loop_brings_is_one_call(store):
    worker = Limiter(OWN, store)
    buckets = [f"10.0.{n // 256}.{n % 256}" for n in range(400)]
    decisions = await asyncio.gather(*(worker.admit(each) for each in buckets * 2))
    assert all(decision.admitted for decision in decisions)
    assert worker.courier.calls == 1


async def test_a_busy_bucket_far_from_its_limit_is_served_in_process(store, clock: Clock):
    worker = Limiter(IP, store, clock=clock)
    await clock.drive(store)
    await admit(worker, 2)
    calls = worker.courier.calls
    remaining = [at_once(worker.admit(CLIENT)).remaining for _ in range(15)]
    assert remaining == list(range(997, 982, -1))
    assert worker.courier.calls == calls
    assert (await worker.admit(CLIENT)).remaining == 982, "what was used is counted"


async def test_a_reservation_is_not_used_past_its_end_and_is_given_back(store, clock: Clock):
    one, two = (Limiter(IP, store, clock=clock) for _ in range(2))
    await clock.drive(store)
    await admit(one, 2)
    assert at_once(one.admit(CLIENT)).admitted
    assert (await two.admit(CLIENT)).remaining == 1000 - 2 - 15 - 1, "it counts in full"
    await clock.advance(50)
    assert one.known(CLIENT) is None
    one.courier.give_back()
    two.courier.give_back()
    await landed(one, two)
    assert (await two.admit(CLIENT)).remaining == 1000 - 2 - 1 - 1 - 1
    assert not one._reservations


async def test_closing_gives_back_what_is_reserved(store, clock: Clock):
    one, two = (Limiter(IP, store, clock=clock) for _ in range(2))
    await clock.drive(store)
    await admit(one, 2)
    await one.close()
    assert (await two.admit(CLIENT)).remaining == 997


async def test_an_asker_near_the_limit_waits_for_another_worker_s_reservation(store, clock: Clock):
    policy = Policy("ip", 128, 60, 3600)
    one, two = (Limiter(policy, store, clock=clock) for _ in range(2))
    await clock.drive(store)
    await admit(one, 2)  # and two more are reserved
    asked = [asyncio.ensure_future(two.admit(CLIENT)) for _ in range(126)]
    await landed(two)
    assert sum(each.done() for each in asked) == 124
    at_once(one.admit(CLIENT))
    await one.close()
    decisions = await asyncio.gather(*asked)
    assert sum(each.admitted for each in decisions) == 125


async def test_who_comes_while_others_are_undecided_is_answered_too(store, clock: Clock):
    policy = Policy("ip", 128, 60, 3600)
    one, two = (Limiter(policy, store, clock=clock) for _ in range(2))
    await clock.drive(store)
    await admit(one, 2)
    await admit(two, 124)
    asked = [asyncio.ensure_future(two.admit(CLIENT))]
    await landed(two)
    asked.append(asyncio.ensure_future(two.admit(CLIENT)))
    await asyncio.sleep(0)
    two.courier.ask_again()
    await landed(two)
    await one.close()
    decisions = await asyncio.wait_for(asyncio.gather(*asked), 10)
    assert all(each.admitted for each in decisions)


async def test_a_request_that_is_left_undecided_too_long_is_decided_as_if_redis_were_away(
    store, clock: Clock
):
    policy = Policy("ip", 128, 60, 3600)
    one, two = (Limiter(policy, store, clock=clock) for _ in range(2))
    await clock.drive(store)
    await admit(one, 2)
    await admit(two, 124)
    asked = asyncio.ensure_future(two.admit(CLIENT))
    await landed(two)
    assert not asked.done()
    clock.ms += 1000  # the workers' clock alone: Redis's stands still
    assert (await asked).admitted
    assert two.counts.degraded == 1


async def test_a_client_that_left_is_counted_and_disturbs_nobody(store):
    worker = Limiter(OWN, store)
    left = asyncio.ensure_future(worker.admit(CLIENT))
    stays = asyncio.ensure_future(worker.admit(CLIENT))
    await asyncio.sleep(0)
    left.cancel()
    assert (await stays).remaining == 28


async def test_policies_do_not_share_windows(store):
    ip, own = Limiter(IP, store), Limiter(OWN, store)
    await admit(own, 31)
    assert not (await own.admit(CLIENT)).admitted
    assert (await ip.admit(CLIENT)).remaining == 999
    assert sorted(await store.client.keys("gw:*:{*}")) == [
        "gw:ip:{203.0.113.7}",
        "gw:limit:api-key:{203.0.113.7}",
    ]


async def test_the_counts_tell_admitted_refused_and_blocked(store):
    worker = Limiter(IP, store)
    await admit(worker, 1005)
    await landed(worker)
    counts = worker.counts
    assert (counts.admitted, counts.refused, counts.blocked) == (1000, 1, 4)
    assert (counts.degraded, worker.courier.calls) == (0, 2), "to ask, and to say what it has heard"


async def test_what_is_remembered_in_process_is_bounded(store, monkeypatch):
    monkeypatch.setattr(limiter, "REFUSALS_KEPT", 10)
    monkeypatch.setattr(limiter, "RESERVATIONS_KEPT", 10)
    worker = Limiter(Policy("ip", 64, 60, 60), store)
    for n in range(20):
        await admit(worker, 65, f"10.0.0.{n}")
    assert len(worker._refusals) == 10
    for n in range(20):
        await admit(worker, 2, f"10.0.1.{n}")
    assert len(worker._reservations) <= 10


async def test_the_listing_names_who_is_blocked_and_until_when(store):
    worker, own = Limiter(IP, store), Limiter(OWN, store)
    assert await worker.blocked() == []
    for bucket in (CLIENT, "2001:db8::/64"):
        await admit(worker, 1001, bucket)
    await admit(own, 31)
    listed = await worker.blocked()
    assert [each["ip"] for each in listed] == ["2001:db8::/64", CLIENT]
    for each in listed:
        assert 3590 < each["seconds_left"] <= 3600
        assert len(each["blocked_until"]) == len("2026-01-01T00:00:00")
    assert await own.blocked() == []


@pytest.mark.parametrize(
    ("bucket", "named"),
    [
        (CLIENT, CLIENT),
        (CLIENT, "::ffff:203.0.113.7"),
        ("2001:db8::/64", "2001:DB8:0:0::1"),
        ("2001:db8::/64", "2001:db8::/64"),
    ],
)
async def test_an_unblocked_address_starts_anew_on_every_worker(store, monkeypatch, bucket, named):
    monkeypatch.setattr(limiter, "REFUSAL_TRUSTED_SECONDS", 0.01)
    one, two, admin = (Limiter(IP, store) for _ in range(3))
    await admit(one, 1001, bucket)
    assert (await two.admit(bucket)).blocked
    assert await admin.unblock(named) is True
    assert [(await each.admit(bucket)).remaining for each in (one, two)] == [999, 998]
    assert await admin.unblock(named) is False


@pytest.mark.parametrize("named", ["", "nobody", "10.0.0.1/8/8", "*", "10.0.0.9"])
async def test_unblocking_who_is_not_blocked_does_nothing(store, named):
    worker = Limiter(IP, store)
    await admit(worker, 1001)
    assert await worker.unblock(named) is False
    assert len(await worker.blocked()) == 1


def test_the_header_fields_are_the_contract_s():
    assert policy_header(IP) == '"ip";q=1000;w=60'
    assert ratelimit(Decision(IP, True, 842, 17, False, 0)) == '"ip";r=842;t=17'
    assert ratelimit(Decision(IP, False, 0, 60, True, 3600)) == '"ip";r=0;t=3600'


@pytest.mark.parametrize(
    "arguments",
    [
        ("",),
        ("a:b",),
        ('x"y',),
        ("ip", 0),
        ("ip", 1, 0),
        ("ip", 1, 1, -1),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused(arguments):
    with pytest.raises(ValueError):
        Policy(*arguments, **({"requests": 1} if len(arguments) == 1 else {}))
