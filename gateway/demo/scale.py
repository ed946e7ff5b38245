"""`gateway demo --scale`: two gateways of two workers each on one Redis, under load and in trouble.

One client, a hundred, a hundred thousand; then one of the gateways is killed, and at last Redis,
whose replica takes over. After that both sides' books are compared: what clients were told, and
what the backend saw. Nothing may be lost, nobody refused who has not exceeded the limit, and nobody
admitted beyond what ARCHITECTURE.md promises.
"""

import asyncio
import contextlib
import json
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
import yaml
from rich.console import Console

from gateway.demo.gateway_process import GatewayProcess, Secrets, serving
from gateway.demo.ports import HOST, DemoError, free_port
from gateway.demo.run import ENDED_BY_SIGNAL, until_signal
from gateway.demo.scale_load import Backend, Balancer, Ledger, addresses
from gateway.demo.scale_redis import RedisPair, redis_pair
from gateway.demo.scale_table import Board, Row

GATEWAYS = WORKERS = 2
REQUESTS = 1000  # in any window, as shipped
ENOUGH = 3 * REQUESTS // 2  # requests of a client that hammers, so that it is refused
RESERVED = REQUESTS // 64  # that a worker may have reserved, and takes along when it dies
QUIET = 800  # requests of one client: it stays below the limit, however fast this machine is
STORE_SECONDS = 0.25  # more patience than shipped: here clients and backend are on this machine too
LOUD = ("203.0.113.1", "203.0.113.2", "203.0.113.3")
AT_ONCE = 48  # requests
LOUD_AT_ONCE = 12  # of these, of one client beside others
LEAST_SECONDS = 1.0
KILL_AFTER_SECONDS = 0.2  # of traffic
RECOVERY_SECONDS = 15.0
# Seconds of each step, of all. Starting, killing and failing over come on top.
ONE, HUNDRED, ALL, KILLED, MOVED, AFTER = 0.1, 0.12, 0.46, 0.14, 0.1, 0.08


def run_scale(seconds: float, console: Console, *, as_json: bool = False) -> int:
    """The exit code: 1 when anything was lost, or not as promised. Raises DemoError."""
    ended = until_signal(_run(seconds, console, as_json=as_json), uvloop.new_event_loop)
    if ended == ENDED_BY_SIGNAL and not as_json:
        console.print("\nThe demo has ended, with all that it started.")
    return 1 if ended == ENDED_BY_SIGNAL else ended


@dataclass(slots=True)
class Stage:
    redis: RedisPair
    balancer: Balancer
    board: Board
    gateways: "Gateways"
    seconds: float

    def lasting(self, share: float) -> float:
        return max(LEAST_SECONDS, share * self.seconds)


async def _run(seconds: float, console: Console, *, as_json: bool) -> int:
    board, ledger = Board(console, quiet=as_json), Ledger()
    with board.shown():
        board.say(f"starting Redis with a replica and a Sentinel, and {GATEWAYS} gateways")
        async with _stage(board, ledger, seconds) as stage:
            await _one_client(stage)
            await _many_clients(stage)
            await _gateway_killed(stage)
            await _redis_moved(stage)
            await _afterwards(stage)
    differences = ledger.differences()
    problems = [f"{row.title.strip()}: {row.problem}" for row in board.rows if row.problem]
    problems += [f"{number} requests {what}" for what, number in differences.items() if number]
    totals = {
        "sent": len(ledger.told),
        "admitted": sum(row.admitted for row in board.rows),
        "refused": sum(row.refused for row in board.rows),
        "lost": sum(row.lost for row in board.rows),
        "sent again": sum(row.again for row in board.rows),
        "seen by the backend": sum(seen > 0 for seen in ledger.seen),
    }
    if as_json:
        rows = [{**asdict(row), "step": row.title, "lost": row.lost} for row in board.rows]
        print(json.dumps({"steps": rows, "totals": totals, "problems": problems}))
    else:
        _say_end(console, totals, problems)
    return 1 if problems else 0


def _say_end(console: Console, totals: dict[str, int], problems: list[str]) -> None:
    told = ", ".join(f"{name} {number:,}" for name, number in totals.items())
    console.print(f"\nAll together: {told}.", highlight=False, soft_wrap=True)
    for problem in problems:
        console.print(f"not as promised: {problem}", style="bold red", highlight=False)
    if not problems:
        console.print(
            "Nothing was lost; the backend saw what was admitted, and nothing else.",
            style="green",
            highlight=False,
        )


# The steps.


async def _traffic(
    stage: Stage,
    row: Row,
    clients: Iterator[str],
    seconds: float,
    *,
    most: int = sys.maxsize,
    at_least: int = 0,
    at_once: int = AT_ONCE,
) -> None:
    """Requests of these clients, for so long or until there are `most`, but `at_least` so many."""
    end = time.monotonic() + seconds
    left = iter(range(most))

    async def slot() -> None:
        for number in left:
            if number >= at_least and time.monotonic() >= end:
                return
            status, again = await stage.balancer.ask(next(clients))
            row.again += again
            row.count(status)

    await asyncio.gather(*(slot() for _ in range(at_once)))


async def _one_client(stage: Stage) -> None:
    row = Row("1 client, hammering", 1, most=REQUESTS, least=REQUESTS)
    with stage.board.step(row):
        seconds = stage.lasting(ONE)
        await _traffic(stage, row, repeat(LOUD[0]), seconds, at_least=ENOUGH)


