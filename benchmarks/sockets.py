"""Open WebSockets on one worker: memory, how fast a revocation ends them, messages a second.

    .venv/bin/python benchmarks/sockets.py [--sockets 5000] [--seconds 5]

A real `gateway serve` on one core with one worker and a real Redis; backend and clients share the
other core. The sockets are opened by one plan key, and as many more as a key may open by default by
another one; each exchanges a message. Memory is what the worker's resident memory grew by, over the
number of sockets. A revocation is timed from the write to Redis until the first, the middle and the
last client has its Close frame (1008): first that of the key with few sockets, then that of the
other. The bounds that stop one address or key from having so many are raised. Messages of 64 bytes
go to and fro over 32 sockets, through the gateway and straight to the backend, in turns; what
counts is the ratio. Everything listens on 127.0.0.1, is bounded in time, and is ended by its
process id.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import redis
import uvloop

GATEWAY_CORE, OTHER_CORE = 0, 1
BUSY_SOCKETS, ROUNDS = 32, 3
FEW_SOCKETS = 100  # `sockets.max_per_key`, by default
AT_ONCE = 64  # handshakes
PATIENCE_SECONDS = 60
PAYLOAD = bytes(64)
QUESTION = b"\x82\xc0" + bytes(4) + PAYLOAD  # masked with zeros
ANSWER = b"\x82\x40" + PAYLOAD
REVOKED = b"\x88\x02\x03\xf0"
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


class Backend(asyncio.Protocol):
    """Switches, then answers each message with one as long."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.switched = False

    def data_received(self, data: bytes) -> None:  # noqa: ARG002  # each read is a message
        self.transport.write(ANSWER if self.switched else SWITCH)
        self.switched = True


