import base64
import json

import pytest
from aiohttp import ClientSession
from binance_stand_in import BinanceStandIn
from exchanges import exchange
from pydantic import SecretStr
from stand_ins import Fault

from gateway.errors import BinanceFailed, Invalid, PayloadTooLarge
from gateway.sections import VaultKey, VaultSettings
from gateway.vault import Vault
from gateway.vault.binance import Binance
from gateway.vault.endpoints import KeyStatus, VerifyKey

EMAIL = "user@example.com"
NOW = 1_777_464_000  # 2026-04-29T12:00:00
SECRET = SecretStr(base64.b64encode(bytes(32)).decode())


@pytest.fixture
async def stand_in():
    async with BinanceStandIn() as started:
        yield started


@pytest.fixture
async def vault(store, stand_in):
    settings = VaultSettings(
        encryption_keys=(VaultKey(id="v1", secret=SECRET),), binance_url=stand_in.base_url
    )
    async with ClientSession() as session:
        yield Vault(store, settings, Binance(session, settings), clock=lambda: NOW)


@pytest.fixture
async def registered(vault):
    await vault.add(EMAIL, "binance-key", "binance-secret")
    return vault


async def verify(vault, body):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await VerifyKey(vault).respond(exchange("POST", "/api-key/verify", raw))
    assert (answer.status, answer.content_type) == (200, "application/json")
    return answer.body.decode()


async def status(vault, target):
    answer = await KeyStatus(vault).respond(exchange("GET", target))
    assert (answer.status, answer.content_type) == (200, "application/json")
    return answer.body.decode()


async def test_verify_says_that_binance_takes_the_key(registered):
    assert await verify(registered, {"email": EMAIL}) == (
        '{"success": true, "message": "API 密钥验证成功", '
        '"email": "user@example.com", "has_api_key": true}'
    )


async def test_verify_says_that_binance_refuses_the_key(registered, stand_in):
    stand_in.keys.clear()
    assert await verify(registered, {"email": EMAIL}) == (
        '{"success": false, "message": "API 密钥验证失败", '
        '"email": "user@example.com", "has_api_key": true}'
    )


async def test_verify_says_the_same_of_a_key_that_is_switched_off(registered, store, stand_in):
    await store.client.hset(store.key("vault", EMAIL), "is_active", "0")
    assert await verify(registered, {"email": EMAIL}) == (
        '{"success": false, "message": "API 密钥验证失败", '
        '"email": "user@example.com", "has_api_key": true}'
    )
    assert stand_in.asked == 0


@pytest.mark.parametrize("email", ["nobody@example.com", "nobody", " ", "x" * 300 + "@example.com"])
async def test_verify_says_that_none_is_registered(registered, email):
    assert await verify(registered, {"email": email}) == (
        '{"success": false, "message": "用户不存在或没有API密钥", '
        f'"email": "{email}", "has_api_key": false}}'
    )


async def test_verify_finds_the_email_in_any_spelling_and_names_it_as_sent(registered):
    answer = json.loads(await verify(registered, {"email": " User@Example.COM"}))
    assert (answer["success"], answer["email"]) == (True, " User@Example.COM")


@pytest.mark.parametrize("fault", [Fault.DOWN, Fault.FAILING, Fault.WRONG_CONTENT])
async def test_verify_is_a_502_when_binance_is_away(registered, stand_in, fault):
    stand_in.fault = fault
    with pytest.raises(BinanceFailed) as caught:
        await verify(registered, {"email": EMAIL})
    assert caught.value.status == 502


@pytest.mark.parametrize(
    ("body", "loc", "kind"),
    [
        (b"", ["body"], "missing"),
        (b"{", ["body", 1], "json_invalid"),
        (b"[]", ["body"], "model_attributes_type"),
        (b"{}", ["body", "email"], "missing"),
        (b'{"email": 1}', ["body", "email"], "string_type"),
        (b'{"email": null}', ["body", "email"], "string_type"),
        (b'{"email": ""}', ["body", "email"], "string_too_short"),
        (rb'{"email": "\ud800"}', ["body", "email"], "string_unicode"),
        (b'{"email": "a@b", "email": "c@d"}', ["body"], "json_invalid"),
    ],
)
async def test_verify_refuses_a_body_of_another_form(vault, body, loc, kind):
    with pytest.raises(Invalid) as caught:
        await verify(vault, body)
    assert [(problem["loc"], problem["type"]) for problem in caught.value.detail] == [(loc, kind)]


async def test_verify_takes_no_more_than_64_kib(vault):
    with pytest.raises(PayloadTooLarge):
        await verify(vault, b" " * 65537)


async def test_status_of_a_registered_key_is_as_the_contract_shows(registered):
    await registered.verify(EMAIL)
    assert await status(registered, "/api-key/status/user@example.com") == (
        '{"success": true, "message": "获取状态成功", "email": "user@example.com", '
        '"has_api_key": true, "verification_status": "verified", '
        '"last_verified": "2026-04-29T12:00:00", "created_at": "2026-04-29T12:00:00", '
        '"is_active": true}'
    )


async def test_status_of_a_key_never_verified_and_switched_off_says_so(registered, store):
    await store.client.hset(store.key("vault", EMAIL), "is_active", "0")
    answer = json.loads(await status(registered, "/api-key/status/user@example.com"))
    assert answer["success"] is True
    assert answer["verification_status"] == "unverified"
    assert answer["last_verified"] is None
    assert answer["is_active"] is False


@pytest.mark.parametrize(
    ("target", "email"),
    [
        ("/api-key/status/nobody@example.com", "nobody@example.com"),
        ("/api-key/status/nobody", "nobody"),
        ("/api-key/status/user%2540example.com", "user%40example.com"),  # decoded once
        ("/api-key/status/us+er@example.com", "us+er@example.com"),
        ("/api-key/status/%E7%94%A8%E6%88%B7@example.com", "用户@example.com"),
        ("/api-key/status/%FF@example.com", "\ufffd@example.com"),
        ("/api-key/status/\udcff@example.com", "\ufffd@example.com"),
        ("/api-key/status/\udce7\udc94\udca8@example.com", "用@example.com"),
        ("/api-key/status/a%22b", 'a"b'),
        ("/api-key/status/%00", "\x00"),
    ],
)
async def test_status_of_anything_else_is_that_none_is_registered(registered, target, email):
    assert await status(registered, target) == (
        '{"success": false, "message": "用户不存在或没有API密钥", '
        f'"email": {json.dumps(email, ensure_ascii=False)}, "has_api_key": false}}'
    )


@pytest.mark.parametrize(
    "target",
    [
        "/api-key/status/user%40example.com",
        "/api-key/status/user@example.com?x=y",
        "/api-key/status/USER@example.com",
        "/api-key/status/%20user@example.com",
    ],
)
async def test_status_finds_the_email_however_it_is_written(registered, target):
    assert json.loads(await status(registered, target))["has_api_key"] is True


async def test_status_asks_nobody_but_redis(registered, stand_in):
    await status(registered, "/api-key/status/user@example.com")
    assert stand_in.asked == 0
