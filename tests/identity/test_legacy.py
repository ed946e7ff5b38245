"""Tokens that the platform issued before the gateway came: which are taken, and until when."""

import base64
import hmac
import json
from typing import Any

import jwt
import pytest
from exchanges import exchange
from pydantic import SecretStr

from gateway.auth.app_token import AppToken
from gateway.errors import Unauthenticated
from gateway.identity.tokens import AppTokens, Claims
from gateway.identity.users import Users
from gateway.sections import AppTokenSettings, KeySettings
from gateway.store.plans import Plans
from gateway.store.redis import Store
from gateway.tokenfile import LegacyTokenSettings, TokenKey

NOW = 1_790_000_000.25
UNTIL = NOW + 86_400
SECRET = "what the platform signed with, 32 bytes"
OURS = "what the gateway signs with, 32 bytes"
EMAIL = "jane@example.com"


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def tokens(clock: Clock, *, secret: str = SECRET, **legacy: Any) -> AppTokens:
    given = {"scope": ["user"], **legacy}
    read = LegacyTokenSettings.model_validate({"until": "2027-01-01", **given})
    known = read.model_copy(update={"secret": SecretStr(secret), "until": UNTIL})
    key = TokenKey.model_construct(id="k1", secret=SecretStr(OURS))
    return AppTokens(AppTokenSettings(secrets=(key,), legacy=known), clock=clock)


