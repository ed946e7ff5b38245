"""A flood of plan keys that nobody has: what it costs Redis, and what a worker's memory grows by.

    .venv/bin/python benchmarks/key_flood.py [--keys 200000]

So many keys of the right form, each new, asked for at one worker on a real Redis; then as many
whose checksum is wrong. Before and after, one key that is good. Refused are all but that one. The
limit per address is off, as if the flood came from many. Lookups and reads (how often Redis took
something from a connection: round trips) are Redis's own counts.

It holds, or the exit code is 1: a key costs at most one lookup, batched with others; with a wrong
checksum none; the second half of the keys adds next to nothing to the memory, since what is
remembered is bounded; and the good key was not forgotten for the others. Everything listens on
127.0.0.1, is bounded in time, and is ended by its process id.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/faults")]

import redis  # noqa: E402
import uvloop  # noqa: E402
from gateway_process import GatewayProcess  # noqa: E402
from redis_process import RedisProcess  # noqa: E402
from resident import resident_bytes_of  # noqa: E402

from gateway.demo.scale_load import Connection  # noqa: E402
from gateway.store.keys import new_key  # noqa: E402

MIB = 1 << 20
MOST_GROWTH = 4 * MIB  # of the second half of the keys
CONNECTIONS = 32


async def ask_all(port: int, keys: Iterable[str]) -> Counter[int]:
    """Ask once with each key; how often each status came."""
    statuses: Counter[int] = Counter()
    loop = asyncio.get_running_loop()
    left = iter(keys)

    async def one_after_the_other() -> None:
        _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
        for key in left:
            head = f"GET /paid HTTP/1.1\r\nHost: a\r\nX-Primit-API-Key: {key}\r\n\r\n"
            statuses[await connection.ask(head.encode())] += 1
        connection.close()

    await asyncio.gather(*(one_after_the_other() for _ in range(CONNECTIONS)))
    return statuses


@dataclass
class Stage:
    gateway: GatewayProcess
    redis: redis.Redis
    good: str

    def counts(self) -> tuple[int, int]:
        """Lookups and reads of Redis, until now."""
        commands: Any = self.redis.info("commandstats")
        stats: Any = self.redis.info("stats")
        lookups = commands.get("cmdstat_hgetall", {"calls": 0})["calls"]
        return lookups, stats["total_reads_processed"]

    def resident(self) -> int:
        (worker,) = self.gateway.workers().values()
        return resident_bytes_of(worker)

    def flood(self, keys: list[str]) -> "Cost":
        """Ask for all of them once."""
        before, resident, began = self.counts(), self.resident(), time.monotonic()
        statuses = uvloop.run(ask_all(self.gateway.port, keys))
        seconds = time.monotonic() - began
        if statuses != {401: len(keys)}:
            raise SystemExit(f"not all were refused: {statuses}")
        lookups, reads = (now - then for now, then in zip(self.counts(), before, strict=True))
        growth = self.resident() - resident
        return Cost(len(keys) / seconds, lookups / len(keys), reads / len(keys), growth)

    def is_good(self) -> bool:
        """Does the good key open the route?"""
        (status,) = uvloop.run(ask_all(self.gateway.port, [self.good]))
        return status in (502, 503)  # it passed: there is no backend


@dataclass
class Cost:
    rate: float
    lookups: float
    reads: float
    growth: int

    def __str__(self) -> str:
        return (
            f"{self.rate:>9,.0f} {self.lookups:>12.3f} {self.reads:>12.3f} "
            f"{self.growth / MIB:>11.1f}"
        )


def with_wrong_checksum(key: str) -> str:
    return key[:-1] + ("1" if key[-1] == "0" else "0")


def measure(stage: Stage, number: int) -> bool:
    assert stage.is_good()
    keys = [new_key() for _ in range(number)]
    half = number // 2
    print(f"{'':<28} {'refused/s':>9} {'lookups/key':>12} {'reads/key':>12} {'memory, MB':>11}")
    first, second = stage.flood(keys[:half]), stage.flood(keys[half:])
    lookups, _ = stage.counts()
    still = stage.is_good()
    forgotten = stage.counts()[0] - lookups
    wrong = stage.flood([with_wrong_checksum(key) for key in keys[:half]])
    for label, cost in (
        (f"{half:,} keys of the right form", first),
        (f"{half:,} more", second),
        (f"{half:,} with a wrong checksum", wrong),
    ):
        print(f"{label:<28} {cost}")
    verdicts = {
        "a key of the right form costs at most one lookup": max(first.lookups, second.lookups) <= 1,
        "lookups go together: fewer reads than keys": max(first.reads, second.reads) < 1,
        "a wrong checksum costs no lookup": wrong.lookups == 0,
        "memory is bounded: the second half adds next to nothing": second.growth < MOST_GROWTH,
        "the good key still opens the route": still,
        "and was not looked up again": not forgotten,
    }
    for verdict, holds in verdicts.items():
        print(f"{'ok  ' if holds else 'NOT '} {verdict}")
    return all(verdicts.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keys", type=int, default=200_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = RedisProcess(folder)
        server.start()
        try:
            sys.exit(not run(folder, server, options.keys))
        finally:
            server.kill()


def run(folder: Path, server: RedisProcess, number: int) -> bool:
    paid = {"name": "paid", "path": "/paid", "auth": "plan_key", "plan": "standard"}
    routes = {
        "version": 1,
        "upstreams": {"backend": {"targets": ["http://127.0.0.1:9"]}},
        "routes": [{**paid, "upstream": "backend"}],
    }
    config = {
        "listen": {"host": "127.0.0.1"},
        "store": {"url": server.url, "timeout": 2},  # this machine's business is no outage
        "rate_limit": {"enabled": False},
        "bounds": {"requests_per_connection": 1_000_000_000},
    }
    with GatewayProcess(folder / "gateway", routes=routes, config=config) as gateway:
        gateway.start()
        issued = gateway.result("keys", "issue", "--user", "42", "--name", "good")
        plan = ("--user", "42", "--plan", "standard", "--until", "2999-01-01")
        gateway.result("plans", "set", *plan)
        with server.client() as client:
            return measure(Stage(gateway, client, issued["key"]), number)


if __name__ == "__main__":
    main()
