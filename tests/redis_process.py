"""Redis servers of the tests' own, and waiting for what they bring about.

Servers listen on 127.0.0.1 alone, on a free port; each is ended by its own id. Where there is no
`redis-server` a test that wants one fails, it never skips.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from gateway.store.redis import Store

START_ATTEMPTS = 5
DEADLINE_SECONDS = 10.0


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class RedisProcess:
    """One redis-server of ours. `durable` keeps its data over a restart."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.fail("no redis-server on PATH: `make test` installs one", pytrace=False)
        self._program = program
        self._folder = folder
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._arguments: list[str] = []
        self._paused = False
        self.port = free_port()
        self.bus_port = 0  # of a cluster's node
        self.options: list[str] = []  # further ones of the command line

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_well(self) -> bool:
        """Does it run, and isn't paused?"""
        return self._process is not None and self._process.poll() is None and not self._paused

    def client(self) -> redis.Redis:
        """A plain client, as billing or redis-cli would be one."""
        return redis.Redis.from_url(self.url, decode_responses=True)

    def as_sentinel_of(self, master: str, server: "RedisProcess", quorum: int = 1) -> None:
        """Be a Sentinel that decides on failover with so many, quickly. Before `start`."""
        lines = (
            f"sentinel monitor {master} 127.0.0.1 {server.port} {quorum}",
            f"sentinel down-after-milliseconds {master} 300",
            f"sentinel failover-timeout {master} 2000",
        )
        configuration = self._folder / "sentinel.conf"
        configuration.write_text("\n".join(lines) + "\n")
        self._arguments = [str(configuration), "--sentinel"]

    def start(self) -> None:
        """Start it and wait until it answers. The first start may choose another port."""
        first = self._process is None
        for _ in range(START_ATTEMPTS):
            self._launch()
            if self._answers():
                return
            self.kill()
            if first:
                self.port = free_port()
        log = (self._folder / "redis.log").read_text(errors="replace")
        pytest.fail(f"redis-server did not start:\n{log}", pytrace=False)

    def stop(self) -> None:
        """End it as an operator would: connections close, durable data is on disk."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def forget(self) -> None:
        """Lose all data, while it doesn't run."""
        shutil.rmtree(self._folder / "appendonlydir", ignore_errors=True)

    def pause(self) -> None:
        """Connections stay open and nothing answers: what a hung host looks like."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # it may run on for a while
        self._paused = True

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._paused = False

    def _launch(self) -> None:
        command = [self._program, *self._arguments, "--port", str(self.port)]
        command += ["--bind", "127.0.0.1", "--dir", str(self._folder), "--daemonize", "no"]
        if not self._arguments:
            command += ["--save", "", "--appendonly", "yes" if self._durable else "no"]
            command += ["--appendfsync", "always", "--repl-diskless-sync-delay", "0"]
        command += self.options
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def _answers(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + DEADLINE_SECONDS
        with self.client() as client:
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    # Another server could have taken the port in between: ask who it is.
                    if client.info("server")["process_id"] == self._process.pid:
                        return True
                except redis.RedisError:
                    pass
                time.sleep(0.01)
        return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(how)
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Heard:
    def __init__(self) -> None:
        self.names: set[str] = set()

    def changed(self, name: str) -> None:
        self.names.add(name)

    def all_changed(self) -> None:
        pass


async def news_heard(store: Store) -> None:
    """Return when `store` has heard of all that was written until now: news come in order."""
    if store.embedded:
        return
    heard, marker = _Heard(), uuid4().hex
    store.changes.listen("vault", heard)
    await store.client.set(store.key("vault", marker), "", px=1)
    await eventually(lambda: marker in heard.names)


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Return as soon as `condition` holds; fail when it does not within a generous deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        outcome = condition()
        if not isinstance(outcome, bool):
            outcome = await outcome
        if outcome:
            return
        assert time.monotonic() < deadline, "the condition did not come to hold"
        await asyncio.sleep(0.005)