def signed(secret: str = SECRET, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """As python-jose and PyJWT write them; Ellipsis takes a claim out."""
    said = {"sub": "123", "exp": int(NOW) + 3600} | claims
    said = {name: value for name, value in said.items() if value is not ...}
    parts = [{"alg": "HS256", "typ": "JWT"} | (header or {}), said]
    text = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts
    )
    mac = hmac.digest(secret.encode(), text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def refusal(app_tokens: AppTokens, token: str) -> str | None:
    with pytest.raises(Unauthenticated) as caught:
        app_tokens.verify(token)
    assert caught.value.detail == "Invalid or expired token"
    return caught.value.reason


def test_the_barest_of_them_is_taken(clock):
    claims = tokens(clock).verify(signed())
    assert claims == Claims(
        user_id=123,
        expires_at=int(NOW) + 3600,
        issued_at=0,
        jti=claims.jti,
        scope=frozenset({"user"}),
    )
    assert claims.jti.startswith("legacy-")
    assert claims.jti != tokens(clock).verify(signed(exp=int(NOW) + 3601)).jti


@pytest.mark.parametrize(
    ("settings", "token", "user"),
    [
        ({}, signed(sub=123), 123),
        ({}, signed(header={"typ": "application/jwt"}), 123),
        ({}, signed(iss="x", aud=["y"], jti=7, scope=["z"], more={"a": 1}), 123),
        ({"user_claim": "user_id"}, signed(sub=..., user_id=42), 42),
        ({"user_claim": "user_id"}, signed(sub={"a": 1}, user_id="42"), 42),
        ({"user_is": "email"}, signed(sub=" Jane@Example.com"), EMAIL),
        ({"user_is": "email", "user_claim": "email"}, signed(email=EMAIL), EMAIL),
        ({"issuer": "old"}, signed(iss="old"), 123),
        ({"audience": "app"}, signed(aud="app"), 123),
        ({"audience": "app"}, signed(aud=["web", "app"]), 123),
        (
            {"claims": {"type": "access", "v": 1, "ok": True}},
            signed(type="access", v=1, ok=True),
            123,
        ),
        ({"kid": "old"}, signed(header={"kid": "old"}), 123),
    ],
)
def test_what_they_look_like_is_for_the_settings_to_say(clock, settings, token, user):
    claims = tokens(clock, **settings).verify(token)
    assert (claims.email or claims.user_id) == user


REFUSED = {
    "another secret": ({}, signed("x" * 40)),
    "our secret without a kid": ({}, signed(OURS)),
    "our kid with their secret": ({}, signed(header={"kid": "k1"})),
    "an unknown kid": ({}, signed(header={"kid": "old"})),
    "an empty kid": ({}, signed(header={"kid": ""})),
    "a kid of null": ({}, signed(header={"kid": None})),
    "no kid where they have one": ({"kid": "old"}, signed()),
    "another kid than theirs": ({"kid": "old"}, signed(header={"kid": "older"})),
    "alg none": ({}, signed(header={"alg": "none"})),
    "alg HS512": ({}, jwt.encode({"sub": "1", "exp": 9e9}, SECRET * 2, "HS512")),
    "typ of another": ({}, signed(header={"typ": "at+jwt"})),
    "crit": ({}, signed(header={"crit": ["exp"]})),
    "jwk": ({}, signed(header={"jwk": {"kty": "oct"}})),
    "no exp": ({}, signed(exp=...)),
    "exp null": ({}, signed(exp=None)),
    "exp a string": ({}, signed(exp="9999999999")),
    "iat a string": ({}, signed(iat="1")),
    "iat null": ({}, signed(iat=None)),
    "iat in the future": ({}, signed(iat=NOW + 31)),
    "nbf in the future": ({}, signed(nbf=NOW + 31)),
    "no user": ({}, signed(sub=...)),
    "user null": ({}, signed(sub=None)),
    "user true": ({}, signed(sub=True)),
    "user zero": ({}, signed(sub=0)),
    "user negative": ({}, signed(sub="-1")),
    "user a fraction": ({}, signed(sub=1.0)),
    "user a list": ({}, signed(sub=["123"])),
    "user too large": ({}, signed(sub=10**17)),
    "an email where ids are": ({}, signed(sub=EMAIL)),
    "an id where emails are": ({"user_is": "email"}, signed()),
    "a number where emails are": ({"user_is": "email"}, signed(sub=123)),
    "iss of another": ({"issuer": "old"}, signed(iss="new")),
    "no iss": ({"issuer": "old"}, signed()),
    "iss a list": ({"issuer": "old"}, signed(iss=["old"])),
    "aud of another": ({"audience": "app"}, signed(aud=["web"])),
    "no aud": ({"audience": "app"}, signed()),
    "a token for another use": ({"claims": {"type": "access"}}, signed(type="reset")),
    "a token for no known use": ({"claims": {"type": "access"}}, signed()),
    "1 for true": ({"claims": {"ok": True}}, signed(ok=1)),
    "text for a number": ({"claims": {"v": 1}}, signed(v="1")),
    "a list for text": ({"claims": {"type": "access"}}, signed(type=["access"])),
}


@pytest.mark.parametrize("case", REFUSED)
def test_all_else_is_an_invalid_token(clock, case):
    settings, token = REFUSED[case]
    assert refusal(tokens(clock, **settings), token) == "invalid_token"


def test_without_the_setting_none_is_taken(clock):
    key = TokenKey.model_construct(id="k1", secret=SecretStr(SECRET))
    ours = AppTokens(AppTokenSettings(secrets=(key,)), clock=clock)
    assert refusal(ours, signed()) == "invalid_token"


def test_ours_are_verified_as_ever_beside_them(clock):
    both = tokens(clock)
    user = type("User", (), {"id": 5, "token_time": None, "tokens_generation": 0})()
    assert both.verify(both.issue(user)).user_id == 5


def test_none_is_taken_after_the_date_though_it_has_not_expired(clock):
    app_tokens = tokens(clock)
    token = signed(exp=int(UNTIL) + 86_400)
    clock.now = UNTIL - 0.001
    assert app_tokens.verify(token).expires_at == UNTIL
    clock.now = UNTIL
    assert refusal(app_tokens, token) == "expired_token"  # it was remembered
    assert refusal(app_tokens, token) == "expired_token"


def test_it_expires_by_itself_before(clock):
    clock.now = int(NOW) + 3600
    assert refusal(tokens(clock), signed()) == "expired_token"


class Pattern:
    """Of a gateway that takes them, on a store."""

    def __init__(self, store: Store, clock: Clock, **legacy: Any) -> None:
        self.users = Users(store, KeySettings(), clock)
        plans = Plans(self.users, ())
        self._pattern = AppToken(tokens(clock, **legacy), self.users, plans, frozenset(), clock)

    async def admits(self, token: str) -> int | None:
        """The user's id; None: refused."""
        headers = {"Authorization": f"Bearer {token}"}
        sent = exchange("GET", "/me", headers=headers)
        try:
            admitted = await self._pattern.authenticate(sent)
        except Unauthenticated:
            return None
        assert self._pattern.claims(sent).user_id == admitted.user_id
        return admitted.user_id


async def test_a_revocation_ends_those_from_before_it_and_all_that_tell_no_time(
    store: Store, clock: Clock
):
    gateway = Pattern(store, clock)
    await gateway.users.create(id=123)
    bare, before, after = signed(), signed(iat=NOW), signed(iat=NOW + 20)
    assert [await gateway.admits(token) for token in (bare, before, after)] == [123] * 3
    clock.now = NOW + 10
    await gateway.users.revoke_tokens(123)
    assert [await gateway.admits(token) for token in (bare, before, after)] == [None, None, 123]


async def test_a_user_who_is_not_there_has_none(store: Store, clock: Clock):
    assert await Pattern(store, clock).admits(signed()) is None
    assert await Pattern(store, clock, user_is="email").admits(signed(sub=EMAIL)) is None


async def test_an_email_finds_its_user_of_now(store: Store, clock: Clock):
    gateway = Pattern(store, clock, user_is="email")
    jane = await gateway.users.create(email=EMAIL)
    token = signed(sub=EMAIL)
    assert [await gateway.admits(token) for _ in range(3)] == [jane.id] * 3
    await store.client.hset(f"gw:user:{jane.id}", "email", "jane@other.example")
    await store.client.delete(f"gw:user:by:email:{EMAIL}")
    store.changed(f"gw:user:{jane.id}")
    assert await gateway.admits(token) is None
    other = await gateway.users.create(email=EMAIL)
    assert other.id != jane.id
    assert [await gateway.admits(token) for _ in range(2)] == [other.id] * 2


async def test_an_email_that_nobody_vouches_for_finds_nobody(store: Store, clock: Clock):
    gateway = Pattern(store, clock, user_is="email")
    jane = await gateway.users.create(email=EMAIL)
    token = signed(sub=EMAIL)
    assert await gateway.admits(token) == jane.id
    await store.client.hset(f"gw:user:{jane.id}", "email_verified", "0")
    store.changed(f"gw:user:{jane.id}")
    assert await gateway.admits(token) is None
