"""Acknowledged revocation on real processes: two gateways of two workers each, and one Redis.

The second one's news come late: without an acknowledgement it would admit what was revoked.
"""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from backend import RawBackend, Received, backend_in_thread
from gateway_process import GatewayProcess, until
from harness import ENVIRON, read_answer, route, upstream
from late_news import late_news
from redis_process import RedisProcess

from gateway.admin.operations import OPERATIONS, Context, open_context
from gateway.identity.tokens import AppTokens
from gateway.settings import load_settings

WORKERS = 4
SPREAD = 12  # connections to each gateway: one of two workers gets none once in 2^11
REVOCATIONS = 40
LOAD, REQUESTS = 8, 100  # clients that never stop, and how much each asks on a connection
LATE_SECONDS = 0.4  # longer than a command takes to end once it is done
ADMIN_TOKEN = "an-admin-token-of-more-than-32-bytes"
EMAIL = "jane@example.com"
KEYED = {"auth": "plan_key", "plan": "standard"}


def table(backend: RawBackend) -> dict[str, Any]:
    routes = [
        route("/keyed", name="keyed", **KEYED),
        route("/me", "app_token", name="me"),
        route("/registered", "registered_key", name="registered", methods=["POST"]),
    ]
    return {"version": 1, "upstreams": upstream(backend.url), "routes": routes}


@contextlib.contextmanager
def serving(
    folder: Path, redis: RedisProcess, backend: RawBackend, late: float
) -> Iterator[list[GatewayProcess]]:
    environ = {
        "GATEWAY_LISTEN__WORKERS": "2",
        "GATEWAY_RATE_LIMIT__ENABLED": "false",
        "GATEWAY_STORE__TIMEOUT": "2",
        "GATEWAY_ADMIN__TOKEN": ADMIN_TOKEN,
    }
    with late_news(redis.port, late) as late_url, contextlib.ExitStack() as running:
        both = [
            GatewayProcess(
                folder / name,
                routes=table(backend),
                environ=environ | {"GATEWAY_STORE__URL": url},
            )
            for name, url in (("one", redis.url), ("two", late_url))
        ]
        for gateway in both:
            running.enter_context(gateway).launch()
        for gateway in both:
            until(lambda gateway=gateway: len(gateway.workers()) == 2, "two workers are ready")
        yield both


@pytest.fixture
def backend() -> Iterator[RawBackend]:
    with backend_in_thread() as running:
        yield running


@pytest.fixture
def gateways(
    redis_url: str, redis_server: RedisProcess, backend: RawBackend, tmp_path: Path
) -> Iterator[list[GatewayProcess]]:
    """On an empty Redis (`redis_url`)."""
    with serving(tmp_path, redis_server, backend, LATE_SECONDS) as both:
        yield both


def statuses(gateways: list[GatewayProcess], ask: Callable[[Any], None]) -> set[int]:
    """What the workers of all gateways answer to what `ask` sends."""
    seen = set()
    for gateway in gateways:
        for _ in range(SPREAD):
            with closing(http.client.HTTPConnection("127.0.0.1", gateway.port)) as connection:
                ask(connection)
                seen.add(connection.getresponse().status)
    return seen


def new_key(gateway: GatewayProcess, plan: str = "standard") -> dict[str, Any]:
    gateway.result("plans", "set", "--user", "42", "--plan", plan)
    issued: dict[str, Any] = gateway.result("keys", "issue", "--user", "42", "--name", "ci")
    return issued


def asks_with_key(key: str) -> Callable[[Any], None]:
    headers = {"X-Primit-API-Key": key}
    return lambda connection: connection.request("GET", "/keyed", headers=headers)


def asks_with_email(email: str) -> Callable[[Any], None]:
    headers = {"Content-Type": "application/json"}
    body = json.dumps({"email": email})
    return lambda connection: connection.request("POST", "/registered", body, headers)


def asks_with_token(token: str) -> Callable[[Any], None]:
    headers = {"Authorization": f"Bearer {token}"}
    return lambda connection: connection.request("GET", "/me", headers=headers)


async def token_of(redis_url: str, user_id: int) -> str:
    settings = load_settings(None, ENVIRON | {"GATEWAY_STORE__URL": redis_url})
    async with open_context(settings, timeout_seconds=5) as context:
        return AppTokens(settings.app_tokens).issue(await context.users.show(user_id))


ENDS_OF_TOKENS: dict[str, tuple[str, ...]] = {
    "tokens": ("users", "revoke-tokens", "42"),
    "disable": ("users", "disable", "42"),
    "unlink": ("users", "unlink", "42", "google"),
    "delete": ("users", "delete", "42"),
    "one token": ("tokens", "revoke"),
    "all tokens": ("tokens", "revoke", "--all"),
}


KINDS = ("key", "plan", "lower plan", "vault remove", "vault disable", *ENDS_OF_TOKENS)