class Client(asyncio.Protocol):
    """Opens a socket; `answered` is done when it has an answer, `ended` when it is told to go."""

    def __init__(self, handshake: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.handshake = handshake
        self.answered: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[float] = loop.create_future()
        self.messages = 0
        self.goes_on = False
        self.bytes = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.transport.write(self.handshake)

    def data_received(self, data: bytes) -> None:
        if self.answered.done():
            if data == REVOKED:
                self.ended.set_result(time.monotonic())
                self.transport.close()
            self.messages += 1
            if self.goes_on:
                self.transport.write(QUESTION)
            return
        self.bytes += data
        if self.bytes.endswith(b"\r\n\r\n"):
            if b" 101 " not in self.bytes[:13]:
                raise SystemExit(f"no socket: {self.bytes[:200]!r}")
            self.transport.write(QUESTION)
        elif self.bytes.endswith(ANSWER):
            self.answered.set_result(None)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def process(core: int, *command: str, log: Path) -> Iterator[int]:
    with log.open("wb") as output:
        child = subprocess.Popen(
            ["taskset", "-c", str(core), *command], stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield child.pid
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(40)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


async def open_sockets(port: int, handshake: bytes, count: int) -> list[Client]:
    loop = asyncio.get_running_loop()
    clients: list[Client] = []

    async def open_some() -> None:
        while len(clients) < count:
            client = Client(handshake)
            clients.append(client)
            await loop.create_connection(partial(_itself, client), "127.0.0.1", port)
            await client.answered

    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as openers:
        for _ in range(AT_ONCE):
            openers.create_task(open_some())
    return clients


def _itself(client: Client) -> Client:
    return client


async def messages_per_second(port: int, handshake: bytes, seconds: float) -> float:
    clients = await open_sockets(port, handshake, BUSY_SOCKETS)
    for client in clients:
        client.messages, client.goes_on = 0, True
        client.transport.write(QUESTION)
    await asyncio.sleep(seconds)
    total = sum(client.messages for client in clients)
    for client in clients:
        client.transport.abort()
    return total / seconds


async def measure(folder: Path, count: int, seconds: float) -> list[tuple[str, str]]:
    gateway, admin, store = (free_port() for _ in range(3))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        backend = listening.getsockname()[1]
        listening.listen(1024)
        if not (child := os.fork()):
            uvloop.run(serve_backend(listening))
    files = write_files(folder, count, gateway, admin, store, backend)
    redis_server = ["redis-server", "--port", str(store), "--bind", "127.0.0.1", "--save", ""]
    serve = [sys.executable, "-m", "gateway", "serve", *files]
    rows = []
    try:
        with (
            process(OTHER_CORE, *redis_server, log=folder / "redis.log"),
            process(GATEWAY_CORE, *serve, log=folder / "gateway.log") as arbiter,
        ):
            worker = await worker_of(arbiter, folder / "gateway.log")
            key, other_key = issue_key(files), issue_key(files)
            handshake = handshake_with(key)
            ratios = []
            for _ in range(ROUNDS):
                direct = await messages_per_second(backend, handshake, seconds)
                cpu = cpu_seconds(worker)
                through = await messages_per_second(gateway, handshake, seconds)
                cost = (cpu_seconds(worker) - cpu) / (through * seconds)
                ratios.append((through / direct, through, direct, cost))
            _, through, direct, cost = sorted(ratios)[ROUNDS // 2]
            rows.append(("messages a second, straight to the backend", f"{direct:,.0f}"))
            rows.append(("messages a second, through the gateway", f"{through:,.0f}"))
            rows.append(("CPU of the gateway per message to and fro, us", f"{cost * 1e6:.1f}"))
            before, began = resident_bytes(worker), time.monotonic()
            clients = await open_sockets(gateway, handshake, count)
            took, grown = time.monotonic() - began, resident_bytes(worker) - before
            rows.append((f"seconds to open {count:,} sockets", f"{took:.1f}"))
            rows.append(("memory per socket, KiB", f"{grown / count / 1024:.1f}"))
            few = await open_sockets(gateway, handshake_with(other_key), FEW_SOCKETS)
            cpu = cpu_seconds(worker)
            await asyncio.sleep(4)
            rows.append(
                ("share of a core while they are quiet", f"{(cpu_seconds(worker) - cpu) / 4:.3f}")
            )
            rows += await revocation(store, other_key, few)
            cpu = cpu_seconds(worker)
            rows += await revocation(store, key, clients)
            cost = (cpu_seconds(worker) - cpu) / count
            rows.append(("CPU of the gateway until then per socket, us", f"{cost * 1e6:.0f}"))
    finally:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
    return rows


def handshake_with(key: str) -> bytes:
    return (
        "GET /ws HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"X-Primit-API-Key: {key}\r\n\r\n"
    ).encode()


async def revocation(store: int, key: str, clients: list[Client]) -> list[tuple[str, str]]:
    """Revoke `key`, which opened the sockets of `clients`; when they are told."""
    name = f"gw:key:{sha256(key.encode()).hexdigest()}"
    with redis.Redis(port=store) as client:
        client.ping()  # connected
        began = time.monotonic()
        client.hset(name, "revoked_at", "2026-01-01T00:00:00")
    async with asyncio.timeout(PATIENCE_SECONDS):
        ends = sorted(await asyncio.gather(*(client.ended for client in clients)))
    count = len(clients)
    return [
        (f"seconds from revocation to 1008, {which} of {count:,}", f"{ends[at] - began:.3f}")
        for which, at in (("first", 0), ("median", count // 2), ("last", -1))
    ]


async def serve_backend(listening: socket.socket) -> None:
    os.sched_setaffinity(0, {OTHER_CORE})
    server = await asyncio.get_running_loop().create_server(Backend, sock=listening, backlog=1024)
    await server.serve_forever()


def write_files(
    folder: Path, count: int, gateway: int, admin: int, store: int, backend: int
) -> list[str]:
    """The options that name them."""
    most = count + FEW_SOCKETS + ROUNDS * BUSY_SOCKETS
    settings = {
        "listen": {"host": "127.0.0.1", "port": gateway},
        "admin": {"port": admin},
        "store": {"url": f"redis://127.0.0.1:{store}/0", "timeout": 1.0},
        "rate_limit": {"requests": 1_000_000_000},
        "bounds": {"connections": 2 * most, "connections_per_ip": 2 * most},
        "sockets": {"max_per_ip": most, "max_per_key": most, "max": most},
    }
    routes = {
        "version": 1,
        "upstreams": {"backend": {"targets": [f"http://127.0.0.1:{backend}"]}},
        "routes": [
            {
                "name": "ws",
                "path": "/ws",
                "auth": "plan_key",
                "plan": "standard",
                "upstream": "backend",
                "websocket": True,
            }
        ],
    }
    (folder / "gateway.yaml").write_text(json.dumps(settings))
    (folder / "routes.yaml").write_text(json.dumps(routes))
    return ["--config", str(folder / "gateway.yaml"), "--routes", str(folder / "routes.yaml")]


async def worker_of(arbiter: int, log: Path) -> int:
    """The worker's process id, once it is ready."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "is ready" not in log.read_text():
            await asyncio.sleep(0.1)
    return int(Path(f"/proc/{arbiter}/task/{arbiter}/children").read_text().split()[0])


def issue_key(files: list[str]) -> str:
    command = [sys.executable, "-m", "gateway"]
    plan = ["plans", "set", "--user", "42", "--plan", "standard"]
    subprocess.run([*command, *plan, *files], check=True, capture_output=True)
    issue = ["keys", "issue", "--user", "42", "--name", "bench", "--output", "json"]
    issued = subprocess.run([*command, *issue, *files], check=True, capture_output=True)
    return str(json.loads(issued.stdout)["key"])


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sockets", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    options = parser.parse_args()
    for program in ("redis-server", "taskset"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not installed")
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("this needs two cores: one for the gateway, one for the others")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {OTHER_CORE})
    with tempfile.TemporaryDirectory() as name:
        for what, value in uvloop.run(measure(Path(name), options.sockets, options.seconds)):
            print(f"{what:<48}{value:>12}")


if __name__ == "__main__":
    main()
