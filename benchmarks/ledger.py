"""What the ledger of usage costs a request, as a ratio of the worker's CPU time.

    .venv/bin/python benchmarks/ledger.py [--rounds 5] [--seconds 3]

Two gateways of one worker each, on one core, with a plan key on every request; one of them keeps
the ledger. Rounds are interleaved; what counts is the median of the rounds' ratios. wrk, nginx as
the backend and Redis share the other core. Everything listens on 127.0.0.1, and is ended by its id.
"""

import argparse
import asyncio
import contextlib
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import redis
from bench.load import CONNECTIONS
from bench.machine import LOAD_CORE, PROXY_CORE, cpu_seconds, free_port, process, wait_for
from bench.servers import BODY_BYTES, folder_with_answer, nginx_server, redis_server

from gateway.sections import LedgerSettings, StoreSettings
from gateway.store.keys import new_key
from gateway.store.ledger import HASHES_A_BATCH, Ledger
from gateway.store.redis import Store

ROUTES = """
version: 1
upstreams: {{backend: {{targets: ["http://127.0.0.1:{backend}"]}}}}
routes:
  - {{name: klines, path: "/{{rest...}}", auth: plan_key, plan: standard, upstream: backend}}
"""
SETTINGS = """
listen: {{host: 127.0.0.1, port: {port}}}
admin: {{port: {admin}}}
store: {{url: "redis://127.0.0.1:{redis}/0", timeout: 2}}
rate_limit: {{enabled: false}}
ledger: {{enabled: {enabled}}}
"""
KEYS = 100


def worker_of(log: Path) -> int:
    found = re.search(r"worker 0 \(pid (\d+)\) is ready", log.read_text())
    assert found is not None
    return int(found[1])


def load(url: str, script: Path, seconds: int) -> int:
    """How many requests were answered, each by a 200."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script), url]
    output = subprocess.run(
        ["taskset", "-c", str(LOAD_CORE), *command], check=True, capture_output=True, text=True
    ).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"{url} did not answer every request:\n{output}")
    found = re.search(r"(\d+) requests in", output)
    assert found is not None
    return int(found[1])


def arrange(client: redis.Redis, keys: list[str]) -> None:
    """User 42 with a plan and all keys, as billing writes them."""
    client.hset("gw:user:42", mapping={"id": 42, "plan": "standard"})
    for number, key in enumerate(keys):
        digest = sha256(key.encode()).hexdigest()
        client.hset(f"gw:key:{digest}", mapping={"id": f"k_{number}", "user_id": 42})


@contextlib.contextmanager
def gateway(folder: Path, name: str, ports: dict[str, int]) -> Iterator[str]:
    port = free_port()
    settings, routes = folder / f"{name}.yaml", folder / "routes.yaml"
    admin, switch = free_port(), str(name == "with").lower()
    settings.write_text(
        SETTINGS.format(port=port, admin=admin, redis=ports["redis"], enabled=switch)
    )
    routes.write_text(ROUTES.format(backend=ports["backend"]))
    command = [sys.executable, "-m", "gateway", "serve"]
    command += ["--config", str(settings), "--routes", str(routes)]
    quiet = {"GATEWAY_LOGGING__ACCESS": "false"}
    with process(PROXY_CORE, *command, env=quiet, log=folder / f"{name}.out"):
        wait_for(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}/klines"


def measure(folder: Path, rounds: int, seconds: int) -> None:
    ports = {"redis": free_port(), "backend": free_port()}
    keys = [new_key() for _ in range(KEYS)]
    script = folder / "keys.lua"
    listed = ", ".join(f'"{key}"' for key in keys)
    script.write_text(
        f"local keys, turn = {{{listed}}}, 0\n"
        "request = function()\n"
        "  turn = turn % #keys + 1\n"
        '  return wrk.format("GET", nil, {["X-Primit-API-Key"] = keys[turn]})\n'
        "end\n"
    )
    with (
        redis_server(folder, ports["redis"]) as client,
        nginx_server(folder, "backend", ports["backend"]),
        gateway(folder, "without", ports) as without,
        gateway(folder, "with", ports) as counting,
    ):
        arrange(client, keys)
        urls = {"without": without, "with": counting}
        spent: dict[str, list[float]] = {name: [] for name in urls}
        answered = {name: load(url, script, 1) for name, url in urls.items()}
        for _ in range(rounds):
            for name, url in urls.items():
                pid = worker_of(folder / f"{name}.out")
                before = cpu_seconds([pid])
                requests = load(url, script, seconds)
                spent[name].append((cpu_seconds([pid]) - before) / requests * 1e6)
                answered[name] += requests
        time.sleep(2)  # two flushes and more
        counted = sum(int(client.hget(name, "requests") or 0) for name in client.keys("gw:used:*"))
        commands = client.info("commandstats")["cmdstat_evalsha"]
    report(spent)
    # wrk leaves its last requests under way: they are answered too, and not in its own count.
    print(f"  {answered['with']:,} answered by wrk's count, {counted:,} in the ledger")
    calls, microseconds = commands["calls"], commands["usec_per_call"]
    print(
        f"  {calls:,} batches of up to {HASHES_A_BATCH} hashes, {microseconds:.0f} µs of Redis each"
    )


async def counting_alone() -> float:
    """Microseconds of `Ledger.count`, keys in turn."""
    store = await Store.open(StoreSettings(url="memory://"))
    ledger = Ledger(store, LedgerSettings())
    answered = SimpleNamespace(
        started=time.monotonic(),
        route=SimpleNamespace(name="klines"),
        client_ip="203.0.113.7",
        failure=None,
        sent_bytes=BODY_BYTES,
        body_received_bytes=0,
    )
    names = [f"k_{number}" for number in range(KEYS)]
    began = time.process_time()
    for name in names * 10_000:
        ledger.count(answered, name, 0.001)
    microseconds = (time.process_time() - began) / (KEYS * 10_000) * 1e6
    await store.close()
    return microseconds


def report(spent: dict[str, list[float]]) -> None:
    print(f"plan-key route, {KEYS} keys, {BODY_BYTES} B, {CONNECTIONS} connections, one worker")
    for name, values in spent.items():
        spread = f"{min(values):.1f} to {max(values):.1f}"
        print(f"  {name:8} {statistics.median(values):6.1f} µs of CPU a request   ({spread})")
    print(f"  of that, in the request itself: {asyncio.run(counting_alone()):.2f} µs")
    ratios = [more / less for more, less in zip(spent["with"], spent["without"], strict=True)]
    print(f"  with the ledger: {statistics.median(ratios):.3f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    options = parser.parse_args()
    with folder_with_answer() as folder:
        measure(folder, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
