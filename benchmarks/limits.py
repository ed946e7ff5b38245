"""What limits cost: throughput beside none, calls to Redis and memory there, the price of a 429.

    make bench-limits      (or: .venv/bin/python benchmarks/limits.py [--rounds 5] [--seconds 3])

A public route on one worker, asked for by 1, 100 and 100,000 addresses in turn (`X-Forwarded-For`
from a trusted proxy, which wrk is), with the limiter on a real Redis and, on another gateway with
all else alike, with `rate_limit: {enabled: false}`. Here the limit is so far away that nobody is
refused. A third gateway has the shipped limit: there one address is blocked, and the speed of its
429s is compared with that of the public route's 200s. One core carries the gateways, of which one
at a time has something to do; the other carries wrk, the backend (nginx) and Redis.

Measurements are interleaved, and a round's two follow each other: what counts is the median of the
rounds' ratios. Memory is what MEMORY USAGE says of all keys of one address, with clocks that are
set: a busy address has sent all that the shipped limit allows.

Exits with 1 when a target is missed. Everything listens on 127.0.0.1, is bounded in time, and is
ended by its process id.
"""

import argparse
import asyncio
import re
import statistics
import sys
import time
import urllib.request
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

sys.path.append(str(Path(__file__).parents[1] / "tests/limits"))

from bench.gateways import Proxy
from bench.load import CONNECTIONS, HttpLoad, addresses_file
from bench.machine import PROXY_CORE, cpu_seconds, free_port, process, require, wait_for
from bench.servers import BODY_BYTES, folder_with_answer, nginx_server, redis_server
from limits_clock import CLOCK, Clock, landed

from gateway.limits import Limiter, Policy, courier
from gateway.sections import StoreSettings
from gateway.store.redis import Store

THROUGHPUT_TARGET, BLOCKED_TARGET = 0.85, 1.0
QUIET_BYTES, BUSY_BYTES = 200, 700
SHIPPED = Policy("ip", 1000, 60, 3600)
DEGRADED = re.compile(
    r'^gateway_limiter_decisions_total\{.*decision="degraded".*\} (.+)$', re.MULTILINE
)
STEP_MS = 50  # how often busy workers give back what they have reserved
PATIENCE_SECONDS = 10.0
OTHER_KEYS = 1  # the layout's version

HEADING = (
    "     requests a second  {:>7} {:>7}   median of the ratios          CPU µs each   Redis, "
    "for a request"
)


@dataclass(frozen=True)
class Stage:
    folder: Path
    ports: dict[str, int]  # of the gateways, by what they do
    admin_ports: dict[str, int]
    workers: dict[str, int]  # their process ids

    def load(self, addresses: int, status: int = 200) -> HttpLoad:
        """From so many addresses in turn."""
        turns = (("X-Forwarded-For", addresses_file(self.folder, addresses)),)
        return HttpLoad("/klines", status, turns=turns, warm_requests=SHIPPED.requests + 1)

    def degraded(self, gateway: str) -> int:
        """Decisions without Redis, as the metrics have it, which may be a second old."""
        url = f"http://127.0.0.1:{self.admin_ports[gateway]}/metrics"
        with urllib.request.urlopen(url) as answer:
            found = DEGRADED.findall(answer.read().decode())
        return sum(round(float(number)) for number in found)


@dataclass
class Spent:
    """Of Redis, on the limiter's behalf; and how often there was none, for this benchmark."""

    calls: int = 0
    microseconds: float = 0.0
    degraded: int = 0
    requests: int = 0

    @classmethod
    def until_now(cls, client: redis.Redis, stage: Stage, gateway: str) -> "Spent":
        stats: Any = client.info("commandstats")
        calls = [stats.get(f"cmdstat_{name}", {}) for name in ("eval", "evalsha")]
        return cls(
            sum(each.get("calls", 0) for each in calls),
            sum(each.get("usec", 0) for each in calls),
            stage.degraded(gateway),
        )

    def add(self, before: "Spent", after: "Spent", requests: int) -> None:
        self.calls += after.calls - before.calls
        self.microseconds += after.microseconds - before.microseconds
        self.degraded += after.degraded - before.degraded
        self.requests += requests

    def __str__(self) -> str:
        asked = f"{self.calls / self.requests:.3f} calls, "
        taken = f"{self.microseconds / self.requests:.1f} µs"
        return f"{asked}{taken}; {self.degraded / self.requests:.1%} decided without it"


