"""Do slow clients slow others? Normal traffic's p50 and p99, with and without 2,000 slow clients.

    .venv/bin/python benchmarks/slow_clients.py [--rounds 5] [--seconds 5] [--clients 1000]

Half of the slow clients never end their head, half never end their body; each sends a byte a
second, and comes again when it is turned away. They come from addresses of their own (127.0.0.2 and
127.0.0.3), so that the gateway's default bounds hold; only the rate limit is out of the way. Bodies
are streamed, so each of them holds a connection to the backend too. Normal traffic is wrk's, and
every answer to it must be a 200.

One core carries the gateway, the other everything else. Rounds are interleaved, and what counts is
the ratio of the medians; it should stay within 2. Everything listens on 127.0.0.1, runs for
seconds, and is ended by its process id. It needs wrk, nginx and redis-server, which `make bench`
installs, and some 10,000 descriptors (`ulimit -n`).
"""

import argparse
import asyncio
import contextlib
import random
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.machine import LOAD_CORE, PROXY_CORE, free_port, process, wait_for
from bench.servers import BODY_BYTES, folder_with_answer, nginx_server, redis_server

CONNECTIONS = 16  # of normal traffic
DRIP_SECONDS = 1.0
# nginx takes a body whole before it passes a request on: nobody is asked here in the end.
HOLDS = "location /upload { client_max_body_size 0; proxy_pass http://127.0.0.1:9; }"
SLOW = {
    "127.0.0.2": b"GET /klines HTTP/1.1\r\nHost: api.example\r\nX-Slow: ",
    "127.0.0.3": b"POST /upload HTTP/1.1\r\nHost: api.example\r\nContent-Length: 1000000\r\n\r\n",
}
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
CASES = ("without", "with")


async def drip(port: int, clients: int) -> None:
    """Be `clients` slow clients of each kind; a line says when all are there."""
    there = asyncio.Semaphore(0)

    async def one(address: str, begin: bytes) -> None:
        is_new = True
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(
                    "127.0.0.1", port, local_addr=(address, 0)
                )
                writer.write(begin)
                if is_new:
                    there.release()
                    is_new = False
                while not writer.transport.is_closing():
                    await asyncio.sleep(random.uniform(0.5, 1.5) * DRIP_SECONDS)
                    writer.write(b"a")
            await asyncio.sleep(DRIP_SECONDS)

    tasks = [
        asyncio.create_task(one(address, begin))
        for address, begin in SLOW.items()
        for _ in range(clients)
    ]
    for _ in tasks:
        await there.acquire()
    print("all are there", flush=True)
    await asyncio.gather(*tasks)


def latencies(url: str, seconds: int) -> tuple[float, float]:
    """Milliseconds that half, and 99 of 100, of the normal requests took at most."""
    command = ["wrk", "--latency", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", url]
    output = subprocess.run(
        ["taskset", "-c", str(LOAD_CORE), *command], check=True, capture_output=True, text=True
    ).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"{url} did not answer every request:\n{output}")
    found = dict(re.findall(r"(50|99)%\s+([\d.]+(?:us|ms|s))", output))
    return milliseconds(found["50"]), milliseconds(found["99"])


def milliseconds(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)([a-z]+)", text)
    assert match is not None
    return float(match[1]) * UNITS[match[2]]


@contextlib.contextmanager
def slow_clients(port: int, clients: int, log: Path):  # type: ignore[no-untyped-def]
    command = [sys.executable, __file__, "--drip", str(port), "--clients", str(clients)]
    with process(LOAD_CORE, *command, log=log):
        for _ in range(600):
            if "all are there" in log.read_text():
                break
            time.sleep(0.1)
        else:
            raise SystemExit(f"the slow clients did not get in:\n{log.read_text()}")
        time.sleep(1)  # what their coming costs is another question
        yield


def measure(folder: Path, rounds: int, seconds: int, clients: int) -> None:
    backend, redis, gateway, admin = (free_port() for _ in range(4))
    (folder / "routes.yaml").write_text(
        f"""
version: 1
upstreams: {{backend: {{targets: ["http://127.0.0.1:{backend}"]}}}}
routes: [{{name: all, path: "/{{rest...}}", auth: public, upstream: backend}}]
"""
    )
    (folder / "gateway.yaml").write_text(
        f"""
listen: {{host: 127.0.0.1, port: {gateway}}}
admin: {{port: {admin}}}
store: {{url: "redis://127.0.0.1:{redis}/0"}}
rate_limit: {{requests: 1000000000}}
"""
    )
    serve = [sys.executable, "-m", "gateway", "serve", "--config", str(folder / "gateway.yaml")]
    serve += ["--routes", str(folder / "routes.yaml")]
    found: dict[str, list[tuple[float, float]]] = {case: [] for case in CASES}
    with (
        redis_server(folder, redis),
        nginx_server(folder, "backend", backend, HOLDS),
        process(PROXY_CORE, *serve, log=folder / "gateway.out"),
    ):
        url = f"http://127.0.0.1:{gateway}/klines"
        wait_for(url)
        latencies(url, 1)
        for number in range(rounds):
            found["without"].append(latencies(url, seconds))
            with slow_clients(gateway, clients, folder / f"slow-{number}.log"):
                found["with"].append(latencies(url, seconds))
    report(found, clients)


def report(found: dict[str, list[tuple[float, float]]], clients: int) -> None:
    print(
        f"normal traffic ({BODY_BYTES} B, {CONNECTIONS} connections) beside "
        f"{clients} slow heads and {clients} slow bodies"
    )
    for index, name in enumerate(("p50", "p99")):
        medians = {case: statistics.median(each[index] for each in found[case]) for case in CASES}
        spread = ", ".join(
            f"{case} {medians[case]:.2f} ms ({min(e[index] for e in found[case]):.2f} to "
            f"{max(e[index] for e in found[case]):.2f})"
            for case in CASES
        )
        print(f"  {name}: {spread}; ratio {medians['with'] / medians['without']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--clients", type=int, default=1000, help="of each of the two kinds")
    parser.add_argument("--drip", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drip is not None:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(drip(options.drip, options.clients))
        return
    with folder_with_answer() as folder:
        measure(folder, options.rounds, options.seconds, options.clients)


if __name__ == "__main__":
    main()
