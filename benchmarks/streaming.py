"""Large bodies and streams through one `gateway serve`: memory, delay, back-pressure.

    python benchmarks/streaming.py [--megabytes 2048] [--events 300]

Transfers: bodies in both directions, by length and in chunks, with a reader as fast as it can be
and one that rests after each MiB. "Growth" is how far the worker's resident memory rose above
where it stood before, sampled every 10 ms; the target is 32 MB. Socket buffers are the kernel's
and not in it.
Events: how long a server-sent event is on its way from the backend's write to the client's read,
alone and while other traffic runs; both read the same clock (CLOCK_MONOTONIC). The target is 50 ms
for 99 of 100: the slowest one tells of the machine's other work as much.
Held: how much a fast backend could write before a client that takes nothing held it. It must fit
into the buffers of the two connections, as far as the system lets these grow (tcp_rmem, tcp_wmem).
Exits with 1 when a target is missed.

Backend, gateway and client are processes on 127.0.0.1; no data touches a disk.
"""

import argparse
import contextlib
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.synchronize import Event as ProcessEvent
from pathlib import Path
from typing import Self

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "faults")]

from backend_process import BackendProcess, say  # noqa: E402
from gateway_process import GatewayProcess  # noqa: E402
from raw_client import RawClient  # noqa: E402
from resident import most_in_socket_buffers, resident_bytes_of  # noqa: E402

MIB = 1 << 20
GROWTH_TARGET_BYTES = 32_000_000
DELAY_TARGET_MS = 50
SLOW_PAUSE_MS = 10  # after each MiB: at most 100 MiB/s
SAMPLE_SECONDS = 0.01
EVENT_PAUSE_MS = 20
OTHER_CONNECTIONS = 4
HELD_SECONDS = 2.0


class Peak(threading.Thread):
    """Watches a process's resident memory; `growth` is the most above where it began."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._before = self._most = resident_bytes_of(pid)
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self._most = max(self._most, resident_bytes_of(self._pid))

    @property
    def growth(self) -> int:
        return self._most - self._before


@dataclass
class Stage:
    gateway: GatewayProcess
    backend: BackendProcess

    @property
    def worker(self) -> int:
        (pid,) = self.gateway.workers().values()
        return pid

    def client(self, receive_bytes: int | None = None) -> RawClient:
        return RawClient(self.gateway.port, receive_bytes=receive_bytes)


def download(stage: Stage, number: int, *, chunked: bool, slow: bool) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % number
    steps = [f"chunks={number}"] if chunked else [say(head), f"fill={number}"]
    with stage.client() as client:
        client.request(f"/down?{'&'.join(steps)}", fields=b"Connection: close\r\n")
        client.until(b"\r\n\r\n")
        block, taken, rested = bytearray(MIB), 0, 0
        while piece := client.socket.recv_into(block):
            taken += piece
            if slow and taken - rested >= MIB:
                rested = taken
                time.sleep(SLOW_PAUSE_MS / 1000)
    # What came along with the head is not counted.
    assert taken > number - MIB, f"{taken} of {number} bytes came"


def upload(stage: Stage, number: int, *, chunked: bool, slow: bool) -> None:
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % number
    steps = [f"pause={SLOW_PAUSE_MS}"] if slow else []
    piece = bytes(MIB)
    block = b"%x\r\n%b\r\n" % (MIB, piece) if chunked else piece
    with stage.client() as client:
        target = f"/up?{'&'.join([*steps, 'body', 'ok'])}"
        client.request(target, method="POST", fields=framing + b"\r\n")
        for _ in range(number // MIB):
            client.send(block)
        if chunked:
            client.send(b"0\r\n\r\n")
        assert client.answer().status == 200


def other_traffic(port: int, stop: ProcessEvent) -> None:
    """Small requests on a few connections, one after the other on each, without a rest."""

    def one_connection() -> None:
        while not stop.is_set():
            with RawClient(port) as client:
                is_last = False
                while not (is_last or stop.is_set()):
                    client.request("/x")
                    is_last = b"\r\nConnection: close" in client.answer().head

    threads = [threading.Thread(target=one_connection) for _ in range(OTHER_CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def busy_ones(stage: Stage) -> Iterator[None]:
    stop = multiprocessing.Event()
    others = multiprocessing.Process(target=other_traffic, args=(stage.gateway.port, stop))
    others.start()
    try:
        yield
    finally:
        stop.set()
        others.join()


def event_delays(stage: Stage, number: int) -> list[float]:
    """Milliseconds from write to read: of half of the events, of 99 of 100, of the slowest."""
    delays = []
    with stage.client() as client:
        client.request(f"/events?events={number},{EVENT_PAUSE_MS}")
        client.until(b"\r\n\r\n")
        for _ in range(number):
            client.until(b"data: ")
            written = float(client.until(b"\n"))
            delays.append(time.monotonic() - written)
    delays.sort()
    return [1000 * delays[int(number * at)] for at in (0.5, 0.99, 0.9999)]


def held(stage: Stage, number: int) -> tuple[int, int]:
    """Bytes that the backend could write to a client that takes none; growth meanwhile."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % number
    target = f"/held?{say(head)}&fill={number}"
    with Peak(stage.worker) as peak, stage.client(receive_bytes=1 << 16) as client:
        client.request(target)
        client.until(b"\r\n\r\n")
        time.sleep(HELD_SECONDS)
        written = stage.backend.events("filling", target)[-1]["bytes"]
    return written, peak.growth


