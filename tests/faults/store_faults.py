"""What can become of Redis, done to real servers, and a gateway on it with every kind of route.

A `StoreFault` begins and ends what it is called; `STORE_FAULTS` are all of them. The gateway
reaches its Redis through a `Wire`, which delays, swallows, or leads to another server, as networks
do.
"""

import asyncio
import http.client
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from backend import backend_in_thread
from gateway_process import TOKEN_SECRET, VAULT_KEY, GatewayProcess, until
from harness import route, upstream
from redis_process import RedisProcess, free_port

from gateway.admin.operations import open_context
from gateway.identity.tokens import AppTokens
from gateway.settings import load_settings

T = TypeVar("T")

MODES = ("local", "allow", "deny")
EMAIL = "jane@example.com"
OWN_LIMIT = 2
SEEDING_SECONDS = 10.0


class Wire:
    """A TCP proxy on 127.0.0.1, in a thread of its own."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.delay_seconds = 0.0  # of what goes to Redis, and again of what comes back
        self.swallows = False  # all that goes to Redis on connections there are, and on new ones
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._swallowing: set[asyncio.StreamReader] = set()
        self._open: set[asyncio.StreamReader] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._server = server
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def swallow(self) -> None:
        """From now on; what is connected by now stays so when `swallows` ends."""
        self._swallowing |= self._open
        self.swallows = True

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _end(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(reader)
        if self.swallows:
            self._swallowing.add(reader)
        try:
            there = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there[1]}
        await asyncio.gather(self._pump(reader, there[1]), self._pump(there[0], writer))
        self._writers -= {writer, there[1]}
        self._open.discard(reader)
        self._swallowing.discard(reader)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        due = 0.0
        try:
            while piece := await reader.read(1 << 16):
                if reader not in self._swallowing:
                    due = max(due + 1e-6, self._loop.time() + self.delay_seconds)
                    self._loop.call_at(due, writer.write, piece)
        except ConnectionError:
            pass
        finally:
            writer.close()


@dataclass
class StoreStage:
    """A gateway on a Redis of its own; `longest`: seconds that one request was held at most."""

    gateway: GatewayProcess
    redis: RedisProcess
    wire: Wire
    key: str = ""
    token: str = ""
    longest: float = 0.0

    def ask(self, kind: str, mode: str = "local") -> http.client.HTTPResponse:
        """One request to a route of a kind, on a connection of its own; its answer, read."""
        if kind in ("known", "unknown"):
            key = self.key if kind == "known" else f"never-{time.time()}"
            return self.get(f"/{mode}/keyed", {"X-Primit-API-Key": key})
        if kind == "token":
            return self.get(f"/{mode}/token", {"Authorization": f"Bearer {self.token}"})
        body = f'{{"email": "{EMAIL}"}}' if kind == "registered" else None
        return self.get(f"/{mode}/{kind}", body=body)

    def get(
        self, path: str, headers: Mapping[str, str] | None = None, body: str | None = None
    ) -> http.client.HTTPResponse:
        """The answer, read; with a `body` it is a POST."""
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=30)
        began = time.monotonic()
        try:
            connection.request("POST" if body else "GET", path, body, headers or {})
            answer = connection.getresponse()
            answer.read()
        finally:
            connection.close()
            self.longest = max(self.longest, time.monotonic() - began)
        return answer

    def status(self, kind: str, mode: str = "local") -> int:
        return self.ask(kind, mode).status

    def seed(self) -> None:
        """Make a user with a plan, a plan key, an app token and a registered key."""
        asyncio.run(self._seed())

    async def _seed(self) -> None:
        environ = {"GATEWAY_TOKEN_SECRET": TOKEN_SECRET, "GATEWAY_VAULT_KEY": VAULT_KEY}
        settings = load_settings(
            self.gateway.config_path, environ | {"GATEWAY_STORE__URL": self.redis.url}
        )
        async with open_context(settings, timeout_seconds=SEEDING_SECONDS) as context:
            user = await context.users.create(EMAIL)
            await context.plans.set(user.id, "standard", None)
            _, self.key = await context.keys.issue(user.id)
            await context.vault.add(EMAIL, "a-key", "a-secret")
            self.token = AppTokens(settings.app_tokens).issue(user)

    def is_well(self) -> bool:
        """Is all decided with Redis, and everything known?"""
        return (
            all(self.status(kind) == 200 for kind in ("public", "known", "token", "registered"))
            and self.status("unknown") == 401
            and self.status("public", "deny") == 200
        )

    def degraded(self, what: str) -> bool:
        return self.gateway.metric("gateway_degraded", what=what) > 0


@contextmanager
def store_stage(
    folder: Path, *, timeout: float | None = None, settings: Mapping[str, Any] | None = None
) -> Iterator[StoreStage]:
    """Started, seeded, and with the known key and user known."""
    redis = RedisProcess(_new(folder / "redis"), durable=True)
    redis.start()
    try:
        with Wire(redis.port) as wire, backend_in_thread() as backend:
            store = {"url": f"redis://127.0.0.1:{wire.port}/0"}
            config = {"store": store | ({"timeout": timeout} if timeout else {})}
            config |= settings or {}
            routes = {
                "version": 1,
                "upstreams": upstream(backend.url),
                "routes": [route("/undeclared", name="undeclared")]
                + [each for mode in MODES for each in _routes(mode)],
            }
            folder = folder / "gateway"
            with GatewayProcess(folder, routes=routes, config=config) as gateway:
                gateway.start()
                stage = StoreStage(gateway, redis, wire)
                stage.seed()
                until(stage.is_well, "all is well at first")
                stage.longest = 0.0
                yield stage
    finally:
        redis.kill()


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _routes(mode: str) -> list[dict[str, Any]]:
    def one(kind: str, auth: str = "public", **more: Any) -> dict[str, Any]:
        name = f"{mode}-{kind}"
        return route(f"/{mode}/{kind}", auth, name=name, when_store_is_down=mode, **more)

    return [
        one("public"),
        one("keyed", "plan_key", plan="standard"),
        one("token", "app_token"),
        one("registered", "registered_key", methods=["POST"]),
        one("limited", rate_limit={"requests": OWN_LIMIT, "window": 3600}),
    ]


@dataclass(frozen=True)
class StoreFault:
    """`reads`: can data still be read?"""

    name: str
    begin: Callable[[StoreStage], object]
    end: Callable[[StoreStage], object]
    reads: bool = False


def _set(name: str, value: int) -> Callable[[StoreStage], object]:
    def apply(stage: StoreStage) -> None:
        with stage.redis.client() as client:
            client.config_set(name, value)

    return apply


def _follow(port: int | None) -> Callable[[StoreStage], object]:
    def apply(stage: StoreStage) -> None:
        with stage.redis.client() as client:
            if port is None:
                client.replicaof("NO", "ONE")
            else:
                client.replicaof("127.0.0.1", str(port))

    return apply


def _delay(seconds: float) -> Callable[[StoreStage], object]:
    return lambda stage: setattr(stage.wire, "delay_seconds", seconds)


STORE_FAULTS = (
    StoreFault("frozen", lambda s: s.redis.pause(), lambda s: s.redis.resume()),
    StoreFault("slow", _delay(0.05), _delay(0.0)),
    StoreFault("refusing", lambda s: s.redis.kill(), lambda s: s.redis.start()),
    StoreFault("hung", lambda s: s.wire.swallow(), lambda s: setattr(s.wire, "swallows", False)),
    StoreFault("full", _set("maxmemory", 1), _set("maxmemory", 0), reads=True),
    StoreFault("a replica", _follow(free_port()), _follow(None), reads=True),
    StoreFault(
        "too few replicas",
        _set("min-replicas-to-write", 1),
        _set("min-replicas-to-write", 0),
        reads=True,
    ),
)
