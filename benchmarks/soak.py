"""Minutes of mixed traffic with everything going wrong: does anything leak?

    python benchmarks/soak.py [--seconds 600] [--json]

Two workers on a real Redis; clients that ask, upload, listen, talk by WebSocket, stall, leave and
send nonsense; backends that are killed and started again, reset, hang and answer garbage; Redis
restarts; every few seconds another route table is loaded. The workers are replaced once, amid the
warm-up's traffic: those that follow are watched. Every few seconds the resident memory and the
descriptors of the arbiter and of each worker are sampled. Then all is quiet, and it must hold, or
the exit code is 1:

- no connection is left: `gateway_connections` and `gateway_upstream_connections` are 0;
- no process has more descriptors of any kind (files, pipes, connections of clients, to backends,
  ...) than when all was quiet after the warm-up; the arbiter, than before its workers were
  replaced. One kind may vary: a worker may have as many connections to Redis as its pool may hold,
  and one to hear of changes;
- no process holds a connection that the other end has closed (CLOSE-WAIT), to Redis or to whomever;
- each process's memory late in the traffic is within 5 % of that after the warm-up (median of the
  last sixth, and from the first sixth to the third);
- the gateway answered no 500 and logged no traceback, no reload failed, and the workers are still
  those that the warm-up left.

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
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/faults")]

from backend_process import BackendProcess  # noqa: E402
from descriptors import CLOSED_BY_PEER, REDIS, Ports, descriptors_by_kind  # noqa: E402
from gateway_process import GatewayProcess, is_alive  # noqa: E402
from redis_process import RedisProcess  # noqa: E402
from resident import resident_bytes_of  # noqa: E402
from soak_clients import ACTIONS, Clients, websocket_kept  # noqa: E402

from gateway.store.redis import CONNECTIONS  # noqa: E402

RESULTS = ROOT / "benchmarks/results/soak.json"
CLIENTS = 24  # at a time
KEPT_SOCKETS = 8  # beside them, at a time
SAMPLE_SECONDS = 3.0
WARM_UP_SECONDS = 5.0
BACKEND_RESTART_SECONDS = 20.0
REDIS_RESTART_SECONDS = 75.0
RELOAD_SECONDS = 4.0
LEAST_SECONDS = 12 * SAMPLE_SECONDS  # or a sixth of the time has too few samples
QUIET_SECONDS = 100.0  # idle connections to backends are kept for 60
GROWTH_TARGET = 0.05
REDIS_CONNECTIONS = CONNECTIONS + 1  # of a worker: its pool, and the one that hears of changes
TOKEN = "the-admin-token-of-the-soak"


@dataclass
class Sample:
    second: float
    resident: dict[str, int]  # bytes of each process
    descriptors: dict[str, Counter[str]]  # of each process, by kind
    connections: float
    active: float
    idle: float

    def plain(self) -> dict[str, Any]:
        """Fit for JSON."""
        kinds = {name: dict(counts) for name, counts in self.descriptors.items()}
        return {**vars(self), "descriptors": kinds}

    @property
    def is_quiet(self) -> bool:
        return self.connections == self.active == self.idle == 0


@dataclass
class Stage:
    gateway: GatewayProcess
    backends: list[BackendProcess]
    redis: RedisProcess
    routes: dict[str, Any]

    @property
    def processes(self) -> dict[str, int]:
        workers = sorted(self.gateway.workers().items())
        return {"arbiter": self.gateway.pid, **{f"worker {n}": pid for n, pid in workers}}

    def descriptors(self) -> dict[str, Counter[str]]:
        gateway = self.gateway
        backends = [backend.port for backend in self.backends]
        ports = Ports(gateway.port, gateway.admin_port, self.redis.port, backends)
        return {name: descriptors_by_kind(pid, ports) for name, pid in self.processes.items()}

    def sample(self, began: float) -> Sample:
        gateway, upstreams = self.gateway, "gateway_upstream_connections"
        return Sample(
            time.monotonic() - began,
            {name: resident_bytes_of(pid) for name, pid in self.processes.items()},
            self.descriptors(),
            gateway.metric("gateway_connections"),
            gateway.metric(upstreams, state="active"),
            gateway.metric(upstreams, state="idle"),
        )

    async def reload(self, session: aiohttp.ClientSession, *, workers: bool = False) -> bool:
        """Did it work? The last route has another name than before."""
        *others, last = self.routes["routes"]
        number = int(last["name"].partition("-")[2]) + 1
        renamed = {**last, "name": f"changing-{number}", "path": f"/changing-{number}"}
        self.routes["routes"] = [*others, renamed]
        path = self.gateway.routes_path
        path.with_suffix(".new").write_text(json.dumps(self.routes))
        path.with_suffix(".new").rename(path)
        url = f"http://127.0.0.1:{self.gateway.admin_port}/api/reload"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with session.post(url, json={"workers": workers}, headers=headers) as answer:
            if answer.status != 200:
                print(f"  a reload failed: {answer.status} {await answer.text()}")
            return answer.status == 200


async def reload_often(stage: Stage, end: float) -> Counter[bool]:
    done: Counter[bool] = Counter()
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < end:
            await asyncio.sleep(RELOAD_SECONDS)
            done[await stage.reload(session)] += 1
    return done


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


async def watch(stage: Stage, began: float, end: float) -> list[Sample]:
    samples = []
    while time.monotonic() < end:
        with contextlib.suppress(AssertionError):  # a scrape that nobody answered
            samples.append(await asyncio.to_thread(stage.sample, began))
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
        with gateway_before(folder, backends, redis) as stage:
            stage.gateway.start(workers=2)
            return await soak(stage, seconds)
    finally:
        for backend in backends:
            backend.kill()
        redis.kill()


@contextlib.contextmanager
def gateway_before(
    folder: Path, backends: list[BackendProcess], redis: RedisProcess
) -> Iterator[Stage]:
    first, second = (backend.url for backend in backends)

    def route(name: str, auth: str = "public", upstream: str = "b", **more: object):
        path = f"/{name}/{{rest...}}"
        return {"name": name, "path": path, "auth": auth, "upstream": upstream, **more}

    routes = {
        "version": 1,
        "upstreams": {
            "a": {"targets": [first]},
            "b": {"targets": [second]},
            "either": {
                "targets": [first, second],
                "health": {"path": "/health", "interval": 1, "timeout": 1},
            },
        },
        "routes": [
            route("a", upstream="a"),
            route("b"),
            route("either", upstream="either"),
            route("short", timeout={"read": 1}),
            route("ws", websocket=True),
            route("paid", "plan_key", plan="standard"),
            route("orders", "body_credentials", upstream="a", methods=["POST"]),
            route("changing-0"),
        ],
    }
    config = {
        "listen": {"host": "127.0.0.1", "workers": 2},
        "admin": {"token": TOKEN},
        "store": {"url": redis.url},
        "rate_limit": {"requests": 1_000_000_000},
    }
    with GatewayProcess(folder / "gateway", routes=routes, config=config) as gateway:
        yield Stage(gateway, backends, redis, routes)


async def soak(stage: Stage, seconds: float) -> tuple[bool, dict[str, object]]:
    gateway = stage.gateway
    key = gateway.result("keys", "issue", "--user", "42", "--name", "soak")["key"]
    plan = ("--user", "42", "--plan", "standard", "--until", "2999-01-01")
    gateway.result("plans", "set", *plan)
    before = await warm_up(stage, key)
    first = dict(gateway.workers())
    began = time.monotonic()
    end = began + seconds
    async with aiohttp.ClientSession() as session:
        traffic = Clients(gateway, key, session)
        samples, broken, reloads, *_ = await asyncio.gather(
            watch(stage, began, end),
            break_things(stage.backends, stage.redis, end),
            reload_often(stage, end),
            *clients(traffic, end),
        )
    after = await quiet(stage, began, before)
    show(traffic, samples, before, after, broken)
    verdicts = judge(samples, before, after, seconds) | judge_log(gateway, first)
    verdicts[f"every reload worked ({reloads[True]} did, {reloads[False]} did not)"] = (
        reloads[False] == 0
    )
    for verdict, holds in verdicts.items():
        print(f"{'ok  ' if holds else 'NOT '} {verdict}")
    figures = {
        "seconds": seconds,
        "outcomes": traffic.outcomes,
        "before": before.plain(),
        "after": after.plain(),
        "samples": [sample.plain() for sample in samples],
        "restarts": broken,
        "verdicts": verdicts,
    }
    return all(verdicts.values()), figures


def clients(traffic: Clients, end: float) -> list[Coroutine[Any, Any, None]]:
    return [
        *(traffic.act(end) for _ in range(CLIENTS)),
        *(traffic.act(end, websocket_kept) for _ in range(KEPT_SOCKETS)),
    ]


async def warm_up(stage: Stage, key: str) -> Sample:
    """Traffic, with the workers replaced amid it; the sample that counts as the start."""
    gateway, arbiter = stage.gateway, stage.descriptors()["arbiter"]
    old = list(gateway.workers().values())

    async def replace_workers(session: aiohttp.ClientSession) -> None:
        await asyncio.sleep(WARM_UP_SECONDS)
        assert await stage.reload(session, workers=True), "the workers could not be replaced"

    async with aiohttp.ClientSession() as session, aiohttp.ClientSession() as admin:
        traffic = Clients(gateway, key, session)
        end = time.monotonic() + 2 * WARM_UP_SECONDS
        await asyncio.gather(replace_workers(admin), *clients(traffic, end))
    print("warm-up:", {name: dict(told) for name, told in traffic.outcomes.items()})
    deadline = time.monotonic() + QUIET_SECONDS
    while any(map(is_alive, old)):
        assert time.monotonic() < deadline, "the first workers did not go"
        await asyncio.sleep(SAMPLE_SECONDS)
    while not (sample := await asyncio.to_thread(stage.sample, time.monotonic())).is_quiet:
        assert time.monotonic() < deadline, f"it did not become quiet: {sample}"
        await asyncio.sleep(SAMPLE_SECONDS)
    sample.descriptors["arbiter"] = arbiter
    return sample


async def quiet(stage: Stage, began: float, before: Sample) -> Sample:
    """The sample once all that should end has ended, or the time for it is over."""
    deadline = time.monotonic() + QUIET_SECONDS
    while True:
        await asyncio.sleep(SAMPLE_SECONDS)
        now = await asyncio.to_thread(stage.sample, began)
        if (now.is_quiet and not leaked(before, now)) or time.monotonic() > deadline:
            return now


def leaked(before: Sample, after: Sample) -> list[str]:
    """What a process has more of than it may."""
    return [
        f"{name}: {kind} {bound} -> {number}"
        for name, kinds in after.descriptors.items()
        for kind, number in kinds.items()
        if number > (bound := most(kind, before.descriptors[name]))
    ]


def most(kind: str, before: Counter[str]) -> int:
    if kind == CLOSED_BY_PEER:
        return 0
    return REDIS_CONNECTIONS if kind == REDIS else before[kind]


def medians(samples: list[Sample], process: str, since: float, until: float) -> float:
    return statistics.median(
        sample.resident[process] for sample in samples if since <= sample.second <= until
    )


def judge(samples: list[Sample], before: Sample, after: Sample, seconds: float) -> dict[str, bool]:
    counts = f"clients {after.connections:.0f}, active {after.active:.0f}, idle {after.idle:.0f}"
    leaks = leaked(before, after)
    told = "; ".join(leaks) or "none more"
    verdicts = {
        f"no connection is left ({counts})": after.is_quiet,
        f"descriptors are back ({told})": not leaks,
    }
    for process in before.resident:
        early = medians(samples, process, seconds / 6, seconds / 3)
        late = medians(samples, process, seconds * 5 / 6, seconds)
        growth = late / early - 1
        text = f"the memory of {process} is flat: {early / 1e6:.1f} MB, then {late / 1e6:.1f} MB"
        verdicts[f"{text} ({growth:+.1%})"] = growth <= GROWTH_TARGET
    return verdicts


def judge_log(gateway: GatewayProcess, first: dict[int, int]) -> dict[str, bool]:
    failures = sum(1 for line in gateway.access_log() if line["status"] == 500)
    tracebacks = gateway.stderr().count("Traceback") + gateway.stderr().count('"exception"')
    return {
        f"no request was answered 500 ({failures})": failures == 0,
        f"nothing unforeseen was logged ({tracebacks} tracebacks)": tracebacks == 0,
        "the workers are still the same": gateway.workers() == first,
    }


def show(
    traffic: Clients, samples: list[Sample], before: Sample, after: Sample, broken: Counter[str]
) -> None:
    for action in (*ACTIONS, websocket_kept):
        outcomes = traffic.outcomes.get(action.__name__, Counter())
        told = "  ".join(f"{name}: {count:,}" for name, count in outcomes.most_common())
        print(f"  {action.__name__.replace('_', ' '):<26}{outcomes.total():>8,}   {told}")
    total = sum(outcomes.total() for outcomes in traffic.outcomes.values())
    print(f"  {'in all':<26}{total:>8,}   backends restarted {broken['backend']} times, ", end="")
    print(f"Redis {broken['redis']} times")
    print(f"\n  {'second':>8}{'MB resident':>27}{'descriptors':>18}{'clients':>9}", end="")
    print(f"{'active':>8}{'idle':>6}")
    step = max(1, len(samples) // 12)
    for sample in [before, *samples[step - 1 :: step], after]:
        resident = " ".join(f"{value / 1e6:8.1f}" for value in sample.resident.values())
        descriptors = " ".join(f"{kinds.total():5}" for kinds in sample.descriptors.values())
        print(
            f"  {sample.second:>8.0f}{resident:>27}{descriptors:>18}"
            f"{sample.connections:>9.0f}{sample.active:>8.0f}{sample.idle:>6.0f}"
        )
    print()
    for name, kinds in after.descriptors.items():
        told = ", ".join(
            f"{kind} {before.descriptors[name][kind]} -> {kinds[kind]}"
            for kind in sorted(before.descriptors[name] | kinds)
        )
        print(f"  {name}: {told}")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="of traffic")
    parser.add_argument("--json", action="store_true", help=f"write {RESULTS.name} too")
    options = parser.parse_args()
    if options.seconds < LEAST_SECONDS:
        parser.error(f"--seconds: {LEAST_SECONDS:.0f} at least")
    with tempfile.TemporaryDirectory() as folder:
        met, figures = asyncio.run(run(Path(folder), options.seconds))
    if options.json:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
    sys.exit(not met)


if __name__ == "__main__":
    main()
