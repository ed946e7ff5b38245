"""A disabled or deleted user gets in nowhere, at once; an unvouched email opens nothing."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from backend import RawBackend
from harness import Running, open_gateway, route, upstream
from stand_ins import GoogleStandIn
from tunnels import agree, echo, frame, opened

from gateway.identity.removal import Removal

EMAIL = "jane@example.com"
CLOSE_1008 = b"\x88\x02\x03\xf0"
Change = Callable[[Running], Awaitable[Any]]


@pytest.fixture
async def backend() -> AsyncIterator[RawBackend]:
    backend = await RawBackend().start()
    yield backend
    await backend.stop()


@pytest.fixture(params=["memory", "redis"])
async def gateway(
    request: pytest.FixtureRequest, backend: RawBackend, tmp_path: Path
) -> AsyncIterator[Running]:
    routes = [
        route("/me", "app_token", name="me", websocket=True),
        route("/planned", "plan_key", plan="standard", name="planned", websocket=True),
        route("/own", "registered_key", owner="app_token", name="own", methods=["POST"]),
    ]
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    settings = {"store": {"url": url, "timeout": 2.0}}
    table = {"upstreams": upstream(backend.url), "routes": routes}
    async with open_gateway(tmp_path, table, settings) as running:
        yield running


@pytest.fixture
async def token(gateway: Running) -> str:
    """Of user 1, who has a plan."""
    user = await gateway.parts.users.sign_in(
        "google", "g-1", EMAIL, email_verified=True, name="Jane"
    )
    await gateway.parts.plans.set(user.id, "standard")
    return gateway.parts.tokens.issue(user)


@pytest.fixture
async def key(gateway: Running, token: str) -> str:
    return (await gateway.parts.keys.issue(1))[1]


async def disable(gateway: Running) -> None:
    await gateway.parts.users.disable(1)


async def disable_elsewhere(gateway: Running) -> None:
    """As billing may, by plain HSET."""
    await gateway.parts.store.client.hset("gw:user:1", "disabled_at", "2026-01-01T00:00:00")
    gateway.parts.store.changed("gw:user:1")


async def delete(gateway: Running) -> None:
    removal = Removal(gateway.parts.store, gateway.parts.users)
    await removal.end_deletion(1, await removal.begin_deletion(1))


async def ask(gateway: Running, path: str, header: str, body: bytes | None = None) -> bytes:
    method = "GET" if body is None else "POST"
    head = f"{method} {path} HTTP/1.1\r\nHost: gateway\r\n{header}\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return await gateway.talk(head.encode() + b"\r\n" + (body or b""))


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("change", [disable, disable_elsewhere, delete])
async def test_a_token_is_refused_like_a_revoked_one(gateway: Running, token: str, change: Change):
    header = f"Authorization: Bearer {token}"
    assert status(await ask(gateway, "/me", header)) == 200
    await change(gateway)
    answer = await ask(gateway, "/me", header)
    assert status(answer) == 401
    assert b'error="invalid_token"' in answer
    assert answer.endswith(b'{"detail": "Invalid or expired token"}')


@pytest.mark.parametrize("change", [disable, disable_elsewhere])
@pytest.mark.parametrize("path", ["/planned", "/api-key/usage"])
async def test_a_plan_key_opens_nothing_while_its_user_is_disabled(
    gateway: Running, key: str, change: Change, path: str
):
    header = f"X-Primit-API-Key: {key}"
    assert status(await ask(gateway, path, header)) == 200
    await change(gateway)
    answer = await ask(gateway, path, header)
    assert status(answer) == 403
    assert answer.endswith(b'{"detail": "Account disabled"}')
    await gateway.parts.users.enable(1)
    assert status(await ask(gateway, path, header)) == 200


async def test_tokens_of_before_stay_dead_and_sign_in_gives_new_ones(gateway: Running, token: str):
    for change in (disable, disable_elsewhere):
        await change(gateway)
        await gateway.parts.users.enable(1)
        assert status(await ask(gateway, "/me", f"Authorization: Bearer {token}")) == 401
        user = await gateway.parts.users.sign_in(
            "google", "g-1", EMAIL, email_verified=True, name="Jane"
        )
        token = gateway.parts.tokens.issue(user)
        assert status(await ask(gateway, "/me", f"Authorization: Bearer {token}")) == 200


@pytest.mark.parametrize("change", [disable, disable_elsewhere, delete])
async def test_open_sockets_end(
    gateway: Running, backend: RawBackend, token: str, key: str, change: Change
):
    backend.script = agree(echo)
    async with (
        opened(gateway, b"/me", f"Authorization: Bearer {token}".encode()) as (_, one, writer),
        opened(gateway, b"/planned", f"X-Primit-API-Key: {key}".encode()) as (_, two, _w),
    ):
        writer.write(frame(b"still?"))
        assert await one.read(100) == frame(b"still?")
        await change(gateway)
        assert await one.read() == CLOSE_1008
        assert await two.read() == CLOSE_1008


@pytest.mark.parametrize(("verified", "opens"), [("1", 200), (None, 200), ("0", 403)])
async def test_an_email_that_nobody_vouches_for_is_not_told_and_owns_no_key(
    gateway: Running, backend: RawBackend, token: str, key: str, verified: str | None, opens: int
):
    """Else an account with somebody's email would trade by their Binance key."""
    client = gateway.parts.store.client
    if verified is None:
        await client.hdel("gw:user:1", "email_verified")
    else:
        await client.hset("gw:user:1", "email_verified", verified)
    gateway.parts.store.changed("gw:user:1")
    await gateway.parts.vault.add(EMAIL, "api-key", "api-secret")
    told = [] if opens == 403 else [EMAIL.encode()]
    for path, header in (
        ("/me", f"Authorization: Bearer {token}"),
        ("/planned", f"X-Primit-API-Key: {key}"),
    ):
        assert status(await ask(gateway, path, header)) == 200
        assert backend.last.all(b"X-User-Email") == told
        assert backend.last.one(b"X-User-Id") == b"1"
    body = json.dumps({"email": EMAIL}).encode()
    answer = await ask(gateway, "/own", f"Authorization: Bearer {token}", body)
    assert status(answer) == opens


async def test_sign_in_says_so(backend: RawBackend, tmp_path: Path):
    async with GoogleStandIn() as google:
        settings = {"google": {"audiences": [google.audience], "certificates_url": google.url}}
        table = {"upstreams": upstream(backend.url), "routes": []}
        body = json.dumps({"id_token": google.token(email=EMAIL)}).encode()
        async with open_gateway(tmp_path, table, settings) as gateway:
            assert status(await ask(gateway, "/auth/mobile/google", "Accept: */*", body)) == 200
            (event,) = (await gateway.parts.users.show(1)).history()
            assert (event["event"], event["address"]) == ("created", "127.0.0.1")
            await disable(gateway)
            answer = await ask(gateway, "/auth/mobile/google", "Accept: */*", body)
            assert status(answer) == 403
            assert answer.endswith(b'{"detail": "Account disabled"}')