async def _many_clients(stage: Stage) -> None:
    for network, (number, share) in enumerate(((100, HUNDRED), (100_000, ALL))):
        row = Row("", number)
        most = number * QUIET if number == 100 else number
        with stage.board.step(row):
            clients = addresses(network, number)
            await _traffic(stage, row, clients, stage.lasting(share), most=most)


async def _gateway_killed(stage: Stage) -> None:
    quiet = Row("a gateway killed", 10_000)
    loud = Row("  1 client, hammering", 1, most=REQUESTS + WORKERS * RESERVED, least=REQUESTS)
    seconds = stage.lasting(KILLED)
    with stage.board.step(quiet, loud):
        traffic = asyncio.create_task(_both(stage, quiet, loud, LOUD[1], seconds, network=2))
        try:
            await asyncio.sleep(KILL_AFTER_SECONDS)
            await stage.gateways.kill(0)
        finally:
            await traffic
    await stage.gateways.start(0)


async def _redis_moved(stage: Stage) -> None:
    quiet = Row("Redis killed, failover", 10_000)
    # One limit that Redis counts, one that all workers share while it is away, and what the replica
    # had not heard of yet: at most all that was admitted, once more.
    loud = Row("  1 client, hammering", 1, most=3 * REQUESTS)
    await stage.redis.replicated()
    with stage.board.step(quiet, loud):
        failover = asyncio.create_task(stage.redis.fail_over())
        await _both(stage, quiet, loud, LOUD[2], stage.lasting(MOVED), network=3)
        took = await failover
        await stage.gateways.have_redis()
    stage.board.say(f"the replica was promoted after {took:.1f} s")


async def _afterwards(stage: Stage) -> None:
    """What Redis knew before it died, its replica knows: who was blocked is still blocked."""
    quiet, loud = Row("afterwards", 100), Row("  the very first client", 1, most=0)
    with stage.board.step(quiet, loud):
        await _both(stage, quiet, loud, LOUD[0], stage.lasting(AFTER), network=4)


async def _both(
    stage: Stage, quiet: Row, loud: Row, client: str, seconds: float, *, network: int
) -> None:
    """Many clients, and one that hammers."""
    most = quiet.clients * QUIET
    await asyncio.gather(
        _traffic(stage, quiet, addresses(network, quiet.clients), seconds, most=most),
        _traffic(stage, loud, repeat(client), seconds, at_least=ENOUGH, at_once=LOUD_AT_ONCE),
    )


# The stage.


class Gateways:
    """Processes that are killed and started again at the same ports."""

    def __init__(
        self, settings: dict[str, Any], folder: Path, stack: contextlib.AsyncExitStack
    ) -> None:
        """`settings` are what both have in common. What is started ends with `stack`."""
        self.ports = tuple(free_port() for _ in range(GATEWAYS))
        self._admin_ports = tuple(free_port() for _ in range(GATEWAYS))
        self._settings = settings
        self._folder = folder
        self._stack = stack
        self._own = Secrets()
        self._running: dict[int, GatewayProcess] = {}

    async def start(self, number: int) -> None:
        settings = self._folder / f"gateway-{number}.yaml"
        own = {
            "listen": {**self._settings["listen"], "port": self.ports[number]},
            "admin": {"host": HOST, "port": self._admin_ports[number]},
        }
        settings.write_text(yaml.safe_dump(self._settings | own), encoding="utf-8")
        log = self._folder / f"gateway-{number}.log"
        self._running[number] = await self._stack.enter_async_context(
            serving(
                settings, self._folder / "routes.yaml", self._admin_ports[number], self._own, log
            )
        )

    async def kill(self, number: int) -> None:
        await self._running[number].kill()

    async def have_redis(self) -> None:
        """Return when every worker is in touch with Redis, as their metrics say."""
        deadline = time.monotonic() + RECOVERY_SECONDS
        async with aiohttp.ClientSession() as session:
            for port in self._admin_ports:
                while not await _store_up(session, f"http://{HOST}:{port}/metrics"):
                    if time.monotonic() > deadline:
                        raise DemoError(f"not all is well {RECOVERY_SECONDS:.0f} s after failover")
                    await asyncio.sleep(0.1)


async def _store_up(session: aiohttp.ClientSession, url: str) -> bool:
    async with session.get(url) as answer:
        return re.search(r"^gateway_store_up 1\.0$", await answer.text(), re.MULTILINE) is not None


@contextlib.asynccontextmanager
async def _stage(board: Board, ledger: Ledger, seconds: float) -> AsyncIterator[Stage]:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-scale-")))
        redis = await stack.enter_async_context(redis_pair(folder))
        loop = asyncio.get_running_loop()
        backend = await loop.create_server(lambda: Backend(ledger), HOST, 0)
        stack.callback(backend.close)
        port = backend.sockets[0].getsockname()[1]
        upstreams = {"backend": {"targets": [f"http://{HOST}:{port}"]}}
        route = {"name": "klines", "path": "/klines", "auth": "public", "upstream": "backend"}
        (folder / "routes.yaml").write_text(
            yaml.safe_dump({"version": 1, "upstreams": upstreams, "routes": [route]}),
            encoding="utf-8",
        )
        settings: dict[str, Any] = {
            "listen": {"host": HOST, "workers": WORKERS},
            "store": {"url": redis.url, "timeout": STORE_SECONDS},
            "client_ip": {"trusted_proxies": [f"{HOST}/32"]},
            "shutdown": {"grace": 0, "deadline": 3},
        }
        gateways = Gateways(settings, folder, stack)
        for number in range(GATEWAYS):
            await gateways.start(number)
        balancer = Balancer(gateways.ports, ledger)
        stack.callback(balancer.close)
        yield Stage(redis, balancer, board, gateways, seconds)
