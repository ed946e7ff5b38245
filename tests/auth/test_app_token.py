"""Who passes a route that asks for an app token, and how long what was found holds."""

from typing import Any

import pytest
from exchanges import NoConnection, exchange
from pydantic import SecretStr

from gateway.auth.app_token import AppToken
from gateway.errors import Forbidden, GatewayError, Unauthenticated
from gateway.exchange import Identity
from gateway.identity.tokens import AppTokens
from gateway.identity.users import Users
from gateway.sections import AppTokenSettings, KeySettings
from gateway.store.plans import Plans
from gateway.store.redis import Store
from gateway.store.times import iso_utc
from gateway.tokenfile import TokenKey

NOW = 1_790_000_000.25
KEY = TokenKey.model_construct(id="k1", secret=SecretStr("a secret of at least 32 bytes, really"))
OTHER_KEY = TokenKey.model_construct(
    id="k2", secret=SecretStr("another one of at least 32 bytes!!")
)


class Gateway:
    def __init__(self, store: Store) -> None:
        self.now = NOW
        self.store = store
        self.users = Users(store, KeySettings(), lambda: self.now)
        self.tokens = AppTokens(AppTokenSettings(secrets=(KEY,)), clock=lambda: self.now)
        self.plans = Plans(self.users, ("free", "standard"), lambda: self.now)

    async def token(self, scope: str = "user") -> str:
        return self.tokens.issue(await self.users.show(1), scope)

    async def write(self, **fields: str) -> None:
        """As billing does, past this process."""
        await self.store.client.hset("gw:user:1", mapping=fields)
        self.store.changed("gw:user:1")

    async def admit(
        self, *sent: str, scope: tuple[str, ...] = (), vip: bool = False, on: Any = None
    ) -> Identity:
        """`on` is the connection; None: one of its own."""
        pattern = AppToken(
            self.tokens, self.users, self.plans, frozenset(scope), lambda: self.now, vip=vip
        )
        request = exchange("GET", "/me")
        request.connection = on or request.connection
        for value in sent:
            request.headers = type(request.headers)(with_field(request.headers, value))
        return await pattern.authenticate(request)

    async def refuses(self, *sent: str, **route: Any) -> GatewayError:
        with pytest.raises((Forbidden, Unauthenticated)) as caught:
            await self.admit(*sent, **route)
        return caught.value


def with_field(headers: Any, value: str) -> Any:
    fields = headers.copy()
    fields.add("Authorization", value)
    return fields


@pytest.fixture
async def gateway(store: Store) -> Gateway:
    made = Gateway(store)
    await made.users.create(email="jane@example.com", id=1)
    return made


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER {}", "Bearer  {}  "])
async def test_the_scheme_in_any_case_and_blanks_around_the_token(gateway: Gateway, form: str):
    assert (await gateway.admit(form.format(await gateway.token()))).user_id == 1


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("", "missing_token"),
        ("Bearer", "missing_token"),
        ("Bearer ", "missing_token"),
        ("Basic {}", "missing_token"),
        ("{}", "missing_token"),
        ("Bearer\t{}", "missing_token"),
        ("Bearer:{}", "missing_token"),
        ("Bearer {}, Bearer {}", "invalid_token"),
        ("Bearer {} x", "invalid_token"),
    ],
)
async def test_anything_else_is_no_token(gateway: Gateway, form: str, reason: str):
    token = await gateway.token()
    assert (await gateway.refuses(form.replace("{}", token))).reason == reason


async def test_two_of_them_are_none_though_they_are_the_same(gateway: Gateway):
    good = f"Bearer {await gateway.token()}"
    refusal = await gateway.refuses(good, good)
    assert (refusal.status, refusal.reason) == (401, "repeated_credential")


