"""What one decision of the limiter costs, in microseconds of this process's time.

    python benchmarks/limiter.py [seconds per row]

Starts a redis-server of its own on a free port of 127.0.0.1 and ends it. "Batched" is a request
that may have to wait for Redis; 32 of them at a time, as 32 busy connections bring them. "A call"
is how many requests one call to Redis decided on.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import uvloop
from bench.machine import free_port
from bench.servers import redis_server

from gateway.limits import ClientAddresses, Limiter, Policy, courier, limiter, ratelimit
from gateway.limits.local import LocalWindows
from gateway.sections import ClientIpSettings, StoreSettings
from gateway.store.redis import Store

TOGETHER = 32
CLIENT = "203.0.113.7"
UNREACHED = Policy("ip", 1_000_000_000, 60, 3600)
IP = Policy("ip", 1000, 60, 3600)


def row(name: str, number: int, seconds: float, calls: int = 0) -> None:
    a_call = f"{number / calls:8.1f}" if calls else "        "
    print(f"{name:<58}{seconds / number * 1e6:9.2f} µs {a_call}  {number / seconds:12,.0f}/s")


def synchronous(name: str, call: Callable[[], object], seconds: float) -> None:
    number, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        for _ in range(1000):
            call()
        number += 1000
    row(name, number, spent)


def at_once(coroutine) -> None:
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it suspended")


async def batched(
    name: str, worker: Limiter, buckets: list[str], seconds: float, together: int = TOGETHER
) -> None:
    turn = cycle(buckets)
    number, calls, started = 0, worker.courier.calls, time.perf_counter()
    end = started + seconds

    async def connection() -> None:
        nonlocal number
        while time.perf_counter() < end:
            await worker.admit(next(turn))
            number += 1

    await asyncio.gather(*(connection() for _ in range(together)))
    row(name, number, time.perf_counter() - started, worker.courier.calls - calls)


async def measure(url: str, seconds: float) -> None:
    store = await Store.open(StoreSettings(url=url, timeout=2.0))
    print(f"{'':<58}{'each':>12} {'a call':>8}  {'':>14}")

    worker = Limiter(UNREACHED, store)
    courier.RESERVED_SECONDS, limiter.RESERVED_MOST = 3600, 10**9
    reserving = Limiter(Policy("ip", 10**12, 60, 0), store)
    await asyncio.gather(reserving.admit(CLIENT), reserving.admit(CLIENT))
    synchronous("from a reservation", lambda: at_once(reserving.admit(CLIENT)), seconds)
    await reserving.close()
    courier.RESERVED_SECONDS, limiter.RESERVED_MOST = 0.05, 256

    limiter.REFUSAL_TRUSTED_SECONDS = 3600
    blocking = Limiter(IP, store)
    await asyncio.gather(*(blocking.admit("203.0.113.8") for _ in range(1001)))
    synchronous("blocked, remembered", lambda: at_once(blocking.admit("203.0.113.8")), seconds)

    windows = LocalWindows(UNREACHED)
    synchronous("Redis away, local", lambda: windows.admit(CLIENT, time.monotonic()), seconds)
    addresses = ClientAddresses(ClientIpSettings())
    synchronous(
        "address and bucket, no proxies",
        lambda: addresses.bucket(addresses.resolve(CLIENT, None)),
        seconds,
    )
    decision = await worker.admit(CLIENT)
    synchronous("RateLimit header text", lambda: ratelimit(decision), seconds)

    many = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(100_000)]
    await batched("batched, one at a time, 100,000 buckets", worker, many, seconds, 1)
    await batched("batched, 32 together, 1 bucket (with reservations)", worker, many[:1], seconds)
    await batched(
        "batched, 32 together, 100 buckets (with reservations)", worker, many[:100], seconds
    )
    await batched("batched, 32 together, 100,000 buckets", worker, many, seconds)
    await worker.close()
    limiter.RESERVED_MOST = 0
    worker = Limiter(UNREACHED, store)
    await batched("batched, 32 together, 1 bucket, no reservations", worker, many[:1], seconds)
    await batched("batched, 32 together, 100 buckets, no reservations", worker, many[:100], seconds)
    await worker.close()
    await store.close()


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder), port):
        uvloop.run(measure(f"redis://127.0.0.1:{port}/0", seconds))


if __name__ == "__main__":
    main()
