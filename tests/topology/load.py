"""A gateway under load while its Redis moves: who asked what, and which answers they got.

Kinds of clients: `public` (each from an address of its own), `known` (a key that is used all the
time), `unused` (each a good key that this gateway has never seen), `hammer` (one address, beyond
its limit).
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession
from backend import RawBackend
from gateway_process import GatewayProcess
from harness import route, upstream
from redis_process import RedisProcess, eventually

from gateway.store.keys import digest, new_key

LIMIT = 200
UNUSED_KEYS = 2000
PAUSE_SECONDS = 0.02
SETTINGS = {
    "client_ip": {"trusted_proxies": ["127.0.0.1/32"]},
    "rate_limit": {"requests": LIMIT, "window": 60},
    "logging": {"access": False},
}
ROUTES = {
    "version": 1,
    "routes": [
        route("/public", name="public"),
        route("/plan", "plan_key", name="plan", plan="standard"),
    ],
}

Write = Callable[[Mapping[str, Mapping[str, str]]], None]


def issue(number: int, write: Write) -> list[str]:
    """So many keys of one user with a plan, as billing would write them."""
    keys = [new_key() for _ in range(number)]
    records: dict[str, Mapping[str, str]] = {
        f"gw:key:{digest(key)}": {"id": f"k_{at}", "user_id": "42"} for at, key in enumerate(keys)
    }
    write({"gw:user:42": {"id": "42", "plan": "standard"}, **records})
    return keys


@contextmanager
def gateway_on(
    url: str, folder: Path, backend: RawBackend, **environ: str
) -> Iterator[GatewayProcess]:
    routes = {**ROUTES, "upstreams": upstream(f"http://127.0.0.1:{backend.port}")}
    environ |= {"GATEWAY_STORE__URL": url, "GATEWAY_LISTEN__WORKERS": "2"}
    with GatewayProcess(folder, routes=routes, config=SETTINGS, environ=environ) as gateway:
        gateway.start(workers=2)
        yield gateway


@contextmanager
def killed(server: RedisProcess) -> Iterator[None]:
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextmanager
def hung(server: RedisProcess) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()  # for some seconds it takes itself for the master


@dataclass
class Load:
    """`answers` has the statuses of each kind; 0: no answer."""

    url: str
    session: ClientSession
    answers: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    _addresses: Iterator[int] = field(default_factory=lambda: count(int(IPv4Address("10.0.0.1"))))

    async def get(self, path: str, *, key: str | None = None, address: str = "") -> int:
        headers = {"X-Forwarded-For": address or str(IPv4Address(next(self._addresses)))}
        if key is not None:
            headers["X-Primit-API-Key"] = key
        try:
            async with self.session.get(f"{self.url}{path}", headers=headers) as answer:
                await answer.read()
                return answer.status
        except ClientError:
            return 0

    async def opens(self, key: str) -> None:
        """Return when it does. Until a worker hears the new master it can't look the key up."""

        async def is_open() -> bool:
            status = await self.get("/plan", key=key)
            assert status in (200, 503)
            return status == 200

        await eventually(is_open)

    async def repeat(self, kind: str, path: str, **how: Any) -> None:
        counts = self.answers[kind]
        while True:
            counts[await self.get(path, **how)] += 1
            await asyncio.sleep(PAUSE_SECONDS)

    async def use_each(self, kind: str, keys: list[str]) -> None:
        counts = self.answers[kind]
        for key in keys:
            counts[await self.get("/plan", key=key)] += 1
            await asyncio.sleep(PAUSE_SECONDS)
        raise AssertionError("more keys were needed")

    async def goes_on(self, more: int = 20) -> None:
        """Until every kind has had so many more answers."""
        goals = {kind: counts.total() + more for kind, counts in self.answers.items()}
        await eventually(lambda: all(self.answers[k].total() >= goal for k, goal in goals.items()))


@asynccontextmanager
async def under_load(gateway: GatewayProcess, keys: list[str]) -> AsyncIterator[Load]:
    """Keys of `keys` but the first are used once."""
    async with ClientSession() as session:
        load = Load(gateway.url, session)
        tasks = [
            asyncio.create_task(task)
            for task in (
                load.repeat("public", "/public"),
                load.repeat("known", "/plan", key=keys[0]),
                load.use_each("unused", keys[1:]),
                load.repeat("hammer", "/public", address="192.0.2.1"),
                load.repeat("hammer", "/public", address="192.0.2.1"),
            )
        ]
        try:
            yield load
            for task in tasks:
                assert not task.done(), task.exception()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    assert set(load.answers["public"]) == {200}, load.answers
    assert set(load.answers["known"]) == {200}, load.answers
    assert load.answers["unused"].keys() <= {200, 503}, load.answers
    assert load.answers["hammer"].keys() <= {200, 429}, load.answers
    # What Redis counts, and once more what the workers count alone while it is away.
    assert load.answers["hammer"][200] <= 2 * LIMIT, load.answers
