"""window.lua against an exact sliding log, on fakeredis and on real Redis, with a clock of its own.

Times are milliseconds. The oracle knows when every request was truly admitted; the script knows
only what workers tell it.
"""

from dataclasses import dataclass, field

import fakeredis
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.limits.courier import WINDOW as WINDOW_SCRIPT

WINDOW = 60_000
VALID, FORGET = 50, 1000
ADMITTED, EXCEEDED, UNDECIDED, BLOCKED = range(4)
CLOCK = "local clock = tonumber(redis.call('GET', 'test:clock'))\n"

NO_LEASE = (0, 0, 0)

SETTINGS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(params=["memory", "redis"])
def client(request):
    if request.param == "memory":
        return fakeredis.FakeRedis(decode_responses=True)
    return redis.Redis.from_url(request.getfixturevalue("redis_url"), decode_responses=True)


@dataclass
class Reservation:
    granted_at: int
    size: int
    ends: int
    used: int = 0


@dataclass
class World:
    """Some workers, one bucket, and the truth about it."""

    client: redis.Redis
    requests: int = 12
    grant: int = 3
    block: int = 0
    unit: int = 1
    wait: int = 0
    now: int = 1_700_000_000_000
    truth: list[int] = field(default_factory=list)
    reservations: dict[int, Reservation] = field(default_factory=dict)
    granted_last: int = 0
    blocked_until: int = 0

    def __post_init__(self):
        self.client.delete("w", "b")
        self.script = self.client.register_script(CLOCK + WINDOW_SCRIPT)

    def in_window(self) -> int:
        return sum(self.now - WINDOW < time <= self.now for time in self.truth)

    def advance(self, milliseconds: int) -> None:
        """Pass time. Living workers give back what they used before it is forgotten."""
        for worker, held in list(self.reservations.items()):
            if held.used and self.now + milliseconds - held.granted_at >= FORGET:
                self.ask(worker, 0)
        self.now += milliseconds

    def ask(
        self, worker: int, asked: int, travelled: int = 0, weight: int = 1
    ) -> tuple[int, int, int]:
        """Ask for requests, give back the worker's reservation; returns the first three numbers."""
        held = self.reservations.pop(worker, Reservation(0, 0, 0))
        self.client.set("test:clock", self.now)
        answer = self.script(
            keys=["w", "b"] if self.block else ["w"],
            args=(
                *(VALID, FORGET, "worker", 1),
                *(self.requests, WINDOW, self.unit, self.block, self.grant, *NO_LEASE),
                *(1, asked, weight, held.granted_at, held.size, held.used),
            ),
        )
        admitted, verdict, remaining, wait, reserved, granted_at = answer
        assert 0 <= admitted <= asked
        self.truth += [self.now] * admitted * weight
        assert self.in_window() <= self.requests, "one too many"
        if verdict == EXCEEDED:
            excess = self.in_window() + weight - self.requests
            assert excess > 0, "refused who has not exceeded"
            assert admitted < asked
            assert wait > 0
            inside = sorted(time for time in self.truth if time > self.now - WINDOW)
            if self.block:
                assert wait == self.block
                self.blocked_until = self.now + self.block
            elif weight <= self.requests:
                assert wait <= inside[excess - 1] + WINDOW - self.now, "would refuse for too long"
        elif verdict == BLOCKED:
            assert self.now < self.blocked_until, "blocked who is not"
            assert wait == self.blocked_until - self.now
        elif verdict == UNDECIDED:
            lent = self.granted_last > self.now - WINDOW - FORGET
            assert lent or self.unit > 1, "waits for nothing"
            self.wait = wait
        else:
            assert admitted == asked
            assert remaining <= self.requests - self.in_window(), "promised too much"
            assert self.now >= self.blocked_until, "admitted while blocked"
        if reserved:
            self.granted_last = self.now
            ends = self.now - travelled + VALID
            self.reservations[worker] = Reservation(granted_at, reserved, ends)
        return admitted, verdict, remaining

    def use(self, worker: int, number: int) -> None:
        held = self.reservations.get(worker)
        for _ in range(number):
            if held and held.used < held.size and self.now < held.ends:
                held.used += 1
                self.truth.append(self.now)
                assert self.in_window() <= self.requests, "one too many from a reservation"

    def lose(self, worker: int) -> None:
        """A worker dies. (Had it used its reservation, those requests would be lost with it.)"""
        if worker in self.reservations and not self.reservations[worker].used:
            del self.reservations[worker]


