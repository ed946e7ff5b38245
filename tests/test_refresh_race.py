"""Fifty at once with one refresh token, on two gateways of two workers each, and one Redis."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from backend import RawBackend, backend_in_thread
from gateway_process import TOKEN_SECRET, GatewayProcess, until
from harness import route, upstream
from pydantic import SecretStr
from redis_process import RedisProcess

from gateway.identity.sessions import Sessions
from gateway.identity.tokens import AppTokens
from gateway.identity.users import Users
from gateway.sections import AppTokenSettings, KeySettings, RefreshSettings, StoreSettings
from gateway.store.redis import Store
from gateway.tokenfile import TokenKey

MANY = 50
SESSIONS = 6


@pytest.fixture
def backend() -> Iterator[RawBackend]:
    with backend_in_thread() as running:
        yield running


@pytest.fixture(params=[0, 30], ids=["without grace", "with grace"])
def grace(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def gateways(
    redis_url: str, backend: RawBackend, tmp_path: Path, grace: int
) -> Iterator[list[GatewayProcess]]:
    table = {
        "version": 1,
        "upstreams": upstream(backend.url),
        "routes": [route("/me", "app_token", name="me")],
    }
    config = {
        "listen": {"workers": 2},
        "store": {"url": redis_url, "timeout": 2},
        "rate_limit": {"enabled": False},
        "app_tokens": {"lifetime": 600, "refresh": {"grace": grace, "requests": 100_000}},
    }
    with ExitStack() as running:
        both = [
            running.enter_context(GatewayProcess(tmp_path / name, routes=table, config=config))
            for name in ("one", "two")
        ]
        for gateway in both:
            gateway.launch()
        for gateway in both:
            until(lambda gateway=gateway: len(gateway.workers()) == 2, "two workers are ready")
        yield both


async def new_refresh_tokens(redis_url: str) -> list[str]:
    """Of sessions of one user."""
    secret = TokenKey(id="k1", secret=SecretStr(TOKEN_SECRET))
    settings = AppTokenSettings(lifetime=600, secrets=(secret,), refresh=RefreshSettings())
    store = await Store.open(StoreSettings(url=redis_url, timeout=5))
    users = Users(store, KeySettings())
    sessions = Sessions(store, users, AppTokens(settings), settings)
    user = await users.sign_in("google", "sub", None, email_verified=False, name=None)
    grants = [await sessions.begin(user) for _ in range(SESSIONS)]
    await store.close()
    return [str(grant.refresh_token) for grant in grants]


async def race(gateways: list[GatewayProcess], refresh_token: str) -> list[tuple[int, Any]]:
    """Each on a connection of its own, all of them ready before the first is asked."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(number: int) -> tuple[int, Any]:
            url = f"{gateways[number % len(gateways)].url}/auth/refresh"
            async with session.post(url, json={"refresh_token": refresh_token}) as answer:
                return answer.status, json.loads(await answer.read())

        return await asyncio.gather(*(ask(number) for number in range(MANY)))


async def status(gateways: list[GatewayProcess], access_token: str) -> set[int]:
    headers = {"Authorization": f"Bearer {access_token}"}
    statuses = set()
    for gateway in gateways:
        for _ in range(6):
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{gateway.url}/me", headers=headers) as answer,
            ):
                statuses.add(answer.status)
    return statuses


def test_exactly_one_wins_or_all_get_the_same(
    gateways: list[GatewayProcess], redis_url: str, redis_server: RedisProcess, grace: int
) -> None:
    asyncio.run(races(gateways, redis_url, grace))
    with redis_server.client() as client:
        record = client.hgetall("gw:user:1")
    sessions = [name for name in record if name.startswith("session:")]
    assert len(sessions) == (SESSIONS if grace else 0)
    assert len(record.get("revoked_tokens", "").split()) == (0 if grace else SESSIONS)


async def races(gateways: list[GatewayProcess], redis_url: str, grace: int) -> None:
    for refresh_token in await new_refresh_tokens(redis_url):
        answers = await race(gateways, refresh_token)
        granted = [value for status, value in answers if status == 200]
        assert len({value["refresh_token"] for value in granted}) == 1
        assert len({value["access_token"] for value in granted}) == len(granted)
        told = Counter(status for status, _ in answers)
        assert told == ({200: MANY} if grace else {200: 1, 401: MANY - 1})
        # Without a grace somebody used it twice, and nobody knows who is the thief.
        for value in granted[:3]:
            assert await status(gateways, value["access_token"]) == {200 if grace else 401}
        after = Counter(status for status, _ in await race(gateways, granted[0]["refresh_token"]))
        assert after == ({200: MANY} if grace else {401: MANY})
