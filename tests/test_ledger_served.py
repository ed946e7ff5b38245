"""The ledger of whole gateways: what a request leaves in it, what a key's holder sees of it, and
what is lost when a worker is killed.
"""

import asyncio
import base64
import hashlib
import os
import re
import signal
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from backend import RawBackend, Received, backend_in_thread
from gateway_process import GatewayProcess, until
from harness import Running, open_gateway, route, upstream
from redis_process import RedisProcess, eventually
from yarl import URL

from gateway.store.keys import new_key
from gateway.store.usage import Usage

STOCK = route("/stock", "plan_key", plan="standard", name="stock")
LENIENT = route("/lenient", "plan_key", plan="standard", name="lenient", enforce=False)
OPEN = route("/open", name="open")
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


@pytest.fixture
async def backend() -> AsyncIterator[RawBackend]:
    backend = await RawBackend().start()
    yield backend
    await backend.stop()


@pytest.fixture(params=["memory", "redis"])
async def gateway(request, backend: RawBackend, tmp_path: Path) -> AsyncIterator[Running]:
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    routes = {"upstreams": upstream(backend.url), "routes": [STOCK, LENIENT, OPEN]}
    async with open_gateway(tmp_path, routes, {"store": {"url": url, "timeout": 2}}) as running:
        await running.parts.plans.set(42, "standard")
        yield running


async def ask(gateway: Running, path: str, *keys: str, method: str = "GET") -> tuple[int, Any]:
    """Status, and what JSON came with it."""
    headers = [("X-Primit-API-Key", key) for key in keys]
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, URL(gateway.url + path), headers=headers, data=b"") as answer,
    ):
        is_json = answer.content_type == "application/json"
        return answer.status, await answer.json() if is_json else None


async def told(gateway: Running, key_id: str) -> dict[str, tuple[int, int]]:
    """Requests and refusals by route."""
    assert gateway.parts.ledger is not None
    await gateway.parts.ledger.flush()
    usage = await Usage(gateway.parts.store).of(key_id, 2)
    return {row["route"]: (row["requests"], row["refusals"]) for row in usage["by_route"]}


async def test_each_answered_request_of_a_known_key_is_counted_on_its_route(gateway):
    record, key = await gateway.parts.keys.issue(42)
    for path in ("/stock", "/stock", "/lenient", "/open", "/nowhere"):
        await ask(gateway, path, key)
    assert await told(gateway, record.id) == {"stock": (2, 0), "lenient": (1, 0)}
    last = await Usage(gateway.parts.store).last(record.id)
    assert (last["last_used_from"], last["requests"]) == ("127.0.0.1", 3)


@pytest.mark.parametrize("why", ["plan too low", "revoked", "expired", "retired"])
async def test_a_refusal_of_a_known_key_is_counted_as_one(gateway, why):
    parts = gateway.parts
    user = 43 if why == "plan too low" else 42
    record, key = await parts.keys.issue(user, None, "2020-01-01" if why == "expired" else None)
    if why == "revoked":
        await parts.keys.revoke(record.id)
    if why == "retired":
        await parts.rotation.rotate(record.id, 0)
    status, _ = await ask(gateway, "/stock", key)
    assert status == (403 if why == "plan too low" else 401)
    assert await told(gateway, record.id) == {"stock": (1, 1)}


async def test_a_stranger_adds_nothing_to_the_ledger(gateway):
    _, key = await gateway.parts.keys.issue(42)
    for keys in ((), (new_key(),), ("not-a-key",), (key, key)):
        assert (await ask(gateway, "/stock", *keys))[0] == 401
    assert gateway.parts.ledger is not None
    await gateway.parts.ledger.flush()
    client = gateway.parts.store.client
    assert [*await client.keys("gw:usage:*"), *await client.keys("gw:used:*")] == []


async def test_the_holder_of_a_key_sees_what_it_did_and_nobody_elses(gateway):
    mine, my_key = await gateway.parts.keys.issue(42, "mine")
    other, other_key = await gateway.parts.keys.issue(42, "other")
    await ask(gateway, "/stock", my_key)
    await ask(gateway, "/stock", other_key)
    await told(gateway, mine.id)
    status, seen = await ask(gateway, "/api-key/usage", my_key)
    assert status == 200
    all_of_it = await Usage(gateway.parts.store).of(mine.id, 30)
    assert all_of_it.pop("last_used_from") == "127.0.0.1"
    assert seen == all_of_it
    assert (seen["id"], seen["requests"], seen["days"]) == (mine.id, 1, 30)
    for query in (f"?id={other.id}", f"?key={other_key}"):
        assert (await ask(gateway, f"/api-key/usage{query}", my_key))[1]["id"] == mine.id


