"""`tokens.revoke` on both stores: by id, by the token itself, of all; and what it refuses."""

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest

from gateway.admin.operations import OPERATIONS, BadArgument, Context, Refused, open_context
from gateway.identity.revocation import is_revoked
from gateway.identity.sessions import Grant, Sessions
from gateway.identity.tokens import AppTokens
from gateway.settings import load_settings

SECRET = "a-token-secret-of-more-than-32-bytes"
ENVIRON = {
    "GATEWAY_TOKEN_SECRET": SECRET,
    "GATEWAY_APP_TOKENS__LIFETIME": "600",
    "GATEWAY_APP_TOKENS__REFRESH": "{}",
}


@pytest.fixture(params=["memory", "redis"])
async def context(request: pytest.FixtureRequest) -> AsyncIterator[Context]:
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    settings = load_settings(None, ENVIRON | {"GATEWAY_STORE__URL": url})
    async with open_context(settings, timeout_seconds=5) as opened:
        yield opened


async def revoke(context: Context, **arguments: Any) -> Any:
    return await OPERATIONS["tokens.revoke"].run(context, **arguments)


async def sign_in(context: Context, subject: str = "sub") -> Grant:
    users, settings = context.users, context.settings.app_tokens
    user = await users.sign_in("google", subject, None, email_verified=False, name=None)
    return await Sessions(context.store, users, AppTokens(settings), settings).begin(user)


async def is_dead(context: Context, grant: Grant) -> bool:
    claims = AppTokens(context.settings.app_tokens).verify(grant.access_token)
    user = await context.users.get(claims.user_id)
    return user is None or is_revoked(claims, user)


@pytest.mark.parametrize("by", ["jti", "sid", "access token", "refresh token", "all"])
async def test_a_token_is_revoked_in_each_way_and_says_who_has_heard(context: Context, by: str):
    grant, other = await sign_in(context), await sign_in(context, "other")
    claims = AppTokens(context.settings.app_tokens).verify(grant.access_token)
    expected = {"user_id": 1, "id": claims.session, "revoked": True}
    match by:
        case "jti":
            told = await revoke(context, user=1, jti=claims.jti)
            expected["id"] = claims.jti
        case "sid":
            told = await revoke(context, user=1, jti=claims.session)
        case "access token":
            told = await revoke(context, token=f" {grant.access_token}\n")
        case "refresh token":
            told = await revoke(context, token=grant.refresh_token)
        case "all":
            told = await revoke(context, all=True)
            expected = {"all": True, "generation": 1}
    assert told["unconfirmed"] == []
    assert told.items() >= expected.items()
    assert await is_dead(context, grant)
    assert await is_dead(context, other) is (by == "all")
    ends_session = by != "jti"
    sessions = [
        name
        for name in await context.store.client.hgetall("gw:user:1")
        if name.startswith("session:")
    ]
    assert bool(sessions) is (not ends_session or by == "all")


MISTAKES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a user alone": {"user": 1},
    "an id alone": {"jti": "x"},
    "a token and its user": {"token": "x", "user": 1},
    "all, and one": {"all": True, "user": 1, "jti": "x"},
    "all false": {"all": False},
    "all as text": {"all": "yes"},
    "a user as text": {"user": "1", "jti": "x"},
    "two words": {"user": 1, "jti": "x y"},
    "a token as its id": {"user": 1, "jti": "eyJ" + secrets.token_hex(16)},
    "a refresh token as its id": {"user": 1, "jti": "rt_1_" + secrets.token_hex(16)},
    "a token in a list": {"token": [secrets.token_hex(16)]},
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_is_told_and_never_what_was_given(context: Context, mistake: str):
    with pytest.raises(BadArgument) as refused:
        await revoke(context, **MISTAKES[mistake])
    assert not [
        word
        for word in MISTAKES[mistake].values()
        if len(str(word)) > 8 and str(word) in str(refused.value)
    ]
    assert await context.store.client.hgetall("gw:user:all") == {}


async def test_what_opens_nothing_is_not_revoked(context: Context):
    for token in (secrets.token_hex(16), "", "eyJ.eyJ.x"):
        with pytest.raises(Refused, match="it opens nothing"):
            await revoke(context, token=token)
    for arguments in ({"user": 77, "jti": "x"}, {"token": "rt_77_" + "a" * 65}):
        with pytest.raises(Refused, match="no user with this id"):
            await revoke(context, **arguments)


async def test_without_a_secret_a_token_cannot_be_judged(redis_url: str):
    settings = load_settings(None, {"GATEWAY_STORE__URL": redis_url})
    async with open_context(settings, timeout_seconds=5) as context:
        with pytest.raises(Refused, match="give user and jti"):
            await revoke(context, token="x")


async def test_a_legacy_token_that_names_its_user_by_email_ends_too(redis_url: str):
    legacy = (
        "{secret: another-token-secret-of-32-bytes-or-more, until: '2099-01-01', user_claim: email,"
        " user_is: email}"
    )
    environ = ENVIRON | {"GATEWAY_STORE__URL": redis_url, "GATEWAY_APP_TOKENS__LEGACY": legacy}
    async with open_context(load_settings(None, environ), timeout_seconds=5) as context:
        said = {"email": "jane@example.com", "exp": int(time.time()) + 60}
        token = jwt.encode(said, "another-token-secret-of-32-bytes-or-more", "HS256")
        with pytest.raises(Refused, match="no user with this id"):
            await revoke(context, token=token)
        await context.users.create(email="jane@example.com")
        told = await revoke(context, token=token)
        user = await context.users.get(1)
        assert user is not None
        assert told["user_id"] == 1
        assert is_revoked(AppTokens(context.settings.app_tokens).verify(token), user)
