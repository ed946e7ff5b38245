"""A Redis that can fail over: a primary, its replica, and a Sentinel that promotes it.

One Sentinel decides alone here; in production there are three, on machines of their own. Every
process listens on this machine only and is ended by its id.
"""

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.demo.ports import HOST, DemoError, free_port

PROGRAM = "redis-server"
MISSING = (
    "--scale needs a Redis of its own, and there is no redis-server on PATH: "
    "install it (apt-get install redis-server, or brew install redis)"
)
MASTER = "demo"
START_SECONDS = 15.0
POLL_SECONDS = 0.02
DOWN_AFTER_MS = 500  # of silence, then the Sentinel acts
FAILOVER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running redis-server."""

    process: asyncio.subprocess.Process
    port: int

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        async with Redis(host=HOST, port=self.port, decode_responses=True) as client:
            yield client


@dataclass(frozen=True, slots=True)
class RedisPair:
    """What the gateways are given is `url`."""

    primary: Server
    replica: Server
    sentinel: Server

    @property
    def url(self) -> str:
        return f"redis+sentinel://{HOST}:{self.sentinel.port}/{MASTER}/0"

    async def replicated(self) -> None:
        """Return when the replica has all that the primary has by now, and the Sentinel it."""
        async with self.primary.client() as primary, self.sentinel.client() as sentinel:
            await _until(lambda: _has_followers(primary, sentinel), "the replica follows")

    async def fail_over(self) -> float:
        """Kill the primary; the seconds until the replica has its place."""
        began = time.monotonic()
        self.primary.process.kill()
        await self.primary.process.wait()
        async with self.replica.client() as replica:
            await _until(lambda: _is_master(replica), "the replica is promoted")
        return time.monotonic() - began


@contextlib.asynccontextmanager
async def redis_pair(folder: Path) -> AsyncIterator[RedisPair]:
    """Raises DemoError where there is no redis-server, or it doesn't start."""
    if shutil.which(PROGRAM) is None:
        raise DemoError(MISSING)
    async with contextlib.AsyncExitStack() as stack:
        plain = ("--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")
        primary = await stack.enter_async_context(_server(folder, "primary", plain))
        follow = (*plain, "--replicaof", HOST, str(primary.port))
        replica = await stack.enter_async_context(_server(folder, "replica", follow))
        configuration = folder / "sentinel.conf"
        configuration.write_text(
            f"sentinel monitor {MASTER} {HOST} {primary.port} 1\n"
            f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {MASTER} 3000\n",
            encoding="utf-8",
        )
        command = (str(configuration), "--sentinel")
        sentinel = await stack.enter_async_context(_server(folder, "sentinel", command))
        pair = RedisPair(primary, replica, sentinel)
        await pair.replicated()
        yield pair


@contextlib.asynccontextmanager
async def _server(folder: Path, name: str, options: tuple[str, ...]) -> AsyncIterator[Server]:
    port = free_port()
    place = ("--bind", HOST, "--port", str(port), "--dir", str(folder), "--daemonize", "no")
    with (folder / f"{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(PROGRAM, *options, *place),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that Ctrl-C reaches only this process, which ends it
        )
    server = Server(process, port)
    try:
        async with server.client() as client:
            await _until(client.ping, f"Redis ({name}) answers")
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _has_followers(primary: Any, sentinel: Any) -> bool:
    replication = await primary.info("replication")
    known = await sentinel.execute_command("SENTINEL", "REPLICAS", MASTER)
    return bool(known) and replication.get("slave0", {}).get("state") == "online"


async def _is_master(replica: Any) -> bool:
    told: str = (await replica.info("replication"))["role"]
    return told == "master"


async def _until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(RedisError, OSError):
            if await condition():
                return
        if time.monotonic() > deadline:
            raise DemoError(f"waited {START_SECONDS:.0f} s in vain: {what}")
        await asyncio.sleep(POLL_SECONDS)
