"""What is not requests a second: memory, and how long a start takes."""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from bench.case import Figures, Options
from bench.gateways import ENVIRON, ROUTES, Proxy, files, gateway, issue_keys, settings
from bench.ground import Ground
from bench.load import HttpLoad, addresses_file, values_file
from bench.machine import (
    PATIENCE_SECONDS,
    PROXY_CORE,
    Failed,
    free_port,
    let_many_files_be_open,
    process,
    resident_bytes,
)

Say = Callable[[str], None]
MANY = 100_000
IDLE = 10_000
MOST_SECONDS = 600.0
AFTERWARDS = 4  # of the memory case: a quarter as many requests again
REQUEST = b"GET /public/200 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def memory(ground: Ground, options: Options, say: Say) -> Figures:
    """Bytes of the worker after so many requests, and what some more add."""
    load = HttpLoad(
        "/plan/klines",
        turns=(
            ("X-Forwarded-For", addresses_file(ground.folder, MANY)),
            ("X-Primit-API-Key", values_file(ground.folder, "keys", issue_keys(ground, MANY))),
        ),
    )
    with gateway(ground) as proxy:
        load.check(proxy)
        began = time.monotonic()
        bytes_at_first = worker_bytes(proxy)
        ask(load, proxy, ground.folder, options.requests, say)
        seconds, bytes_then = time.monotonic() - began, worker_bytes(proxy)
        more = options.requests // AFTERWARDS
        ask(load, proxy, ground.folder, more, say)
        bytes_later = worker_bytes(proxy)
    return {
        "worker": {
            "requests": [options.requests],
            "seconds": [seconds],
            "MB at first": [bytes_at_first / 1e6],
            "MB": [bytes_then / 1e6],
            "MB added by a quarter more": [(bytes_later - bytes_then) / 1e6],
        }
    }


def ask(load: HttpLoad, proxy: Proxy, folder: Path, requests: int, say: Say) -> None:
    deadline, asked = time.monotonic() + MOST_SECONDS, 0
    while asked < requests:
        if time.monotonic() > deadline:
            raise Failed(f"{asked:,} of {requests:,} requests took {MOST_SECONDS:.0f} s")
        asked += load.run(proxy, folder, 10)["requests"]
        say(f"{asked:,} of {requests:,} requests")


def worker_bytes(proxy: Proxy) -> int:
    """The resident memory of the only worker."""
    _, worker = proxy.family()
    return resident_bytes(worker)


def idle_connections(ground: Ground, _options: Options, say: Say) -> Figures:
    """Bytes that the worker grows by for each connection that made a request and stays."""
    if let_many_files_be_open() < IDLE + 1000:
        raise Failed(f"no more than {let_many_files_be_open():,} files may be open here")
    with gateway(ground) as proxy, contextlib.ExitStack() as stack:
        HttpLoad().warm_up(proxy, ground.folder)
        before = worker_bytes(proxy)
        for number in range(IDLE):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port)))
            client.settimeout(PATIENCE_SECONDS)
            client.sendall(REQUEST)
            answer = client.recv(65536)
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise Failed(f"connection {number}: {answer[:200]!r}")
        say(f"{IDLE:,} connections are open")
        grown = worker_bytes(proxy) - before
    return {"worker": {"connections": [IDLE], "KB each": [grown / IDLE / 1e3]}}


def startup(ground: Ground, options: Options, _say: Say) -> Figures:
    """Seconds from the command to the first probe that says ready; and of a command's help."""
    ready, told = [], []
    for _ in range(options.rounds):
        ready.append(seconds_to_ready(ground))
        began = time.monotonic()
        command = ["taskset", "-c", str(PROXY_CORE), sys.executable, "-m", "gateway", "--help"]
        subprocess.run(command, check=True, capture_output=True)
        told.append(time.monotonic() - began)
    return {"gateway serve": {"seconds": ready}, "gateway --help": {"seconds": told}}


def seconds_to_ready(ground: Ground) -> float:
    chosen, admin = settings(ground), free_port()
    chosen["listen"]["port"], chosen["admin"] = free_port(), {"port": admin}
    command = [sys.executable, "-m", "gateway", "serve", *files(ground, "start", chosen, ROUTES)]
    log = ground.folder / "start.log"
    began = time.monotonic()
    with process(PROXY_CORE, *command, env=ENVIRON, log=log):
        while time.monotonic() < began + PATIENCE_SECONDS:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz"),
            ):
                return time.monotonic() - began
            time.sleep(0.005)
    raise Failed(f"it does not get ready:\n{log.read_text()}")