@pytest.mark.parametrize("kind", KINDS)
def test_when_the_command_returns_no_worker_admits_it(
    gateways: list[GatewayProcess], redis_url: str, kind: str
) -> None:
    gateway = gateways[0]
    issued = new_key(gateway)
    refused, ask, given = 403, asks_with_key(issued["key"]), None
    match kind:
        case "key":
            refused, words = 401, ("keys", "revoke", issued["id"])
        case "plan":
            words = ("plans", "revoke", "--user", "42")
        case "lower plan":
            words = ("plans", "set", "--user", "42", "--plan", "free")
        case "vault remove" | "vault disable":
            pair = json.dumps({"api_key": "k", "api_secret": "s"})
            gateway.result("vault", "add", EMAIL, given=pair)
            words, ask = (*kind.split(), EMAIL), asks_with_email(EMAIL)
        case _:
            token = asyncio.run(token_of(redis_url, 42))
            refused, ask, words = 401, asks_with_token(token), ENDS_OF_TOKENS[kind]
            given = token if kind == "one token" else None
    assert statuses(gateways, ask) == {200}
    told = gateway.result(*words, given=given)
    assert statuses(gateways, ask) == {refused}
    assert (told["confirmed"], told["unconfirmed"]) == (WORKERS, [])


def test_when_a_logout_is_answered_no_worker_admits_the_token(
    gateways: list[GatewayProcess], redis_url: str
) -> None:
    new_key(gateways[0])
    token, other = (asyncio.run(token_of(redis_url, 42)) for _ in range(2))
    assert statuses(gateways, asks_with_token(token)) == {200}
    connection = http.client.HTTPConnection("127.0.0.1", gateways[0].port, timeout=20)
    with closing(connection):
        headers = {"Authorization": f"Bearer {token}"}
        connection.request("POST", "/auth/logout", headers=headers)
        told = json.loads(connection.getresponse().read())
    assert statuses(gateways, asks_with_token(token)) == {401}
    assert (told["success"], told["everywhere"]) == (True, True)
    assert statuses(gateways, asks_with_token(other)) == {200}


@dataclass(frozen=True)
class Issued:
    """A credential: the request that asks with it, and the operation that ends it."""

    head: str
    operation: str
    arguments: dict[str, Any]


async def issued_key(context: Context) -> Issued:
    issued = await OPERATIONS["keys.issue"].run(context, user=42, name="ci")
    field = f"X-Primit-API-Key: {issued['key']}"
    return Issued(f"GET /keyed HTTP/1.1\r\n{field}", "keys.revoke", {"id": issued["id"]})


async def issued_token(context: Context) -> Issued:
    tokens = AppTokens(context.settings.app_tokens)
    token = tokens.issue(await context.users.show(42))
    arguments = {"user": 42, "jti": tokens.verify(token).jti}
    field = f"Authorization: Bearer {token}"
    return Issued(f"GET /me HTTP/1.1\r\n{field}", "tokens.revoke", arguments)


@pytest.mark.parametrize("issue", [issued_key, issued_token])
def test_of_requests_that_begin_after_a_revocation_none_is_admitted(
    redis_url: str,
    redis_server: RedisProcess,
    backend: RawBackend,
    tmp_path: Path,
    issue: Callable[[Context], Awaitable[Issued]],
) -> None:
    with serving(tmp_path, redis_server, backend, late=0.02) as gateways:
        asyncio.run(revoked_under_load(gateways, redis_url, issue))


async def revoked_under_load(
    gateways: list[GatewayProcess], redis_url: str, issue: Callable[[Context], Awaitable[Issued]]
) -> None:
    """The load is on while credentials are revoked, one after the other, as the command does it."""
    ports = [gateway.port for gateway in gateways]
    answers: list[tuple[float, str, int]] = []  # when it was sent, what, the status

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str) -> int:
        sent = time.monotonic()
        writer.write(f"{text}\r\nHost: t\r\n\r\n".encode())
        status = int((await read_answer(reader)).split()[1])
        answers.append((sent, text, status))
        return status

    async def load(port: int) -> None:
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with closing(writer):
                for _ in range(REQUESTS):
                    await ask(reader, writer, current.head)

    async def once(port: int, text: str) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with closing(writer):
            return await ask(reader, writer, text)

    returned: dict[str, float] = {}
    settings = load_settings(None, ENVIRON | {"GATEWAY_STORE__URL": redis_url})
    async with open_context(settings, timeout_seconds=5) as context, asyncio.timeout(60):
        await OPERATIONS["plans.set"].run(context, user=42, plan="standard")
        current = await issue(context)
        clients = [asyncio.create_task(load(port)) for port in ports for _ in range(LOAD)]
        for _ in range(REVOCATIONS):
            text = current.head
            assert {await once(port, text) for port in ports for _ in range(4)} == {200}
            told = await OPERATIONS[current.operation].run(context, **current.arguments)
            returned[text] = time.monotonic()
            assert (told["confirmed"], told["unconfirmed"]) == (WORKERS, [])
            after = await asyncio.gather(*(once(port, text) for port in ports for _ in range(4)))
            assert set(after) == {401}
            current = await issue(context)
        for client in clients:
            client.cancel()
        ended = await asyncio.gather(*clients, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended
    late = [status for sent, text, status in answers if sent > returned.get(text, sent)]
    assert len(late) > REVOCATIONS * 8
    assert set(late) == {401}
    assert sum(status == 200 for _, _, status in answers) > REVOCATIONS * 8


def test_the_admin_listener_answers_when_every_worker_has_confirmed(
    gateways: list[GatewayProcess],
) -> None:
    issued = new_key(gateways[0])
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "application/json"}
    ask = asks_with_key(issued["key"])
    assert statuses(gateways, ask) == {200}
    admin = http.client.HTTPConnection("127.0.0.1", gateways[0].admin_port, timeout=20)
    with closing(admin):
        admin.request("POST", "/api/keys.revoke", json.dumps({"id": issued["id"]}), headers)
        told = json.loads(admin.getresponse().read())
    assert statuses(gateways, ask) == {401}
    assert (told["id"], told["confirmed"], told["unconfirmed"]) == (issued["id"], WORKERS, [])