def measure(stage: Stage, number: int, events: int) -> bool:
    met = True
    print(f"{number / MIB:,.0f} MiB each way; target: growth below 32 MB")
    transfers: tuple[tuple[str, Callable[..., None]], ...] = (("down", download), ("up", upload))
    for direction, transfer in transfers:
        for chunked in (False, True):
            for slow in (False, True):
                began = time.perf_counter()
                with Peak(stage.worker) as peak:
                    transfer(stage, number, chunked=chunked, slow=slow)
                rate = number / MIB / (time.perf_counter() - began)
                framing, reader = "chunked" if chunked else "length", "slow" if slow else "fast"
                print(
                    f"  {direction:<5}{framing:<8} {reader} reader  {rate:>7,.0f} MiB/s"
                    f"   growth {peak.growth / 1e6:5.1f} MB",
                    flush=True,
                )
                met &= peak.growth < GROWTH_TARGET_BYTES
    written, growth = held(stage, number)
    buffers = most_in_socket_buffers()
    print(f"  held: {written / MIB:.1f} MiB written to a client that takes nothing ", end="")
    print(f"(socket buffers: up to {buffers / MIB:.1f}), growth {growth / 1e6:.1f} MB")
    met &= growth < GROWTH_TARGET_BYTES and written < buffers + MIB
    surroundings: tuple[tuple[str, AbstractContextManager[None]], ...] = (
        ("alone", contextlib.nullcontext()),
        (f"beside {OTHER_CONNECTIONS} busy connections", busy_ones(stage)),
    )
    for name, around in surroundings:
        with around:
            p50, p99, most = event_delays(stage, events)
        print(f"  {events} events {name} (p99 below {DELAY_TARGET_MS} ms): ", end="")
        print(f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {most:.2f} ms")
        met &= p99 < DELAY_TARGET_MS
    return met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=2048, help="MiB of each transfer")
    parser.add_argument("--events", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backend = BackendProcess(folder / "backend.log")
        backend.start()
        routes = {
            "version": 1,
            "upstreams": {"backend": {"targets": [backend.url]}},
            "routes": [
                {"name": "all", "path": "/{rest...}", "auth": "public", "upstream": "backend"}
            ],
        }
        config = {
            "rate_limit": {"enabled": False},
            "bounds": {"requests_per_connection": 1_000_000_000},
        }
        try:
            with GatewayProcess(folder / "gateway", routes=routes, config=config) as gateway:
                gateway.start()
                stage = Stage(gateway, backend)
                for _ in range(20):  # what is loaded with the first requests is no growth
                    upload(stage, 0, chunked=False, slow=False)
                met = measure(stage, options.megabytes * MIB, options.events)
        finally:
            backend.kill()
    sys.exit(not met)


if __name__ == "__main__":
    main()
