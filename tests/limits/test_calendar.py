"""Quotas of a day and a month (UTC), on Redis's clock, which is set; against the truth."""

import asyncio
from calendar import monthrange
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits_clock import Clock, landed
from redis_process import eventually

from gateway.limits import Decision, Limiter, Policy, policy_header
from gateway.limits.local import LocalQuotas
from gateway.sections import StoreSettings
from gateway.store.redis import Store

USER = "42"
DAY_MS = 86_400_000


def milliseconds(*moment: int) -> int:
    return round(datetime(*moment, tzinfo=UTC).timestamp() * 1000)


async def at(clock: Clock, *moment: int) -> None:
    await clock.advance(milliseconds(*moment) - clock.ms)


async def admitted(limiter: Limiter, number: int, cost: int = 1) -> int:
    return sum([(await limiter.admit(USER, cost)).admitted for _ in range(number)])


DATES = [
    *((2023, month, day) for month in range(1, 13) for day in (1, 28)),
    *((year, 2, monthrange(year, 2)[1]) for year in (2000, 2023, 2024, 2096, 2100)),
    *((year, 3, 1) for year in (2000, 2024, 2100)),
    (2024, 12, 31),
]


@pytest.mark.parametrize("date", DATES, ids=lambda date: "-".join(map(str, date)))
async def test_a_month_ends_where_the_calendar_s_does(memory_store, clock: Clock, date):
    await clock.drive(memory_store)
    await at(clock, *date, 23, 59, 58)
    year, month, day = date
    rest = monthrange(year, month)[1] - day
    limiter = Limiter(Policy("m", 9, "month"), memory_store, clock=clock)
    assert (await limiter.admit(USER)).reset == rest * 86_400 + 2
    assert await memory_store.client.pttl("gw:limit:m:{42}") <= rest * DAY_MS + 2_000 + 1_000


@pytest.mark.parametrize(
    ("window", "before", "after"),
    [
        ("day", (2026, 11, 27, 23, 59, 59), (2026, 11, 28)),
        ("month", (2026, 11, 30, 23, 59, 59), (2026, 12, 1)),
        ("month", (2026, 12, 31, 23, 59, 59), (2027, 1, 1)),
    ],
)
async def test_a_quota_begins_anew_with_its_period_and_not_before(
    store, clock: Clock, window, before, after
):
    policy = Policy("q", 3, window)
    limiter = Limiter(policy, store, clock=clock)
    await clock.drive(store)
    await at(clock, *before)
    first = await limiter.admit(USER)
    assert first == Decision(policy, True, 2, 1, False, 0)
    assert await admitted(limiter, 3) == 2
    refused = await limiter.admit(USER)
    assert refused == Decision(policy, False, 0, 1, False, 1)
    await at(clock, *after)
    assert await admitted(limiter, 4) == 3


async def test_a_quota_counts_weights_and_refuses_what_no_longer_fits(store, clock: Clock):
    limiter = Limiter(Policy("q", 12, "day"), store, clock=clock)
    await clock.drive(store)
    assert await admitted(limiter, 3, 5) == 2
    assert await admitted(limiter, 3) == 2


STEPS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 40)), min_size=1, max_size=3),
        st.sampled_from([0, 1, 20, 49, 50, 51, 990, 1000, 5_000]),
    ),
    max_size=6,
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS, start=st.integers(0, 3_000))
async def test_workers_together_admit_exactly_the_quota_on_both_sides_of_midnight(
    store, clock: Clock, patient, steps, start
):
    await store.client.flushall()
    await clock.drive(store)
    midnight = milliseconds(2026, 12, 1)
    await clock.advance(midnight - start - clock.ms)
    workers = [Limiter(Policy("q", 128, "month"), store, clock=clock) for _ in range(3)]
    truth = {True: 0, False: 0}  # admitted, by: before midnight?
    refused = {True: False, False: False}
    under_way: set[asyncio.Task[None]] = set()

    async def request(worker: Limiter) -> None:
        decision = await worker.admit(USER)
        before = clock.ms < midnight
        truth[before] += decision.admitted
        assert truth[before] <= 128, "one too many"
        refused[before] |= not decision.admitted

    async def settled() -> None:
        await landed(*workers)
        for task in [task for task in under_way if task.done()]:
            under_way.remove(task)
            task.result()

    for bursts, pause in steps:
        for worker, number in bursts:
            under_way |= {asyncio.ensure_future(request(workers[worker])) for _ in range(number)}
            await settled()
        await clock.advance(pause)
        for worker in workers:
            worker.courier.give_back()
        await settled()
        for worker in workers:
            worker.courier.ask_again()
        await settled()
    await clock.advance(1000)
    for worker in workers:
        await worker.close()
    for worker in workers:
        worker.courier.ask_again()
    await settled()
    assert not under_way, "nothing is out, and still undecided"
    for before, anybody in refused.items():
        # One worker may hear its refusal before another hears that it took the last place.
        assert not anybody or truth[before] == 128, "refused who has not exceeded"


async def test_far_from_its_end_a_busy_quota_is_lent_and_near_it_is_not(real_store, clock: Clock):
    limiter = Limiter(Policy("q", 6400, "day"), real_store, clock=clock)
    await clock.drive(real_store)
    await admitted(limiter, 1000)
    assert limiter.courier.calls < 30
    await admitted(limiter, 4000)
    calls = limiter.courier.calls
    assert await admitted(limiter, 1500) == 1400
    assert limiter.courier.calls - calls >= 1400


async def test_nothing_is_lent_over_the_end_of_a_period(store, clock: Clock):
    limiter = Limiter(Policy("q", 6400, "day"), store, clock=clock)
    await clock.drive(store)
    await clock.advance(DAY_MS - clock.ms % DAY_MS - 50)
    await admitted(limiter, 3)
    assert not limiter._reservations


async def test_a_quota_survives_a_restart_of_redis(redis_process):
    for expected in (3, 2, 0):
        store = await Store.open(StoreSettings(url=redis_process.url, timeout=2.0))
        await eventually(lambda: store.available)  # noqa: B023  # called before the next one
        limiter = Limiter(Policy("q", 5, "month"), store)
        assert await admitted(limiter, 3) == expected
        await limiter.close()
        await store.close()
        redis_process.stop()
        redis_process.start()


def test_without_redis_a_worker_counts_its_share_by_its_own_calendar():
    now = milliseconds(2024, 2, 29, 23, 59, 30) / 1000
    quota = LocalQuotas(Policy("q", 8, "month"), 2, wall_clock=lambda: now)
    policy = quota.admit(USER, 0.0, 3).policy
    assert quota.admit(USER, 0.0, 2) == Decision(policy, False, 0, 30, False, 30)
    assert quota.admit(USER, 0.0) == Decision(policy, True, 0, 30, False, 0)
    now += 30
    assert quota.admit(USER, 0.0) == Decision(policy, True, 3, 31 * 86_400, False, 0)


def test_of_too_many_users_the_quietest_are_forgotten():
    quota = LocalQuotas(Policy("q", 5, "day"), buckets=10)
    for n in range(100):
        assert quota.admit("always here", 0.0).admitted is (n < 5)
        assert quota.admit(str(n), 0.0).admitted
    assert len(quota._counts) == 10


def test_a_day_has_a_length_and_a_month_has_none():
    assert policy_header(Policy("q", 5, "day")) == '"q";q=5;w=86400'
    assert policy_header(Policy("q", 5, "month")) == '"q";q=5'
