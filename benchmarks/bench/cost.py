"""What a request costs, in instructions: the same figure on a busy machine as on a quiet one.

    make cost                     compare with benchmarks/instructions.json; exits 1 on a regression
    make cost ARGS=--accept       write that file anew

valgrind counts what the gateway's process executes (all threads, no kernel) between two moments,
for requests that come one after the other on one connection: as many as the limiter admits by one
call to Redis, so that each count has one. What goes by the clock (sweeps, a flush each second) is
counted while nothing comes, and taken away. The median of some counts is kept; more than
`TOLERANCE` above what is accepted is a regression.

Instructions are no microseconds, but what is taken away here is gained there. They belong to one
Python and one kind of processor: on another there is nothing to compare with, and this says so.
"""

import argparse
import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.gateways import ROUTES, app_token, body_of, issue_keys, route_file, settings
from bench.ground import Ground
from bench.machine import Failed, free_port, open_folder, require
from bench.servers import BODY_BYTES, redis_server
from gateway.limits import limiter
from gateway.store.keys import new_key

ACCEPTED = Path(__file__).parents[1] / "instructions.json"
TOLERANCE = 1.02
REQUESTS = limiter.RESERVED_MOST + 1  # the one that asks, and what is reserved by then
COUNTS, IDLE_SECONDS = 3, 2.0
START_SECONDS = 120.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    BODY_BYTES,
    b"x" * BODY_BYTES,
)
CLIENT = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    status: int
    request: bytes


def request(target: str, *fields: str, method: str = "GET", body: bytes = b"") -> bytes:
    if body:
        fields += ("Content-Type: application/json", f"Content-Length: {len(body)}")
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + body


def kinds(key: str) -> tuple[Kind, ...]:
    return (
        Kind("public", 200, request("/public/klines")),
        Kind("plan key", 200, request("/plan/klines", f"X-Primit-API-Key: {key}")),
        Kind("app token", 200, request("/app/klines", f"Authorization: Bearer {app_token()}")),
        Kind("body, 1 KB", 200, request("/body/order", method="POST", body=body_of(1024))),
        Kind("refused 401", 401, request("/plan/klines", f"X-Primit-API-Key: {new_key()}")),
    )


BLOCKED = Kind("refused 429", 429, request("/public/klines"))


