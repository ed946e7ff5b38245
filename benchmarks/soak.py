"""Minutes of mixed traffic with everything going wrong: does anything leak?

    python benchmarks/soak.py [--seconds 600] [--json]

Two workers on a real Redis; clients that ask, upload, listen, talk by WebSocket, stall, leave and
send nonsense; backends that are killed and started again, reset, hang and answer garbage; Redis
restarts. Every few seconds each worker's resident memory and descriptors and the gauges are
sampled. Then all is quiet, and it must hold, or the exit code is 1:

- no connection is left: `gateway_connections` is 0, no busy one to a backend;
- the workers have no more descriptors than after a few seconds of warm-up (which opens files for
  metrics), idle connections and those to Redis not counted; of the latter, no more than the
  pools may keep;
- each worker's memory late in the traffic is within 5 % of that after the warm-up (median of the
  last sixth, and from the first sixth to the third);
- the gateway answered no 500 and logged no traceback, and the same workers run as at the start.

Everything runs on 127.0.0.1 for a bounded time and is ended by its process id. `--json` writes
benchmarks/results/soak.json too.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/faults")]

from backend_process import BackendProcess  # noqa: E402
from gateway_process import GatewayProcess  # noqa: E402
from redis_process import RedisProcess  # noqa: E402
from resident import descriptors_of, resident_bytes_of  # noqa: E402
from soak_clients import ACTIONS, Clients  # noqa: E402

from gateway.store.redis import CONNECTIONS  # noqa: E402

RESULTS = ROOT / "benchmarks/results/soak.json"
CLIENTS = 24  # at a time
SAMPLE_SECONDS = 3.0
WARM_UP_SECONDS = 5.0
BACKEND_RESTART_SECONDS = 20.0
REDIS_RESTART_SECONDS = 75.0
QUIET_SECONDS = 100.0  # idle connections to backends are kept for 60
GROWTH_TARGET = 0.05
REDIS_CONNECTIONS = CONNECTIONS + 1  # of a worker: its pool, and the one that hears of changes


@dataclass
class Sample:
    second: float
    resident: list[int]  # bytes, of each worker
    descriptors: list[int]
    connections: float
    active: float
    idle: float
    redis: int  # connections to it


async def break_things(
    backends: list[BackendProcess], redis: RedisProcess, end: float
) -> Counter[str]:
    """Restart a backend, and more rarely Redis, until `end`; leave all running."""
    done: Counter[str] = Counter()
    redis_at = time.monotonic() + REDIS_RESTART_SECONDS / 2
    while (now := time.monotonic()) + BACKEND_RESTART_SECONDS < end:
        await asyncio.sleep(BACKEND_RESTART_SECONDS)
        backend = backends[done["backend"] % len(backends)]
        await asyncio.to_thread(backend.kill)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(backend.start)
        done["backend"] += 1
        if now > redis_at:
            redis_at = now + REDIS_RESTART_SECONDS
            await asyncio.to_thread(redis.stop)
            await asyncio.sleep(2)
            await asyncio.to_thread(redis.start)
            done["redis"] += 1
    return done


def take_sample(gateway: GatewayProcess, redis: RedisProcess, began: float) -> Sample:
    workers = [pid for _, pid in sorted(gateway.workers().items())]
    upstreams = "gateway_upstream_connections"
    return Sample(
        time.monotonic() - began,
        [resident_bytes_of(pid) for pid in workers],
        [descriptors_of(pid) for pid in workers],
        gateway.metric("gateway_connections"),
        gateway.metric(upstreams, state="active"),
        gateway.metric(upstreams, state="idle"),
        redis_connections(redis),
    )


def redis_connections(redis: RedisProcess) -> int:
    """The gateway's sockets to it; a pool may hold one whose other end went with a restart."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    sockets = (line.split() for line in lines)
    to_redis = f":{redis.port:04X}"
    return sum(fields[2].endswith(to_redis) and fields[9] != "0" for fields in sockets)


