"""Several limiters on one store, against the truth about every request; all clocks are set.

Calls are let through before a clock moves, so each request's moment is known. Retries and the
giving back of reservations happen when the test says so.
"""

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits_clock import Clock, landed

from gateway.limits import Limiter, Policy, lease

CLIENT = "203.0.113.7"


STEPS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 40)), min_size=1, max_size=4),
        st.sampled_from([0, 1, 5, 20, 49, 50, 51, 59_949, 59_999, 60_000, 60_001]),
        st.integers(0, 3),
    ),
    max_size=12,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=STEPS,
    block=st.sampled_from([0, 10, 3600]),
    allowed_share=st.sampled_from([lease.ALLOWED_SHARE, 32, 8]),
)
async def test_workers_together_admit_what_the_exact_log_allows(
    store, clock: Clock, patient, monkeypatch, steps, block, allowed_share
):
    monkeypatch.setattr(lease, "ALLOWED_SHARE", allowed_share)
    await store.client.flushall()
    await clock.drive(store)
    policy = Policy("ip", 128, 60, block)
    workers = [Limiter(policy, store, clock=clock) for _ in range(3)]
    world = World(clock, policy)
    for bursts, pause, who_gives_back in steps:
        for worker, number in bursts:
            for _ in range(number):
                world.start(workers[worker])
        await landed(*workers)
        world.check()
        await clock.advance(min(pause, 50))
        for at, worker in enumerate(workers):
            if pause > 50 or at == who_gives_back:  # a worker that stands still is not told of here
                worker.courier.tell_now()
                worker.courier.give_back()
        await landed(*workers)
        world.check()
        await clock.advance(pause - min(pause, 50))
        for worker in workers:
            worker.courier.ask_again()
        await landed(*workers)
        world.check()
    await clock.advance(50)
    for worker in workers:
        await worker.close()
    await clock.advance(1000)
    for worker in workers:
        worker.courier.ask_again()
    await landed(*workers)
    world.check()
    assert not world.under_way, "nothing is out, and still undecided"


async def test_a_client_at_a_steady_990_a_minute_over_four_workers_is_never_refused(
    real_store, clock: Clock, patient
):
    policy = Policy("ip", 1000, 60, 3600)
    await clock.drive(real_store)
    workers = [Limiter(policy, real_store, clock=clock) for _ in range(4)]
    began = clock.ms
    for number in range(3 * 990):
        await clock.advance(began + number * 60_000 // 990 - clock.ms)
        worker = workers[number % 4]
        asked = asyncio.ensure_future(worker.admit(CLIENT))
        for each in workers:
            each.courier.give_back()
        await landed(*workers)
        assert asked.done(), f"the request {number} waits"
        assert asked.result().admitted, f"the request {number} was refused"


class World:
    """The truth about one bucket: when each request was admitted or refused."""

    def __init__(self, clock: Clock, policy: Policy) -> None:
        self.clock = clock
        self.policy = policy
        self.admitted: list[int] = []
        self.refused: list[int] = []
        self.blocked: list[int] = []
        self.under_way: set[asyncio.Task[None]] = set()

    def start(self, worker: Limiter) -> None:
        task = asyncio.ensure_future(self._request(worker))
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def _request(self, worker: Limiter) -> None:
        decision = await worker.admit(CLIENT)
        refusals = self.blocked if decision.blocked else self.refused
        (self.admitted if decision.admitted else refusals).append(self.clock.ms)

    def check(self) -> None:
        now = self.clock.ms
        window = sum(now - 60_000 < time <= now for time in self.admitted)
        assert window <= 128, "one too many"
        if now in self.refused:
            assert window == 128, "refused who has not exceeded"
        if now in self.blocked:
            length = self.policy.block * 1000
            assert any(now - length < time for time in self.refused), "blocked who is not"