async def test_usage_needs_a_valid_key_and_no_plan(gateway):
    parts = gateway.parts
    without_plan, key = await parts.keys.issue(43)
    assert (await ask(gateway, "/api-key/usage", key))[1]["id"] == without_plan.id
    revoked, revoked_key = await parts.keys.issue(42)
    await parts.keys.revoke(revoked.id)
    for keys in ((), (new_key(),), (revoked_key,), (key, key)):
        status, body = await ask(gateway, "/api-key/usage", *keys)
        assert (status, list(body)) == (401, ["detail"])
    assert (await ask(gateway, "/api-key/usage", key, method="POST"))[0] == 405


async def test_usage_has_the_limit_of_the_endpoints_for_keys(gateway):
    _, key = await gateway.parts.keys.issue(42)
    statuses = [(await ask(gateway, "/api-key/usage", key))[0] for _ in range(31)]
    assert statuses == [200] * 30 + [429]


async def test_without_a_ledger_nothing_is_counted_and_the_endpoint_is_not_there(
    backend, redis_url, tmp_path
):
    routes = {"upstreams": upstream(backend.url), "routes": [STOCK]}
    settings = {"store": {"url": redis_url, "timeout": 2}, "ledger": {"enabled": False}}
    async with open_gateway(tmp_path, routes, settings) as gateway:
        await gateway.parts.plans.set(42, "standard")
        record, key = await gateway.parts.keys.issue(42)
        assert (await ask(gateway, "/stock", key))[0] == 200
        assert (await ask(gateway, "/api-key/usage", key))[0] == 404
        assert (await Usage(gateway.parts.store).last(record.id))["requests"] == 0


async def test_what_was_counted_is_written_before_a_gateway_has_ended(
    backend, redis_url, redis_server, tmp_path
):
    routes = {"upstreams": upstream(backend.url), "routes": [STOCK]}
    settings = {"store": {"url": redis_url, "timeout": 2}}
    async with open_gateway(tmp_path, routes, settings) as gateway:
        await gateway.parts.plans.set(42, "standard")
        record, key = await gateway.parts.keys.issue(42)
        await ask(gateway, "/stock", key)
    with redis_server.client() as client:
        assert client.hget(f"gw:used:{record.id}", "requests") == "1"


async def test_a_socket_uses_its_key_from_its_first_moment_to_its_last(
    backend, redis_url, tmp_path
):
    socket = route("/ws", "plan_key", plan="standard", name="ws", websocket=True)
    routes = {"upstreams": upstream(backend.url), "routes": [socket]}
    backend.script = accept_sockets
    settings = {"store": {"url": redis_url, "timeout": 2}}
    async with open_gateway(tmp_path, routes, settings) as gateway:
        await gateway.parts.plans.set(42, "standard")
        record, key = await gateway.parts.keys.issue(42)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(gateway.url + "/ws", headers={"X-Primit-API-Key": key}),
        ):
            assert [one.key_id for one in gateway.parts.under_way()] == [record.id]
            assert await told(gateway, record.id) == {}
        await eventually(lambda: len(gateway.parts.sockets) == 0)
        assert list(gateway.parts.under_way()) == []
        assert await told(gateway, record.id) == {"ws": (1, 0)}