async def watch(
    gateway: GatewayProcess, redis: RedisProcess, began: float, end: float
) -> list[Sample]:
    samples = []
    while time.monotonic() < end:
        with contextlib.suppress(AssertionError):  # a scrape that nobody answered
            samples.append(await asyncio.to_thread(take_sample, gateway, redis, began))
        await asyncio.sleep(SAMPLE_SECONDS)
    return samples


async def run(folder: Path, seconds: float) -> tuple[bool, dict[str, object]]:
    redis_folder = folder / "redis"
    redis_folder.mkdir()
    redis = RedisProcess(redis_folder, durable=True)
    backends = [BackendProcess(folder / f"backend-{number}.log") for number in range(2)]
    try:
        redis.start()
        for backend in backends:
            backend.start()
        with gateway_before(folder, backends, redis.url) as gateway:
            gateway.start(workers=2)
            return await soak(gateway, backends, redis, seconds)
    finally:
        for backend in backends:
            backend.kill()
        redis.kill()


def gateway_before(folder: Path, backends: list[BackendProcess], url: str) -> GatewayProcess:
    first, second = (backend.url for backend in backends)

    def route(name: str, auth: str = "public", upstream: str = "b", **more: object):
        path = f"/{name}/{{rest...}}"
        return {"name": name, "path": path, "auth": auth, "upstream": upstream, **more}

    routes = {
        "version": 1,
        "upstreams": {"a": {"targets": [first]}, "b": {"targets": [second]}},
        "routes": [
            route("a", upstream="a"),
            route("b"),
            route("short", timeout={"read": 1}),
            route("ws", websocket=True),
            route("paid", "plan_key", plan="standard"),
            route("orders", "body_credentials", upstream="a", methods=["POST"]),
        ],
    }
    config = {
        "listen": {"host": "127.0.0.1", "workers": 2},
        "store": {"url": url},
        "rate_limit": {"requests": 1_000_000_000},
    }
    return GatewayProcess(folder / "gateway", routes=routes, config=config)


async def soak(
    gateway: GatewayProcess, backends: list[BackendProcess], redis: RedisProcess, seconds: float
) -> tuple[bool, dict[str, object]]:
    key = gateway.result("keys", "issue", "--user", "42", "--name", "soak")["key"]
    plan = ("--user", "42", "--plan", "standard", "--until", "2999-01-01")
    gateway.result("plans", "set", *plan)
    first = dict(gateway.workers())
    before = await warm_up(gateway, redis, key)
    began = time.monotonic()
    end = began + seconds
    async with aiohttp.ClientSession() as session:
        traffic = Clients(gateway, key, session)
        samples, broken, *_ = await asyncio.gather(
            watch(gateway, redis, began, end),
            break_things(backends, redis, end),
            *(traffic.act(end) for _ in range(CLIENTS)),
        )
    after = await quiet(gateway, redis, began, before)
    show(traffic, samples, before, after, broken)
    verdicts = judge(gateway, first, samples, before, after, seconds)
    for verdict, holds in verdicts.items():
        print(f"{'ok  ' if holds else 'NOT '} {verdict}")
    figures = {
        "seconds": seconds,
        "outcomes": traffic.outcomes,
        "before": asdict(before),
        "after": asdict(after),
        "samples": list(map(asdict, samples)),
        "restarts": broken,
        "verdicts": verdicts,
    }
    return all(verdicts.values()), figures


async def warm_up(gateway: GatewayProcess, redis: RedisProcess, key: str) -> Sample:
    """The sample that counts as the start."""
    async with aiohttp.ClientSession() as session:
        traffic = Clients(gateway, key, session)
        end = time.monotonic() + WARM_UP_SECONDS
        await asyncio.gather(*(traffic.act(end) for _ in range(CLIENTS)))
    await asyncio.sleep(SAMPLE_SECONDS)  # gauges of the other worker are up to a second old
    return take_sample(gateway, redis, time.monotonic())


