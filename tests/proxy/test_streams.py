"""A stream, a download or an upload lives no longer than what admitted it, on a real Redis."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from backend import RawBackend, Received
from harness import Running, open_gateway, route, upstream
from redis_process import RedisProcess, eventually

from gateway.store.keys import digest

EVENT = b"data: tick\n\n"
PIECE = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
KEYED = {"auth": "plan_key", "plan": "standard"}
REVOKED_AT = "2026-01-01T00:00:00"


async def stream(
    backend: RawBackend, received: Received, reader: asyncio.StreamReader, writer: Any
) -> None:
    """An event every tenth of a second; on /slow nothing until the test says so; /up is read."""
    path = received.line.split()[1]
    if path == b"/slow":
        await backend.may_answer.wait()  # type: ignore[attr-defined]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        return
    if path == b"/up":
        await reader.read()
        raise ConnectionError
    writer.write(CHUNKED)
    while True:
        writer.write(PIECE)
        await writer.drain()
        await asyncio.sleep(0.1)


@pytest.fixture
async def backend() -> AsyncIterator[RawBackend]:
    backend = RawBackend(script=stream, read_bodies=False)
    backend.may_answer = asyncio.Event()  # type: ignore[attr-defined]
    await backend.start()
    yield backend
    await backend.stop()


def table(backend: RawBackend) -> dict[str, Any]:
    routes = [
        route("/keyed", name="keyed", **KEYED),
        route("/slow", name="slow", **KEYED),
        route("/up", name="up", **KEYED),
        route("/reported", name="reported", enforce=False, **KEYED),
        route("/me", "app_token", name="me"),
        route("/registered", "registered_key", name="registered", inject=True, max_body=1000),
        route("/owned", "registered_key", name="owned", owner="app_token", inject=True),
        route("/public", name="public"),
    ]
    return {"upstreams": upstream(backend.url), "routes": routes}


def settings(url: str, **more: Any) -> dict[str, Any]:
    return {"rate_limit": {"enabled": False}, "store": {"url": url, "timeout": 2.0}, **more}


@pytest.fixture
async def gateway(backend: RawBackend, redis_url: str, tmp_path: Path) -> AsyncIterator[Running]:
    async with open_gateway(tmp_path, table(backend), settings(redis_url)) as running:
        yield running


async def new_key(gateway: Running, user: int = 42) -> str:
    await gateway.parts.plans.set(user, "standard")
    return (await gateway.parts.keys.issue(user))[1]


async def new_token(gateway: Running) -> str:
    return gateway.parts.tokens.issue(await gateway.parts.users.create("user@example.com"))


async def revoke(gateway: Running, key: str) -> None:
    """Past the gateway, as by the billing service."""
    await gateway.parts.store.client.hset(f"gw:key:{digest(key)}", "revoked_at", REVOKED_AT)


def by_key(key: str) -> bytes:
    return f"X-Primit-API-Key: {key}".encode()


def by_token(token: str) -> bytes:
    return f"Authorization: Bearer {token}".encode()


@contextlib.asynccontextmanager
async def request(
    gateway: Running, path: bytes, *headers: bytes, body: bytes = b""
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    method = b"POST" if body else b"GET"
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: test", *headers]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    writer.write(b"\r\n".join([*lines, b"", body]))
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.transport.abort()


async def flows(reader: asyncio.StreamReader) -> bool:
    """Has it begun, or does it go on?"""
    return EVENT in await reader.readuntil(EVENT)


async def is_cut(reader: asyncio.StreamReader) -> bool:
    """It ends, and not well."""
    try:
        return not (await reader.read()).endswith(b"0\r\n\r\n")
    except ConnectionError:
        return True


async def test_a_revoked_key_ends_its_streams_and_no_others(gateway: Running) -> None:
    key, other = await new_key(gateway), await new_key(gateway)
    async with (
        request(gateway, b"/keyed", by_key(key)) as (one, _),
        request(gateway, b"/keyed", by_key(key)) as (two, _),
        request(gateway, b"/keyed", by_key(other)) as (stays, _),
        request(gateway, b"/public", by_key(key)) as (public, _),
        request(gateway, b"/reported", by_key(key)) as (reported, _),
    ):
        for reader in (one, two, stays, public, reported):
            assert await flows(reader)
        await revoke(gateway, key)
        assert await is_cut(one)
        assert await is_cut(two)
        await asyncio.sleep(1)
        for reader in (stays, public, reported):
            await reader.read(1 << 16)
            assert await flows(reader)
    await eventually(lambda: len(gateway.log()) == 5)
    ended = [line for line in gateway.log() if line["reason"] == "invalid_key"]
    assert [(line["route"], line["status"]) for line in ended] == [("keyed", 200)] * 2


async def test_a_plan_that_is_taken_away_ends_its_streams(gateway: Running) -> None:
    key, other = await new_key(gateway), await new_key(gateway, user=7)
    async with (
        request(gateway, b"/keyed", by_key(key)) as (reader, _),
        request(gateway, b"/keyed", by_key(other)) as (stays, _),
    ):
        assert await flows(reader)
        await gateway.parts.plans.revoke(42)
        assert await is_cut(reader)
        await stays.read(1 << 16)
        assert await flows(stays)


async def test_tokens_that_are_ended_end_their_streams(gateway: Running) -> None:
    token = await new_token(gateway)
    async with request(gateway, b"/me", by_token(token)) as (reader, _):
        assert await flows(reader)
        await gateway.parts.users.revoke_tokens(1)
        assert await is_cut(reader)


@pytest.mark.parametrize("gone", ["removed", "switched off"])
async def test_a_registered_key_ends_its_streams_and_till_then_they_go_on(
    gateway: Running, gone: str
) -> None:
    vault, email = gateway.parts.vault, "user@example.com"
    await vault.add(email, "k", "s")
    header = by_token(await new_token(gateway))
    body = json.dumps({"email": email}).encode()
    async with (
        request(gateway, b"/registered", body=body) as (one, _),
        request(gateway, b"/owned", header, body=body) as (two, _),
    ):
        for reader in (one, two):
            assert await flows(reader)
        await asyncio.sleep(1)
        for reader in (one, two):
            await reader.read(1 << 16)
            assert await flows(reader)
        if gone == "removed":
            assert await vault.remove(email)
        else:
            await gateway.parts.store.client.hset(f"gw:vault:{email}", "is_active", "0")
        assert await is_cut(one)
        assert await is_cut(two)


async def test_an_owner_whose_tokens_are_ended_is_none_any_more(gateway: Running) -> None:
    await gateway.parts.vault.add("user@example.com", "k", "s")
    header = by_token(await new_token(gateway))
    body = json.dumps({"email": "user@example.com"}).encode()
    async with request(gateway, b"/owned", header, body=body) as (reader, _):
        assert await flows(reader)
        await gateway.parts.users.revoke_tokens(1)
        assert await is_cut(reader)


async def test_a_revoked_key_ends_its_uploads_with_a_401(gateway: Running) -> None:
    key = await new_key(gateway)
    headers = (by_key(key), b"Transfer-Encoding: chunked")
    async with request(gateway, b"/up", *headers) as (reader, writer):
        writer.write(b"5\r\nhello\r\n")
        await asyncio.sleep(0.5)
        await revoke(gateway, key)
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401 ")


async def test_who_has_sent_all_and_waits_is_answered(
    gateway: Running, backend: RawBackend
) -> None:
    key = await new_key(gateway)
    async with request(gateway, b"/slow", by_key(key)) as (reader, _):
        await eventually(lambda: len(backend.requests) == 1)
        await revoke(gateway, key)
        await asyncio.sleep(1.2)
        backend.may_answer.set()  # type: ignore[attr-defined]
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_what_can_not_be_checked_goes_on_until_it_can(
    backend: RawBackend, redis_process: RedisProcess, tmp_path: Path
) -> None:
    brief = settings(redis_process.url, keys={"stale_for": 0})
    async with open_gateway(tmp_path, table(backend), brief) as gateway:
        key = await new_key(gateway)
        async with request(gateway, b"/keyed", by_key(key)) as (reader, _):
            assert await flows(reader)
            redis_process.stop()
            await eventually(lambda: not gateway.parts.store.available)
            await asyncio.sleep(1)
            await reader.read(1 << 16)
            assert await flows(reader)
            redis_process.start()
            with redis_process.client() as client:
                client.hset(f"gw:key:{digest(key)}", "revoked_at", REVOKED_AT)
            assert await is_cut(reader)


async def test_short_requests_are_not_asked_again(gateway: Running, backend: RawBackend) -> None:
    key = await new_key(gateway)
    backend.script = None
    until = time.monotonic() + 1
    asked = 0
    while time.monotonic() < until:
        async with request(gateway, b"/keyed", by_key(key)) as (reader, _):
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
        asked += 1
    keys = gateway.parts.keys.copies
    assert keys.hits + keys.misses == asked