class Client:
    """One connection, one request after the other."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((CLIENT, port), START_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, kind: Kind, number: int) -> None:
        """Raises Failed when an answer has another status."""
        for _ in range(number):
            status = self.status(kind)
            if status != kind.status:
                raise Failed(f"{kind.name}: {status} instead of {kind.status}")

    def status(self, kind: Kind) -> int:
        self._socket.sendall(kind.request)
        got = b""
        while True:
            piece = self._socket.recv(65536)
            if not piece:
                raise Failed(f"{kind.name}: the connection was closed after {got!r}")
            got += piece
            head, end, body = got.partition(b"\r\n\r\n")
            if end:
                length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
                if len(body) == int(length):
                    return int(got[9:12])


def serve_backend(listening: socket.socket) -> None:
    """Answer whatever comes, a thread for each connection."""

    def one(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while got := connection.recv(65536):
            head, _, body = got.partition(b"\r\n\r\n")
            missing = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
            missing -= len(body)
            while missing > 0:
                missing -= len(connection.recv(65536))
            connection.sendall(ANSWER)

    while True:
        connection, _ = listening.accept()
        threading.Thread(target=one, args=(connection,), daemon=True).start()


class Counter:
    """valgrind, with a gateway in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._dumps = 0
        self._idle = 0.0  # instructions a second
        self._errors = (folder / "counted.log").open("wb")
        # A module that may not read the environment's own settings counts the same everywhere.
        environ = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        self._process = subprocess.Popen(
            [
                *("valgrind", "--tool=callgrind", "--instr-atstart=no"),
                f"--vgdb-prefix={folder}/vgdb",
                f"--callgrind-out-file={folder}/counts",
                *(sys.executable, "-m", "bench.counted", str(folder)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environ | {"PYTHONHASHSEED": "0"},
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"no gateway:\n{(folder / 'counted.log').read_text()}")
        self.port = int(line)

    def begin(self) -> None:
        """Count from here on; and find out what goes by the clock."""
        self._say("instrumentation", "on")
        self.count(lambda: time.sleep(IDLE_SECONDS))  # what runs for the first time costs more
        self._idle = self.count(lambda: time.sleep(IDLE_SECONDS)) / IDLE_SECONDS

    def count(self, work: Callable[[], None]) -> float:
        """Instructions that the gateway executes for `work`."""
        self._say("zero")
        began = time.monotonic()
        work()
        self._say("dump")
        seconds = time.monotonic() - began
        self._dumps += 1
        text = Path(f"{self._folder}/counts.{self._dumps}").read_text()
        (line,) = (line for line in text.splitlines() if line.startswith("totals:"))
        return int(line.split()[1]) - self._idle * seconds

    def _say(self, *words: str) -> None:
        command = ["vgdb", f"--vgdb-prefix={self._folder}/vgdb", f"--pid={self._process.pid}"]
        subprocess.run([*command, *words], check=True, capture_output=True, timeout=START_SECONDS)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


@contextlib.contextmanager
def open_counter(ground: Ground) -> Iterator[Counter]:
    files = {"routes": route_file(ground, ROUTES), "settings": settings(ground)}
    files["settings"]["store"]["timeout"] = 30  # here everything takes fifty times as long
    files["settings"]["bounds"]["requests_per_connection"] = 1_000_000
    (ground.folder / "files.json").write_text(json.dumps(files))
    counter = Counter(ground.folder)
    try:
        yield counter
    finally:
        counter.close()


def instructions() -> dict[str, int]:
    """Of a request of each kind."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        listening = stack.enter_context(socket.create_server((CLIENT, 0)))
        threading.Thread(target=serve_backend, args=(listening,), daemon=True).start()
        backend, port = listening.getsockname()[1], free_port()
        redis = stack.enter_context(redis_server(folder, port))
        ground = Ground(folder, backend, port, listening, {})
        (key,) = issue_keys(ground, 1)
        counter = stack.enter_context(open_counter(ground))
        client = Client(counter.port)
        for kind in kinds(key):
            client.ask(kind, REQUESTS)
        counter.begin()
        found = {kind.name: median(counter, client, kind) for kind in kinds(key)}
        # An operator's block. What is reserved is used first: then Redis is asked, and has it.
        redis.set(f"gw:ip:block:{{{CLIENT}}}", int(1000 * (time.time() + 3600)))
        while client.status(BLOCKED) != BLOCKED.status:
            pass
        return found | {BLOCKED.name: median(counter, client, BLOCKED)}


def median(counter: Counter, client: Client, kind: Kind) -> int:
    client.ask(kind, 32)  # valgrind translates what runs for the first time
    counts = [counter.count(lambda: client.ask(kind, REQUESTS)) for _ in range(COUNTS)]
    return round(statistics.median(counts) / REQUESTS)


def here() -> str:
    """What the figures belong to."""
    version = ".".join(platform.python_version_tuple()[:2])
    return f"{platform.python_implementation()} {version}, {platform.machine()}"


def compare(found: dict[str, int], accepted: dict[str, int] | None) -> bool:
    """Is nothing worse than accepted? Prints a table."""
    if accepted is None:
        print(f"Nothing is accepted for {here()} yet: `make cost ARGS=--accept` writes it down.")
    print(f"{'instructions a request':<24}{'now':>10}{'accepted':>10}")
    held = True
    for name, count in found.items():
        line = f"{name:<24}{count:>10,}"
        if accepted is not None:
            before = accepted.get(name, 0)
            worse = count > before * TOLERANCE
            held &= not worse
            ratio = f"  {count / before:.3f}" if before else "  new"
            line += f"{before:>10,}{ratio}{'  WORSE' if worse else ''}"
        print(line)
    return held


def main() -> None:
    parser = argparse.ArgumentParser(prog="make cost", description=__doc__.partition("\n")[0])
    parser.add_argument("--accept", action="store_true", help="these figures, from now on")
    options = parser.parse_args()
    require("valgrind", "vgdb", "redis-server")
    found = instructions()
    written = json.loads(ACCEPTED.read_text()) if ACCEPTED.exists() else {}
    held = compare(found, written.get(here()))
    if options.accept:
        ACCEPTED.write_text(json.dumps(written | {here(): found}, indent=2) + "\n")
    elif not held:
        print(f"More than {TOLERANCE - 1:.0%} above what is accepted.")
        sys.exit(1)


if __name__ == "__main__":
    main()
