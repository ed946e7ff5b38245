"""Everybody's first sign-in at once, on four worker processes: one person is one user.

The requests lie ready on open connections of all workers, each from an address of its own.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from clusters import Cluster
from gateway_process import GatewayProcess
from harness import read_answer
from stand_ins import AppleStandIn, GoogleStandIn

from gateway.identity.user import parse
from gateway.sections import StoreSettings
from gateway.store.redis import Store

WORKERS = 4
SIGN_INS = 200
ROUNDS = 2
PATIENT = {"GATEWAY_STORE__TIMEOUT": "10"}


@pytest.fixture(params=["one server", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "cluster":
        cluster: Cluster = request.getfixturevalue("cluster")
        return cluster.url
    found: str = request.getfixturevalue("redis_url")
    return found


@pytest.fixture
async def providers() -> AsyncIterator[tuple[GoogleStandIn, AppleStandIn]]:
    async with GoogleStandIn() as google, AppleStandIn() as apple:
        yield google, apple


@pytest.fixture
async def gateway(url: str, providers: Any, tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    google, apple = providers
    config = {
        "listen": {"workers": WORKERS},
        "store": {"url": url},
        "client_ip": {"trusted_proxies": ["127.0.0.0/8"]},
        "google": {"audiences": [google.audience], "certificates_url": google.url},
        "apple": {"audiences": [apple.audience], "keys_url": apple.url},
    }
    routes = {"version": 1, "upstreams": {}, "routes": []}
    with GatewayProcess(tmp_path, routes=routes, config=config, environ=PATIENT) as process:
        await asyncio.to_thread(process.start, WORKERS)
        yield process


@contextlib.asynccontextmanager
async def at_hand(
    gateway: GatewayProcess,
) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    connections = [
        await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(SIGN_INS)
    ]
    try:
        yield connections
    finally:
        for _, writer in connections:
            writer.transport.abort()


def request(number: int, path: str, body: dict[str, str]) -> bytes:
    text = json.dumps(body).encode()
    head = (
        f"POST /auth/mobile/{path} HTTP/1.1\r\nHost: gateway\r\n"
        f"X-Forwarded-For: 10.0.{number // 250}.{number % 250 + 1}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    )
    return head.encode() + text


def user_of(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), answer
    user: dict[str, Any] = json.loads(body)["user"]
    return user


@pytest.mark.parametrize("by", [("google",), ("apple",), ("google", "apple")], ids="+".join)
async def test_first_sign_ins_at_once_make_one_user(
    gateway: GatewayProcess, url: str, providers: Any, by: tuple[str, ...]
) -> None:
    google, apple = providers
    store = await Store.open(StoreSettings(url=url, timeout=10))
    try:
        for person in range(ROUNDS):
            email = f"{person}@example.com"
            subjects = {"google": f"10672{person}", "apple": f"001234.{person}"}
            bodies = {
                "google": {"id_token": google.token(sub=subjects["google"], email=email)},
                "apple": {"identity_token": apple.token(sub=subjects["apple"], email=email)},
            }
            async with at_hand(gateway) as connections:
                for number, (_, writer) in enumerate(connections):
                    provider = by[number % len(by)]
                    writer.write(request(number, provider, bodies[provider]))
                answers = await asyncio.gather(*(read_answer(reader) for reader, _ in connections))
            ids = {user_of(answer)["id"] for answer in answers}
            assert len(ids) == 1
            (user_id,) = ids
            found = await records(store)
            assert len(found) == person + 1, "one record for each person, and no other"
            user = parse(str(user_id), found[f"gw:user:{user_id}"])
            assert user is not None
            assert user.own_email == email
            for provider in ("google", "apple"):
                subject = subjects[provider] if provider in by else None
                assert getattr(user, f"{provider}_id") == subject
            assert await store.client.pttl(f"gw:user:{user_id}") == -1
            events = [(event["event"], event["provider"]) for event in user.history()]
            assert [event for event, _ in events] == ["created", "linked"][: len(by)]
            assert {provider for _, provider in events} == set(by)
            indexes = [f"email:{email}", *(f"{provider}:{subjects[provider]}" for provider in by)]
            for index in indexes:
                assert await store.client.get(f"gw:user:by:{index}") == str(user_id)
    finally:
        await store.close()


async def records(store: Store) -> dict[str, dict[str, str]]:
    names = [name async for names in store.scan("gw:user:[0-9]*") for name in names]
    return {name: await store.client.hgetall(name) for name in names}
