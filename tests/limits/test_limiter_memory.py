"""What Redis keeps of one address, in bytes of all its keys; clocks are set."""

import random

import pytest
from limits_clock import Clock, landed

from gateway.limits import Limiter, Policy

IP = Policy("ip", 1000, 60, 3600)
CLIENT = "203.0.113.199"
QUIET, BUSY = 200, 700


def poisson(number: int) -> list[int]:
    chance = random.Random(7)
    return sorted(chance.randrange(60_000) for _ in range(number))


@pytest.mark.parametrize(
    ("times", "workers", "most_bytes"),
    [
        ([0], 1, QUIET),
        ([0, 900, 30_000, 30_001, 45_000], 1, QUIET),
        ([0, 5, 10, 15, 20], 2, QUIET),
        ([n * 60 for n in range(1000)], 1, BUSY),
        ([n * n * 60 // 1000 for n in range(1000)], 1, BUSY),
        ([n // 4 * 240 + n % 4 * 15 for n in range(1000)], 2, BUSY),
        ([n // 4 * 500 + n % 4 * 15 + 190 for n in range(1000)], 1, BUSY),
        (poisson(1000), 1, BUSY),
        (poisson(1000), 4, BUSY),
    ],
    ids=[
        "one request",
        "a few",
        "a short burst",
        "1000, steady",
        "1000, ever slower",
        "1000 in fours over two workers",
        "two windows of 480 in fours, from reservations",
        "1000 at random",
        "1000 at random over four workers",
    ],
)
async def test_a_quiet_address_takes_at_most_200_bytes_and_a_busy_one_700(
    real_store, clock: Clock, times, workers, most_bytes
):
    await clock.drive(real_store)
    limiters = [Limiter(IP, real_store, clock=clock) for _ in range(workers)]
    start, used_bytes = clock.ms, []
    for at, time in enumerate(times):
        await clock.advance(start + time - clock.ms)
        for limiter in limiters:
            limiter.courier.give_back()
        await landed(*limiters)
        assert (await limiters[at % workers].admit(CLIENT)).admitted
        keys = await real_store.client.keys(f"*{CLIENT}*")
        used_bytes.append(sum([await real_store.client.memory_usage(key) for key in keys]))
    assert 0 < max(used_bytes) <= most_bytes
    assert 0 < await real_store.client.pttl(keys[0]) <= 61_000, "an idle address vanishes"