async def accept_sockets(
    _backend: RawBackend,
    received: Received,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Open the socket, and wait until it ends."""
    (key,) = received.all(b"Sec-WebSocket-Key")
    accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET_GUID).digest())
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    await reader.read()


@pytest.fixture
def serve(redis_url: str, tmp_path: Path) -> Iterator[Callable[[int], GatewayProcess]]:
    """Starts gateways of so many workers, all on one Redis."""
    with backend_in_thread() as backend, ExitStack() as running:
        named = [
            route(f"/{name}", "plan_key", plan="standard", name=name)
            for name in ("before", "at", "after")
        ]
        routes = {"version": 1, "upstreams": upstream(backend.url), "routes": named}

        def start(workers: int) -> GatewayProcess:
            environ = {"GATEWAY_STORE__URL": redis_url, "GATEWAY_STORE__TIMEOUT": "2"}
            environ |= {"GATEWAY_LISTEN__WORKERS": str(workers)}
            folder = tmp_path / f"gateway-{len(list(tmp_path.iterdir()))}"
            gateway = GatewayProcess(folder, routes=routes, environ=environ)
            running.enter_context(gateway).start(workers)
            return gateway

        yield start


@pytest.fixture
def served(serve: Callable[[int], GatewayProcess]) -> GatewayProcess:
    """A gateway of one worker, and a plan for user 42."""
    gateway = serve(1)
    gateway.result("plans", "set", "--user", "42", "--plan", "standard")
    return gateway


def send(gateway: GatewayProcess, path: str, key: str, times: int) -> None:
    for _ in range(times):
        request = urllib.request.Request(gateway.url + path, headers={"X-Primit-API-Key": key})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200


def test_a_worker_that_is_killed_takes_along_only_what_was_not_written_yet(
    served: GatewayProcess, redis_server: RedisProcess
) -> None:
    issued = served.result("keys", "issue", "--user", "42", "--name", "ci")
    usage_key = f"gw:usage:{issued['id']}:*"

    def counted(route: str) -> int:
        with redis_server.client() as client:
            hashes = [client.hgetall(name) for name in client.keys(usage_key)]
        return sum(int(fields.get(f"requests:{route}", 0)) for fields in hashes)

    send(served, "/before", issued["key"], 20)
    until(lambda: counted("before") == 20, "the first requests are written")
    send(served, "/at", issued["key"], 5)
    (victim,) = served.workers().values()
    os.kill(victim, signal.SIGKILL)
    until(lambda: set(served.workers().values()) != {victim}, "another worker is there")
    send(served, "/after", issued["key"], 3)
    until(lambda: counted("after") == 3, "the last requests are written")
    assert counted("before") == 20
    assert counted("at") <= 5


def test_several_workers_of_several_gateways_count_each_request_once(
    serve: Callable[[int], GatewayProcess], redis_server: RedisProcess
) -> None:
    gateways = [serve(2), serve(2)]
    gateways[0].result("plans", "set", "--user", "42", "--plan", "standard")
    issued = gateways[0].result("keys", "issue", "--user", "42", "--name", "ci")
    for gateway in gateways * 5:
        send(gateway, "/before", issued["key"], 10)
    for gateway in gateways:
        gateway.terminate()
        assert gateway.wait() == 0
    with redis_server.client() as client:
        assert client.hget(f"gw:used:{issued['id']}", "requests") == "100"


def test_a_gateway_retires_a_rotated_key_that_fell_silent(
    served: GatewayProcess, redis_server: RedisProcess
) -> None:
    old = served.result("keys", "issue", "--user", "42", "--name", "ci")
    new = served.result("keys", "rotate", old["id"], "--overlap", "7d", "--when-silent", "30s")
    send(served, "/before", old["key"], 1)
    with redis_server.client() as client:
        until(lambda: client.hget(f"gw:used:{old['id']}", "requests") == "1", "it is written")
        client.hincrby(f"gw:used:{old['id']}", "last_used", -60_000)  # a minute passes
        client.zincrby("gw:retiring", -60_000, old["id"])
    until(lambda: served.result("keys", "show", old["id"])["revoked_at"], "it is retired")
    send(served, "/before", new["key"], 1)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        send(served, "/before", old["key"], 1)


def test_an_operator_rotates_a_key_and_sees_who_uses_the_old_one(served: GatewayProcess) -> None:
    old = served.result("keys", "issue", "--user", "42", "--name", "ci")
    words = ("--overlap", "7d", "--when-silent", "24h")
    new = served.result("keys", "rotate", old["id"], *words)
    assert list(new) == ["id", "key", "user_id", "name", "created_at", "replaces"]
    assert new["replaces"]["id"] == old["id"]
    assert new["replaces"]["silent_for"] == 86_400
    send(served, "/before", old["key"], 2)
    send(served, "/after", new["key"], 1)
    until(lambda: served.result("keys", "show", new["id"])["requests"] == 1, "both are written")
    shown = served.result("keys", "show", old["id"])
    assert (shown["replaced_by"], shown["requests"]) == (new["id"], 2)
    assert shown["last_used_from"] == "127.0.0.1"
    by_route = served.result("keys", "usage", old["id"], "--by", "route")
    assert "by_day" not in by_route
    assert [(row["route"], row["requests"]) for row in by_route["by_route"]] == [("before", 2)]
    text = served.command("keys", "usage", old["id"], "--days", "1").stdout
    assert re.search(r"^ROUTE +REQUESTS", text, re.MULTILINE)
    assert re.search(r"^before +2 ", text, re.MULTILINE)
    assert old["key"] not in text


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("--overlap", "soon"), "overlap must be a duration as in 7d, 24h, 90m or 30s", 2),
        (("--overlap", "7d", "--when-silent", "1s"), "when_silent must be 30s or more", 2),
        (("--overlap", "24h", "--when-silent", "1d"), "must be shorter than overlap", 2),
    ],
)
def test_a_bad_duration_is_told(served: GatewayProcess, words, said, code) -> None:
    key_id = served.result("keys", "issue", "--user", "42", "--name", "ci")["id"]
    done = served.command("keys", "rotate", key_id, *words)
    assert done.returncode == code
    assert said in done.stderr
    assert len(served.result("keys", "list")) == 1