PAUSES = st.one_of(
    st.sampled_from(
        [0, 1, 10, 49, 50, 51, 999, 1000, 1001, 30_000, 59_949, 59_999, 60_000, 60_001]
    ),
    st.sampled_from([4_999, 5_000, 3_600_000]),
    st.integers(0, 70),
    st.integers(0, 61_000),
)
WORKERS = st.integers(0, 2)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), PAUSES),
        st.tuples(st.just("ask"), WORKERS, st.integers(0, 14), st.integers(0, 20)),
        st.tuples(st.just("ask"), WORKERS, st.integers(1, 3), st.just(0)),
        st.tuples(st.just("ask"), WORKERS, st.integers(1, 3), st.just(0), st.integers(2, 40)),
        st.tuples(st.just("use"), WORKERS, st.integers(1, 4)),
        st.tuples(st.just("lose"), WORKERS),
    ),
    max_size=60,
)


@SETTINGS
@given(
    steps=STEPS,
    requests=st.integers(6, 30),
    block=st.sampled_from([0, 5_000, 3_600_000]),
    unit=st.sampled_from([1, 7, 200]),
)
def test_whatever_the_order_never_one_too_many_and_never_a_wrong_refusal(
    client, steps, requests, block, unit
):
    world = World(client, requests=requests, block=block, unit=unit)
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
    for worker in list(world.reservations):
        world.ask(worker, 0)
    world.advance(FORGET)
    world.advance(FORGET)
    waited = 0
    while world.ask(0, 1)[1] == UNDECIDED:
        assert world.wait > 0, "nothing is out, and still asked again and again"
        waited += world.wait
        world.advance(world.wait)
    assert waited <= 3 * unit + FORGET if unit > 1 else not waited


@SETTINGS
@given(
    steps=st.lists(st.tuples(PAUSES, st.integers(1, 9)), max_size=40), requests=st.integers(1, 9)
)
def test_without_reservations_each_answer_is_the_sliding_log_s(client, steps, requests):
    world = World(client, requests=requests, grant=0)
    for pause, asked in steps:
        world.advance(pause)
        expected = min(asked, requests - world.in_window())
        verdict = ADMITTED if expected == asked else EXCEEDED
        left = requests - world.in_window() - expected
        assert world.ask(0, asked) == (expected, verdict, left)


@pytest.mark.parametrize(
    ("after", "admitted"), [(59_999, 0), (60_000, 5), (60_001, 5)], ids=["inside", "edge", "past"]
)
def test_a_request_leaves_the_window_when_it_is_sixty_seconds_old(client, after, admitted):
    world = World(client, requests=5, grant=0)
    assert world.ask(0, 5)[:2] == (5, ADMITTED)
    world.advance(after)
    assert world.ask(0, 5)[0] == admitted


def test_what_a_dead_worker_held_is_free_again_after_a_second(client):
    world = World(client, requests=12, grant=3)
    world.ask(0, 3)
    world.lose(0)
    world.advance(FORGET - 1)
    assert world.ask(1, 9)[:2] == (6, UNDECIDED)
    world.advance(1)
    assert world.ask(1, 3)[:2] == (3, ADMITTED)
    assert world.ask(1, 1)[:2] == (0, EXCEEDED)


def test_an_asker_waits_while_another_worker_s_reservation_is_out(client):
    world = World(client, requests=12, grant=3, block=3_600_000)
    world.ask(0, 3)
    world.use(0, 1)
    assert world.ask(1, 9)[:2] == (6, UNDECIDED)
    world.ask(0, 0)  # gives back two of three
    assert world.ask(1, 3)[:2] == (2, EXCEEDED)
    assert world.ask(1, 1)[:2] == (0, BLOCKED)


