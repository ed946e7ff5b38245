"""How fast a revocation is dead everywhere: three gateways of two workers, all of them under load.

    .venv/bin/python benchmarks/revocation.py [--revocations 200] [--clients 4]

Real `gateway serve` processes on one real Redis; the load comes from as many clients per gateway as
named, each sending the next request when it has its answer, always with the key that is to be
revoked next. Keys are revoked one after the other by the operation behind `gateway keys revoke`.
After each, before anything else, new connections to every gateway try the revoked key. Printed are
the seconds that the operation says it took (from before the write until the last worker's
confirmation), and how many requests that were sent after its return got a 2xx. The exit code is 1
unless that is none and every worker has confirmed each time. All that is started listens on
127.0.0.1 and is ended by its process id; it takes a minute at most.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop

from gateway.admin.operations import OPERATIONS, open_context
from gateway.settings import load_settings

GATEWAYS, WORKERS = 3, 2
TRIES = 4  # connections to each gateway, after each revocation
REQUESTS = 200  # of a client of the load on one connection
PATIENCE_SECONDS = 60
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Backend(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:  # noqa: ARG002  # each read is a request
        self.transport.write(OK)


class Bench:
    """The clients' side: which key they use, and what each request was answered."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.key = ""
        self.returned: dict[str, float] = {}  # when the revocation of a key had returned
        self.answers = self.late = self.late_admitted = 0

    async def ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str
    ) -> int:
        late = key in self.returned
        writer.write(f"GET /keyed HTTP/1.1\r\nHost: b\r\nX-Primit-API-Key: {key}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        status = int(head.split(None, 2)[1])
        self.answers += 1
        self.late += late
        self.late_admitted += late and 200 <= status < 300
        return status

    async def once(self, port: int, key: str) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            return await self.ask(reader, writer, key)

    async def everywhere(self, key: str) -> set[int]:
        asked = (self.once(port, key) for port in self.ports for _ in range(TRIES))
        return set(await asyncio.gather(*asked))

    async def load(self, port: int) -> None:
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(writer):
                for _ in range(REQUESTS):
                    await self.ask(reader, writer, self.key)


async def measure(bench: Bench, url: str, revocations: int, clients: int) -> list[float]:
    """The seconds of each revocation. Raises SystemExit if one was not confirmed by all."""
    settings = load_settings(None, {"GATEWAY_STORE__URL": url})
    seconds = []
    async with open_context(settings, timeout_seconds=5) as context:

        async def run(operation: str, **arguments: Any) -> Any:
            return await OPERATIONS[operation].run(context, **arguments)

        await run("plans.set", user=42, plan="standard")
        issued = await run("keys.issue", user=42, name="bench")
        bench.key = issued["key"]
        load = [
            asyncio.create_task(bench.load(port)) for port in bench.ports for _ in range(clients)
        ]
        for _ in range(revocations):
            key, key_id = bench.key, issued["id"]
            if await bench.everywhere(key) != {200}:
                raise SystemExit("a good key was refused")
            told = await run("keys.revoke", id=key_id)
            bench.returned[key] = time.monotonic()
            if told["confirmed"] != GATEWAYS * WORKERS or told["unconfirmed"]:
                raise SystemExit(f"not all have confirmed: {told}")
            seconds.append(told["seconds"])
            await bench.everywhere(key)
            issued = await run("keys.issue", user=42, name="bench")
            bench.key = issued["key"]
        for client in load:
            client.cancel()
        await asyncio.gather(*load, return_exceptions=True)
    return sorted(seconds)


async def serve_backend(listening: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(Backend, sock=listening, backlog=1024)
    await server.serve_forever()


@contextlib.contextmanager
def process(*command: str, log: Path, environ: dict[str, str] | None = None) -> Iterator[None]:
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | (environ or {})
        )
    try:
        yield
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(40)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def gateway(folder: Path, number: int, routes: Path, url: str) -> Iterator[int]:
    """The port of one gateway, once its workers are ready."""
    port, log = free_port(), folder / f"gateway{number}.log"
    environ = {
        "GATEWAY_LISTEN__HOST": "127.0.0.1",
        "GATEWAY_LISTEN__PORT": str(port),
        "GATEWAY_LISTEN__WORKERS": str(WORKERS),
        "GATEWAY_ADMIN__PORT": "0",
        "GATEWAY_STORE__URL": url,
        "GATEWAY_STORE__TIMEOUT": "1",
        "GATEWAY_RATE_LIMIT__REQUESTS": "1000000000",
    }
    options = ("--config", str(folder / "gateway.yaml"), "--routes", str(routes))
    command = (sys.executable, "-m", "gateway", "serve", *options)
    with process(*command, log=log, environ=environ):
        ends = time.monotonic() + PATIENCE_SECONDS
        while log.read_text().count("is ready") < WORKERS:
            if time.monotonic() > ends:
                raise SystemExit(f"a gateway did not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield port


def bench(folder: Path, revocations: int, clients: int) -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1024)
        backend = listening.getsockname()[1]
        if not (child := os.fork()):
            uvloop.run(serve_backend(listening))
    store = free_port()
    url = f"redis://127.0.0.1:{store}/0"
    (folder / "gateway.yaml").write_text("{}")
    routes = folder / "routes.yaml"
    route = {"name": "keyed", "path": "/keyed", "auth": "plan_key", "plan": "standard"}
    table = {
        "version": 1,
        "upstreams": {"backend": {"targets": [f"http://127.0.0.1:{backend}"]}},
        "routes": [route | {"upstream": "backend"}],
    }
    routes.write_text(json.dumps(table))
    redis_server = ("redis-server", "--port", str(store), "--bind", "127.0.0.1", "--save", "")
    try:
        with contextlib.ExitStack() as running:
            running.enter_context(process(*redis_server, log=folder / "redis.log"))
            ports = [
                running.enter_context(gateway(folder, number, routes, url))
                for number in range(GATEWAYS)
            ]
            measured = Bench(ports)
            began = time.monotonic()
            seconds = uvloop.run(measure(measured, url, revocations, clients))
            took = time.monotonic() - began
    finally:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
    for what, value in (
        ("revocations, each confirmed by 6 workers of 3 gateways", f"{len(seconds):,}"),
        ("requests a second meanwhile", f"{measured.answers / took:,.0f}"),
        ("ms until all have confirmed, p50", f"{seconds[len(seconds) // 2] * 1000:.1f}"),
        ("ms until all have confirmed, p99", f"{seconds[len(seconds) * 99 // 100] * 1000:.1f}"),
        ("ms until all have confirmed, longest", f"{seconds[-1] * 1000:.1f}"),
        ("requests sent after a revocation had returned", f"{measured.late:,}"),
        ("2xx among their answers", f"{measured.late_admitted:,}"),
    ):
        print(f"{what:<56}{value:>10}")
    return 1 if measured.late_admitted else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--revocations", type=int, default=200)
    parser.add_argument("--clients", type=int, default=4, help="of the load, to each gateway")
    options = parser.parse_args()
    if shutil.which("redis-server") is None:
        raise SystemExit("redis-server is not installed")
    with tempfile.TemporaryDirectory() as name:
        return bench(Path(name), options.revocations, options.clients)


if __name__ == "__main__":
    sys.exit(main())