async def stream(
    _backend: RawBackend, _received: Received, _: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b"tick\n")
        await writer.drain()
        await asyncio.sleep(0.05)


def test_downloads_of_a_revoked_key_end_on_every_gateway(
    gateways: list[GatewayProcess], backend: RawBackend
) -> None:
    issued = new_key(gateways[0])
    backend.script = stream
    with contextlib.ExitStack() as opened:
        answers = []
        for gateway in gateways:
            for _ in range(SPREAD):
                connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
                opened.enter_context(closing(connection))
                asks_with_key(issued["key"])(connection)
                answers.append(connection.getresponse())
        assert {(answer.status, answer.read(5)) for answer in answers} == {(200, b"tick\n")}
        gateways[0].result("keys", "revoke", issued["id"])
        for answer in answers:
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                answer.read()


def test_a_frozen_worker_is_named_and_when_it_goes_on_it_admits_nobody(
    gateways: list[GatewayProcess],
) -> None:
    gateway = gateways[0]
    issued = new_key(gateway)
    ask = asks_with_key(issued["key"])
    assert statuses(gateways, ask) == {200}
    pid = gateways[1].workers()[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        done = gateway.command("keys", "revoke", issued["id"], "--output", "json")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert statuses(gateways, ask) == {401}
    told = json.loads(done.stdout)
    assert told["confirmed"] == WORKERS - 1
    (name,) = told["unconfirmed"]
    assert name.endswith(f"/0-{pid}")
    assert told["revoked_at"] is not None
    assert done.returncode == 1
    assert "not confirmed by all" in done.stderr
    again = gateway.result("keys", "revoke", issued["id"])
    assert (again["confirmed"], again["unconfirmed"]) == (WORKERS, [])


def test_a_worker_that_was_killed_is_not_waited_for_nor_named(
    gateways: list[GatewayProcess],
) -> None:
    gateway = gateways[0]
    issued = new_key(gateway)
    for number in (0, 1):
        os.kill(gateways[1].workers()[number], signal.SIGKILL)
    told = gateway.result("keys", "revoke", issued["id"])
    assert told["unconfirmed"] == []
    until(lambda: len(set(gateways[1].workers().values())) == 2, "both have successors")

    def all_there() -> bool:
        told = gateway.result("keys", "revoke", issued["id"])
        assert told["unconfirmed"] == []
        return bool(told["confirmed"] == WORKERS)

    until(all_there, "all four confirm")


def test_a_gateway_that_died_is_named_until_its_copies_are_too_old_and_not_waited_for(
    gateways: list[GatewayProcess],
) -> None:
    gateway, other = gateways
    issued = new_key(gateway)
    os.killpg(other.pid, signal.SIGKILL)

    def at_once() -> bool:
        done = gateway.command("keys", "revoke", issued["id"], "--output", "json")
        told = json.loads(done.stdout)
        assert (done.returncode, told["confirmed"], len(told["unconfirmed"])) == (1, 2, 2)
        return bool(told["seconds"] < 1)

    until(at_once, "it is not waited for any more")


def test_a_gateway_that_ends_takes_its_workers_names_away(gateways: list[GatewayProcess]) -> None:
    gateway, other = gateways
    until(lambda: gateway.metric("gateway_workers_live") == WORKERS, "all are counted")
    other.terminate()
    assert other.wait() == 0
    issued = new_key(gateway)
    told = gateway.result("keys", "revoke", issued["id"])
    assert (told["confirmed"], told["unconfirmed"]) == (2, [])
    until(lambda: gateway.metric("gateway_workers_live") == 2, "two are counted")


def test_what_redis_cli_deletes_is_dead_when_that_is_heard(
    gateways: list[GatewayProcess], redis_server: RedisProcess
) -> None:
    issued = new_key(gateways[0])
    ask = asks_with_key(issued["key"])
    assert statuses(gateways, ask) == {200}
    with redis_server.client() as client:
        digest = client.get(f"gw:keyid:{issued['id']}")
        client.delete(f"gw:key:{digest}")
    until(lambda: statuses(gateways, ask) == {401}, "every worker has heard of it")
