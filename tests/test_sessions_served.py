"""POST /auth/refresh and /auth/logout: what each cause is answered, and what it ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from backend import RawBackend
from harness import Running, open_gateway, route, upstream
from redis_process import RedisProcess, eventually
from stand_ins import GoogleStandIn
from tunnels import agree, echo, opened

BEARER = 'Bearer realm="primit"'
INVALID = f'{BEARER}, error="invalid_token"'
REFUSED = {"detail": "Invalid or expired refresh token"}
CLOSE_1008 = b"\x88\x02\x03\xf0"
ON = {"app_tokens": {"lifetime": 600, "refresh": {}}}


@asynccontextmanager
async def running(
    folder: Path, url: str, google: GoogleStandIn, **settings: Any
) -> AsyncIterator[Running]:
    backend = await RawBackend(script=agree(echo)).start()
    settings = {
        "store": {"url": url, "timeout": 2},
        "google": {"audiences": [google.audience], "certificates_url": google.url},
        "sign_in": {"requests": 1000},
    } | settings
    routes = [
        route("/users/me", "app_token", name="me", websocket=True),
        route("/auth/{rest...}", name="rest"),
    ]
    table = {"upstreams": upstream(backend.url), "routes": routes}
    async with open_gateway(folder, table, settings) as gateway:
        yield gateway
    await backend.stop()


@pytest.fixture
async def google() -> AsyncIterator[GoogleStandIn]:
    async with GoogleStandIn() as started:
        yield started


@pytest.fixture(params=["memory", "redis"])
async def gateway(
    request: pytest.FixtureRequest, google: GoogleStandIn, tmp_path: Path
) -> AsyncIterator[Running]:
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    async with running(tmp_path, url, google, **ON) as started:
        yield started


class Answer:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers = status, headers
        self.value = json.loads(body) if body else None
        self.challenge = headers.get("WWW-Authenticate")


async def ask(
    gateway: Running, method: str, path: str, body: Any = None, token: str | None = None
) -> Answer:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, gateway.url + path, data=data, headers=headers) as response,
    ):
        return Answer(response.status, response.headers, await response.read())


async def sign_in(gateway: Running, google: GoogleStandIn) -> dict[str, Any]:
    answer = await ask(gateway, "POST", "/auth/mobile/google", {"id_token": google.token()})
    assert answer.status == 200
    value: dict[str, Any] = answer.value
    return value


async def refresh(gateway: Running, token: Any) -> Answer:
    return await ask(gateway, "POST", "/auth/refresh", {"refresh_token": token})


async def opens(gateway: Running, token: str) -> int:
    """The status of a route that asks for a token; the backend knows nothing but sockets."""
    field = f"Authorization: Bearer {token}".encode()
    try:
        async with opened(gateway, b"/users/me", field):
            return 101
    except AssertionError as refused:
        return int(str(refused).split()[1])


async def test_sign_in_gives_a_refresh_token_and_that_the_next_two(
    gateway: Running, google: GoogleStandIn
):
    signed_in = await sign_in(gateway, google)
    assert list(signed_in) == ["access_token", "refresh_token", "user"]
    answer = await refresh(gateway, signed_in["refresh_token"])
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    assert list(answer.value) == ["access_token", "refresh_token"]
    assert await opens(gateway, answer.value["access_token"]) == 101
    again = await refresh(gateway, signed_in["refresh_token"])
    assert (again.status, again.value, again.challenge) == (401, REFUSED, INVALID)
    assert await opens(gateway, answer.value["access_token"]) == 401
    assert (await refresh(gateway, answer.value["refresh_token"])).status == 401


BODIES: dict[str, tuple[Any, int]] = {
    "no body": (None, 422),
    "an empty object": ({}, 422),
    "not JSON": (b"{", 422),
    "a list": ([], 422),
    "no text": ({"refresh_token": 1}, 422),
    "null": ({"refresh_token": None}, 422),
    "an empty text": ({"refresh_token": ""}, 422),
    "a long text": ({"refresh_token": "x" * 257}, 422),
    "a name twice": (b'{"refresh_token": "a", "refresh_token": "b"}', 422),
    "a surrogate": (b'{"refresh_token": "\\ud800"}', 422),
    "a large body": (b" " * 4097, 413),
    "a made-up token": ({"refresh_token": "rt_1_" + "a" * 65}, 401),
    "of a user who is not there": ({"refresh_token": "rt_77_" + "a" * 65}, 401),
    "of another form": ({"refresh_token": "x"}, 401),
}


async def test_each_body_that_is_not_one_has_its_status(gateway: Running, google: GoogleStandIn):
    await sign_in(gateway, google)
    got = {}
    for name, (body, _) in BODIES.items():
        answer = await ask(gateway, "POST", "/auth/refresh", body)
        got[name] = (body, answer.status)
        assert (answer.challenge == INVALID) is (answer.status == 401)
        assert "input" not in str(answer.value)
    assert got == BODIES
    assert (await ask(gateway, "GET", "/auth/refresh")).status == 405
    assert (await ask(gateway, "GET", "/auth/logout")).status == 405


async def test_logout_ends_the_session_with_its_sockets_before_it_answers(
    gateway: Running, google: GoogleStandIn
):
    one, other = await sign_in(gateway, google), await sign_in(gateway, google)
    renewed = (await refresh(gateway, one["refresh_token"])).value
    field = f"Authorization: Bearer {one['access_token']}".encode()
    async with opened(gateway, b"/users/me", field) as (_, reader, _writer):
        answer = await ask(gateway, "POST", "/auth/logout", token=renewed["access_token"])
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
        assert answer.value == {"success": True, "message": "退出登录成功", "everywhere": True}
        for grant in (one, renewed):
            assert await opens(gateway, grant["access_token"]) == 401
        assert await reader.read() == CLOSE_1008
    assert (await refresh(gateway, renewed["refresh_token"])).status == 401
    again = await ask(gateway, "POST", "/auth/logout", token=renewed["access_token"])
    assert (again.status, again.challenge) == (401, INVALID)
    assert await opens(gateway, other["access_token"]) == 101
    assert (await refresh(gateway, other["refresh_token"])).status == 200


async def test_logout_asks_for_a_good_token(gateway: Running, google: GoogleStandIn):
    without = await ask(gateway, "POST", "/auth/logout")
    assert (without.status, without.challenge) == (401, BEARER)
    bad = await ask(gateway, "POST", "/auth/logout", token="x")
    assert (bad.status, bad.challenge) == (401, INVALID)
    signed_in = await sign_in(gateway, google)
    one_for_the_other = await ask(gateway, "POST", "/auth/logout", token=signed_in["refresh_token"])
    assert one_for_the_other.status == 401


async def test_without_the_setting_there_is_logout_and_no_refresh(
    google: GoogleStandIn, tmp_path: Path
):
    async with running(tmp_path, "memory://", google) as gateway:
        signed_in, other = await sign_in(gateway, google), await sign_in(gateway, google)
        assert list(signed_in) == ["access_token", "user"]
        assert (await refresh(gateway, "rt_1_" + "a" * 65)).status == 404
        token = signed_in["access_token"]
        assert (await ask(gateway, "POST", "/auth/logout", token=token)).status == 200
        assert await opens(gateway, token) == 401
        assert await opens(gateway, other["access_token"]) == 101


async def test_refresh_has_a_limit_of_its_own(google: GoogleStandIn, tmp_path: Path):
    refresh_settings = {"lifetime": 600, "refresh": {"requests": 3}}
    async with running(tmp_path, "memory://", google, app_tokens=refresh_settings) as gateway:
        answers = [await refresh(gateway, "x") for _ in range(4)]
        assert [answer.status for answer in answers] == [401, 401, 401, 429]
        assert int(answers[-1].headers["Retry-After"]) >= 1
        assert '"token-refresh";q=3;w=60' in answers[-1].headers["RateLimit-Policy"]
        await sign_in(gateway, google)


async def test_while_redis_is_away_nothing_is_pretended(
    redis_process: RedisProcess, google: GoogleStandIn, tmp_path: Path
):
    async with running(tmp_path, redis_process.url, google, **ON) as gateway:
        signed_in = await sign_in(gateway, google)
        assert await opens(gateway, signed_in["access_token"]) == 101
        redis_process.kill()
        await eventually(lambda: not gateway.parts.store.available)
        ends = await ask(gateway, "POST", "/auth/logout", token=signed_in["access_token"])
        renews = await refresh(gateway, signed_in["refresh_token"])
        for answer in (ends, renews):
            assert (answer.status, answer.challenge) == (503, None)
            assert int(answer.headers["Retry-After"]) >= 1
        redis_process.start()
        await eventually(lambda: gateway.parts.store.available)
        assert await opens(gateway, signed_in["access_token"]) == 101
        assert (await refresh(gateway, signed_in["refresh_token"])).status == 200


async def test_a_user_who_is_gone_amid_a_logout_has_no_token(
    gateway: Running, google: GoogleStandIn
):
    token = (await sign_in(gateway, google))["access_token"]
    assert await opens(gateway, token) == 101
    store = gateway.parts.store
    await store.client.delete("gw:user:1")
    answer = await ask(gateway, "POST", "/auth/logout", token=token)
    assert (answer.status, answer.challenge) == (401, INVALID)


async def test_log_and_metrics_tell_why_and_never_the_token(
    gateway: Running, google: GoogleStandIn
):
    signed_in = await sign_in(gateway, google)
    token = signed_in["refresh_token"]
    await refresh(gateway, token)
    await refresh(gateway, token)
    await refresh(gateway, token)
    await eventually(lambda: len(gateway.log()) == 4)
    lines = [line for line in gateway.log() if line["route"] == "token-refresh"]
    assert [(line["status"], line.get("reason")) for line in lines] == [
        (200, None),
        (401, "reused_refresh_token"),
        (401, "unknown_refresh_token"),
    ]
    assert token[6:] not in gateway.log_path.read_text()


async def test_many_logouts_at_once_all_end_what_they_are_for(
    gateway: Running, google: GoogleStandIn
):
    tokens = [(await sign_in(gateway, google))["access_token"] for _ in range(18)]
    answers = await asyncio.gather(
        *(ask(gateway, "POST", "/auth/logout", token=token) for token in tokens)
    )
    assert {(answer.status, answer.value["everywhere"]) for answer in answers} == {(200, True)}
    assert {await opens(gateway, token) for token in tokens} == {401}