async def quiet(
    gateway: GatewayProcess, redis: RedisProcess, began: float, before: Sample
) -> Sample:
    """The sample once all that should end has ended, or the time for it is over."""
    deadline = time.monotonic() + QUIET_SECONDS
    while True:
        await asyncio.sleep(SAMPLE_SECONDS)
        now = await asyncio.to_thread(take_sample, gateway, redis, began)
        if (now.idle == now.connections == 0 and lasting(now) <= lasting(before)) or (
            time.monotonic() > deadline
        ):
            return now


def lasting(sample: Sample) -> int:
    """Descriptors of all workers that are no connection of a client, to a backend or to Redis."""
    connections = sample.connections + sample.active + sample.idle + sample.redis
    return sum(sample.descriptors) - int(connections)


def medians(samples: list[Sample], worker: int, since: float, until: float) -> float:
    return statistics.median(
        sample.resident[worker] for sample in samples if since <= sample.second <= until
    )


def judge(
    gateway: GatewayProcess,
    first: dict[int, int],
    samples: list[Sample],
    before: Sample,
    after: Sample,
    seconds: float,
) -> dict[str, bool]:
    verdicts = {
        f"no connection is left (clients {after.connections:.0f}, upstream {after.active:.0f})": (
            after.connections == after.active == 0
        ),
        f"descriptors are back ({lasting(before)} before, {lasting(after)} after)": (
            lasting(after) <= lasting(before)
        ),
        f"connections to Redis are within bounds ({before.redis} before, {after.redis} after)": (
            after.redis <= REDIS_CONNECTIONS * len(after.descriptors)
        ),
    }
    for worker in range(len(before.resident)):
        early = medians(samples, worker, seconds / 6, seconds / 3)
        late = medians(samples, worker, seconds * 5 / 6, seconds)
        growth = late / early - 1
        text = f"worker {worker}'s memory is flat: {early / 1e6:.1f} MB, then {late / 1e6:.1f} MB"
        verdicts[f"{text} ({growth:+.1%})"] = growth <= GROWTH_TARGET
    failures = sum(1 for line in gateway.access_log() if line["status"] == 500)
    verdicts[f"no request was answered 500 ({failures})"] = failures == 0
    tracebacks = gateway.stderr().count("Traceback") + gateway.stderr().count('"exception"')
    verdicts[f"nothing unforeseen was logged ({tracebacks} tracebacks)"] = tracebacks == 0
    verdicts["the workers are those of the start"] = gateway.workers() == first
    return verdicts


def show(
    traffic: Clients, samples: list[Sample], before: Sample, after: Sample, broken: Counter[str]
) -> None:
    for action in ACTIONS:
        outcomes = traffic.outcomes.get(action.__name__, Counter())
        told = "  ".join(f"{name}: {count:,}" for name, count in outcomes.most_common())
        print(f"  {action.__name__.replace('_', ' '):<26}{outcomes.total():>8,}   {told}")
    total = sum(outcomes.total() for outcomes in traffic.outcomes.values())
    print(f"  {'in all':<26}{total:>8,}   backends restarted {broken['backend']} times, ", end="")
    print(f"Redis {broken['redis']} times")
    print(f"\n  {'second':>8}{'MB resident':>18}{'descriptors':>16}{'clients':>9}", end="")
    print(f"{'active':>8}{'idle':>6}")
    step = max(1, len(samples) // 12)
    for sample in [before, *samples[step - 1 :: step], after]:
        resident = " ".join(f"{value / 1e6:8.1f}" for value in sample.resident)
        descriptors = " ".join(f"{value:7}" for value in sample.descriptors)
        print(
            f"  {sample.second:>8.0f}{resident:>18}{descriptors:>16}"
            f"{sample.connections:>9.0f}{sample.active:>8.0f}{sample.idle:>6.0f}"
        )
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="of traffic")
    parser.add_argument("--json", action="store_true", help=f"write {RESULTS.name} too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        met, figures = asyncio.run(run(Path(folder), options.seconds))
    if options.json:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
    sys.exit(not met)


if __name__ == "__main__":
    main()