def serving(folder: Path, name: str, config: str, backend: int) -> AbstractContextManager[int]:
    """A gateway with these settings, and one public route to the port `backend`."""
    (folder / "routes.yaml").write_text(
        f"""
version: 1
upstreams: {{backend: {{targets: ["http://127.0.0.1:{backend}"]}}}}
routes: [{{name: klines, path: "/{{rest...}}", auth: public, upstream: backend}}]
"""
    )
    (folder / f"{name}.yaml").write_text(config)
    serve = [sys.executable, "-m", "gateway", "serve", "--config", str(folder / f"{name}.yaml")]
    serve += ["--routes", str(folder / "routes.yaml")]
    return process(PROXY_CORE, *serve, log=folder / f"{name}.log")


def worker_of(pid: int) -> int:
    (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(worker)


def measured(
    stage: Stage, gateway: str, addresses: int, seconds: int, *, refusals: bool
) -> tuple[int, float, float]:
    """How many requests, all admitted or all refused; how many a second; CPU seconds of each."""
    worker = [stage.workers[gateway]]
    before = cpu_seconds(worker)
    load = stage.load(addresses, 429 if refusals else 200)
    found = load.run(Proxy(stage.ports[gateway], ()), stage.folder, seconds)
    requests, rate = found["requests"], found["requests"] / found["microseconds"] * 1e6
    return requests, rate, (cpu_seconds(worker) - before) / requests


def compare(
    stage: Stage,
    client: redis.Redis,
    label: str,
    sides: tuple[tuple[str, bool], tuple[str, bool]],
    addresses: int,
    options: argparse.Namespace,
    target: float,
) -> bool:
    """Is the first side's speed at least `target` times the other's? Prints a row."""
    ratios, rates, cpus, spent = [], [], [], Spent()
    for at in range(options.rounds):
        pair, cpu = {}, {}
        for side in sides if at % 2 else sides[::-1]:
            gateway, refusals = side
            before = Spent.until_now(client, stage, gateway)
            requests, pair[side], cpu[side] = measured(
                stage, gateway, addresses, options.seconds, refusals=refusals
            )
            if side == sides[0]:
                spent.add(before, Spent.until_now(client, stage, gateway), requests)
        rates.append([pair[side] for side in sides])
        cpus.append([cpu[side] for side in sides])
        ratios.append(rates[-1][0] / rates[-1][1])
    one, other = (statistics.median(column) for column in zip(*rates, strict=True))
    one_cpu, other_cpu = (statistics.median(column) * 1e6 for column in zip(*cpus, strict=True))
    ratio = statistics.median(ratios)
    spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
    print(
        f"{verdict(ratio >= target)} {label:<18} {one:>7,.0f} {other:>7,.0f}   {ratio:.2f} "
        f"({spread}, at least {target:.2f})   {one_cpu:>4.0f} {other_cpu:>4.0f}   {spent}",
        flush=True,
    )
    return ratio >= target


def verdict(holds: object) -> str:
    return "ok  " if holds else "NOT "


def speeds(stage: Stage, client: redis.Redis, options: argparse.Namespace) -> bool:
    print(f"a public route, {BODY_BYTES} B, {CONNECTIONS} connections")
    print(HEADING.format("limited", "without"))
    met = True
    for addresses in (1, 100, 100_000):
        label = f"{addresses:,} address{'es' if addresses > 1 else ''}"
        sides = (("limited", False), ("unlimited", False))
        met &= compare(stage, client, label, sides, addresses, options, THROUGHPUT_TARGET)
    print(HEADING.format("429s", "200s"))
    sides = (("shipped", True), ("limited", False))
    return met & compare(stage, client, "1 blocked", sides, 1, options, BLOCKED_TARGET)


# Memory.

Pattern = list[tuple[float, int]]  # at such a second of the window, so many requests


def evenly(requests: int) -> Pattern:
    return [(at * 60 / requests, 1) for at in range(requests)]


def in_twenties(requests: int) -> Pattern:
    """As pages load."""
    return [(at * 60 / requests, 20) for at in range(0, requests, 20)]


MEMORY: tuple[tuple[str, Pattern, int, int], ...] = (
    ("1 request", [(0, 1)], 1, QUIET_BYTES),
    ("10 requests, evenly", evenly(10), 4, QUIET_BYTES),
    ("1,000 requests, evenly, one worker", evenly(1000), 1, BUSY_BYTES),
    ("1,000 requests, evenly, four workers", evenly(1000), 4, BUSY_BYTES),
    ("1,000 requests, twenty at a time, four workers", in_twenties(1000), 4, BUSY_BYTES),
    ("1,000 requests at once", [(0, 1000)], 1, BUSY_BYTES),
    ("1,001 requests: blocked", [(0, 1001)], 1, BUSY_BYTES),
)


async def memory(url: str) -> bool:
    store = await Store.open(StoreSettings(url=url, timeout=2.0))
    print("\nbytes in Redis for an address, all of its keys; the most at any moment of its window")
    met = await vanishes(store)
    courier.CLOCK = CLOCK
    clock = Clock()
    await clock.drive(store)
    for number, (label, pattern, workers, target) in enumerate(MEMORY):
        most = await most_bytes(store, clock, f"203.0.113.{100 + number}", pattern, workers)
        print(f"{verdict(most <= target)} {label:<48} {most:>5} (at most {target})")
        met &= most <= target
    await store.close()
    return met


async def most_bytes(
    store: Store, clock: Clock, bucket: str, pattern: Pattern, workers: int
) -> int:
    """Let workers take turns with what comes; the most that Redis held of it."""
    limiters = [Limiter(SHIPPED, store, clock=clock) for _ in range(workers)]
    began, most = clock.ms, 0
    for turn, (second, number) in enumerate(pattern):
        while (left := began + round(second * 1000) - clock.ms) > 0:
            await clock.advance(min(left, STEP_MS))
            for each in limiters:
                each.courier.give_back()
            await landed(*limiters)
        worker = limiters[turn % workers]
        await asyncio.gather(*(worker.admit(bucket) for _ in range(number)))
        most = max(most, await bytes_of(store, bucket))
    return most


async def bytes_of(store: Store, bucket: str) -> int:
    names = [name async for some in store.scan(f"*{bucket}*") for name in some]
    return sum([await store.client.memory_usage(name) for name in set(names)])


async def vanishes(store: Store) -> bool:
    """Does Redis forget 5,000 addresses when their window of a second is over?"""
    limits = Limiter(Policy("short", 100, 1, 1), store)
    await asyncio.gather(*(limits.admit(f"10.1.{n >> 8}.{n & 255}") for n in range(5000)))
    await limits.close()
    deadline = time.monotonic() + PATIENCE_SECONDS
    there = await store.client.dbsize()
    while (left := await store.client.dbsize()) > OTHER_KEYS and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    holds = left <= OTHER_KEYS < there
    print(f"{verdict(holds)} {'5,000 addresses: keys then, and when all are idle':<48}", end="")
    print(f" {there - OTHER_KEYS:>5} and {left - OTHER_KEYS}")
    return holds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    options = parser.parse_args()
    require("nginx", "wrk", "redis-server", "taskset")
    with folder_with_answer() as folder:
        sys.exit(not measure(folder, options))


def measure(folder: Path, options: argparse.Namespace) -> bool:
    backend, redis_port = free_port(), free_port()
    limits = {
        "limited": "{requests: 1000000000}",
        "unlimited": "{enabled: false}",
        "shipped": "{}",
    }
    ports, admin_ports = ({name: free_port() for name in limits} for _ in range(2))
    stage = Stage(folder, ports, admin_ports, {})
    with ExitStack() as stack:
        client = stack.enter_context(redis_server(folder, redis_port))
        stack.enter_context(nginx_server(folder, "backend", backend))
        for name, limit in limits.items():
            config = f"""
listen: {{host: 127.0.0.1, port: {stage.ports[name]}}}
admin: {{port: {admin_ports[name]}}}
store: {{url: "redis://127.0.0.1:{redis_port}/0", prefix: {name}}}
client_ip: {{trusted_proxies: [127.0.0.0/8]}}
rate_limit: {limit}
"""
            arbiter = stack.enter_context(serving(folder, name, config, backend))
            wait_for(f"http://127.0.0.1:{stage.ports[name]}/health")
            stage.workers[name] = worker_of(arbiter)
            # Which blocks its address where the limit is the shipped one.
            stage.load(1).warm_up(Proxy(stage.ports[name], ()), folder)
        met = speeds(stage, client, options)
        return asyncio.run(memory(f"redis://127.0.0.1:{redis_port}/1")) and met


if __name__ == "__main__":
    main()