@pytest.mark.parametrize(
    ("has", "asks", "passes"),
    [
        ("user", (), True),
        ("", (), True),
        ("user", ("user",), True),
        ("user trade", ("trade",), True),
        ("trade user", ("user", "trade"), True),
        ("user", ("user", "trade"), False),
        ("trade", ("user", "trade"), False),
        ("", ("user",), False),
        ("usertrade", ("user",), False),
        ("User", ("user",), False),
        ("user,trade", ("user",), False),
    ],
)
async def test_every_word_of_the_scope_is_asked_for(
    gateway: Gateway, has: str, asks: tuple[str, ...], *, passes: bool
):
    token = f"Bearer {await gateway.token(has)}"
    if passes:
        assert (await gateway.admit(token, scope=asks)).user_id == 1
        return
    refusal = await gateway.refuses(token, scope=asks)
    assert (refusal.status, refusal.reason) == (403, "insufficient_scope")
    assert dict(refusal.headers) == {
        "WWW-Authenticate": f'Bearer realm="primit", error="insufficient_scope", '
        f'scope="{" ".join(sorted(asks))}"'
    }
    assert (await gateway.admit(token)).user_id == 1  # on another route


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ({}, False),
        ({"is_vip": "0"}, False),
        ({"is_vip": "1"}, True),
        ({"is_vip": "1", "vip_expires_at": iso_utc(NOW + 60)}, True),
        ({"is_vip": "1", "vip_expires_at": iso_utc(NOW - 60)}, False),
        ({"is_vip": "0", "vip_expires_at": iso_utc(NOW + 60)}, False),
        ({"is_vip": "true"}, False),
        ({"is_vip": "1", "vip_expires_at": "some day"}, False),
    ],
)
async def test_a_route_may_ask_for_a_vip(gateway: Gateway, fields: dict[str, str], *, passes: bool):
    if fields:
        await gateway.write(**fields)
    token = f"Bearer {await gateway.token()}"
    if passes:
        assert (await gateway.admit(token, vip=True)).user_id == 1
    else:
        refusal = await gateway.refuses(token, vip=True)
        assert (refusal.status, refusal.reason) == (403, "vip_required")
        assert (await gateway.admit(token)).user_id == 1


async def test_who_is_a_vip_no_longer_is_refused_from_that_moment(gateway: Gateway):
    await gateway.write(is_vip="1", vip_expires_at=iso_utc(NOW + 60))
    token = f"Bearer {await gateway.token()}"
    assert (await gateway.admit(token, vip=True)).user_id == 1
    gateway.now += 61
    assert (await gateway.refuses(token, vip=True)).reason == "vip_required"
    await gateway.write(vip_expires_at=iso_utc(NOW + 120))
    assert (await gateway.admit(token, vip=True)).user_id == 1
    await gateway.write(is_vip="0")
    assert (await gateway.refuses(token, vip=True)).reason == "vip_required"


async def test_what_was_found_for_a_token_holds_until_something_changes(gateway: Gateway):
    token = f"Bearer {await gateway.token()}"
    first = await gateway.admit(token)
    assert (first.email, first.plan) == ("jane@example.com", None)
    assert await gateway.admit(token) is first
    await gateway.write(plan="standard", plan_expires_at=iso_utc(NOW + 60))
    assert (await gateway.admit(token)).plan == "standard"
    gateway.now += 59
    assert (await gateway.admit(token)).plan == "standard"
    gateway.now += 2
    assert (await gateway.admit(token)).plan is None
    await gateway.write(email="jane@other.example")
    assert (await gateway.admit(token)).email == "jane@other.example"
    await gateway.write(disabled_at=iso_utc(NOW))
    assert (await gateway.refuses(token)).reason == "revoked_token"
    await gateway.store.client.hdel("gw:user:1", "disabled_at")
    gateway.store.changed("gw:user:1")
    assert (await gateway.admit(token)).email == "jane@other.example"
    await gateway.store.client.delete("gw:user:1")
    gateway.store.changed("gw:user:1")
    assert (await gateway.refuses(token)).reason == "revoked_token"


async def test_on_one_connection_each_token_is_its_own_and_none_outlives_its_end(
    gateway: Gateway,
):
    await gateway.users.create(id=2)
    one = f"Bearer {await gateway.token()}"
    two = f"Bearer {gateway.tokens.issue(await gateway.users.show(2), 'trade')}"
    on = NoConnection()
    order = [one, one, two, one, two, two]
    assert [(await gateway.admit(each, on=on)).user_id for each in order] == [1, 1, 2, 1, 2, 2]
    assert (await gateway.refuses(two, two, on=on)).reason == "repeated_credential"
    assert (await gateway.refuses(f"{two} ", one, on=on)).reason == "repeated_credential"
    assert (await gateway.refuses(on=on)).reason == "missing_token"
    assert (await gateway.refuses(two, on=on, scope=("user",))).reason == "insufficient_scope"
    assert (await gateway.refuses(two[:-1], on=on)).reason == "invalid_token"
    await gateway.users.revoke_tokens(2)
    assert (await gateway.refuses(two, on=on)).reason == "revoked_token"
    assert (await gateway.admit(one, on=on)).user_id == 1
    gateway.now += 604_800
    assert (await gateway.refuses(one, on=on)).reason == "expired_token"


async def test_what_came_last_on_a_connection_is_not_believed_by_new_settings(gateway: Gateway):
    token, on = f"Bearer {await gateway.token()}", NoConnection()
    assert (await gateway.admit(token, on=on)).user_id == 1
    gateway.tokens = AppTokens(AppTokenSettings(secrets=(OTHER_KEY,)), clock=lambda: gateway.now)
    assert (await gateway.refuses(token, on=on)).reason == "invalid_token"