def test_two_reservations_of_one_millisecond_are_two(client):
    world = World(client, requests=24, grant=3)
    world.ask(0, 2)
    world.ask(1, 2)
    assert world.reservations[0].granted_at == world.reservations[1].granted_at
    assert world.ask(0, 0)[2] == 24 - 4 - 3
    assert world.ask(1, 0)[2] == 24 - 4


def test_a_refusal_lasts_no_longer_than_the_earliest_time_of_what_is_doubtful(client):
    world = World(client, requests=12, grant=3)
    world.ask(0, 2)
    world.advance(10)
    world.ask(1, 1)
    world.use(0, 3)  # the earliest these can be is with the first two
    world.advance(30)
    world.ask(1, 4)
    world.ask(0, 0)
    world.advance(1000)
    world.ask(1, 2)
    assert world.ask(1, 1)[1] == EXCEEDED


def test_at_the_edge_of_the_window_a_doubtful_time_makes_the_asker_wait_not_lose(client):
    world = World(client, requests=12, grant=3)
    world.ask(0, 3)
    world.use(0, 3)  # now, as the worker knows; somewhere in 40 ms, as Redis knows
    world.advance(40)
    world.ask(0, 0)
    world.ask(1, 6)
    world.advance(WINDOW - 41)
    assert world.ask(1, 1)[:2] == (0, EXCEEDED)
    world.advance(1)
    assert world.ask(1, 3)[:2] == (3, ADMITTED)  # the three that asked and are surely gone
    assert world.ask(1, 1)[:2] == (0, UNDECIDED)  # the three from the reservation
    world.advance(40)
    assert world.ask(1, 3)[:2] == (3, ADMITTED)


def test_reservations_end_at_half_the_limit_and_go_to_busy_buckets_only(client):
    world = World(client, requests=12, grant=3)
    world.ask(0, 1)
    assert not world.reservations, "a single request is not a burst"
    world.advance(VALID + 1)
    world.ask(0, 1)
    assert not world.reservations, "nor are two that far apart"
    world.ask(0, 1)
    assert world.reservations[0].size == 3
    world.ask(0, 1)
    assert not world.reservations, "4 counted and 3 reserved would be past the half"


@pytest.mark.parametrize(
    ("back", "left"), [(800, 0), (5_000, 4)], ids=["a small step", "a large step"]
)
def test_a_clock_that_steps_back_keeps_the_window_or_starts_a_new_one(client, back, left):
    world = World(client, requests=5, grant=0)
    world.ask(0, 5)
    world.now -= back
    world.truth = [world.now] * 5 if not left else []
    assert world.ask(0, 1)[2] == left


def test_what_is_given_back_amid_a_block_shorter_than_the_window_counts_after_it(client):
    world = World(client, requests=24, block=5_000)
    for worker, asked in ((0, 5), (1, 1)):
        world.ask(worker, asked)
    world.use(1, 1)
    world.ask(0, 13)
    assert world.ask(0, 1, weight=6)[1] == EXCEEDED
    assert world.ask(1, 0)[1] == BLOCKED
    world.advance(5_000)
    assert world.ask(0, 5)[0] == 4
    assert len(world.truth) == 24


def test_many_buckets_are_decided_in_one_call_each_on_its_own(client):
    client.set("test:clock", 1_700_000_000_000)
    script = client.register_script(CLOCK + WINDOW_SCRIPT)
    numbers = list(range(1, 501))
    keys = [f"w{n}" for n in numbers]
    arguments = [VALID, FORGET, "worker", 1, 250, WINDOW, 200, 0, 0, *NO_LEASE]
    for n in numbers:
        arguments += [1, n, 1, 0, 0, 0]
    reply = script(keys=keys, args=arguments)
    assert reply[0::6] == [min(n, 250) for n in numbers]
    assert reply[1::6] == [ADMITTED if n <= 250 else EXCEEDED for n in numbers]


def test_an_idle_bucket_leaves_nothing_behind(client):
    world = World(client, requests=5, grant=0, block=3_600_000)
    world.ask(0, 5)
    assert 0 < client.pttl("w") <= WINDOW
    world.ask(0, 1)
    assert not client.exists("w"), "the block says it all"
    assert 0 < client.pttl("b") <= 3_600_000
