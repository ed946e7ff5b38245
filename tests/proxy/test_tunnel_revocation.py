"""A socket lives no longer than what opened it: keys, plans and tokens, on a real Redis."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from backend import RawBackend
from harness import Running, open_gateway, route, upstream
from redis_process import RedisProcess, eventually
from tunnels import agree, echo, frame, handshake, opened

from gateway.store.keys import digest
from gateway.store.times import iso_utc

CLOSE_1008 = b"\x88\x02\x03\xf0"
KEYED = {"auth": "plan_key", "plan": "standard", "websocket": True}


@pytest.fixture
async def backend() -> AsyncIterator[RawBackend]:
    backend = await RawBackend(script=agree(echo)).start()
    yield backend
    await backend.stop()


def table(backend: RawBackend) -> dict[str, Any]:
    routes = [
        route("/keyed", name="keyed", **KEYED),
        route("/reported", name="reported", enforce=False, **KEYED),
        route("/me", "app_token", name="me", websocket=True),
        route("/scoped", "app_token", name="scoped", websocket=True, subprotocol_credential=True),
        route("/ws", name="ws", websocket=True),
    ]
    return {"upstreams": upstream(backend.url), "routes": routes}


def settings(url: str, **more: Any) -> dict[str, Any]:
    return {"rate_limit": {"requests": 100_000}, "store": {"url": url, "timeout": 2.0}, **more}


@pytest.fixture
async def gateway(backend: RawBackend, redis_url: str, tmp_path: Path) -> AsyncIterator[Running]:
    async with open_gateway(tmp_path, table(backend), settings(redis_url)) as running:
        yield running


async def new_key(gateway: Running, *, user: int = 42, until: str | None = None) -> str:
    """Of a user whose plan ends at `until`."""
    await gateway.parts.plans.set(user, "standard", until)
    return (await gateway.parts.keys.issue(user))[1]


async def new_token(gateway: Running) -> str:
    return gateway.parts.tokens.issue(await gateway.parts.users.create("user@example.com"))


def by_key(key: str) -> bytes:
    return f"X-Primit-API-Key: {key}".encode()


def by_token(token: str) -> bytes:
    return f"Authorization: Bearer {token}".encode()


async def hset(gateway: Running, name: str, field: str, value: str) -> None:
    """Written past the gateway, as by the billing service."""
    await gateway.parts.store.client.hset(name, field, value)


async def is_open(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(frame(b"still?"))
    return await reader.read(100) == frame(b"still?")


async def test_a_revoked_key_ends_its_sockets_and_no_others(gateway: Running) -> None:
    key, other = await new_key(gateway), await new_key(gateway)
    async with (
        opened(gateway, b"/keyed", by_key(key)) as (_, one, _w),
        opened(gateway, b"/keyed", by_key(key)) as (_, two, writer_two),
        opened(gateway, b"/keyed", by_key(other)) as (_, three, writer_three),
        opened(gateway, b"/ws", by_key(key)) as (_, public, writer_public),
    ):
        assert await is_open(two, writer_two)
        await hset(gateway, f"gw:key:{digest(key)}", "revoked_at", "2026-01-01T00:00:00")
        assert await one.read() == CLOSE_1008
        assert await two.read() == CLOSE_1008
        assert await is_open(three, writer_three)
        assert await is_open(public, writer_public)
        refused = await gateway.talk(handshake(b"/keyed", by_key(key)))
        assert refused.startswith(b"HTTP/1.1 401 ")
    await eventually(lambda: len(gateway.log()) == 5)
    ends = sorted((line["route"], line.get("end", "-")) for line in gateway.log())
    assert ends == [
        ("keyed", "-"),
        ("keyed", "client"),
        ("keyed", "revoked"),
        ("keyed", "revoked"),
        ("ws", "client"),
    ]


async def test_a_key_ends_its_sockets_when_it_is_not_good_from_there_any_more(
    gateway: Running,
) -> None:
    key, other = await new_key(gateway), await new_key(gateway)
    async with (
        opened(gateway, b"/keyed", by_key(key)) as (_, reader, _w),
        opened(gateway, b"/keyed", by_key(other)) as (_, stays, writer),
    ):
        await hset(gateway, f"gw:key:{digest(other)}", "allow", "127.0.0.0/8")
        await hset(gateway, f"gw:key:{digest(key)}", "allow", "203.0.113.0/24")
        assert await reader.read() == CLOSE_1008
        assert await is_open(stays, writer)


async def test_a_key_ends_its_sockets_when_it_expires(gateway: Running) -> None:
    key = await new_key(gateway)
    async with opened(gateway, b"/keyed", by_key(key)) as (_, reader, _writer):
        await hset(gateway, f"gw:key:{digest(key)}", "expires_at", iso_utc(time.time() + 1))
        assert await reader.read() == CLOSE_1008


async def test_a_plan_ends_its_sockets_when_it_expires(gateway: Running) -> None:
    key = await new_key(gateway, until=iso_utc(time.time() + 2))
    other = await new_key(gateway, user=7)
    async with (
        opened(gateway, b"/keyed", by_key(key)) as (_, reader, _w),
        opened(gateway, b"/keyed", by_key(other)) as (_, stays, writer),
    ):
        assert await reader.read() == CLOSE_1008
        assert await is_open(stays, writer)


async def test_a_plan_that_is_taken_away_ends_its_sockets(gateway: Running) -> None:
    key = await new_key(gateway)
    async with opened(gateway, b"/keyed", by_key(key)) as (_, reader, _writer):
        await hset(gateway, "gw:user:42", "plan", "free")
        assert await reader.read() == CLOSE_1008


async def test_a_token_ends_its_sockets_when_its_user_ends_all_tokens(gateway: Running) -> None:
    token = await new_token(gateway)
    subprotocol = f"Sec-WebSocket-Protocol: primit.{token}".encode()
    async with (
        opened(gateway, b"/me", by_token(token)) as (_, one, _w),
        opened(gateway, b"/scoped", subprotocol) as (_, two, _w2),
    ):
        await hset(gateway, "gw:user:1", "tokens_valid_after", str(time.time() + 1))
        assert await one.read() == CLOSE_1008
        assert await two.read() == CLOSE_1008


async def test_a_token_ends_its_sockets_when_it_expires(
    backend: RawBackend, redis_url: str, tmp_path: Path
) -> None:
    short = settings(redis_url, app_tokens={"lifetime": 3})
    async with open_gateway(tmp_path, table(backend), short) as gateway:
        header = by_token(await new_token(gateway))
        async with opened(gateway, b"/me", header) as (_, reader, writer):
            assert await is_open(reader, writer)
            assert await reader.read() == CLOSE_1008


async def test_what_is_only_reported_ends_nothing(gateway: Running) -> None:
    key = await new_key(gateway)
    async with (
        opened(gateway, b"/keyed", by_key(key)) as (_, enforced, _w),
        opened(gateway, b"/reported", by_key(key)) as (_, reader, writer),
    ):
        await hset(gateway, f"gw:key:{digest(key)}", "revoked_at", "2026-01-01T00:00:00")
        assert await enforced.read() == CLOSE_1008
        await asyncio.sleep(1)
        assert await is_open(reader, writer)


async def test_what_can_not_be_checked_stays_open_until_it_can(
    backend: RawBackend, redis_process: RedisProcess, tmp_path: Path
) -> None:
    brief = settings(redis_process.url, keys={"stale_for": 0})
    async with open_gateway(tmp_path, table(backend), brief) as gateway:
        key = await new_key(gateway)
        async with opened(gateway, b"/keyed", by_key(key)) as (_, reader, writer):
            redis_process.stop()
            await eventually(lambda: not gateway.parts.store.available)
            got = await gateway.talk(handshake(b"/keyed", by_key(key)))
            assert got.startswith(b"HTTP/1.1 503 ")
            await asyncio.sleep(1)
            assert await is_open(reader, writer)
            redis_process.start()
            with redis_process.client() as client:
                client.hset(f"gw:key:{digest(key)}", "revoked_at", "2026-01-01T00:00:00")
            assert await reader.read() == CLOSE_1008


async def test_a_key_may_have_so_many_sockets_and_no_more(
    backend: RawBackend, redis_url: str, tmp_path: Path
) -> None:
    few = settings(redis_url, sockets={"max_per_key": 1})
    async with open_gateway(tmp_path, table(backend), few) as gateway:
        key, other = await new_key(gateway), await new_key(gateway)
        async with (
            opened(gateway, b"/keyed", by_key(key)),
            opened(gateway, b"/keyed", by_key(other)),
            opened(gateway, b"/ws"),
            opened(gateway, b"/ws"),
        ):
            got = await gateway.talk(handshake(b"/keyed", by_key(key)))
            assert got.startswith(b"HTTP/1.1 429 ")
        await eventually(lambda: len(gateway.parts.sockets) == 0)
        async with opened(gateway, b"/keyed", by_key(key)):
            pass
        await eventually(lambda: len(gateway.parts.sockets) == 0)
        assert not gateway.parts.sockets._by_holder
